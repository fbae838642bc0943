//! The lifecycle of sessions with a state, as configured, and when which step is due. Pure.

use crate::model::lifecycle::Deed;
use crate::model::session::{Moments, Phase, Told};
use crate::model::time::Time;
use chrono::TimeDelta;
use globset::{Candidate, GlobBuilder, GlobSet, GlobSetBuilder};
use std::sync::Arc;
use std::time::Duration;

/// `[root.lifecycle]`. Absent is off.
#[derive(Debug, Clone)]
pub struct Lifecycle {
    pub stale_after: Option<Duration>,
    /// The state that is written into a stale session's metadata.
    pub failed_value: Arc<str>,
    pub parts: PartGlobs,
    pub parts_after: Duration,
    pub orphan_parts_after: Option<Duration>,
    pub failed_retention: Option<Duration>,
    /// At most so many steps a cycle.
    pub batch: u64,
}

impl Default for Lifecycle {
    fn default() -> Self {
        Self {
            stale_after: None,
            failed_value: Arc::from("failed"),
            parts: PartGlobs::default(),
            parts_after: Duration::from_secs(60),
            orphan_parts_after: None,
            failed_retention: None,
            batch: 1000,
        }
    }
}

impl Lifecycle {
    pub fn is_off(&self) -> bool {
        self.stale_after.is_none() && self.failed_retention.is_none() && self.parts.is_empty()
    }

    /// The time that a deed waits for.
    pub fn limit(&self, deed: Deed) -> Duration {
        match deed {
            Deed::Fail => self.stale_after.unwrap_or(Duration::MAX),
            Deed::DropParts => self.parts_after,
            Deed::DropOrphanParts => self.orphan_parts_after.unwrap_or(Duration::MAX),
        }
    }
}

/// Globs on the paths of files below a session; `*` stays in one level, `**` spans levels.
#[derive(Debug, Clone, Default)]
pub struct PartGlobs {
    set: GlobSet,
    /// The sources, for people.
    texts: Vec<String>,
}

impl PartGlobs {
    /// Compiles the globs; else says which is wrong, and why.
    ///
    /// # Errors
    /// A sentence for each glob that is none, or that would match whatever a session holds.
    pub fn new(globs: &[String]) -> Result<Self, Vec<String>> {
        let mut set = GlobSetBuilder::new();
        let mut wrong = Vec::new();
        for text in globs {
            if text.chars().all(|c| "*?/".contains(c)) {
                wrong.push(format!(
                    "`{text}` matches whatever a session holds; name the parts, like \"parts/*\""
                ));
                continue;
            }
            match GlobBuilder::new(text).literal_separator(true).build() {
                Ok(glob) => {
                    set.add(glob);
                }
                Err(why) => wrong.push(format!("`{text}` is no glob: {}", why.kind())),
            }
        }
        let set = set.build().map_err(|why| vec![why.to_string()]);
        match (wrong.is_empty(), set) {
            (true, Ok(set)) => Ok(Self {
                set,
                texts: globs.to_vec(),
            }),
            (true, Err(wrong)) => Err(wrong),
            (false, _) => Err(wrong),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.texts.is_empty()
    }

    /// As they were written.
    pub fn texts(&self) -> &[String] {
        &self.texts
    }

    /// Whether a file at this path below its session is a part.
    pub fn is_part(&self, path: &[u8]) -> bool {
        !self.is_empty() && self.set.is_match_candidate(&Candidate::from_bytes(path))
    }
}

/// A session as the lifecycle sees it. Its metadata was read and is not in doubt.
#[derive(Debug, Clone, Copy)]
pub struct Condition<'a> {
    pub phase: Phase,
    /// Whether there is any metadata.
    pub has_record: bool,
    pub created: Option<Time>,
    pub moments: Option<&'a Moments>,
    /// The newest write to it.
    pub written: Time,
    /// It was looked through since it was last written to, and has no parts.
    pub has_no_parts: bool,
}

/// What comes next for a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    Do(Deed),
    /// It failed long ago: it is to go.
    Retire,
}

impl Lifecycle {
    /// What is to be done to a session next, and from when on. `None`: nothing as it is now.
    pub fn next(&self, session: &Condition<'_>) -> Option<(Time, Step)> {
        match session.phase {
            Phase::Active => self.stale(session),
            Phase::Complete => self.parts(session, Deed::DropParts),
            Phase::Failed => [self.parts(session, Deed::DropParts), self.retired(session)]
                .into_iter()
                .flatten()
                .min_by_key(|(at, _)| *at),
            Phase::Stateless if !session.has_record => self.parts(session, Deed::DropOrphanParts),
            Phase::Stateless | Phase::Unknown => None,
        }
    }

    fn stale(&self, session: &Condition<'_>) -> Option<(Time, Step)> {
        let stale_after = self.stale_after?;
        let touched = match session.moments.map_or(Told::Nothing, |m| m.updated) {
            Told::Nothing => session.written,
            Told::At(updated) => updated.max(session.written),
            Told::Unreadable => return None,
        };
        Some((past(touched, stale_after)?, Step::Do(Deed::Fail)))
    }

    fn parts(&self, session: &Condition<'_>, deed: Deed) -> Option<(Time, Step)> {
        if self.parts.is_empty() || session.has_no_parts {
            return None;
        }
        let limit = match deed {
            Deed::DropOrphanParts => self.orphan_parts_after?,
            Deed::DropParts | Deed::Fail => self.parts_after,
        };
        Some((past(session.written, limit)?, Step::Do(deed)))
    }

