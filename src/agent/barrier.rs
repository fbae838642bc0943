//! Whether a source hears, and when all that happened before a moment has been heard.
//!
//! A file is made in `.housekeeper/`, which is watched for that long; where the root gets no
//! directory, in the root itself. When the source itself
//! tells of it, all that it had to tell before has been handed to the engine. Where it does
//! not within five seconds, it hears nothing. Where there can be no such file (nothing is removed
//! here, nobody gives hints, no space), the barrier is a full scan that begins afterwards. The
//! `notify` crate spreads a root over several queues, so one file proves that it hears, but no
//! order: there the barrier is a scan, too.
//!
//! Pure but for the orders it returns. One cookie is out at a time; whoever asks meanwhile
//! waits for the next.

use crate::agent::apart::CookieAt;
use crate::model::report::BESIDE;
use crate::model::time::Tick;
use crate::model::watcher::{DirKey, Watch};
use std::time::Duration;

/// A source that has not told of a cookie so long after it was made is doubted.
const DOUBT: Duration = Duration::from_secs(4);
/// And if it does not tell so long after that either, it hears nothing. Two steps, because all
/// of this process may have been stopped for the first.
const LAST_CHANCE: Duration = Duration::from_secs(1);

/// What can be done about barriers at present.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ground {
    /// Cookies can be laid.
    pub(super) cookies: bool,
    /// What one cookie proves holds for all the source tells.
    pub(super) ordered: bool,
    /// The first full scan has ended.
    pub(super) scanned: bool,
    /// Hints were lost, and the scan that puts it right has not ended.
    pub(super) suspect: bool,
    /// When the last full scan that ended had begun.
    pub(super) scan_begun: Option<Tick>,
}

/// What is to be done next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    Nothing,
    /// Watch `.housekeeper/` and answer.
    Watch,
    /// Make the file of this name.
    Lay(String),
    Unwatch(Watch),
    Scan,
    /// The source hears nothing.
    Deaf(Watch),
}

/// What came of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    Watched(Watch),
    /// The file was made.
    Laid,
    /// There can be no cookie.
    Unable,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Idle,
    Watching,
    /// Watched, the file not ordered yet.
    Ready(Watch),
    Laid(Cookie),
    /// Watched for nothing.
    Ending(Watch),
}

/// A file that was ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cookie {
    watch: Watch,
    /// It was made.
    made: bool,
    /// When the source is doubted, or believed to be deaf.
    until: Option<Tick>,
    doubted: bool,
    heard: bool,
    /// Hints were lost since.
    lost: bool,
}

/// One root's barriers.
#[derive(Debug)]
pub(super) struct Barrier {
    phase: Phase,
    /// The cookie that is out, or was last.
    cookie: String,
    /// Makes names that nobody can guess, each once.
    fresh_name: fn(&str) -> String,
    at: CookieAt,
    /// The source was heard once; or nobody can say.
    proven: bool,
    /// Numbers of barriers: the greatest asked for, what the cookie that is out is for, and
    /// the greatest passed.
    wanted: u64,
    covered: u64,
    passed: u64,
    /// A scan that begins from then on passes up to this number.
    by_scan: Option<(Tick, u64)>,
    /// No cookie could be laid for who asks now.
    unable: bool,
}

impl Barrier {
    pub(super) fn new(wanted: u64, fresh_name: fn(&str) -> String, at: CookieAt) -> Self {
        Self {
            phase: Phase::Idle,
            cookie: String::new(),
            fresh_name,
            at,
            proven: false,
            wanted,
            covered: 0,
            passed: 0,
            by_scan: None,
            unable: false,
        }
    }

    pub(super) fn want(&mut self, number: u64) {
        self.wanted = self.wanted.max(number);
    }

    pub(super) fn passed(&self) -> u64 {
        self.passed
    }

