//! Scheduling of the threads on the latency path.
//!
//! With the default scheduler each hop between threads may wait for a tick, which makes the
//! reaction forty times slower. So the hot threads ask for `SCHED_FIFO`, and take a short slice
//! where that is refused. A real-time thread that is busy for long would starve the host: the
//! [`Governor`] takes one that used more than half a core over a second down to the ordinary
//! class for ten seconds.
//!
//! The real-time threads of one root share a core, their [`Home`]: a hint passes from the
//! reader to the engine by a switch on that core, which costs a third of waking another one.

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// The engine's priority: above the readers', so that a hint is acted on before the next is read.
pub const ENGINE: Priority = Priority(20);
/// The priority of a thread that reads events while the engine is at work.
pub const READER: Priority = Priority(10);
/// The priority of threads that alone read events: above every engine's, or the kernel's queue is
/// full before one of them has come to an end.
pub const SOLE_READER: Priority = Priority(30);

const SLICE: Duration = Duration::from_micros(100);
const WINDOW: Duration = Duration::from_secs(1);
const TIME_OUT: Duration = Duration::from_secs(10);

/// A `SCHED_FIFO` priority, of 1 to 99.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Priority(i32);

/// How a thread is scheduled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// `SCHED_FIFO`.
    Realtime,
    /// The ordinary class with a slice of 100 µs.
    ShortSlice,
    Normal,
}

/// What a thread got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entered {
    pub class: Class,
    /// Why it is not what was wanted.
    pub refused_errno: Option<i32>,
}

/// Puts the calling thread into the wanted class, or into the best that is allowed: real-time,
/// else a short slice, else the ordinary one. Threads it starts begin in the ordinary class.
pub fn enter(wanted: Class, priority: Priority) -> Entered {
    let mut refused_errno = None;
    if wanted == Class::Realtime {
        match set_policy(libc::SCHED_FIFO, priority) {
            Ok(()) => {
                return Entered {
                    class: Class::Realtime,
                    refused_errno,
                };
            }
            Err(errno) => refused_errno = Some(errno),
        }
    }
    if wanted != Class::Normal {
        match set_slice(SLICE) {
            Ok(()) => {
                return Entered {
                    class: Class::ShortSlice,
                    refused_errno,
                };
            }
            Err(errno) => refused_errno = refused_errno.or(Some(errno)),
        }
    }
    Entered {
        class: Class::Normal,
        refused_errno,
    }
}

/// Puts the calling thread back into the ordinary class; the errno where even that is refused.
///
/// # Errors
/// The kernel's number.
pub fn leave() -> Result<(), i32> {
    set_policy(libc::SCHED_OTHER, Priority(0))
}

/// How far a thread of the ordinary class steps back for others: 19 always, -20 never.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Nice(pub i32);

impl Nice {
    /// What the process began with; 0 where nobody says.
    pub fn of_process() -> Self {
        Self(rustix::process::getpriority_process(None).unwrap_or(0))
    }
}

/// A thread of this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ThreadId(rustix::thread::Pid);

impl ThreadId {
    pub fn current() -> Self {
        Self(rustix::thread::gettid())
    }

    /// Makes that thread so nice. Nothing happens to other threads: to Linux a thread is a
    /// process here.
    ///
    /// # Errors
    /// The kernel's number: less nice than before needs `CAP_SYS_NICE`.
    pub fn set_nice(self, nice: Nice) -> Result<(), i32> {
        rustix::process::setpriority_process(Some(self.0), nice.0)
            .map_err(rustix::io::Errno::raw_os_error)
    }
}

/// The core that the real-time threads of one root share.
#[derive(Debug, Clone, Copy)]
pub struct Home {
    core: CpuSet,
    /// Where the process may run: there its threads go when they are not real-time.
    allowed: CpuSet,
}

