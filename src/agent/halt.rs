//! What cuts work short: somebody's word, or the time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// Asked between two steps; once it is time it stays so. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Halt {
    told: Arc<AtomicBool>,
    until: Option<Instant>,
}

impl Halt {
    /// When somebody sets this.
    pub fn when(told: Arc<AtomicBool>) -> Self {
        Self { told, until: None }
    }

    /// Then at the latest, too.
    pub fn or_at(mut self, until: Instant) -> Self {
        self.until = self.until.into_iter().chain([until]).min();
        self
    }

    /// Whether it is time.
    pub fn is_due(&self) -> bool {
        self.told.load(Ordering::Relaxed) || self.until.is_some_and(|until| Instant::now() >= until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_word_or_the_earliest_time_is_enough() {
        let told = Arc::new(AtomicBool::new(false));
        let now = Instant::now();
        let later = Halt::when(told.clone()).or_at(now + Duration::from_secs(3600));
        assert!(!later.is_due());
        assert!(later.clone().or_at(now).is_due());
        assert!(
            later
                .clone()
                .or_at(now)
                .or_at(now + Duration::from_secs(3600))
                .is_due()
        );
        told.store(true, Ordering::Relaxed);
        assert!(later.is_due());
    }
}