    /// Another source takes over: it has to prove itself.
    pub(super) fn begin_anew(&mut self) {
        self.phase = Phase::Idle;
        self.proven = false;
        self.unable = false;
    }

    /// What hints call the cookies' directory, while it is watched.
    pub(super) fn key(&self) -> Option<DirKey> {
        match self.phase {
            Phase::Ready(watch) | Phase::Laid(Cookie { watch, .. }) => {
                Some(watch.key).filter(|key| *key != DirKey::BY_PATH)
            }
            Phase::Idle | Phase::Watching | Phase::Ending(_) => None,
        }
    }

    pub(super) fn at(&self) -> CookieAt {
        self.at
    }

    /// A name in the cookies' directory was heard; `true`: it is nobody else's business. Of what
    /// lies in the root itself the engine hears everything: it may have met a cookie in a walk.
    pub(super) fn hear(&mut self, name: &[u8]) -> bool {
        let is_it = name == self.cookie.as_bytes();
        if let Phase::Laid(cookie) = &mut self.phase {
            cookie.heard |= is_it;
        }
        self.at == CookieAt::Control
    }

    /// Hints were lost: the cookie perhaps among them.
    pub(super) fn lose(&mut self) {
        if let Phase::Laid(cookie) = &mut self.phase {
            cookie.lost = true;
        }
    }

    pub(super) fn answered(&mut self, answer: Answer) {
        match answer {
            Answer::Watched(watch) if self.phase == Phase::Watching => {
                self.phase = Phase::Ready(watch);
            }
            Answer::Watched(_) => {}
            Answer::Laid => {
                if let Phase::Laid(cookie) = &mut self.phase {
                    cookie.made = true;
                }
            }
            Answer::Unable => {
                // Nobody can say, so nobody says that it is deaf.
                self.proven = true;
                self.unable = true;
                self.phase = match self.phase {
                    Phase::Laid(Cookie { watch, .. }) => Phase::Ending(watch),
                    Phase::Idle | Phase::Watching | Phase::Ready(_) | Phase::Ending(_) => {
                        Phase::Idle
                    }
                };
            }
        }
    }

    /// When [`Self::step`] has something to do by itself.
    pub(super) fn due(&self) -> Option<Tick> {
        match self.phase {
            Phase::Laid(cookie) if !cookie.heard && !cookie.lost => cookie.until,
            Phase::Idle | Phase::Watching | Phase::Ready(_) | Phase::Laid(_) | Phase::Ending(_) => {
                None
            }
        }
    }

    /// Called when all hints at hand were handled.
    pub(super) fn step(&mut self, now: Tick, ground: Ground) -> Step {
        if let Some((asked, number)) = self.by_scan
            && ground.scan_begun.is_some_and(|begun| begun >= asked)
            && !ground.suspect
        {
            self.by_scan = None;
            self.unable = false;
            self.passed = self.passed.max(number);
        }
        match self.phase {
            Phase::Idle => self.begin(now, ground),
            Phase::Watching => Step::Nothing,
            Phase::Ready(watch) => self.lay(watch),
            Phase::Laid(cookie) => self.await_cookie(cookie, now, ground),
            Phase::Ending(watch) => {
                self.phase = Phase::Idle;
                Step::Unwatch(watch)
            }
        }
    }

    fn lay(&mut self, watch: Watch) -> Step {
        let hidden = match self.at {
            CookieAt::Control => "",
            CookieAt::Root => BESIDE,
        };
        self.cookie = (self.fresh_name)(hidden);
        self.covered = self.wanted;
        self.phase = Phase::Laid(Cookie {
            watch,
            made: false,
            until: None,
            doubted: false,
            heard: false,
            lost: false,
        });
        Step::Lay(self.cookie.clone())
    }

