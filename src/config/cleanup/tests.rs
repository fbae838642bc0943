//! What is refused, what is taken how, and the root that comes of it.

use super::*;
use crate::config;
use crate::config::request::{AgentFlags, Request};
use crate::config::settings::Settings;
use crate::layout::spec::Kind;
use crate::model::bytes::Bytes;
use crate::policy::lifecycle::Lifecycle;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;
use tempfile::TempDir;

struct Host {
    hold: TempDir,
    settings: Settings,
}

impl Host {
    fn new() -> Self {
        let hold = tempfile::tempdir().expect("a scratch directory");
        let at = |name: &str| hold.path().join(name);
        for name in ["logs/sub", "root/in", "state", "home"] {
            fs::create_dir_all(at(name)).expect("made");
        }
        fs::write(at("file"), "").expect("written");
        symlink(at("logs"), at("link")).expect("linked");
        let text = format!(
            "[registry]\ndefault_retention = 7\nzone = \"utc\"\n[[root]]\npath = {:?}\n",
            at("root")
        );
        fs::write(at("config.toml"), text).expect("written");
        let request = Request {
            file: Some(at("config.toml")),
            environment: vec![("HOME".into(), at("home").into())],
            agent: AgentFlags {
                state_dir: Some(at("state")),
                ..AgentFlags::default()
            },
            ..Request::default()
        };
        let settings = config::load(&request).expect("sound");
        Self { hold, settings }
    }

    fn at(&self, name: &str) -> String {
        self.hold.path().join(name).display().to_string()
    }

    fn register(&self, wanted: &Wanted, others: &[Cleanup]) -> Result<Judged, String> {
        let beside = Beside {
            agent: &self.settings.agent,
            registry: &self.settings.registry,
            roots: &self.settings.roots,
            others,
        };
        register(wanted, "id".to_owned(), Time::UNIX_EPOCH, beside)
    }

    fn logs(&self, pattern: &str) -> Wanted {
        wanted(&self.at("logs"), pattern)
    }
}

fn wanted(directory: &str, pattern: &str) -> Wanted {
    Wanted {
        directory: Some(directory.to_owned()),
        pattern: Some(pattern.to_owned()),
        ..Wanted::default()
    }
}

fn other(judged: Judged, id: &str, owner: &str) -> Cleanup {
    Cleanup {
        id: id.to_owned(),
        owner: owner.to_owned(),
        ..judged.cleanup
    }
}

#[test]
fn directories_that_are_not_for_cleaning_are_refused_with_the_reason() {
    let host = Host::new();
    for (directory, why) in [
        ("logs".to_owned(), "not absolute"),
        (host.at("logs/../root"), ".."),
        (host.at("absent"), "does not exist"),
        (host.at("file"), "is a file"),
        (host.at("link"), "is a symlink"),
        ("/".to_owned(), "whole file system"),
        ("/etc".to_owned(), "system"),
        ("/var/log".to_owned(), "system directory"),
        (host.at("home"), "home directory"),
        (host.at(""), "agent's own"),
        (host.at("state"), "agent's own"),
        (host.at("root"), "configured root"),
        (host.at("root/in"), "lies inside the configured root"),
    ] {
        let refused = host.register(&wanted(&directory, "*.log"), &[]);
        let said = refused.expect_err(&directory);
        assert!(said.contains(why), "{directory}: {said}");
    }
    assert!(host.register(&host.logs("*.log"), &[]).is_ok());
}

#[test]
fn several_patterns_share_a_directory_and_nothing_else_is_shared() {
    let host = Host::new();
    let first = host.register(&host.logs("*.log"), &[]).expect("lawful");
    let first = other(first, "first", "ana");
    let beside = std::slice::from_ref(&first);
    assert!(host.register(&host.logs("*.tmp"), beside).is_ok());
    let mut same = host.logs("*.log");
    assert!(host.register(&same, beside).is_err(), "another owner's");
    same.owner = Some("ana".to_owned());
    assert!(host.register(&same, beside).is_ok(), "it is an update");
    for inside in ["logs/sub", "link/sub"] {
        let refused = host.register(&wanted(&host.at(inside), "*.log"), beside);
        let said = refused.expect_err(inside);
        assert!(said.contains("lies inside that of"), "{said}");
    }
    let inner = host.register(&wanted(&host.at("logs/sub"), "*.x"), &[]);
    let inner = other(inner.expect("lawful"), "inner", "bob");
    let refused = host.register(&host.logs("*.log"), &[inner]);
    assert!(refused.expect_err("around").contains("holds that of"));
}