impl Home {
    /// The next core in turn, from the last one down: the first ones serve most interrupts.
    /// `None` where there is only one, or where nobody says which there are.
    pub fn next() -> Option<Self> {
        static TURN: AtomicUsize = AtomicUsize::new(0);
        let allowed = sched_getaffinity(None).ok()?;
        let cores: Vec<usize> = (0..CpuSet::MAX_CPU)
            .filter(|cpu| allowed.is_set(*cpu))
            .collect();
        if cores.len() < 2 {
            return None;
        }
        let turn = TURN.fetch_add(1, Ordering::Relaxed) % cores.len();
        let mut core = CpuSet::new();
        core.set(cores[cores.len() - 1 - turn]);
        Some(Self { core, allowed })
    }

    /// Puts the calling thread here.
    fn settle(&self) {
        if let Err(error) = sched_setaffinity(None, &self.core) {
            // It is slower elsewhere, nothing else.
            tracing::debug!(error = %error, "a hot thread could not be put on its core");
        }
    }

    /// Lets the calling thread go wherever the process may.
    fn leave(&self) {
        if let Err(error) = sched_setaffinity(None, &self.allowed) {
            tracing::debug!(error = %error, "a thread could not be let go from its core");
        }
    }
}

/// What a governor did with its thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// It used this much of the last window and is in the ordinary class for ten seconds.
    SteppedDown { used: Duration, window: Duration },
    /// It is in its class, for the first time or again.
    Entered(Entered),
}

/// Watches over the thread that made it. Costs one clock reading a call, two a second.
#[derive(Debug)]
pub struct Governor {
    wanted: Class,
    priority: Priority,
    home: Option<Home>,
    window: Window,
}

impl Governor {
    /// Stays in the ordinary class until [`Self::begin`].
    pub fn idle(wanted: Class, priority: Priority, home: Option<Home>) -> Self {
        Self {
            wanted,
            priority,
            home,
            window: Window::new(false, read(ClockId::Monotonic), Duration::ZERO),
        }
    }

    /// Enters the class and watches over the thread from now on.
    pub fn begin(&mut self) -> Turn {
        let (begun, entered) = Self::enter(self.wanted, self.priority, self.home);
        *self = begun;
        Turn::Entered(entered)
    }

    /// Enters the class and watches from now on. While it is real-time the thread stays at
    /// `home`.
    pub fn enter(wanted: Class, priority: Priority, home: Option<Home>) -> (Self, Entered) {
        let entered = enter_at(wanted, priority, home);
        let window = Window::new(
            entered.class == Class::Realtime,
            read(ClockId::Monotonic),
            read(ClockId::ThreadCPUTime),
        );
        let governor = Self {
            wanted,
            priority,
            home,
            window,
        };
        (governor, entered)
    }

    /// To be called often, from the same thread.
    pub fn attend(&mut self) -> Option<Turn> {
        let verdict = self
            .window
            .turn(read(ClockId::Monotonic), || read(ClockId::ThreadCPUTime))?;
        match verdict {
            Verdict::Down { used, window } => {
                // Refused, it stays real-time, and the next window asks again.
                self.window.realtime = self.leave().is_err();
                Some(Turn::SteppedDown { used, window })
            }
            Verdict::Back => {
                let entered = enter_at(self.wanted, self.priority, self.home);
                self.window.realtime = entered.class == Class::Realtime;
                Some(Turn::Entered(entered))
            }
        }
    }
}

impl Governor {
    /// Puts the thread back into the ordinary class, on any core.
    ///
    /// # Errors
    /// The kernel's number.
    pub fn leave(&self) -> Result<(), i32> {
        if let Some(home) = &self.home {
            home.leave();
        }
        leave()
    }
}

fn enter_at(wanted: Class, priority: Priority, home: Option<Home>) -> Entered {
    let entered = enter(wanted, priority);
    if let (Class::Realtime, Some(home)) = (entered.class, home) {
        home.settle();
    }
    entered
}

/// The judgement, without clocks.
#[derive(Debug)]
struct Window {
    realtime: bool,
    began: Duration,
    cpu_then: Duration,
    back_at: Option<Duration>,
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Down { used: Duration, window: Duration },
    Back,
}

impl Window {
    fn new(realtime: bool, now: Duration, cpu: Duration) -> Self {
        Self {
            realtime,
            began: now,
            cpu_then: cpu,
            back_at: None,
        }
    }

