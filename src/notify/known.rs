//! What was told already, so that nothing is told twice: a restart finds again what still holds.

use crate::model::time::Time;
use crate::notify::news::Once;
use chrono::TimeDelta;
use std::collections::BTreeMap;

/// Things that are remembered. At the bound the one told longest ago is forgotten, so it may be
/// told once more.
const MAX_KNOWN: usize = 8192;
const A_DAY: TimeDelta = TimeDelta::days(1);

#[derive(Debug, Clone, Copy)]
struct Mark {
    told: Time,
    /// From before the start, and not heard of since.
    carried: bool,
}

/// What to do about something heard of.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Heard {
    Known,
    /// It is to be told. `forgotten`: there was no room for both.
    News {
        forgotten: Option<String>,
    },
}

#[derive(Debug, Default)]
pub(super) struct Known(BTreeMap<String, Mark>);

impl Known {
    /// What was remembered at the end of the last run.
    pub(super) fn carried(marks: impl IntoIterator<Item = (String, Time)>) -> Self {
        let marks = marks.into_iter().take(MAX_KNOWN);
        Self(
            marks
                .map(|(key, told)| {
                    (
                        key,
                        Mark {
                            told,
                            carried: true,
                        },
                    )
                })
                .collect(),
        )
    }

    /// Hears of something.
    pub(super) fn hear(&mut self, key: &str, once: Once, now: Time) -> Heard {
        if let Some(mark) = self.0.get_mut(key) {
            let was_carried = std::mem::take(&mut mark.carried);
            let age = now.signed_duration_since(mark.told);
            let is_news = match once {
                Once::UntilOver => false,
                Once::ARun => !was_carried,
                // A clock set back must not make it silent.
                Once::ADay => age >= A_DAY || age < TimeDelta::zero(),
            };
            if !is_news {
                return Heard::Known;
            }
            mark.told = now;
            return Heard::News { forgotten: None };
        }
        let is_full = self.0.len() >= MAX_KNOWN;
        let oldest = self
            .0
            .iter()
            .filter(|_| is_full)
            .min_by_key(|(_, mark)| mark.told);
        let forgotten = oldest.map(|(key, _)| key.clone());
        if let Some(key) = &forgotten {
            self.0.remove(key);
        }
        let mark = Mark {
            told: now,
            carried: false,
        };
        self.0.insert(key.to_owned(), mark);
        Heard::News { forgotten }
    }

    /// It holds no longer; `true`: it was known.
    pub(super) fn is_over(&mut self, key: &str) -> bool {
        self.0.remove(key).is_some()
    }

    /// A scan has found all there is below `prefix`: what was carried and not found again is over.
    pub(super) fn settle(&mut self, prefix: &str) -> Vec<String> {
        let below = self.0.range(prefix.to_owned()..);
        let over = below
            .take_while(|(key, _)| key.starts_with(prefix))
            .filter(|(_, mark)| mark.carried);
        let over: Vec<String> = over.map(|(key, _)| key.clone()).collect();
        for key in &over {
            self.0.remove(key);
        }
        over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Time {
        text.parse().expect("a time")
    }

    const NEWS: Heard = Heard::News { forgotten: None };

    #[test]
    fn what_still_holds_after_a_restart_is_not_told_again() {
        let now = at("2026-02-10T12:00:00Z");
        let carried = [
            "anomaly\0r\0a",
            "anomaly\0r\0b",
            "anomaly\0rr\0a",
            "unmet\0r",
        ];
        let mut known = Known::carried(carried.map(|key| (key.to_owned(), now)));
        assert_eq!(
            known.hear("anomaly\0r\0a", Once::UntilOver, now),
            Heard::Known
        );
        assert_eq!(known.hear("anomaly\0r\0c", Once::UntilOver, now), NEWS);
        assert_eq!(known.settle("anomaly\0r\0"), ["anomaly\0r\0b"]);
        assert_eq!(known.hear("anomaly\0r\0b", Once::UntilOver, now), NEWS);
        assert_eq!(known.hear("unmet\0r", Once::ARun, now), Heard::Known);
        // The engine says it a second time: it was met meanwhile.
        assert_eq!(known.hear("unmet\0r", Once::ARun, now), NEWS);
        assert!(known.is_over("unmet\0r") && !known.is_over("unmet\0r"));
    }

    #[test]
    fn what_fails_again_and_again_is_told_once_a_day() {
        let mut known = Known::default();
        let hear = |known: &mut Known, time: &str| known.hear("k", Once::ADay, at(time));
        assert_eq!(hear(&mut known, "2026-02-10T12:00:00Z"), NEWS);
        assert_eq!(hear(&mut known, "2026-02-11T11:59:00Z"), Heard::Known);
        assert_eq!(hear(&mut known, "2026-02-11T12:00:00Z"), NEWS);
        assert_eq!(hear(&mut known, "2026-02-01T12:00:00Z"), NEWS);
    }

    #[test]
    fn at_the_bound_the_oldest_is_forgotten() {
        let now = at("2026-02-10T12:00:00Z");
        let mut known = Known::default();
        for n in 0..MAX_KNOWN {
            let then = now + TimeDelta::seconds(n as i64);
            assert_eq!(known.hear(&n.to_string(), Once::UntilOver, then), NEWS);
        }
        let later = now + TimeDelta::days(9);
        let heard = known.hear("one more", Once::UntilOver, later);
        let forgotten = Some("0".to_owned());
        assert_eq!(heard, Heard::News { forgotten });
    }
}