#[test]
fn a_directory_that_leads_elsewhere_by_now_keeps_nobody_away() {
    let host = Host::new();
    fs::create_dir(host.at("moved")).expect("made");
    let moved = host.register(&wanted(&host.at("moved"), "*.log"), &[]);
    let moved = other(moved.expect("lawful"), "moved", "bob");
    fs::remove_dir(host.at("moved")).expect("removed");
    symlink(host.at("logs"), host.at("moved")).expect("linked");
    assert!(
        host.register(&host.logs("*.log"), std::slice::from_ref(&moved))
            .is_ok()
    );
    let inside = wanted(&host.at("logs/sub"), "*.log");
    assert!(host.register(&inside, &[moved]).is_ok());
}

#[test]
fn a_symlink_above_a_directory_is_followed_once_and_for_all() {
    let host = Host::new();
    let judged = host
        .register(&wanted(&host.at("link/sub"), "*.log"), &[])
        .expect("lawful");
    let real = fs::canonicalize(host.at("logs/sub")).expect("there");
    assert_eq!(Path::new(&judged.cleanup.directory), real);
}

#[test]
fn patterns_name_files_of_the_directory_itself() {
    let host = Host::new();
    for bad in [
        "",
        "../t*",
        "..",
        ".",
        "/etc/*",
        "a/b",
        "**",
        "**.log",
        "sub/**",
        "a\0",
        "a\nb",
        "[a",
        "{a,b",
        ".housekeeper",
    ] {
        assert!(host.register(&host.logs(bad), &[]).is_err(), "{bad:?}");
    }
    let owns = |pattern: &str, path: &str| {
        let judged = host.register(&host.logs(pattern), &[]).expect("lawful");
        let root = root_of(&judged.cleanup).expect("a root");
        let path = crate::model::path::RelPath::new(path.as_bytes()).expect("a path");
        let key: crate::model::session::Key = path.as_bytes().into();
        root.layout.owns_file(&path, &key)
    };
    assert!(owns("*", "a") && owns("*.log", "a.log") && owns(".*.log", ".a.log"));
    assert!(owns("{a,b}-?.log", "a-1.log") && owns("a..b*", "a..b"));
    assert!(!owns("*", ".a") && !owns("*.log", ".a.log") && !owns("*.log", "sub/a.log"));
    assert!(!owns(".*", ".hk-01ARZ3NDEKTSV4RRFFQ69G5FAV"));
}

#[test]
fn zero_is_said_twice_and_less_is_refused() {
    let host = Host::new();
    let zero = |files, mb, yes| Wanted {
        max_files: files,
        max_size_mb: mb,
        yes,
        ..host.logs("*.log")
    };
    for (files, mb) in [(Some(Some(0)), None), (None, Some(Some(0)))] {
        let said = host.register(&zero(files, mb, false), &[]);
        assert!(said.expect_err("zero").contains("--yes"));
        assert!(host.register(&zero(files, mb, true), &[]).is_ok());
    }
    for (files, mb) in [(Some(Some(-1)), None), (None, Some(Some(-1)))] {
        let said = host.register(&zero(files, mb, true), &[]);
        assert!(said.expect_err("less").contains("negative"));
    }
    for days in [0, -1, 40_000, i64::MIN] {
        let asked = Wanted {
            retention_days: Some(Some(days)),
            yes: true,
            ..host.logs("*.log")
        };
        assert!(host.register(&asked, &[]).is_err(), "{days}");
    }
    let huge = zero(None, Some(Some(i64::MAX)), true);
    assert!(host.register(&huge, &[]).is_err());
}

