//! Hints that call a directory by a key, the engine alone: what is announced, what comes too
//! early, what comes of a tree that nobody knows, and what lies where it is not looked for.
//! The seeded world does the same at random; here each case stands alone.

use crate::support::world::{bare_rules, rules_time};
use housekeeper::engine::{Command, Effect, Engine, Input, ReadOf, Rules};
use housekeeper::layout::Layout;
use housekeeper::layout::spec::{Kind, LayoutSpec};
use housekeeper::model::hint::Hint;
use housekeeper::model::listing::{Listing, ScanId, ScanOrder, Walked, Watched};
use housekeeper::model::path::RelPath;
use housekeeper::model::place::{Look, Why};
use housekeeper::model::seen::{FileId, FileKind, Seen, Stat};
use housekeeper::model::session::{Facts, Verdict};
use housekeeper::model::time::{Now, Tick, UnixNanos};
use housekeeper::model::watcher::{DirKey, Watch};
use std::sync::Arc;
use std::time::Duration;

const ROOT: DirKey = DirKey(1);
const S: DirKey = DirKey(2);

/// An engine with its scans; effects are kept until they are asked for.
struct Bench {
    engine: Engine,
    out: Vec<Effect>,
    generation: u64,
}

fn now() -> Now {
    Now {
        wall: rules_time(),
        tick: Tick(Duration::from_secs(1)),
    }
}

fn stat(ino: u64, kind: FileKind, bytes: u64) -> Stat {
    Stat {
        id: FileId { dev: 1, ino },
        mount: 1,
        kind,
        apparent: bytes,
        allocated: bytes.div_ceil(512) * 512,
        n_links: 1,
        mtime: UnixNanos(0),
        ctime: UnixNanos(0),
        btime: None,
    }
}

impl Bench {
    /// A scan of the root is under way.
    fn new() -> (Self, ScanId) {
        Self::with_rules(bare_rules(1_000_000))
    }

    fn with_rules(rules: Rules) -> (Self, ScanId) {
        let mut bench = Self {
            engine: Engine::new(rules, true, []),
            out: Vec::new(),
            generation: 0,
        };
        bench.give(Input::Command(Command::Guard));
        bench.give(Input::Wake);
        let scan = bench.scan("").expect("a first scan");
        (bench, scan)
    }

    /// The root with the session `s` in it, both listed, nothing under way.
    fn with_session() -> Self {
        let (mut bench, scan) = Self::new();
        bench.list(scan, "", 1, ROOT, &[("s", stat(2, FileKind::Dir, 0))]);
        bench.list(scan, "s", 2, S, &[("data", stat(3, FileKind::File, 10))]);
        bench.give(Input::Walked(vec![Walked::End { scan }]));
        bench.answer_read(Verdict::Certain);
        assert!(bench.engine.figures().scanned);
        bench.out.clear();
        bench
    }

    /// The metadata of the one session was read.
    fn answer_read(&mut self, verdict: Verdict) {
        let read = self.out.iter().find_map(|effect| match effect {
            Effect::Read(order) => order.session.as_ref().map(|(id, _)| (order.seq, *id)),
            _ => None,
        });
        let (seq, session) = read.expect("it is to be read");
        self.out.clear();
        let facts = Facts {
            verdict,
            ..Facts::unknown()
        };
        let proofs = Vec::new();
        self.give(Input::Read {
            seq,
            of: ReadOf::Session {
                session,
                facts,
                proofs,
            },
        });
    }

    fn reads(&self) -> bool {
        let is_read = |effect: &Effect| matches!(effect, Effect::Read(_));
        self.out.iter().any(is_read)
    }

    fn give(&mut self, input: Input) {
        self.engine.handle(now(), input, &mut self.out);
    }

    fn hint(&mut self, dir: DirKey, name: &str) {
        self.give(Input::Hint(Hint::Entry {
            dir,
            path: name.as_bytes().into(),
            name_at: 0,
        }));
    }

    fn chunk(
        &mut self,
        scan: ScanId,
        path: &str,
        ino: u64,
        key: DirKey,
        is: (bool, bool),
    ) -> Listing {
        if is.0 {
            self.generation += 1;
        }
        let watched = Watched::Placed(Watch {
            generation: self.generation,
            key,
        });
        let path = RelPath::new(path.as_bytes()).expect("a path");
        let here = stat(ino, FileKind::Dir, 0);
        let mut listing = Listing::new(scan, path, here, watched, is.0);
        listing.last = is.1;
        listing
    }

