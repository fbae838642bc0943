//! What the kernel writes into a fanotify descriptor, taken apart: pure, and careful with
//! every length, though only the kernel writes it.
//!
//! The shapes are those of fanotify(7): `struct fanotify_event_metadata`, then records that
//! begin with `struct fanotify_event_info_header`; those with a file handle have the file
//! system's id, `struct file_handle`, and where they name something a NUL-terminated name.

/// The mask of an event that says: the queue ran over, some are missing.
pub(super) const OVERFLOW: u64 = 0x4000;

/// What happened took a name from its target: `FAN_DELETE`, `FAN_RENAME`.
pub(super) const OF_NAME: u64 = libc::FAN_DELETE | libc::FAN_RENAME;

const VERSION: u8 = 3;
const METADATA: usize = 24;
const HEADER: usize = 4;
/// `__kernel_fsid_t`, then `handle_bytes` and `handle_type`.
const FID: usize = 8;
const HANDLE: usize = 8;

const TYPE_FID: u8 = 1;
const TYPE_DFID_NAME: u8 = 2;
const TYPE_OLD_DFID_NAME: u8 = 10;
const TYPE_NEW_DFID_NAME: u8 = 12;

/// One event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event<'a> {
    pub mask: u64,
    /// Whose doing it was: the thread's number, in the reader's namespace.
    pub thread: i32,
    records: &'a [u8],
}

/// What one record says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Record<'a> {
    /// A name in a directory; `.` for the directory itself. `has_left`: it was moved from there.
    Entry {
        dir: Handle<'a>,
        name: &'a [u8],
        has_left: bool,
    },
    /// The inode it happened to.
    Target(Handle<'a>),
}

/// A file handle: type and bytes, as `name_to_handle_at` gives them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Handle<'a> {
    pub kind: i32,
    pub bytes: &'a [u8],
}

/// The bytes are no events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the kernel's events are in no form that is known")]
pub struct Malformed;

/// Takes the first event off.
///
/// # Errors
/// A length leads outside, or it is another version's.
pub fn next<'a>(buffer: &mut &'a [u8]) -> Result<Option<Event<'a>>, Malformed> {
    if buffer.is_empty() {
        return Ok(None);
    }
    let metadata: &[u8; METADATA] = buffer.first_chunk().ok_or(Malformed)?;
    let length = word(&metadata[..4]) as usize;
    let own = u16::from_ne_bytes([metadata[6], metadata[7]]) as usize;
    if metadata[4] != VERSION || own < METADATA || own > length || length > buffer.len() {
        return Err(Malformed);
    }
    let (event, rest) = buffer.split_at(length);
    *buffer = rest;
    let mut mask = [0; 8];
    mask.copy_from_slice(&metadata[8..16]);
    Ok(Some(Event {
        mask: u64::from_ne_bytes(mask),
        thread: word(&metadata[20..]) as i32,
        records: &event[own..],
    }))
}

impl<'a> Event<'a> {
    /// Gives each record that is understood to `visit`; others are passed over.
    ///
    /// # Errors
    /// A length leads outside.
    pub fn records(&self, mut visit: impl FnMut(Record<'a>)) -> Result<(), Malformed> {
        let mut rest = self.records;
        while !rest.is_empty() {
            let header: &[u8; HEADER] = rest.first_chunk().ok_or(Malformed)?;
            let length = u16::from_ne_bytes([header[2], header[3]]) as usize;
            if length < HEADER || length > rest.len() {
                return Err(Malformed);
            }
            let (record, after) = rest.split_at(length);
            rest = after;
            match header[0] {
                TYPE_FID => visit(Record::Target(handle(&record[HEADER..])?.0)),
                TYPE_DFID_NAME | TYPE_OLD_DFID_NAME | TYPE_NEW_DFID_NAME => {
                    let (dir, name) = handle(&record[HEADER..])?;
                    let end = name.iter().position(|b| *b == 0).unwrap_or(name.len());
                    visit(Record::Entry {
                        dir,
                        name: &name[..end],
                        has_left: header[0] == TYPE_OLD_DFID_NAME,
                    });
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// A handle behind the file system's id, and what follows it.
fn handle(body: &[u8]) -> Result<(Handle<'_>, &[u8]), Malformed> {
    let rest = body.get(FID..).ok_or(Malformed)?;
    let head: &[u8; HANDLE] = rest.first_chunk().ok_or(Malformed)?;
    let n_bytes = word(&head[..4]) as usize;
    let rest = &rest[HANDLE..];
    if n_bytes > rest.len() {
        return Err(Malformed);
    }
    let (bytes, after) = rest.split_at(n_bytes);
    let kind = word(&head[4..]) as i32;
    Ok((Handle { kind, bytes }, after))
}

fn word(bytes: &[u8]) -> u32 {
    bytes
        .first_chunk()
        .map_or(0, |word: &[u8; 4]| u32::from_ne_bytes(*word))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// An event with one record, as the kernel lays it out.
    fn event(kind: u8, handle: &[u8], name: &[u8]) -> Vec<u8> {
        let mut record = vec![kind, 0, 0, 0];
        record.extend([7; FID]);
        record.extend((handle.len() as u32).to_ne_bytes());
        record.extend(1i32.to_ne_bytes());
        record.extend(handle);
        record.extend(name);
        record.push(0);
        while record.len() % 4 != 0 {
            record.push(0);
        }
        let length = record.len() as u16;
        record[2..4].copy_from_slice(&length.to_ne_bytes());
        let mut event = ((METADATA + record.len()) as u32).to_ne_bytes().to_vec();
        event.extend([VERSION, 0]);
        event.extend((METADATA as u16).to_ne_bytes());
        event.extend(0x100u64.to_ne_bytes());
        event.extend((-1i32).to_ne_bytes());
        event.extend(42i32.to_ne_bytes());
        event.extend(record);
        event
    }

    #[test]
    fn an_event_gives_its_directory_and_name() {
        let bytes = event(TYPE_DFID_NAME, b"12345678", b"name");
        let mut buffer = &bytes[..];
        let event = next(&mut buffer).expect("well formed").expect("one");
        assert_eq!((event.mask, event.thread), (0x100, 42));
        let mut records = Vec::new();
        event.records(|r| records.push(r)).expect("well formed");
        let dir = Handle {
            kind: 1,
            bytes: b"12345678",
        };
        let (name, has_left) = (&b"name"[..], false);
        assert_eq!(
            records,
            [Record::Entry {
                dir,
                name,
                has_left
            }]
        );
        assert_eq!(next(&mut buffer), Ok(None));
    }

    #[test]
    fn what_is_not_known_is_passed_over() {
        let bytes = event(99, b"12345678", b"name");
        let event = next(&mut &bytes[..]).expect("well formed").expect("one");
        event.records(|r| panic!("{r:?}")).expect("well formed");
    }

    proptest! {
        /// Whatever the bytes: no panic, and no end without progress.
        #[test]
        fn any_bytes_end(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let mut buffer = &bytes[..];
            while let Ok(Some(event)) = next(&mut buffer) {
                if event.records(|_| {}).is_err() {
                    break;
                }
            }
        }

        /// A good event with some bytes spoilt: the same.
        #[test]
        fn spoilt_events_end(at in 0..80usize, byte in any::<u8>()) {
            let mut bytes = event(TYPE_NEW_DFID_NAME, b"12345678", b"a name of some length");
            let at = at % bytes.len();
            bytes[at] = byte;
            let mut buffer = &bytes[..];
            while let Ok(Some(event)) = next(&mut buffer) {
                if event.records(|_| {}).is_err() {
                    break;
                }
            }
        }
    }
}
