//! Amounts of data.

use std::fmt;

/// A number of bytes. Arithmetic saturates.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bytes(pub u64);

impl Bytes {
    pub const ZERO: Self = Self(0);
    /// 1024², what `_mb` in a key or flag means.
    pub const MIB: Self = Self(1 << 20);

    pub fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    pub fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", bytesize::ByteSize(self.0))
    }
}

/// Which size of a file a limit speaks of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Measure {
    /// `st_size`.
    #[default]
    Apparent,
    /// 512 × `st_blocks`.
    Allocated,
}

/// A sum over files. Wide enough that sparse giants cannot overflow it, so that
/// what was added can always be taken off again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    pub apparent: u128,
    pub allocated: u128,
    pub n_files: u64,
}

impl Tally {
    /// One file of these sizes in bytes.
    pub fn file(apparent: u64, allocated: u64) -> Self {
        Self {
            apparent: apparent.into(),
            allocated: allocated.into(),
            n_files: 1,
        }
    }

    pub fn add(&mut self, other: Self) {
        self.apparent += other.apparent;
        self.allocated += other.allocated;
        self.n_files += other.n_files;
    }

    /// Takes off what was added before.
    pub fn take(&mut self, other: Self) {
        debug_assert!(self.apparent >= other.apparent && self.n_files >= other.n_files);
        self.apparent = self.apparent.saturating_sub(other.apparent);
        self.allocated = self.allocated.saturating_sub(other.allocated);
        self.n_files = self.n_files.saturating_sub(other.n_files);
    }

    pub fn bytes(&self, measure: Measure) -> Bytes {
        let sum = match measure {
            Measure::Apparent => self.apparent,
            Measure::Allocated => self.allocated,
        };
        Bytes(u64::try_from(sum).unwrap_or(u64::MAX))
    }
}
