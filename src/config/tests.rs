//! Whole configurations: what is read, what is wrong with them, and what is left then.

use crate::config::check::check;
use crate::config::request::{Request, RootFlags};
use crate::config::settings::{FirstStart, LogFormat, Mode, Origin, Problem, Settings};
use crate::config::{load, load_agent};
use crate::layout::spec::{Kind, Source, TimeFormat};
use crate::model::bytes::{Bytes, Measure};
use crate::model::zone::Zone;
use crate::policy::limits::{Headroom, Limits};
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;

/// A scratch directory with a file in it; `@` in the text is its path.
struct Case {
    scratch: TempDir,
    request: Request,
}

fn case(text: &str) -> Case {
    let scratch = tempfile::tempdir().expect("a scratch directory");
    let here = scratch.path().to_str().expect("a UTF-8 path");
    let file = scratch.path().join("housekeeper.toml");
    fs::write(&file, text.replace('@', here)).expect("a file");
    let mut case = Case {
        scratch,
        request: Request {
            file: Some(file),
            ..Request::default()
        },
    };
    case.request.agent.state_dir = Some(case.path("state"));
    case.request.agent.socket = Some(case.path("state/agent.sock"));
    case
}

impl Case {
    fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    fn variable(&mut self, name: &str, value: impl Into<OsString>) {
        self.request.environment.push((name.into(), value.into()));
    }

    fn load(&self) -> Settings {
        load(&self.request).expect("roots are left")
    }

    fn fail(&self) -> Vec<Problem> {
        load(&self.request).expect_err("no root is left")
    }

    /// Key and line of all that is wrong.
    fn wrong(&self) -> Vec<(String, Option<usize>)> {
        let problems = check(&self.request).problems;
        problems.into_iter().map(|p| (p.key, p.line)).collect()
    }
}

fn message<'p>(problems: &'p [Problem], key: &str) -> &'p str {
    let found = problems.iter().find(|problem| problem.key == key);
    &found
        .unwrap_or_else(|| panic!("{key} in {problems:#?}"))
        .message
}

const PLAIN: &str = "[[root]]\nname = \"tapes\"\npath = \"@/tapes\"\n";

#[test]
fn defaults_are_those_of_the_design() {
    let settings = case(PLAIN).load();
    assert_eq!(settings.strict_problems(), []);
    assert_eq!(settings.agent.mode, Mode::Enforce);
    assert_eq!(settings.agent.http, "127.0.0.1:9470");
    assert_eq!(settings.agent.rescan_interval, Duration::from_secs(3600));
    assert_eq!(settings.agent.shutdown_grace, Duration::from_secs(10));
    assert_eq!(settings.log.format, LogFormat::Json);
    assert_eq!(settings.log.level, "info");
    let root = &settings.roots[0];
    assert_eq!(root.name, "tapes");
    assert_eq!(root.origin, Origin::File);
    assert_eq!(root.limits, Limits::default());
    assert_eq!(root.first_start, FirstStart::Hold);
    assert!(root.protect.active);
    assert_eq!(root.protect.quiet, Duration::from_secs(60));
    let layout = root.layout.spec();
    assert_eq!(*layout, crate::layout::spec::LayoutSpec::default());
}

const EVERYTHING: &str = r#"
[agent]
mode = "observe"
http = ""
rescan_interval = "5m"
[log]
format = "clef"
level = "debug"
[[root]]
path = "@/some tapes"
backend = "poll"
[root.layout]
sessions = "*/*"
pattern = '^(?<id>.+)_(?<created>\d{8})$'
required = false
marker = "startedat"
lock = "{stem}.lock"
format = "json"
group = "/team"
[root.layout.created_at]
from = [
  { key = "/creation_ms", as = "epoch_ms" },
  { name = "created", as = "%Y%m%d", zone = "Europe/Zurich" },
  { file = "startedat", zone = "local" },
  { name = "created", as = "epoch_us", radix = 36 },
  "birth", "mtime",
]
[root.layout.state]
key = "/state"
active = ["init"]
complete = ["complete"]
[root.limits]
max_size = "10 GiB"
prune_to = "9.5 GiB"
max_age = "30d"
max_count = 100
measure = "allocated"
headroom = "1 MiB"
[root.protect]
active = false
keep = ["golden-*"]
[root.guard]
first_start = "enforce"
"#;

