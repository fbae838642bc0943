//! The parts of the latency path, alone: applying a look, planning, a layout's judgement.

use criterion::{Criterion, criterion_group, criterion_main};
use housekeeper::engine::{Effect, Engine, Input, ReadOf, Rules};
use housekeeper::layout::Layout;
use housekeeper::layout::spec::{Kind, LayoutSpec};
use housekeeper::model::bytes::Bytes;
use housekeeper::model::hint::Hint;
use housekeeper::model::listing::{Listing, Walked, Watched};
use housekeeper::model::path::RelPath;
use housekeeper::model::place::{DirId, Look, Why};
use housekeeper::model::seen::{FileId, FileKind, Seen, Stat};
use housekeeper::model::session::{Content, Document, Facts, Verdict};
use housekeeper::model::time::{Now, Tick, UnixNanos};
use housekeeper::policy::lifecycle::Lifecycle;
use housekeeper::policy::limits::{Limits, Protect};
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

fn now() -> Now {
    Now {
        wall: "2026-12-01T00:00:00Z".parse().expect("a time"),
        tick: Tick(Duration::from_secs(1)),
    }
}

fn stat(ino: u64, kind: FileKind, apparent: u64) -> Stat {
    Stat {
        id: FileId { dev: 1, ino },
        mount: 1,
        kind,
        apparent,
        allocated: apparent.next_multiple_of(4096),
        n_links: 1,
        mtime: UnixNanos::new(1_700_000_000, 0),
        ctime: UnixNanos::new(1_700_000_000, 0),
        btime: None,
    }
}

fn layout() -> Arc<Layout> {
    Arc::new(Layout::new(LayoutSpec::default()).expect("a good layout"))
}

/// An engine that knows `n_sessions` sessions of ten files each, all removable.
fn engine(n_sessions: u64) -> Engine {
    let limits = Limits {
        max_size: Some(Bytes(u64::MAX)),
        ..Limits::default()
    };
    let protect = Protect {
        quiet: Duration::ZERO,
        ..Protect::default()
    };
    let rules = Rules {
        layout: layout(),
        limits,
        protect,
        lifecycle: Lifecycle::default(),
        enforce: true,
        group: None,
        rescan_interval: Duration::from_secs(3600),
        first_start_enforce: true,
        trash_keep: Duration::ZERO,
    };
    let mut engine = Engine::new(rules, true, []);
    let mut out = Vec::new();
    engine.handle(now(), Input::Wake, &mut out);
    let scan = out
        .iter()
        .find_map(|e| {
            if let Effect::Scan(order) = e {
                Some(order.id)
            } else {
                None
            }
        })
        .expect("a scan");
    let mut give = |engine: &mut Engine, dir: &[u8], ino, entries: Vec<(String, Stat)>| {
        let path = RelPath::new(dir).expect("a path");
        let here = stat(ino, FileKind::Dir, 0);
        let mut first = true;
        let mut chunks = entries.chunks(Listing::MAX_ENTRIES).peekable();
        while let Some(chunk) = chunks.next() {
            let mut listing = Listing::new(scan, path.clone(), here, Watched::Unasked, first);
            first = false;
            for (name, stat) in chunk {
                listing.push(name.as_bytes(), Seen::There(*stat));
            }
            listing.last = chunks.peek().is_none();
            engine.handle(now(), Input::Walked(vec![Walked::Chunk(listing)]), &mut out);
        }
        std::mem::take(&mut out)
    };
    let top = (0..n_sessions).map(|n| (format!("s{n:07}"), stat(n + 2, FileKind::Dir, 0)));
    let mut effects = give(&mut engine, b"", 1, top.collect());
    for n in 0..n_sessions {
        let files = (0..10).map(|f| {
            (
                format!("f{f}"),
                stat(10_000_000 + n * 10 + f, FileKind::File, 4096),
            )
        });
        effects.extend(give(
            &mut engine,
            format!("s{n:07}").as_bytes(),
            n + 2,
            files.collect(),
        ));
    }
    let mut out = Vec::new();
    for effect in effects {
        let Effect::Read(order) = effect else {
            continue;
        };
        let Some((session, key)) = order.session else {
            continue;
        };
        let number: i64 = String::from_utf8_lossy(&key[1..])
            .parse()
            .expect("a number");
        let created = UnixNanos::new(1_600_000_000 + number, 0).time();
        let facts = Facts {
            verdict: Verdict::Certain,
            created: Some(created),
            ..Facts::unknown()
        };
        let of = ReadOf::Session {
            session,
            facts,
            proofs: Vec::new(),
        };
        engine.handle(now(), Input::Read { seq: order.seq, of }, &mut out);
    }
    engine.handle(now(), Input::Walked(vec![Walked::End { scan }]), &mut out);
    assert!(engine.is_settled());
    engine
}