    fn await_cookie(&mut self, mut cookie: Cookie, now: Tick, ground: Ground) -> Step {
        if ground.suspect {
            return Step::Nothing;
        }
        if cookie.lost {
            // The loss is mended: laid again.
            return self.lay(cookie.watch);
        }
        if cookie.heard {
            self.proven = true;
            if ground.ordered {
                self.passed = self.passed.max(self.covered);
            }
            self.phase = Phase::Idle;
            return Step::Unwatch(cookie.watch);
        }
        match cookie.until {
            None if cookie.made => cookie.until = Some(now.after(DOUBT)),
            Some(until) if until <= now && cookie.doubted => {
                self.phase = Phase::Idle;
                return Step::Deaf(cookie.watch);
            }
            Some(until) if until <= now => {
                cookie.doubted = true;
                cookie.until = Some(now.after(LAST_CHANCE));
            }
            None | Some(_) => {}
        }
        self.phase = Phase::Laid(cookie);
        Step::Nothing
    }

    fn begin(&mut self, now: Tick, ground: Ground) -> Step {
        let waits = self.wanted > self.passed;
        let cookies = ground.cookies && !self.unable;
        let is_proof_due = !self.proven && cookies;
        if !ground.scanned || ground.suspect || !(waits || is_proof_due) {
            return Step::Nothing;
        }
        if cookies && (is_proof_due || ground.ordered) {
            self.phase = Phase::Watching;
            return Step::Watch;
        }
        if self
            .by_scan
            .is_some_and(|(_, number)| number >= self.wanted)
        {
            return Step::Nothing;
        }
        self.by_scan = Some((now, self.wanted));
        Step::Scan
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::cookie::fresh_name;

    const GROUND: Ground = Ground {
        cookies: true,
        ordered: true,
        scanned: true,
        suspect: false,
        scan_begun: None,
    };
    const WATCH: Watch = Watch {
        generation: 3,
        key: DirKey(9),
    };

    fn tick(seconds: u64) -> Tick {
        Tick(Duration::from_secs(seconds))
    }

    /// A barrier whose cookie was just laid, and the cookie's name.
    fn laid(wanted: u64) -> (Barrier, String) {
        let mut barrier = Barrier::new(wanted, fresh_name, CookieAt::Control);
        assert_eq!(barrier.step(tick(0), GROUND), Step::Watch);
        assert_eq!(barrier.step(tick(0), GROUND), Step::Nothing);
        barrier.answered(Answer::Watched(WATCH));
        let Step::Lay(name) = barrier.step(tick(1), GROUND) else {
            panic!("a cookie is laid");
        };
        assert_eq!(barrier.key(), Some(WATCH.key));
        (barrier, name)
    }

    #[test]
    fn it_is_passed_when_the_source_tells_of_the_cookie() {
        let (mut barrier, name) = laid(4);
        barrier.hear(b"lock");
        assert_eq!(barrier.step(tick(2), GROUND), Step::Nothing);
        assert_eq!(barrier.passed(), 0);
        barrier.want(5);
        barrier.hear(name.as_bytes());
        assert_eq!(barrier.step(tick(2), GROUND), Step::Unwatch(WATCH));
        assert_eq!(barrier.passed(), 4, "who asked later waits for the next");
        assert_eq!(barrier.step(tick(2), GROUND), Step::Watch);
    }

    #[test]
    fn a_source_that_does_not_tell_is_deaf() {
        let (mut barrier, _) = laid(0);
        assert_eq!(
            barrier.step(tick(50), GROUND),
            Step::Nothing,
            "not made yet"
        );
        assert_eq!(barrier.due(), None);
        barrier.answered(Answer::Laid);
        assert_eq!(barrier.step(tick(51), GROUND), Step::Nothing);
        assert_eq!(barrier.due(), Some(tick(55)));
        assert_eq!(barrier.step(tick(55), GROUND), Step::Nothing);
        assert_eq!(barrier.due(), Some(tick(56)));
        assert_eq!(barrier.step(tick(56), GROUND), Step::Deaf(WATCH));
    }

    /// Stopped for a minute, it does not take the source's silence for deafness.
    #[test]
    fn a_source_that_was_stopped_with_everybody_gets_a_last_chance() {
        let (mut barrier, name) = laid(0);
        barrier.answered(Answer::Laid);
        assert_eq!(barrier.step(tick(1), GROUND), Step::Nothing);
        assert_eq!(barrier.step(tick(90), GROUND), Step::Nothing);
        barrier.hear(name.as_bytes());
        assert_eq!(barrier.step(tick(90), GROUND), Step::Unwatch(WATCH));
    }

    #[test]
    fn what_is_not_made_is_not_waited_for() {
        let (mut barrier, _) = laid(1);
        barrier.answered(Answer::Unable);
        assert_eq!(barrier.step(tick(1), GROUND), Step::Unwatch(WATCH));
        assert_eq!(barrier.step(tick(1), GROUND), Step::Scan);
    }

    #[test]
    fn after_a_loss_it_is_laid_again_when_the_loss_is_mended() {
        let (mut barrier, first) = laid(1);
        barrier.lose();
        barrier.hear(first.as_bytes());
        let suspect = Ground {
            suspect: true,
            ..GROUND
        };
        assert_eq!(barrier.step(tick(100), suspect), Step::Nothing);
        assert_eq!(barrier.due(), None, "only the scan's end matters");
        let Step::Lay(second) = barrier.step(tick(101), GROUND) else {
            panic!("laid again");
        };
        barrier.hear(first.as_bytes());
        assert_eq!(barrier.step(tick(102), GROUND), Step::Nothing);
        assert_eq!(barrier.passed(), 0);
        barrier.hear(second.as_bytes());
        assert_eq!(barrier.step(tick(102), GROUND), Step::Unwatch(WATCH));
        assert_eq!(barrier.passed(), 1);
    }

    #[test]
    fn without_cookies_a_scan_that_begins_afterwards_is_the_barrier() {
        let mut barrier = Barrier::new(0, fresh_name, CookieAt::Control);
        let mut ground = Ground {
            cookies: false,
            ..GROUND
        };
        assert_eq!(barrier.step(tick(1), ground), Step::Nothing, "nobody asked");
        barrier.want(2);
        assert_eq!(barrier.step(tick(5), ground), Step::Scan);
        ground.scan_begun = Some(tick(4));
        assert_eq!(
            barrier.step(tick(6), ground),
            Step::Nothing,
            "it began before"
        );
        ground.scan_begun = Some(tick(5));
        assert_eq!(barrier.step(tick(7), ground), Step::Nothing);
        assert_eq!(barrier.passed(), 2);
    }

    #[test]
    fn what_cannot_be_laid_proves_nothing_and_blocks_nothing() {
        let mut barrier = Barrier::new(1, fresh_name, CookieAt::Control);
        assert_eq!(barrier.step(tick(0), GROUND), Step::Watch);
        barrier.answered(Answer::Unable);
        assert_eq!(barrier.step(tick(0), GROUND), Step::Scan);
        assert_eq!(barrier.step(tick(9), GROUND), Step::Nothing);
    }

    #[test]
    fn where_order_is_not_proven_a_cookie_proves_only_that_it_hears() {
        let mut barrier = Barrier::new(1, fresh_name, CookieAt::Control);
        let ground = Ground {
            ordered: false,
            ..GROUND
        };
        assert_eq!(barrier.step(tick(0), ground), Step::Watch);
        barrier.answered(Answer::Watched(WATCH));
        let Step::Lay(name) = barrier.step(tick(0), ground) else {
            panic!("a cookie is laid");
        };
        barrier.hear(name.as_bytes());
        assert_eq!(barrier.step(tick(0), ground), Step::Unwatch(WATCH));
        assert_eq!(barrier.passed(), 0);
        assert_eq!(barrier.step(tick(1), ground), Step::Scan);
    }
}