    fn retired(&self, session: &Condition<'_>) -> Option<(Time, Step)> {
        let since = Self::failed_since(session)?;
        Some((past(since, self.failed_retention?)?, Step::Retire))
    }

    /// When a failed session failed. The next source is asked only when the one before has
    /// nothing; one that is unreadable ends the list.
    pub fn failed_since(session: &Condition<'_>) -> Option<Time> {
        let moments = session.moments.copied().unwrap_or_default();
        for told in [moments.failed, moments.updated] {
            match told {
                Told::Nothing => {}
                Told::Unreadable => return None,
                Told::At(time) => return Some(time),
            }
        }
        session.created
    }
}

/// The first millisecond at which `since` is longer ago than `limit`: exactly at it is not over
/// it. `None`: never.
fn past(since: Time, limit: Duration) -> Option<Time> {
    let limit = TimeDelta::from_std(limit).ok()?;
    since
        .checked_add_signed(limit)?
        .checked_add_signed(TimeDelta::milliseconds(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(hour: u32) -> Time {
        format!("2026-12-{:02}T{:02}:00:00Z", 1 + hour / 24, hour % 24)
            .parse()
            .expect("a time")
    }

    fn rules() -> Lifecycle {
        Lifecycle {
            stale_after: Some(Duration::from_secs(24 * 3600)),
            parts: PartGlobs::new(&["parts/*".to_owned()]).expect("globs"),
            orphan_parts_after: Some(Duration::from_secs(2 * 3600)),
            failed_retention: Some(Duration::from_secs(48 * 3600)),
            ..Lifecycle::default()
        }
    }

    fn session(phase: Phase) -> Condition<'static> {
        Condition {
            phase,
            has_record: true,
            created: Some(time(0)),
            moments: None,
            written: time(10),
            has_no_parts: false,
        }
    }

    /// What is due, and how many milliseconds after `written`.
    fn said(rules: &Lifecycle, session: &Condition<'_>) -> Option<(i64, Step)> {
        let (at, step) = rules.next(session)?;
        Some(((at - session.written).num_milliseconds(), step))
    }

    #[test]
    fn each_phase_has_its_step() {
        let rules = rules();
        let hours = |n: i64| n * 3_600_000 + 1;
        let stale = Some((hours(24), Step::Do(Deed::Fail)));
        let parts = Some((60_001, Step::Do(Deed::DropParts)));
        assert_eq!(said(&rules, &session(Phase::Active)), stale);
        assert_eq!(said(&rules, &session(Phase::Complete)), parts);
        assert_eq!(said(&rules, &session(Phase::Failed)), parts);
        assert_eq!(said(&rules, &session(Phase::Unknown)), None);
        assert_eq!(said(&rules, &session(Phase::Stateless)), None);
        let unrecorded = Condition {
            has_record: false,
            ..session(Phase::Stateless)
        };
        let orphans = Some((hours(2), Step::Do(Deed::DropOrphanParts)));
        assert_eq!(said(&rules, &unrecorded), orphans);
        let without = |phase| Condition {
            has_no_parts: true,
            ..session(phase)
        };
        assert_eq!(said(&rules, &without(Phase::Complete)), None);
        // Counted from its creation, where nothing else is told.
        assert_eq!(
            said(&rules, &without(Phase::Failed)),
            Some((hours(38), Step::Retire))
        );
        let off = Lifecycle::default();
        assert!(off.is_off());
        for phase in [
            Phase::Active,
            Phase::Complete,
            Phase::Failed,
            Phase::Stateless,
        ] {
            assert_eq!(said(&off, &session(phase)), None, "{phase:?}");
        }
    }

    #[test]
    fn what_metadata_tells_counts_and_nonsense_stops() {
        let rules = rules();
        let told = |updated, failed| Moments { updated, failed };
        let none = Told::Nothing;
        for (phase, moments, expected) in [
            (Phase::Active, told(Told::At(time(12)), none), Some(24 + 2)),
            (Phase::Active, told(Told::At(time(3)), none), Some(24)),
            (Phase::Active, told(Told::Unreadable, none), None),
            (Phase::Failed, told(none, Told::At(time(11))), Some(48 + 1)),
            (Phase::Failed, told(Told::At(time(9)), none), Some(48 - 1)),
            (
                Phase::Failed,
                told(Told::At(time(9)), Told::At(time(8))),
                Some(48 - 2),
            ),
            (
                Phase::Failed,
                told(Told::At(time(9)), Told::Unreadable),
                None,
            ),
        ] {
            let moments = Some(&moments);
            let session = Condition {
                moments,
                has_no_parts: true,
                ..session(phase)
            };
            let hours = said(&rules, &session).map(|(at, _)| (at - 1) / 3_600_000);
            assert_eq!(hours, expected, "{phase:?} {moments:?}");
        }
    }

    #[test]
    fn globs_name_parts_and_nothing_else() {
        let globs = PartGlobs::new(&["parts/*".to_owned(), "**/*.part".to_owned()]);
        let globs = globs.expect("globs");
        for (path, is_part) in [
            (&b"parts/1"[..], true),
            (b"parts/a/1", false),
            (b"parts", false),
            (b"x.part", true),
            (b"a/b/x.part", true),
            (b"final.bin", false),
            (b"parts/\xFF", true),
        ] {
            assert_eq!(globs.is_part(path), is_part, "{path:?}");
        }
        assert!(!PartGlobs::default().is_part(b"a"));
        for bad in ["*", "**", "**/*", "?", "[", ""] {
            assert!(PartGlobs::new(&[bad.to_owned()]).is_err(), "{bad}");
        }
    }
}