    fn turn(&mut self, now: Duration, cpu: impl FnOnce() -> Duration) -> Option<Verdict> {
        if let Some(back_at) = self.back_at {
            if now < back_at {
                return None;
            }
            (self.back_at, self.began, self.cpu_then) = (None, now, cpu());
            return Some(Verdict::Back);
        }
        let window = now.saturating_sub(self.began);
        if !self.realtime || window < WINDOW {
            return None;
        }
        let cpu = cpu();
        let used = cpu.saturating_sub(self.cpu_then);
        (self.began, self.cpu_then) = (now, cpu);
        if used <= window / 2 {
            return None;
        }
        self.back_at = Some(now + TIME_OUT);
        Some(Verdict::Down { used, window })
    }
}

fn read(clock: ClockId) -> Duration {
    let now = clock_gettime(clock);
    Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec.unsigned_abs() as u32)
}

/// `SCHED_RESET_ON_FORK` is always set: once set, only a privileged thread may take it away,
/// and no thread that a hot one starts should inherit its class.
#[expect(unsafe_code, reason = "rustix has no sched_setscheduler")]
fn set_policy(policy: libc::c_int, priority: Priority) -> Result<(), i32> {
    let param = libc::sched_param {
        sched_priority: priority.0,
    };
    // SAFETY: 0 is the calling thread, and `param` lives through the call, which only reads it.
    let done = unsafe { libc::sched_setscheduler(0, policy | libc::SCHED_RESET_ON_FORK, &param) };
    if done == 0 { Ok(()) } else { Err(errno()) }
}

/// `struct sched_attr` in its first version, of 48 bytes.
#[repr(C)]
struct SchedAttr {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime: u64,
    deadline: u64,
    period: u64,
}

#[expect(unsafe_code, reason = "neither rustix nor libc has sched_setattr")]
fn set_slice(slice: Duration) -> Result<(), i32> {
    let attr = SchedAttr {
        size: size_of::<SchedAttr>() as u32,
        policy: libc::SCHED_OTHER as u32,
        flags: libc::SCHED_FLAG_RESET_ON_FORK as u64,
        // Kept as it was given: without it the call would set it to 0.
        nice: rustix::process::getpriority_process(None).unwrap_or(0),
        priority: 0,
        runtime: slice.as_nanos() as u64,
        deadline: 0,
        period: 0,
    };
    // SAFETY: 0 is the calling thread; `attr` says its size, lives through the call and is
    // only read, but for its size where the kernel knows a smaller one.
    let done = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attr, 0) };
    if done == 0 { Ok(()) } else { Err(errno()) }
}

fn errno() -> i32 {
    std::io::Error::last_os_error()
        .raw_os_error()
        .unwrap_or(libc::EPERM)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_greedy_thread_steps_down_for_ten_seconds() {
        let mut window = Window::new(true, ms(0), ms(0));
        assert_eq!(window.turn(ms(999), || ms(999)), None);
        assert_eq!(window.turn(ms(1000), || ms(500)), None, "half is allowed");
        let down = Verdict::Down {
            used: ms(600),
            window: ms(1000),
        };
        assert_eq!(window.turn(ms(2000), || ms(1100)), Some(down));
        window.realtime = false;
        assert_eq!(window.turn(ms(11_999), || ms(9000)), None);
        assert_eq!(window.turn(ms(12_000), || ms(9000)), Some(Verdict::Back));
        window.realtime = true;
        assert_eq!(window.turn(ms(13_000), || ms(9100)), None);
    }

    #[test]
    fn an_ordinary_thread_is_left_alone() {
        let mut window = Window::new(false, ms(0), ms(0));
        assert_eq!(window.turn(ms(5000), || ms(5000)), None);
    }

    #[test]
    fn entering_says_what_was_got() {
        std::thread::spawn(|| {
            let entered = enter(Class::Realtime, READER);
            assert_eq!(
                entered.class == Class::Realtime,
                entered.refused_errno.is_none()
            );
            assert_eq!(leave(), Ok(()));
            assert_eq!(enter(Class::Normal, READER).class, Class::Normal);
        })
        .join()
        .expect("no panic");
    }
}