    /// The directory is announced and listed in one chunk.
    fn list(&mut self, scan: ScanId, path: &str, ino: u64, key: DirKey, entries: &[(&str, Stat)]) {
        self.give(Input::Hint(Hint::Begun { dir: key }));
        let mut listing = self.chunk(scan, path, ino, key, (true, true));
        for (name, stat) in entries {
            listing.push(name.as_bytes(), Seen::There(*stat));
        }
        self.give(Input::Walked(vec![Walked::Chunk(listing)]));
    }

    /// Takes the order for a scan at this path off the effects.
    fn scan(&mut self, path: &str) -> Option<ScanId> {
        let is_it = |effect: &Effect| matches!(effect, Effect::Scan(ScanOrder { at, .. }) if at.as_bytes() == path.as_bytes());
        let at = self.out.iter().position(is_it)?;
        match self.out.swap_remove(at) {
            Effect::Scan(order) => Some(order.id),
            other => panic!("no scan: {other:?}"),
        }
    }

    /// Takes the looks off the effects.
    fn looks(&mut self) -> Vec<Look> {
        let (looks, others): (Vec<_>, Vec<_>) = std::mem::take(&mut self.out)
            .into_iter()
            .partition(|effect| matches!(effect, Effect::Look(_)));
        self.out = others;
        let look = |effect| match effect {
            Effect::Look(look) => look,
            other => panic!("no look: {other:?}"),
        };
        looks.into_iter().map(look).collect()
    }

    /// A hint by path leads to one look, which finds this.
    fn found(&mut self, path: &str, stat: Stat) {
        self.give(Input::Hint(Hint::Name(path.as_bytes().into())));
        let look = self.looks().pop().expect("it is looked at");
        self.give(Input::Looked(look, Seen::There(stat)));
    }

    fn names(&mut self) -> Vec<String> {
        let looks = self.looks();
        let name = |look: &Look| String::from_utf8_lossy(look.name()).into_owned();
        looks.iter().map(name).collect()
    }

    fn bytes(&self) -> u64 {
        self.engine.figures().apparent.0
    }
}

#[test]
fn a_hint_in_a_known_directory_is_looked_at() {
    let mut bench = Bench::with_session();
    bench.hint(S, "data");
    bench.hint(ROOT, ".housekeeper");
    bench.hint(ROOT, "..");
    assert_eq!(bench.names(), ["data"]);
}

#[test]
fn a_hint_in_a_directory_that_nobody_announced_is_dropped() {
    let mut bench = Bench::with_session();
    assert!(!bench.engine.knows(DirKey(77)));
    bench.hint(DirKey(77), "data");
    assert!(bench.names().is_empty());
}

/// The directory is watched and perhaps listed, but its listing is still on its way.
#[test]
fn a_hint_before_the_listing_is_looked_at_after_it() {
    let (mut bench, scan) = Bench::new();
    bench.list(scan, "", 1, ROOT, &[("s", stat(2, FileKind::Dir, 0))]);
    bench.give(Input::Hint(Hint::Begun { dir: S }));
    assert!(bench.engine.knows(S));
    bench.hint(S, "new");
    bench.hint(S, "new");
    assert!(bench.names().is_empty(), "there is nothing to look in yet");
    bench.list(scan, "s", 2, S, &[]);
    assert_eq!(bench.names(), ["new"]);
}

/// A name was removed after it was listed and before its chunk came: the look that found it
/// gone is newer than the chunk.
#[test]
fn a_later_chunk_of_the_same_listing_is_no_newer_than_the_look() {
    let (mut bench, scan) = Bench::new();
    bench.list(scan, "", 1, ROOT, &[("s", stat(2, FileKind::Dir, 0))]);
    bench.give(Input::Hint(Hint::Begun { dir: S }));
    bench.hint(S, "gone");
    let first = bench.chunk(scan, "s", 2, S, (true, false));
    bench.give(Input::Walked(vec![Walked::Chunk(first)]));
    let look = bench.looks().pop().expect("the hinted name");
    bench.give(Input::Looked(look, Seen::Gone));
    let mut second = bench.chunk(scan, "s", 2, S, (false, true));
    second.push(b"gone", Seen::There(stat(3, FileKind::File, 10)));
    bench.give(Input::Walked(vec![Walked::Chunk(second)]));
    assert_eq!(bench.bytes(), 0);
    let look = bench.looks().pop().expect("it is asked for again");
    bench.give(Input::Looked(look, Seen::Gone));
    assert_eq!(bench.bytes(), 0);
}