#[test]
fn everything_can_be_written() {
    let settings = case(EVERYTHING).load();
    assert_eq!(settings.strict_problems(), []);
    assert_eq!(settings.agent.mode, Mode::Observe);
    assert_eq!(settings.agent.http, "");
    let root = &settings.roots[0];
    assert_eq!(root.name, "some_tapes");
    assert_eq!(root.limits.max_size, Some(Bytes(10 << 30)));
    assert_eq!(root.limits.prune_to, Some(Bytes(19 << 29)));
    assert_eq!(root.limits.max_age, Some(Duration::from_secs(30 * 86400)));
    assert_eq!(root.limits.max_count, Some(100));
    assert_eq!(root.limits.measure, Measure::Allocated);
    assert_eq!(root.limits.headroom, Headroom::Fixed(Bytes::MIB));
    assert_eq!(root.first_start, FirstStart::Enforce);
    assert!(!root.protect.active && root.protect.keep.is_match("golden-1"));
    assert_eq!(root.protect.quiet, Duration::from_secs(2), "with a state");
    let layout = root.layout.spec();
    assert_eq!(layout.metadata.as_deref(), Some("metadata.json"));
    assert_eq!(layout.group.as_deref(), Some("/team"));
    assert_eq!(layout.created_at.len(), 6);
    assert_eq!(
        layout.created_at[1],
        Source::Name {
            group: "created".to_owned(),
            format: TimeFormat::Strftime("%Y%m%d".to_owned()),
            zone: Zone::Iana(chrono_tz::Europe::Zurich),
            radix: 10,
        }
    );
    assert!(matches!(
        layout.created_at[3],
        Source::Name { radix: 36, .. }
    ));
}

#[test]
fn metadata_is_expected_where_something_reads_it() {
    let spec = |layout: &str| {
        let settings = case(&format!("{PLAIN}{layout}")).load();
        assert_eq!(settings.strict_problems(), [], "{layout}");
        settings.roots[0].layout.spec().clone()
    };
    let none = spec("[root.layout.created_at]\nfrom = [\"mtime\"]\n");
    assert_eq!((none.metadata, none.group), (None, None));
    let state = spec(
        "[root.layout.created_at]\nfrom = [\"mtime\"]\n[root.layout.state]\nkey = \"/s\"\nactive = [\"a\"]\n",
    );
    assert_eq!(state.metadata.as_deref(), Some("metadata.json"));
    let marker = spec("[root.layout]\nmarker = \"m\"\n");
    assert_eq!(marker.metadata.as_deref(), Some("metadata.json"));
    let catalog = spec("[root.layout]\nkind = \"catalog\"\n");
    assert_eq!(catalog.metadata.as_deref(), Some("metadata.json"));
    assert_eq!(catalog.blobs, ["{id}.{format}"]);
}

