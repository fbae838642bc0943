//! One name of one directory in 16 bytes.
//!
//! | bits | |
//! |---|---|
//! | 56 | keyed hash of the name (SipHash, the key is random for each index) |
//! | 40 | inode number, or the slot of a directory, or a place elsewhere, by the form |
//! | 28 | size, or size and blocks, by the form |
//! | 3 | form |
//! | 1 | mark of the present listing |
//!
//! What does not fit (an inode number above 2⁴⁰, blocks that do not follow from the size of a
//! file of a quarter mebibyte or more) is kept whole in [`Wides`], and the entry says where.

use super::buckets::Item;

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    /// The only known name of its inode.
    File {
        ino: u64,
        apparent: u64,
        allocated: u64,
    },
    /// One name of several: sizes are kept with the inode, see [`super::links`].
    Linked { ino: u64 },
    /// The slot of a directory.
    Dir(u32),
    /// Symlink, FIFO, socket, device, or a mount point: counts nothing.
    Other { ino: u64 },
}

impl What {
    pub(super) fn is_file(self) -> bool {
        self.file_ino().is_some()
    }

    /// The inode number of a file.
    pub(super) fn file_ino(self) -> Option<u64> {
        match self {
            Self::File { ino, .. } | Self::Linked { ino } => Some(ino),
            Self::Dir(_) | Self::Other { .. } => None,
        }
    }
}

/// The packed form. Copies of one that is [`Entry::wide_at`] somewhere share that place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    /// From the lowest: 4 bits of the payload, 3 of the form, 1 for the mark, 56 of the hash.
    head: u64,
    /// 40 bits of the inode number, 24 of the payload.
    low: u64,
}

/// The bits of a hash that are kept.
pub(super) const HASH_MASK: u64 = (1 << 56) - 1;
const HASH_SHIFT: u32 = 8;

const INO_BITS: u32 = 40;
const PAYLOAD_BITS: u32 = 28;
const LOW_PAYLOAD_BITS: u32 = 64 - INO_BITS;
const HIGH_PAYLOAD_BITS: u32 = PAYLOAD_BITS - LOW_PAYLOAD_BITS;
/// Of a small file's payload, those of the size; the rest are its blocks.
const SMALL_BITS: u32 = 18;
const MARK: u64 = 1 << 7;

/// What the payload means.
const FREE: u64 = 0;
/// The inode number is kept with the directory.
const DIR: u64 = 1;
const OTHER: u64 = 2;
/// A size below 256 MiB whose blocks are whole pages of 4096 bytes, as few as hold it.
const EVEN: u64 = 3;
/// A size below 256 KiB and its blocks, fewer than 1024.
const SMALL: u64 = 4;
const LINKED: u64 = 5;
/// A place in [`Wides`].
const WIDE: u64 = 6;

impl Item for Entry {
    const FREE: Self = Self { head: 0, low: 0 };
    const LOAD: usize = 16;

    fn is_free(&self) -> bool {
        self.form() == FREE
    }

    fn address(&self) -> u32 {
        self.hash() as u32
    }
}

impl Entry {
    fn new(hash: u64, ino: u64, form: u64, payload: u64) -> Self {
        debug_assert!(hash <= HASH_MASK && ino < 1 << INO_BITS && payload < 1 << PAYLOAD_BITS);
        let high = payload >> LOW_PAYLOAD_BITS | form << HIGH_PAYLOAD_BITS | MARK;
        Self {
            head: hash << HASH_SHIFT | high,
            low: ino | payload << INO_BITS,
        }
    }