#[test]
fn what_is_not_said_is_said_in_the_answer() {
    let host = Host::new();
    let judged = host.register(&host.logs("*.log"), &[]).expect("lawful");
    let cleanup = &judged.cleanup;
    assert_eq!(cleanup.retention_days, Some(7));
    assert_eq!(cleanup.schedule.as_deref(), Some("0 3 * * *"));
    assert!(judged.notes[0].contains("7 days") && judged.notes[1].contains("0 3 * * *"));
    let watched = Wanted {
        watch: Some(true),
        max_files: Some(Some(3)),
        ..host.logs("*.log")
    };
    let judged = host.register(&watched, &[]).expect("lawful");
    assert_eq!(judged.cleanup.schedule, None);
    assert_eq!(judged.cleanup.retention_days, None);
    assert!(judged.notes.is_empty(), "{:?}", judged.notes);
    let on_write = Wanted {
        schedule: Some(Some("on write".to_owned())),
        ..host.logs("*.log")
    };
    let judged = host.register(&on_write, &[]).expect("lawful");
    assert!(judged.cleanup.watch && judged.cleanup.schedule.is_none());
    let bad = Wanted {
        schedule: Some(Some("61 3 * * *".to_owned())),
        ..host.logs("*.log")
    };
    assert!(host.register(&bad, &[]).is_err());
}