#[test]
fn ten_mistakes_are_ten_problems() {
    let text = r#"# line 1
[agent]
rescan_interval = "60"
colour = "red"

[[root]]
name = "tapes"
path = "@/tapes"
[root.layout.created_at]
from = [
  { key = "/a", name = "b" },
  { key = "/a", as = "sometime" },
]
[root.limits]
max_size = "10G"
max_age = 30
max_count = 0
max_sise = "1 GiB"
[root.lifecycle]
stale_after = "24h"
[store]
url = "postgres://joe:secret@host/db"
"#;
    let mut case = case(text);
    // The scratch path replaced the `@` of the URL too: no matter.
    let expected = [
        ("agent.rescan_interval", 3),
        ("agent.colour", 4),
        ("root.layout.created_at.from", 11),
        ("root.layout.created_at.from.as", 12),
        ("root.limits.max_size", 15),
        ("root.limits.max_age", 16),
        ("root.limits.max_count", 17),
        ("root.limits.max_sise", 18),
        ("root.lifecycle", 19),
        ("store.url", 22),
    ];
    let expected: Vec<_> = expected
        .map(|(key, line)| (key.to_owned(), Some(line)))
        .to_vec();
    assert_eq!(case.wrong(), expected);
    let settings = case.load();
    let problems = settings.strict_problems();
    let typo = message(&problems, "root.limits.max_sise");
    assert_eq!(typo, "root `tapes`: unknown key; did you mean `max_size`?");
    assert!(message(&problems, "root.limits.max_size").contains("write 10GiB"));
    assert!(!format!("{problems:?}").contains("secret"));
    assert_eq!(settings.agent.rescan_interval, Duration::from_secs(3600));
    assert_eq!(settings.warnings.len(), 3);
    assert_eq!(settings.roots[0].problems.len(), 7);
    assert_eq!(settings.roots[0].limits, Limits::default());
    case.request.root.max_size = Some(Bytes(1));
    assert_eq!(case.load().roots[0].limits, Limits::default());
}

#[test]
fn a_lifecycle_must_make_sense_with_its_layout() {
    let state = "[root.layout.state]\nkey = \"/s\"\nactive = [\"on\"]\nfailed = [\"lost\"]\n";
    let catalog = format!("[root.layout]\nkind = \"catalog\"\n{state}");
    let file = "[root.layout]\nkind = \"files\"\nsessions = \"*.json\"\nmetadata = \".\"\n[root.layout.created_at]\n";
    let files = format!("{file}from = [{{ key = \"/at\" }}]\n{state}");
    let dated_by_inode = format!("{file}from = [{{ key = \"/at\" }}, \"mtime\"]\n{state}");
    for (layout, keys, wrong) in [
        (
            state,
            "stale_after = \"24h\"\nparts = [\"parts/*\"]\nfailed_retention = \"7d\"",
            "",
        ),
        (state, "", ""),
        ("", "", ""),
        (catalog.as_str(), "failed_retention = \"7d\"", ""),
        ("", "parts = [\"parts/*\"]", "root.lifecycle"),
        (
            state,
            "stale_after = \"24h\"\nfailed_value = \"dead\"",
            "root.lifecycle.failed_value",
        ),
        (
            state,
            "stale_after = \"10ms\"",
            "root.lifecycle.stale_after",
        ),
        (state, "stale_after = 24", "root.lifecycle.stale_after"),
        (state, "parts = [\"**\"]", "root.lifecycle.parts"),
        (state, "parts = [\"meta*\"]", "root.lifecycle.parts"),
        (
            state,
            "orphan_parts_after = \"1h\"\nfailed_retention = \"1h\"",
            "root.lifecycle.orphan_parts_after",
        ),
        (
            state,
            "failed_retention = \"0s\"",
            "root.lifecycle.failed_retention",
        ),
        (state, "batch = 0", "root.lifecycle.batch"),
        (state, "stale_afer = \"1h\"", "root.lifecycle.stale_afer"),
        (files.as_str(), "stale_after = \"1h\"", ""),
        (
            dated_by_inode.as_str(),
            "stale_after = \"1h\"",
            "root.lifecycle.stale_after",
        ),
        (catalog.as_str(), "stale_after = \"1h\"", ""),
        (
            catalog.as_str(),
            "parts = [\"a/*\"]",
            "root.lifecycle.parts",
        ),
    ] {
        let case = case(&format!(
            "[[root]]\npath = \"@/r\"\n{layout}[root.lifecycle]\n{keys}\n"
        ));
        let found: Vec<String> = case.wrong().into_iter().map(|(key, _)| key).collect();
        assert_eq!(found.join(" "), wrong, "{layout}{keys}");
        let root = &case.load().roots[0];
        assert!(
            wrong.is_empty() || root.lifecycle.is_off(),
            "nothing of it is done"
        );
        if keys.contains("7d") && !keys.contains("dead") {
            assert_eq!(&*root.lifecycle.failed_value, "lost");
        }
    }
}