    /// Packs what a name stands for; marked as named by the present listing.
    pub(super) fn pack(hash: u64, what: What, wides: &mut Wides) -> Self {
        match what {
            What::Dir(slot) => Self::new(hash, slot.into(), DIR, 0),
            What::Linked { ino } if ino < 1 << INO_BITS => Self::new(hash, ino, LINKED, 0),
            What::Other { ino } if ino < 1 << INO_BITS => Self::new(hash, ino, OTHER, 0),
            What::File {
                ino,
                apparent,
                allocated,
            } if ino < 1 << INO_BITS => {
                let blocks = allocated / 512;
                if apparent < 1 << PAYLOAD_BITS && blocks == even_blocks(apparent) {
                    Self::new(hash, ino, EVEN, apparent)
                } else if apparent < 1 << SMALL_BITS && blocks < 1 << (PAYLOAD_BITS - SMALL_BITS) {
                    Self::new(hash, ino, SMALL, apparent | blocks << SMALL_BITS)
                } else {
                    Self::wide(hash, what, wides)
                }
            }
            What::File { .. } | What::Linked { .. } | What::Other { .. } => {
                Self::wide(hash, what, wides)
            }
        }
    }

    fn wide(hash: u64, what: What, wides: &mut Wides) -> Self {
        Self::new(hash, wides.put(what).into(), WIDE, 0)
    }

    /// What the name stands for.
    pub(super) fn what(&self, wides: &Wides) -> What {
        let (ino, payload) = (self.ino_bits(), self.payload());
        match self.form() {
            DIR => What::Dir(ino as u32),
            EVEN => What::File {
                ino,
                apparent: payload,
                allocated: even_blocks(payload) * 512,
            },
            SMALL => What::File {
                ino,
                apparent: payload & ((1 << SMALL_BITS) - 1),
                allocated: (payload >> SMALL_BITS) * 512,
            },
            LINKED => What::Linked { ino },
            WIDE => wides.get(ino as u32),
            _ => What::Other { ino },
        }
    }

    fn form(&self) -> u64 {
        self.head >> HIGH_PAYLOAD_BITS & 7
    }

    fn ino_bits(&self) -> u64 {
        self.low & ((1 << INO_BITS) - 1)
    }

    fn payload(&self) -> u64 {
        let high = self.head & ((1 << HIGH_PAYLOAD_BITS) - 1);
        self.low >> INO_BITS | high << LOW_PAYLOAD_BITS
    }

    pub(super) fn hash(&self) -> u64 {
        self.head >> HASH_SHIFT
    }

    /// Whether this is the entry of a hash, and no free place.
    pub(super) fn is(&self, hash: u64) -> bool {
        self.hash() == hash && !self.is_free()
    }

    /// Whether it can be a file's with this inode number; what it stands for says.
    pub(super) fn may_be(&self, ino: u64) -> bool {
        self.form() == WIDE || self.ino_bits() == ino
    }

    pub(super) fn dir_slot(&self) -> Option<u32> {
        (self.form() == DIR).then(|| self.ino_bits() as u32)
    }

    /// Where [`Wides`] has the rest of it.
    pub(super) fn wide_at(&self) -> Option<u32> {
        (self.form() == WIDE).then(|| self.ino_bits() as u32)
    }

    /// Whether the present listing named it, or it came since that began.
    pub(super) fn is_marked(&self) -> bool {
        self.head & MARK != 0
    }

    pub(super) fn mark(&mut self) {
        self.head |= MARK;
    }

    pub(super) fn unmark(&mut self) {
        self.head &= !MARK;
    }
}

/// The blocks of 512 bytes of a file that has no holes and nothing beyond its last page.
fn even_blocks(apparent: u64) -> u64 {
    apparent.div_ceil(4096) * 8
}

/// What fits into no [`Entry`], 24 bytes each.
#[derive(Debug, Default)]
pub(super) struct Wides {
    all: Vec<Wide>,
    /// The first free place, from 1; each names the next one.
    free: u32,
}

#[derive(Debug, Clone, Copy)]
struct Wide {
    ino: u64,
    apparent: u64,
    /// What it is in the top two bits, blocks below: `st_blocks` times 512 fits 64 bits.
    packed: u64,
}

const KIND_SHIFT: u32 = 62;
const FILE: u64 = 0;
const LINK: u64 = 1;