#[test]
fn an_update_changes_what_it_says_and_null_takes_a_limit_away() {
    let host = Host::new();
    let text = r#"{"max_files": 3, "retention_days": 9, "description": "d"}"#;
    let both: Wanted = serde_json::from_str(text).expect("sound");
    let both = Wanted {
        directory: Some(host.at("logs")),
        pattern: Some("*.log".to_owned()),
        ..both
    };
    let old = host.register(&both, &[]).expect("lawful").cleanup;
    let less: Wanted = serde_json::from_str(r#"{"retention_days": null}"#).expect("sound");
    let beside = Beside {
        agent: &host.settings.agent,
        registry: &host.settings.registry,
        roots: &host.settings.roots,
        others: std::slice::from_ref(&old),
    };
    let new = change(&old, &less, Time::UNIX_EPOCH, beside).expect("lawful");
    assert_eq!(
        (new.cleanup.retention_days, new.cleanup.max_files),
        (None, Some(3))
    );
    assert_eq!(new.cleanup.description, "d");
    let said = serde_json::to_string(&less).expect("text");
    assert_eq!(said, r#"{"retention_days":null,"yes":false}"#);
    assert!(serde_json::from_str::<Wanted>(r#"{"patern": "x"}"#).is_err());
}

#[test]
fn a_registration_is_a_root_of_files() {
    let host = Host::new();
    let all = Wanted {
        retention_days: Some(Some(2)),
        max_files: Some(Some(5)),
        max_size_mb: Some(Some(3)),
        ..host.logs("*.log")
    };
    let cleanup = host.register(&all, &[]).expect("lawful").cleanup;
    let root = root_of(&cleanup).expect("a root");
    assert_eq!(root.name, "cleanup-id");
    assert_eq!(root.limits.max_age, Some(Duration::from_secs(2 * 86_400)));
    assert_eq!(root.limits.max_count, Some(5));
    assert_eq!(root.limits.max_size, Some(Bytes(3 << 20)));
    assert_eq!(root.layout.kind(), Kind::Files);
}

fn preset(directory: &str, name: &str) -> Wanted {
    Wanted {
        directory: Some(directory.to_owned()),
        preset: Some(name.to_owned()),
        yes: true,
        ..Wanted::default()
    }
}

#[test]
fn a_preset_says_what_sessions_are_and_nothing_else() {
    let host = Host::new();
    for name in presets::names() {
        let wanted = preset(&host.at("logs"), name);
        let judged = host.register(&wanted, &[]).expect(name);
        let text = format!("preset = \"{name}\"\n");
        assert_eq!(judged.cleanup.layout, Some(text));
        assert_eq!(judged.cleanup.pattern, "");
        let root = root_of(&judged.cleanup).expect(name);
        assert_eq!(root.preset.as_deref(), Some(*name));
        assert_eq!(root.limits.max_age, Some(Duration::from_secs(7 * 86_400)));
        // Sessions that stay are left as they are.
        let none = format!("{:?}", Lifecycle::default());
        assert_eq!(format!("{:?}", root.lifecycle), none, "{name}");
    }
    let kind = |name: &str| {
        let judged = host.register(&preset(&host.at("logs"), name), &[]);
        root_of(&judged.expect("lawful").cleanup)
            .expect("a root")
            .layout
            .kind()
    };
    assert_eq!(
        (kind("tus"), kind("gofr-dig")),
        (Kind::Sidecar, Kind::Catalog)
    );
    let said = host.register(&preset(&host.at("logs"), "tusk"), &[]);
    assert!(said.expect_err("unknown").contains("gofr-dig, gofr-doc"));
    let both = Wanted {
        preset: Some("tus".to_owned()),
        ..host.logs("*.log")
    };
    let said = host.register(&both, &[]).expect_err("both");
    assert!(said.contains("exclude each other"), "{said}");
    let neither = Wanted {
        pattern: None,
        ..host.logs("")
    };
    assert!(host.register(&neither, &[]).is_err());
}

#[test]
fn a_preset_shares_its_directory_with_nobody() {
    let host = Host::new();
    let (files, tus) = (host.logs("*.log"), preset(&host.at("logs"), "tus"));
    for (first, second) in [(&files, &tus), (&tus, &files)] {
        let first = host.register(first, &[]).expect("lawful");
        let first = other(first, "first", "ana");
        let said = host.register(second, &[first]).expect_err("shared");
        assert!(said.contains("no preset can be"), "{said}");
    }
    let first = other(host.register(&tus, &[]).expect("lawful"), "first", "nobody");
    let again = preset(&host.at("logs"), "habla");
    let beside = std::slice::from_ref(&first);
    assert!(host.register(&again, beside).is_ok(), "it is an update");
    let else_by = Wanted {
        owner: Some("bob".to_owned()),
        ..tus
    };
    assert!(host.register(&else_by, beside).is_err());
}

#[test]
fn a_pattern_stays_a_pattern_and_what_is_not_understood_is_refused() {
    let host = Host::new();
    let beside = Beside {
        agent: &host.settings.agent,
        registry: &host.settings.registry,
        roots: &host.settings.roots,
        others: &[],
    };
    let of = |wanted: &Wanted| host.register(wanted, &[]).expect("lawful").cleanup;
    let files = of(&host.logs("*.log"));
    let tus = of(&preset(&host.at("logs"), "tus"));
    let change = |old: &Cleanup, text: &str| {
        let wanted: Wanted = serde_json::from_str(text).expect("sound");
        super::change(old, &wanted, Time::UNIX_EPOCH, beside)
    };
    assert!(change(&files, r#"{"preset": "tus"}"#).is_err());
    assert!(change(&tus, r#"{"pattern": "*"}"#).is_err());
    let changed = change(&tus, r#"{"preset": "habla", "max_files": 2, "yes": true}"#);
    let changed = changed.expect("lawful");
    // By other words other sessions go, as in another directory.
    let unasked = change(&tus, r#"{"preset": "habla"}"#);
    assert!(unasked.is_err_and(|why| why.contains("--yes")));
    assert!(change(&tus, r#"{"max_files": 2}"#).is_ok());
    let root = root_of(&changed.cleanup).expect("a root");
    assert_eq!(
        (root.preset.as_deref(), root.limits.max_count),
        (Some("habla"), Some(2))
    );
    for text in [
        "kind = \"files\"",
        "preset = 3",
        "preset = \"tus\"\nx = 1",
        "preset = ",
    ] {
        let odd = Cleanup {
            layout: Some(text.to_owned()),
            ..tus.clone()
        };
        let said = root_of(&odd).expect_err(text);
        assert!(said.contains("cannot read"), "{said}");
    }
}
