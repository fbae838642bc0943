//! Something wrong with a session or root that a person should see.

use std::fmt;

/// The closed set of what can be wrong. The names are an outside contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AnomalyKind {
    MetadataMissing,
    MetadataUnreadable,
    MetadataCorrupt,
    CreatedAtMissing,
    CreatedAtInvalid,
    CreatedAtFuture,
    OrphanBlob,
    DanglingEntry,
    Unowned,
    Symlink,
    ForeignMount,
    /// A directory or file that could not be read.
    Unreadable,
    TooDeep,
    StateUnknown,
    BadId,
    BlobUnusable,
    SizeMismatch,
    /// An id or key that is there twice; the last one counts.
    DuplicateId,
    /// A stranger that got into the trash in a victim's place, and stays there.
    StrangerInTrash,
    /// An active session that nobody has touched for longer than `stale_after`.
    StaleActive,
    /// The catalogue says nothing: its sessions are unknown.
    CatalogUnreadable,
    /// Others save the catalogue over each other, or keep it from being edited.
    CatalogConcurrentWrite,
    /// Written to at a time later than now.
    ClockFuture,
    /// A name that is not UTF-8: shown with `\xNN`.
    NotUtf8,
}

impl AnomalyKind {
    pub const ALL: [Self; 24] = [
        Self::MetadataMissing,
        Self::MetadataUnreadable,
        Self::MetadataCorrupt,
        Self::CreatedAtMissing,
        Self::CreatedAtInvalid,
        Self::CreatedAtFuture,
        Self::OrphanBlob,
        Self::DanglingEntry,
        Self::Unowned,
        Self::Symlink,
        Self::ForeignMount,
        Self::Unreadable,
        Self::TooDeep,
        Self::StateUnknown,
        Self::BadId,
        Self::BlobUnusable,
        Self::SizeMismatch,
        Self::DuplicateId,
        Self::StrangerInTrash,
        Self::StaleActive,
        Self::CatalogUnreadable,
        Self::CatalogConcurrentWrite,
        Self::ClockFuture,
        Self::NotUtf8,
    ];

    /// The kind of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// The name used in JSON and logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::MetadataMissing => "metadata_missing",
            Self::MetadataUnreadable => "metadata_unreadable",
            Self::MetadataCorrupt => "metadata_corrupt",
            Self::CreatedAtMissing => "created_at_missing",
            Self::CreatedAtInvalid => "created_at_invalid",
            Self::CreatedAtFuture => "created_at_future",
            Self::OrphanBlob => "orphan_blob",
            Self::DanglingEntry => "dangling_entry",
            Self::Unowned => "unowned",
            Self::Symlink => "symlink",
            Self::ForeignMount => "foreign_mount",
            Self::Unreadable => "unreadable",
            Self::TooDeep => "too_deep",
            Self::StateUnknown => "state_unknown",
            Self::BadId => "bad_id",
            Self::BlobUnusable => "blob_unusable",
            Self::SizeMismatch => "size_mismatch",
            Self::DuplicateId => "duplicate_id",
            Self::StrangerInTrash => "stranger_in_trash",
            Self::StaleActive => "stale_active",
            Self::CatalogUnreadable => "catalog_unreadable",
            Self::CatalogConcurrentWrite => "catalog_concurrent_write",
            Self::ClockFuture => "clock_future",
            Self::NotUtf8 => "not_utf8",
        }
    }
}

impl fmt::Display for AnomalyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The anomalies of one session.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Anomalies(u32);

impl Anomalies {
    pub const NONE: Self = Self(0);

    pub fn insert(&mut self, kind: AnomalyKind) {
        self.0 |= 1 << kind as u32;
    }

    pub fn remove(&mut self, kind: AnomalyKind) {
        self.0 &= !(1 << kind as u32);
    }

    pub fn with(mut self, kind: AnomalyKind) -> Self {
        self.insert(kind);
        self
    }

    pub fn contains(self, kind: AnomalyKind) -> bool {
        self.0 & (1 << kind as u32) != 0
    }

    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub fn iter(self) -> impl Iterator<Item = AnomalyKind> {
        AnomalyKind::ALL
            .into_iter()
            .filter(move |kind| self.contains(*kind))
    }
}

impl fmt::Debug for Anomalies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Places are kept in this order, and what lies below a path is looked for from the least on.
    #[test]
    fn all_kinds_are_in_order() {
        assert!(AnomalyKind::ALL.is_sorted_by(|a, b| a < b));
    }
}