#[test]
fn a_wrong_limit_never_becomes_a_number() {
    for (limits, key) in [
        ("max_size = \"10G\"", "max_size"),
        ("max_size = -1", "max_size"),
        ("max_size = 0", "max_size"),
        ("max_size = \"0 GiB\"", "max_size"),
        ("max_size = nan", "max_size"),
        ("max_size = inf", "max_size"),
        ("max_size = 1.5", "max_size"),
        ("max_size = 99999999999999999999", "max_size"),
        ("max_size = true", "max_size"),
        ("max_age = \"0s\"", "max_age"),
        ("max_age = 5", "max_age"),
        ("max_count = -3", "max_count"),
        ("max_count = \"3\"", "max_count"),
        ("max_count = 1.5", "max_count"),
        ("prune_to = \"1 GiB\"", "prune_to"),
        ("max_size = 10\nprune_to = 11", "prune_to"),
        ("max_size = 10\nheadroom = 10", "headroom"),
        ("max_size = 10\nprune_to = 5\nheadroom = 5", "headroom"),
        ("headroom = \"auto\"", "headroom"),
        ("max_size = 10\nheadroom = \"automatic\"", "headroom"),
        ("max_size = 10\nmeasure = \"real\"", "measure"),
        ("max_size = 10\n\"max size\" = 5", "max size"),
    ] {
        let settings = case(&format!("{PLAIN}[root.limits]\n{limits}\n")).load();
        let root = &settings.roots[0];
        assert_eq!(root.limits, Limits::default(), "{limits}");
        let problems: Vec<_> = root.problems.iter().map(|p| p.key.clone()).collect();
        assert_eq!(problems, [format!("root.limits.{key}")], "{limits}");
    }
    let auto = case(&format!(
        "{PLAIN}[root.limits]\nmax_size = 10\nheadroom = \"auto\"\n"
    ))
    .load();
    assert!(auto.roots[0].problems.is_empty());
    assert_eq!(auto.roots[0].limits.headroom, Headroom::Auto);
    let settings = case(&format!("{PLAIN}[root.limits]\nmax_size = 0x10\n")).load();
    assert_eq!(settings.roots[0].limits.max_size, Some(Bytes(16)));
}

#[test]
fn other_wrong_keys_hold_a_root_too() {
    for (rest, key) in [
        ("bakend = \"auto\"", "root.bakend"),
        ("backend = \"magic\"", "root.backend"),
        ("preset = \"nobody\"", "root.preset"),
        ("limits = 5", "root.limits"),
        ("[root.trash]\nkeep = 1", "root.trash.keep"),
        ("[root.trash]\nfor = \"1d\"", "root.trash.for"),
        (
            "[root.layout]\nkind = \"catalog\"\n[root.trash]\nkeep = \"1d\"",
            "root.trash.keep",
        ),
        ("[root.guard]\nmax_share = 5", "root.guard.max_share"),
        ("[root.protect]\nquiet = 5", "root.protect.quiet"),
        ("[root.protect]\nkeep = [\"a[\"]", "root.protect.keep"),
        ("[root.protect]\nkeep = \"a\"", "root.protect.keep"),
        ("[root.protect]\nactive = \"yes\"", "root.protect.active"),
        ("[root.layout]\nkind = \"heap\"", "root.layout.kind"),
        (
            "[root.layout]\nsize = { means = \"bytes\" }",
            "root.layout.size.key",
        ),
        (
            "[root.layout]\nsize = { key = \"/a\", means = \"much\" }",
            "root.layout.size.means",
        ),
        (
            "[root.layout]\nkind = \"sidecar\"\nrequired = false",
            "root.layout.required",
        ),
        (
            "[root.layout]\nkind = \"catalog\"\nformat = \"yaml\"",
            "root.layout.format",
        ),
        ("[root.layout]\neverything = 1", "root.layout.everything"),
        ("[root.protect]\nopen_files = 1", "root.protect.open_files"),
        ("[root.layout]\nformat = \"xml\"", "root.layout.format"),
        ("[root.layout]\nmetadata = \"\"", "root.layout.metadata"),
        (
            "[root.layout.state]\nactive = [\"a\"]",
            "root.layout.state.key",
        ),
        (
            "[root.layout.created_at]\nfrom = [\"ctime\"]",
            "root.layout.created_at.from",
        ),
        (
            "[root.layout.created_at]\nfrom = [3]",
            "root.layout.created_at.from",
        ),
        (
            "[root.layout.created_at]\nfrom = [{ }]",
            "root.layout.created_at.from",
        ),
        (
            "[root.layout.created_at]\nfrom = [{ key = \"/a\", zone = \"Mars\" }]",
            "root.layout.created_at.from.zone",
        ),
        (
            "[root.layout.created_at]\nfrom = [{ key = \"/a\", radix = 16 }]",
            "root.layout.created_at.from.radix",
        ),
    ] {
        let case = case(&format!("{PLAIN}{rest}\n"));
        let problems = case.load().roots[0].problems.clone();
        let keys: Vec<_> = problems.iter().map(|p| p.key.as_str()).collect();
        assert_eq!(keys, [key], "{rest}: {problems:#?}");
        assert!(problems[0].line.is_some(), "{rest}");
        assert!(problems[0].message.starts_with("root `tapes`: "), "{rest}");
    }
}