/// Another directory has the path: what is in that one is not taken for what was in this one,
/// and nothing of this one counts as gone before its own name was looked at.
#[test]
fn a_look_in_a_directory_that_is_elsewhere_says_nothing() {
    let mut bench = Bench::with_session();
    bench.hint(S, "data");
    let look = bench.looks().pop().expect("the hinted name");
    bench.give(Input::Astray(look));
    assert_eq!(bench.bytes(), 10, "nothing is gone yet");
    let look = bench.looks().pop().expect("the directory's own name");
    assert_eq!((look.name(), look.why), (&b"s"[..], Why::Hint));
    bench.give(Input::Looked(look, Seen::There(stat(9, FileKind::Dir, 0))));
    assert_eq!(bench.bytes(), 0, "it is another directory");
    assert!(bench.scan("s").is_some());
}

/// Of the two files of a session the other one is seen first, in a directory that is not listed
/// yet: what is said of a session without its metadata is no last word.
#[test]
fn metadata_that_comes_second_is_read_though_its_directory_is_not_listed() {
    let spec = LayoutSpec {
        kind: Kind::Sidecar,
        sessions: "*/*".to_owned(),
        metadata: Some("{id}.json".to_owned()),
        blobs: vec!["{id}.{ext}".to_owned()],
        ..LayoutSpec::default()
    };
    let mut rules = bare_rules(1_000_000);
    rules.layout = Arc::new(Layout::new(spec).expect("a good layout"));
    let (mut bench, scan) = Bench::with_rules(rules);
    bench.list(scan, "", 1, ROOT, &[]);
    bench.give(Input::Walked(vec![Walked::End { scan }]));
    bench.found("d", stat(5, FileKind::Dir, 0));
    bench.found("d/a.bin", stat(6, FileKind::File, 10));
    bench.answer_read(Verdict::Certain);
    assert!(!bench.reads());
    bench.found("d/a.json", stat(7, FileKind::File, 5));
    // A look that a read asks for may ask for a read in turn: only the first is done at once.
    let read = bench.out.iter().find_map(|effect| match effect {
        Effect::Read(order) => Some(order.at_once),
        _ => None,
    });
    assert_eq!(read, Some(false), "{:?}", bench.out);
}

/// What is in a new session may be there later than the session itself: the end of its listing
/// asks again.
#[test]
fn a_session_that_was_empty_at_first_sight_is_read_when_it_is_listed() {
    let (mut bench, scan) = Bench::new();
    bench.list(scan, "", 1, ROOT, &[]);
    bench.give(Input::Walked(vec![Walked::End { scan }]));
    bench.found("s", stat(2, FileKind::Dir, 0));
    let scan = bench.scan("s").expect("it is listed");
    bench.answer_read(Verdict::Certain);
    bench.list(
        scan,
        "s",
        2,
        S,
        &[("metadata.json", stat(3, FileKind::File, 5))],
    );
    assert!(bench.reads(), "{:?}", bench.out);
}

/// It was away for a moment and is back: what could not be looked at is found by listing it.
#[test]
fn a_directory_that_came_back_is_listed_again() {
    let mut bench = Bench::with_session();
    bench.hint(S, "data");
    let look = bench.looks().pop().expect("the hinted name");
    bench.give(Input::Astray(look));
    let look = bench.looks().pop().expect("the directory's own name");
    bench.give(Input::Looked(look, Seen::There(stat(2, FileKind::Dir, 0))));
    assert_eq!(bench.bytes(), 10);
    assert!(bench.scan("s").is_some());
}

/// The kernel took a watch off, and the directory is there all the same.
#[test]
fn a_watch_that_ended_is_placed_anew() {
    let mut bench = Bench::with_session();
    bench.give(Input::Hint(Hint::Ended { dir: S }));
    assert!(!bench.engine.knows(S));
    let look = bench.looks().pop().expect("the directory's own name");
    bench.give(Input::Looked(look, Seen::There(stat(2, FileKind::Dir, 0))));
    let scan = bench.scan("s").expect("it is watched and listed anew");
    bench.list(
        scan,
        "s",
        2,
        DirKey(5),
        &[("data", stat(3, FileKind::File, 10))],
    );
    bench.looks();
    bench.hint(DirKey(5), "data");
    assert_eq!(bench.names(), ["data"]);
}

