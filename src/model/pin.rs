//! Sessions that somebody pinned: every rule leaves them alone until the pin ends.

use super::session::Key;
use super::time::Time;
use std::collections::BTreeMap;

/// Most pins of one root. At the bound another one is refused, after those that ended more than
/// a day ago are gone.
pub const MAX_PINS: usize = 10_000;

/// A promise not to delete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pin {
    /// The session's key, or its id: then all sessions of that id are pinned.
    pub session: Key,
    pub owner: String,
    pub reason: String,
    pub created: Time,
    /// `None`: until it is taken away.
    pub until: Option<Time>,
}

impl Pin {
    /// Whether it has ended. `at`: `None` while the clock cannot be believed; then none ends.
    pub fn has_ended(&self, at: Option<Time>) -> bool {
        matches!((self.until, at), (Some(until), Some(at)) if until <= at)
    }
}

/// All pins of a root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pins {
    Known(BTreeMap<Key, Pin>),
    /// They cannot be read; why. Every session counts as pinned.
    Unreadable(String),
}

impl Default for Pins {
    fn default() -> Self {
        Self::Known(BTreeMap::new())
    }
}

impl Pins {
    pub fn new(pins: impl IntoIterator<Item = Pin>) -> Self {
        let named = pins.into_iter().map(|pin| (pin.session.clone(), pin));
        Self::Known(named.collect())
    }

    /// Whether no session can be pinned by these.
    pub fn are_none(&self) -> bool {
        matches!(self, Self::Known(pins) if pins.is_empty())
    }

    /// Whether a session stays. A key and an id are asked for alike: where an id repeats, all of
    /// its sessions stay.
    pub fn hold(&self, key: &[u8], id: &[u8], at: Option<Time>) -> bool {
        match self {
            Self::Unreadable(_) => true,
            Self::Known(pins) => {
                let named = [pins.get(key), pins.get(id)];
                named.into_iter().flatten().any(|pin| !pin.has_ended(at))
            }
        }
    }

    /// When the first of those ends that have not ended at `at`.
    pub fn next_end(&self, at: Option<Time>) -> Option<Time> {
        let Self::Known(pins) = self else { return None };
        let lasting = pins.values().filter(|pin| !pin.has_ended(at));
        lasting.filter_map(|pin| pin.until).min()
    }

    /// How many have not ended.
    pub fn n_lasting(&self, at: Option<Time>) -> u64 {
        match self {
            Self::Known(pins) => pins.values().filter(|pin| !pin.has_ended(at)).count() as u64,
            Self::Unreadable(_) => 0,
        }
    }

    /// Why they cannot be read.
    pub fn trouble(&self) -> Option<&str> {
        match self {
            Self::Known(_) => None,
            Self::Unreadable(why) => Some(why),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::DateTime;
    use std::sync::Arc;

    fn at(seconds: i64) -> Time {
        DateTime::from_timestamp(seconds, 0).expect("in range")
    }

    fn pin(session: &str, until: Option<i64>) -> Pin {
        Pin {
            session: Arc::from(session.as_bytes()),
            owner: String::new(),
            reason: String::new(),
            created: at(0),
            until: until.map(at),
        }
    }

    #[test]
    fn a_key_and_an_id_pin_and_others_do_not() {
        let pins = Pins::new([pin("a/x", None), pin("y", None)]);
        assert!(pins.hold(b"a/x", b"x", None));
        assert!(pins.hold(b"a/y", b"y", None) && pins.hold(b"b/y", b"y", None));
        assert!(!pins.hold(b"b/x", b"x", None));
    }

    #[test]
    fn a_pin_ends_at_its_time_where_the_clock_is_believed() {
        let pins = Pins::new([pin("x", Some(10)), pin("y", Some(20)), pin("z", None)]);
        let holds = |seconds| pins.hold(b"x", b"x", Some(at(seconds)));
        assert!(holds(9) && !holds(10));
        assert!(pins.hold(b"x", b"x", None));
        assert_eq!(pins.next_end(None), Some(at(10)));
        assert_eq!(pins.next_end(Some(at(10))), Some(at(20)));
        assert_eq!(pins.next_end(Some(at(20))), None);
        assert_eq!(pins.n_lasting(Some(at(10))), 2);
    }

    #[test]
    fn what_cannot_be_read_pins_everything() {
        let pins = Pins::Unreadable("broken".to_owned());
        assert!(pins.hold(b"x", b"x", Some(at(10))) && !pins.are_none());
    }
}