#[test]
fn a_preset_lies_under_the_root() {
    let settings = case(&format!("{PLAIN}preset = \"gofr-dig\"\n")).load();
    assert_eq!(settings.strict_problems(), []);
    assert_eq!(settings.roots[0].layout.kind(), Kind::Catalog);
    let text = format!("{PLAIN}preset = \"gofr-dig\"\n[root.layout]\nblobs = [\"{{id}}.bin\"]\n");
    let settings = case(&text).load();
    let layout = settings.roots[0].layout.spec();
    assert_eq!((layout.kind, layout.blobs.len()), (Kind::Catalog, 1));
    assert_eq!(layout.blobs, ["{id}.bin"]);
}

#[test]
fn the_environment_says_more_than_the_file_and_flags_more_than_both() {
    let text = format!("[agent]\nrescan_interval = \"5m\"\nscheduling = \"normal\"\n{PLAIN}");
    let mut case = case(&text);
    case.variable("HOUSEKEEPER_AGENT_RESCAN_INTERVAL", "7m");
    case.variable("HOUSEKEEPER_AGENT_SCHEDULING", " ");
    case.variable("HOUSEKEEPER_AGENT_STATE_DIR", "/elsewhere");
    case.variable("HOUSEKEEPER_LOG_LEVEL", "debug");
    case.variable("HOUSEKEEPER_LOG_FORMAT", "texxt");
    case.variable("HOUSEKEEPER_AGENT_HTTP", OsString::from_vec(vec![0xFF]));
    case.variable("HOUSEKEEPER_NOBODY_KNOWS", "x");
    let settings = case.load();
    assert_eq!(settings.agent.rescan_interval, Duration::from_secs(420));
    assert_eq!(
        settings.agent.scheduling,
        crate::config::settings::Scheduling::Normal
    );
    assert_eq!(settings.agent.state_dir, case.path("state"), "the flag's");
    assert_eq!(settings.log.level, "debug");
    assert_eq!(settings.log.format, LogFormat::Json);
    let keys: Vec<_> = settings.warnings.iter().map(|p| p.key.as_str()).collect();
    assert_eq!(keys, ["HOUSEKEEPER_AGENT_HTTP", "HOUSEKEEPER_LOG_FORMAT"]);
    assert_eq!(settings.strict_problems().len(), 2);
    assert!(load_agent(&case.request).is_ok_and(|settings| settings.roots.is_empty()));
}