/// A source failed and another one took over, which numbers its watches from the beginning.
#[test]
fn another_source_begins_anew() {
    let mut bench = Bench::with_session();
    bench.generation = 0;
    bench.give(Input::Command(Command::NewSource));
    assert!(bench.engine.figures().suspect && !bench.engine.knows(S));
    let scan = bench
        .scan("")
        .expect("what was missed between them is looked for");
    let (root, s) = (DirKey(11), DirKey(12));
    bench.list(scan, "", 1, root, &[("s", stat(2, FileKind::Dir, 0))]);
    bench.list(scan, "s", 2, s, &[("data", stat(3, FileKind::File, 10))]);
    bench.give(Input::Walked(vec![Walked::End { scan }]));
    assert!(bench.engine.knows(root) && bench.engine.knows(s));
    assert!(!bench.engine.knows(S));
}

#[test]
fn a_key_goes_with_its_directory() {
    let mut bench = Bench::with_session();
    bench.hint(ROOT, "s");
    let look = bench.looks().pop().expect("the hinted name");
    bench.give(Input::Looked(look, Seen::Gone));
    assert!(!bench.engine.knows(S));
    assert!(bench.engine.knows(ROOT));
}

/// A rename shows in the tree before its event is queued: seen at its new name, a file with one
/// name has left the old one.
#[test]
fn a_file_that_was_moved_counts_once() {
    let mut bench = Bench::with_session();
    let file = stat(3, FileKind::File, 10);
    bench.hint(S, "moved");
    let look = bench.looks().pop().expect("the hinted name");
    bench.give(Input::Looked(look, Seen::There(file)));
    assert_eq!(bench.bytes(), 10);
    // With a second name it is in both places, and the same bytes.
    bench.hint(S, "data");
    let look = bench.looks().pop().expect("the hinted name");
    let linked = Stat { n_links: 2, ..file };
    bench.give(Input::Looked(look, Seen::There(linked)));
    assert_eq!(bench.engine.figures().n_files, 1);
}

/// A file with more names than one has its size once: a walk that saw it in another directory
/// before the last look knows nothing newer.
#[test]
fn an_old_listing_does_not_change_a_file_of_several_names() {
    let mut bench = Bench::with_session();
    bench.hint(ROOT, "t");
    let look = bench.looks().pop().expect("a new directory");
    bench.give(Input::Looked(look, Seen::There(stat(5, FileKind::Dir, 0))));
    let scan = bench.scan("t").expect("it is listed");
    let linked = |bytes| Stat {
        n_links: 2,
        ..stat(3, FileKind::File, bytes)
    };
    bench.hint(S, "data");
    let look = bench.looks().pop().expect("the hinted name");
    bench.give(Input::Looked(look, Seen::There(linked(18))));
    bench.list(scan, "t", 5, DirKey(3), &[("other", linked(34))]);
    assert_eq!(bench.names(), ["other"], "the disk is asked which it is");
    assert_eq!(bench.bytes(), 18);
}

/// A limit is passed when what happened before is known, too, and without what came since: that
/// may be in the place of something that is gone.
#[test]
fn a_limit_is_passed_when_what_happened_before_is_known() {
    let mut bench = Bench::with_session();
    let rules = Box::new(bare_rules(15));
    bench.give(Input::Command(Command::SetRules(rules)));
    let look = |bench: &mut Bench, name: &str, seen: Seen| {
        bench.hint(S, name);
        let look = bench.looks().pop().expect("the hinted name");
        bench.give(Input::Looked(look, seen));
    };
    // Room was made, and used; the use is heard of first.
    look(&mut bench, "new", Seen::There(stat(4, FileKind::File, 10)));
    assert!(bench.out.contains(&Effect::Confirm));
    look(&mut bench, "data", Seen::Gone);
    look(&mut bench, "newer", Seen::There(stat(5, FileKind::File, 9)));
    assert_eq!(bench.bytes(), 19);
    bench.give(Input::Confirmed);
    assert!(
        !bench.out.contains(&Effect::Lock),
        "never more than 15 at once"
    );
    // That it is 19 now is to be confirmed as well, and then it is.
    bench.give(Input::Confirmed);
    assert!(bench.out.contains(&Effect::Lock));
}

