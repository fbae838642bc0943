//! A watcher's word: look here. Never a fact.

/// Where to look again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hint {
    /// This name below the root may have changed. The bytes come from a watcher and are
    /// not checked yet: the engine resolves them against what it knows.
    Name(Box<[u8]>),
    /// Some names are missing from the hints: only a scan helps.
    Lost,
}