#[test]
fn a_mode_that_nobody_understands_deletes_nothing() {
    let settings = case(&format!("[agent]\nmode = \"obsrve\"\n{PLAIN}")).load();
    assert_eq!(settings.agent.mode, Mode::Observe);
    let mut enforced = case(&format!("[agent]\nmode = \"enforce\"\n{PLAIN}"));
    enforced.variable("HOUSEKEEPER_AGENT_MODE", "obsrve");
    assert_eq!(enforced.load().agent.mode, Mode::Observe);
    enforced.request.agent.mode = Some(Mode::Enforce);
    assert_eq!(enforced.load().agent.mode, Mode::Enforce);
}

#[test]
fn a_file_that_cannot_be_read_says_why() {
    let mut case = case(PLAIN);
    let file = case.request.file.clone().expect("a file");
    for (text, part) in [
        (&b"[[root]\npath = \"/x\"\n"[..], "no TOML"),
        (b"\xFF\xFE", "not UTF-8"),
        (&vec![b'#'; 1 << 21], "longer than 1 MiB"),
    ] {
        fs::write(&file, text).expect("a file");
        let problems = case.fail();
        assert_eq!(problems[0].key, file.display().to_string());
        assert!(problems[0].message.contains(part), "{problems:?}");
    }
    for (path, part) in [("absent.toml", "no such file"), ("", "is a directory")] {
        case.request.file = Some(case.path(path));
        assert!(case.fail()[0].message.contains(part), "{path}");
    }
    case.request.file = None;
    assert!(case.fail()[0].message.contains("--root DIR"));
}

#[test]
fn a_file_without_roots_says_how_to_write_one() {
    for (text, part) in [
        ("", "no root is configured; add a [[root]]"),
        ("[root]\npath = \"@/x\"\n", "begin each root with [[root]]"),
        ("root = [1]\n", "begin each root with [[root]]"),
        ("[[rooot]]\n", "did you mean `root`?"),
    ] {
        let problems = case(text).fail();
        assert!(
            problems.iter().any(|p| p.message.contains(part)),
            "{problems:?}"
        );
    }
}

#[test]
fn every_syntax_error_has_its_line() {
    let problems = case("a = \nb = 1\nc = [1\n").fail();
    assert!(problems.len() > 1, "{problems:?}");
    assert_eq!(problems[0].line, Some(1));
}

#[test]
fn roots_that_cannot_be_are_refused_and_the_others_stay() {
    let case = case(
        r#"
[[root]]
path = "/"
[[root]]
path = "/etc"
[[root]]
path = "tapes"
[[root]]
path = "@/housekeeper.toml"
[[root]]
path = "@/link"
[[root]]
name = "pathless"
[[root]]
path = 5
[[root]]
path = "@/good"
[[root]]
name = "good"
path = "@/other"
[[root]]
path = "@"
"#,
    );
    std::os::unix::fs::symlink("/srv", case.path("link")).expect("a symlink");
    let settings = case.load();
    let names: Vec<_> = settings.roots.iter().map(|r| r.name.as_str()).collect();
    assert_eq!(names, ["good"]);
    let refused: Vec<_> = settings
        .refused
        .iter()
        .map(|p| (p.key.as_str(), p.line.unwrap_or(0)))
        .collect();
    let path = "root.path";
    // The item without a path is shown where it begins.
    let mut expected: Vec<_> = [3, 5, 7, 9, 11, 12, 15, 20, 22]
        .map(|line| (path, line))
        .into();
    let mut refused = refused;
    refused.sort_unstable();
    expected.sort_unstable();
    assert_eq!(refused, expected, "{:#?}", settings.refused);
    assert_eq!(settings.roots[0].problems, []);
    assert!(message(&settings.refused, path).contains("not looked after"));
}