/// What has the size it had may have been empty meanwhile, and something else in its room: it is
/// certain once it was not touched for a moment. What only grew was as long as it was known to be.
#[test]
fn what_was_touched_meanwhile_is_asked_for_again() {
    let cases = [
        ("the same size", stat(3, FileKind::File, 10), false),
        ("another file", stat(6, FileKind::File, 20), false),
        ("it grew", stat(3, FileKind::File, 11), true),
    ];
    for (case, seen, is_certain) in cases {
        let mut bench = Bench::with_session();
        let rules = Box::new(bare_rules(15));
        bench.give(Input::Command(Command::SetRules(rules)));
        let look = |bench: &mut Bench, name: &str, seen: Stat| {
            bench.hint(S, name);
            let look = bench.looks().pop().expect("the hinted name");
            bench.give(Input::Looked(look, Seen::There(seen)));
        };
        look(&mut bench, "new", stat(4, FileKind::File, 10));
        assert!(bench.out.contains(&Effect::Confirm));
        bench.out.clear();
        look(&mut bench, "data", seen);
        bench.give(Input::Confirmed);
        assert_eq!(bench.out.contains(&Effect::Lock), is_certain, "{case}");
        if !is_certain {
            assert!(bench.out.contains(&Effect::Confirm), "{case}");
            bench.give(Input::Confirmed);
            assert!(bench.out.contains(&Effect::Lock), "{case}");
        }
    }
}

/// Where nobody gives hints the totals are those of the last scan, and what its owner removed
/// since still counts: only a scan that has just ended decides.
#[test]
fn without_hints_only_a_scan_decides() {
    let mut bench = Bench::with_session();
    bench.give(Input::Command(Command::Poll));
    bench.give(Input::Command(Command::SetRules(Box::new(bare_rules(5)))));
    assert!(
        !bench.out.contains(&Effect::Confirm),
        "it may be less by now"
    );
    bench.give(Input::Command(Command::Rescan));
    let scan = bench.scan("").expect("what is there now is looked for");
    bench.list(scan, "", 1, ROOT, &[("s", stat(2, FileKind::Dir, 0))]);
    bench.list(scan, "s", 2, S, &[("data", stat(3, FileKind::File, 10))]);
    assert!(!bench.out.contains(&Effect::Confirm));
    bench.give(Input::Walked(vec![Walked::End { scan }]));
    assert!(bench.out.contains(&Effect::Confirm));
    bench.give(Input::Confirmed);
    assert!(bench.out.contains(&Effect::Lock));
}

#[test]
fn a_watch_that_ends_for_a_moment_costs_no_full_scan() {
    let mut bench = Bench::with_session();
    let later = |seconds| Now {
        tick: Tick(Duration::from_secs(seconds)),
        ..now()
    };
    // Long after the last scan: its pace alone would allow one at once.
    let ended = Input::Hint(Hint::Ended { dir: S });
    bench.engine.handle(later(1000), ended, &mut bench.out);
    assert_eq!(bench.scan(""), None);
    assert_eq!(bench.names(), ["s"]);
    // Nobody answers: without a watch it is found by scans, at their pace.
    bench
        .engine
        .handle(later(1002), Input::Wake, &mut bench.out);
    assert!(bench.scan("").is_some());
}

/// A session's directory is met before its metadata is written: what does not parse is waited
/// for, but a hint of the metadata is a reason to read it now.
#[test]
fn metadata_in_doubt_is_read_again_at_its_next_hint() {
    let (mut bench, scan) = Bench::new();
    bench.list(scan, "", 1, ROOT, &[("s", stat(2, FileKind::Dir, 0))]);
    let empty = stat(3, FileKind::File, 0);
    bench.list(scan, "s", 2, S, &[("metadata.json", empty)]);
    bench.give(Input::Walked(vec![Walked::End { scan }]));
    bench.answer_read(Verdict::Doubtful);
    assert!(!bench.reads(), "time is given to whoever writes it");
    bench.hint(S, "metadata.json");
    for look in bench.looks() {
        let seen = match look.name() {
            b"s" => stat(2, FileKind::Dir, 0),
            _ => stat(3, FileKind::File, 20),
        };
        bench.give(Input::Looked(look, Seen::There(seen)));
    }
    assert!(bench.reads(), "it may be whole now");
    bench.answer_read(Verdict::Certain);
    assert!(!bench.reads());
    assert!(bench.engine.is_settled());
}