impl Wides {
    fn put(&mut self, what: What) -> u32 {
        let wide = match what {
            What::File {
                ino,
                apparent,
                allocated,
            } => Wide::new(ino, apparent, allocated / 512, FILE),
            What::Linked { ino } => Wide::new(ino, 0, 0, LINK),
            What::Other { ino } => Wide::new(ino, 0, 0, 2),
            What::Dir(_) => unreachable!("a slot fits an entry"),
        };
        match self.free.checked_sub(1) {
            Some(at) => {
                self.free = self.all[at as usize].ino as u32;
                self.all[at as usize] = wide;
                at
            }
            None => {
                self.all.push(wide);
                // 32 bits are enough for 100 GB of them: memory ends before.
                (self.all.len() - 1) as u32
            }
        }
    }

    fn get(&self, at: u32) -> What {
        let Wide {
            ino,
            apparent,
            packed,
        } = self.all[at as usize];
        match packed >> KIND_SHIFT {
            FILE => What::File {
                ino,
                apparent,
                allocated: packed * 512,
            },
            LINK => What::Linked { ino },
            _ => What::Other { ino },
        }
    }

    /// Frees what a name that leaves its table had here.
    pub(super) fn free(&mut self, entry: &Entry) {
        if let Some(at) = entry.wide_at() {
            self.all[at as usize].ino = self.free.into();
            self.free = at + 1;
        }
    }

    #[cfg(test)]
    pub(super) fn n_used(&self) -> usize {
        let mut n = self.all.len();
        let mut at = self.free;
        while at != 0 {
            n -= 1;
            at = self.all[at as usize - 1].ino as u32;
        }
        n
    }
}

impl Wide {
    fn new(ino: u64, apparent: u64, blocks: u64, kind: u64) -> Self {
        Self {
            ino,
            apparent,
            packed: blocks | kind << KIND_SHIFT,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_entry_is_16_bytes() {
        assert_eq!(size_of::<Entry>(), 16);
        assert_eq!(size_of::<Wide>(), 24);
    }

    /// Numbers of every length.
    fn number() -> impl Strategy<Value = u64> {
        (any::<u64>(), 0..64u32).prop_map(|(n, shift)| n >> shift)
    }

    fn what() -> impl Strategy<Value = What> {
        let even = (number(), number()).prop_map(|(ino, size)| What::File {
            ino,
            apparent: size >> 4,
            allocated: even_blocks(size >> 4) * 512,
        });
        let odd = (number(), number(), number()).prop_map(|(ino, size, blocks)| What::File {
            ino,
            apparent: size,
            allocated: (blocks >> 9) * 512,
        });
        prop_oneof![
            even,
            odd,
            number().prop_map(|ino| What::Linked { ino }),
            number().prop_map(|ino| What::Other { ino }),
            any::<u32>().prop_map(What::Dir),
        ]
    }

    proptest! {
        #[test]
        fn what_is_packed_comes_back(all in prop::collection::vec((0..=HASH_MASK, what()), 1..20)) {
            let mut wides = Wides::default();
            let packed: Vec<Entry> = all
                .iter()
                .map(|(hash, what)| Entry::pack(*hash, *what, &mut wides))
                .collect();
            for ((hash, what), entry) in all.iter().zip(&packed) {
                prop_assert_eq!(entry.what(&wides), *what);
                prop_assert!(entry.is(*hash) && entry.is_marked());
                let mut entry = *entry;
                entry.unmark();
                prop_assert!(!entry.is_marked());
                prop_assert_eq!(entry.what(&wides), *what);
            }
            packed.iter().for_each(|entry| wides.free(entry));
            prop_assert_eq!(wides.n_used(), 0);
        }
    }

    #[test]
    fn common_files_need_no_room_elsewhere() {
        let mut wides = Wides::default();
        for (apparent, allocated) in [
            (0, 0),
            (1, 4096),
            (4096, 4096),
            ((1 << 28) - 1, 1 << 28),
            // Inline, compressed, preallocated, sparse.
            (100, 0),
            (100_000, 53_248),
            (1000, 65_536),
            (200_000, 4096),
        ] {
            let what = What::File {
                ino: (1 << 40) - 1,
                apparent,
                allocated,
            };
            assert_eq!(Entry::pack(7, what, &mut wides).wide_at(), None, "{what:?}");
        }
    }
}