#[test]
fn a_root_inside_another_is_refused_and_the_outer_one_is_not_pruned() {
    let text = "[[root]]\npath = \"@/out\"\nlimits.max_size = 1\n[[root]]\npath = \"@/link/in\"\n";
    let case = case(text);
    fs::create_dir_all(case.path("out/mid/in")).expect("directories");
    std::os::unix::fs::symlink(case.path("out/mid"), case.path("link")).expect("a symlink");
    let settings = case.load();
    assert_eq!(settings.roots.len(), 1);
    assert_eq!(settings.roots[0].name, "out");
    assert_eq!(settings.roots[0].limits, Limits::default());
    assert!(settings.roots[0].problems[0].message.contains("root `in`"));
    assert!(
        settings.refused[0]
            .message
            .contains("inside that of root `out`")
    );
    assert_eq!(case.wrong().len(), 2);
}

#[test]
fn the_agents_own_files_are_never_in_a_root() {
    let mut case = case(PLAIN);
    for (state, socket) in [("tapes/state", "s"), ("tapes", "s"), ("state", "tapes/s")] {
        case.request.agent.state_dir = Some(case.path(state));
        case.request.agent.socket = Some(case.path(socket));
        assert!(
            case.fail()[0].message.contains("the agent's own"),
            "{state} {socket}"
        );
    }
}

#[test]
fn flags_need_no_file() {
    let mut case = case("");
    case.request.file = None;
    case.request.roots = vec![case.path("a b"), case.path("x/../a b"), case.path("y/a b")];
    case.request.root = RootFlags {
        max_size: Some(Bytes(100)),
        quiet: Some(Duration::ZERO),
        ..RootFlags::default()
    };
    fs::create_dir(case.path("x")).expect("a directory");
    let settings = case.load();
    assert_eq!(settings.strict_problems(), []);
    let names: Vec<_> = settings.roots.iter().map(|r| r.name.as_str()).collect();
    assert_eq!(names, ["a_b", "a_b-2"]);
    let root = &settings.roots[0];
    assert_eq!(root.origin, Origin::Flag);
    assert_eq!(root.limits.max_size, Some(Bytes(100)));
    assert_eq!(root.protect.quiet, Duration::ZERO);
    case.request.root.prune_to = Some(Bytes(200));
    assert!(message(&case.fail(), "root.limits.prune_to").contains("max_size"));
    case.request.root = RootFlags::default();
    case.request.roots = vec!["/etc".into()];
    assert!(message(&case.fail(), "--root").contains("/etc"));
}

#[test]
fn a_flag_selects_a_configured_root() {
    let text = "[[root]]\nname = \"a\"\npath = \"@/x\"\nlimits = { max_size = 10, prune_to = 8 }\n[[root]]\npath = \"@/b\"\nbad = 1\n";
    let mut case = case(text);
    fs::create_dir_all(case.path("x/sub")).expect("directories");
    for given in [PathBuf::from("a"), case.path("x"), case.path("x/sub/..")] {
        case.request.roots = vec![given.clone(), "a".into()];
        let settings = case.load();
        assert_eq!(settings.roots.len(), 1, "{given:?}");
        assert_eq!(settings.roots[0].name, "a");
        assert_eq!(settings.strict_problems(), []);
    }
    case.request.root.max_size = Some(Bytes(5));
    let limits = case.load().roots[0].limits.clone();
    assert_eq!((limits.max_size, limits.prune_to), (Some(Bytes(5)), None));
    case.request.roots = vec!["aa".into()];
    let problems = case.fail();
    assert!(message(&problems, "--root").contains("did you mean `a`"));
    case.request.roots = vec![case.path("x/sub")];
    assert!(message(&case.fail(), "--root").contains("inside that of root `a`"));
}

#[test]
fn check_config_shows_what_it_comes_to() {
    let case = case(&format!("{PLAIN}[root.limits]\nmax_size = \"1 KiB\"\n"));
    let document = check(&case.request).to_json();
    assert_eq!(document["ok"], true);
    let root = &document["effective"]["roots"][0];
    assert_eq!(root["limits"]["max_size_bytes"], 1024);
    assert_eq!(root["protect"]["quiet"], "1m");
    assert_eq!(root["layout"]["created_at"]["from"][0]["as"], "rfc3339");
    let path = root["path"].as_str().map(Path::new);
    assert_eq!(path, Some(case.path("tapes").as_path()));
}
