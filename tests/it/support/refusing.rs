//! A kernel that refuses: system calls that answer with an error in one thread, as on a file
//! system or a host that does not have them. A seccomp filter of that thread alone.

#![expect(unsafe_code, reason = "no crate at hand sets a filter")]

/// A system call that is refused: by its number, where `argument` (its index) has one of the bits
/// of `mask`; no bits: always.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Refused {
    pub(crate) call: i64,
    pub(crate) argument: u32,
    pub(crate) mask: u32,
    pub(crate) errno: i32,
}

const LOAD: u16 = 0x20;
const EQUAL: u16 = 0x15;
const ANY_BIT: u16 = 0x45;
const RETURN: u16 = 0x06;
const ALLOW: u32 = 0x7fff_0000;
const ERRNO: u32 = 0x0005_0000;

fn step(code: u16, k: u32, jt: u8, jf: u8) -> libc::sock_filter {
    libc::sock_filter { code, jt, jf, k }
}

/// Does something in a thread for which the kernel refuses that call.
pub(crate) fn refusing<T: Send>(refused: Refused, work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(move || {
            set(refused);
            work()
        });
        thread.join().expect("the thread ends")
    })
}

fn set(refused: Refused) {
    let Refused {
        call,
        argument,
        mask,
        errno,
    } = refused;
    let call = u32::try_from(call).expect("a number of a system call");
    let refuse = ERRNO | errno.unsigned_abs();
    // What is allowed lies behind one step, or behind two.
    let allowed = if mask == 0 { 1 } else { 2 };
    let mut filter = vec![step(LOAD, 0, 0, 0), step(EQUAL, call, 0, allowed)];
    if mask == 0 {
        filter.extend([step(RETURN, refuse, 0, 0), step(RETURN, ALLOW, 0, 0)]);
    } else {
        // The lower half of an argument, little endian.
        filter.push(step(LOAD, 16 + 8 * argument, 0, 0));
        filter.push(step(ANY_BIT, mask, 1, 0));
        filter.extend([step(RETURN, ALLOW, 0, 0), step(RETURN, refuse, 0, 0)]);
    }
    let program = libc::sock_fprog {
        len: u16::try_from(filter.len()).expect("a few steps"),
        filter: filter.as_mut_ptr(),
    };
    // SAFETY: the program and its steps live until the call has copied them; both calls concern
    // this thread alone.
    let set = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
            && libc::prctl(libc::PR_SET_SECCOMP, 2, &raw const program) == 0
    };
    assert!(set, "{}", std::io::Error::last_os_error());
}