fn look(c: &mut Criterion) {
    look_among(c, 20_000, "hint to index, 200 000 files");
    look_among(c, 200_000, "hint to index, 2 000 000 files");
}

fn look_among(c: &mut Criterion, n_sessions: u64, title: &str) {
    let mut engine = engine(n_sessions);
    let mut out = Vec::new();
    let mut size = 4096;
    let mut number = 0u64;
    c.bench_function(title, |b| {
        b.iter(|| {
            number = (number + 7919) % n_sessions;
            size += 1;
            let path = format!("s{number:07}/f3").into_bytes().into_boxed_slice();
            engine.handle(now(), Input::Hint(Hint::Name(path)), &mut out);
            let Some(Effect::Look(look)) = out.pop() else {
                panic!("a look")
            };
            let seen = Seen::There(stat(10_000_000 + number * 10 + 3, FileKind::File, size));
            engine.handle(now(), Input::Looked(look, seen), &mut out);
            out.clear();
        });
    });
}

/// What the disk answered, into the index: nothing else.
fn apply(c: &mut Criterion) {
    let n_sessions = 200_000;
    let mut engine = engine(n_sessions);
    let dir = |number: u64| {
        let path = RelPath::new(format!("s{number:07}").as_bytes()).expect("a path");
        engine.index().dir_at(&path).expect("a session")
    };
    let dirs: Vec<DirId> = (0..n_sessions).map(dir).collect();
    let mut out = Vec::new();
    let mut size = 4096;
    let mut number = 0u64;
    c.bench_function("a look applied, 2 000 000 files", |b| {
        b.iter(|| {
            number = (number + 7919) % n_sessions;
            size += 1;
            let look = Look::new(dirs[number as usize], b"f3", Why::Hint);
            let seen = Seen::There(stat(10_000_000 + number * 10 + 3, FileKind::File, size));
            engine.handle(now(), Input::Looked(look, seen), &mut out);
            out.clear();
        });
    });
}

fn plan(c: &mut Criterion) {
    for n_sessions in [2_000, 20_000] {
        let engine = engine(n_sessions);
        c.bench_function(&format!("is a plan needed, {n_sessions} sessions"), |b| {
            b.iter(|| black_box(engine.draft(black_box(now()), 64)));
        });
    }
}

fn judge(c: &mut Criterion) {
    let layout = layout();
    assert_eq!(layout.kind(), Kind::Directories);
    c.bench_function("role of a name", |b| {
        b.iter(|| black_box(layout.role(black_box(b"s0000001"), FileKind::Dir)));
    });
    let text = br#"{"created_at":"2026-02-10T12:00:00.123456","state":"complete","group":"a"}"#;
    let document = [Document {
        name: Box::from(&b"metadata.json"[..]),
        signature: None,
        content: Content::Text(text.to_vec()),
    }];
    c.bench_function("facts of a session", |b| {
        b.iter(|| black_box(layout.facts(b"s1", None, black_box(&document), now().wall)));
    });
}

criterion_group!(parts, look, apply, plan, judge);
criterion_main!(parts);
