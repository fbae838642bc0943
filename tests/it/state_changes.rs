//! `session.state_changed`, whatever the kind of layout: each state that metadata says after
//! another is told once, with what it was before; a save that says the same state tells nothing,
//! nor does a half-written file.

use crate::support::running::{Agent, Place, wait_for};
use serde_json::Value;
use std::fs;
use std::path::PathBuf;

const STATE: &str = "[root.layout.state]\nkey = \"/state\"\nactive = [\"init\"]\n\
                     complete = [\"complete\"]\nfailed = [\"failed\"]\n\
                     [root.limits]\nmax_size = \"1 GiB\"";

/// One kind of layout, with the session `s` and another one, `t`, of which nothing changes.
struct Case {
    layout: &'static str,
    /// Other files that lie in the root.
    files: &'static [&'static str],
    metadata: &'static str,
    /// The text of the metadata around what is said of `s`.
    around: [&'static str; 2],
    /// What `s` is called, and where people look for it.
    id: &'static str,
    path: &'static str,
}

const T: &str = "{\"created_at\":\"2026-01-02T00:00:00Z\",\"state\":\"init\"}";

const CASES: [Case; 4] = [
    Case {
        layout: "kind = \"directories\"",
        files: &["s/data", "t/metadata.json"],
        metadata: "s/metadata.json",
        around: ["", ""],
        id: "s",
        path: "s",
    },
    Case {
        layout: "kind = \"sidecar\"",
        files: &["s.wav", "t.wav", "t.json"],
        metadata: "s.json",
        around: ["", ""],
        id: "s",
        path: "s.wav",
    },
    Case {
        layout: "kind = \"files\"\nsessions = \"*.json\"\nmetadata = \".\"",
        files: &["t.json"],
        metadata: "s.json",
        around: ["", ""],
        id: "s.json",
        path: "s.json",
    },
    Case {
        layout: "kind = \"catalog\"\nblobs = [\"{id}.bin\"]",
        files: &["s.bin", "t.bin"],
        metadata: "metadata.json",
        around: [
            "{\"s\":",
            ",\"t\":{\"created_at\":\"2026-01-02T00:00:00Z\",\"state\":\"init\"}}",
        ],
        id: "s",
        path: "s.bin",
    },
];

impl Case {
    fn place(&self) -> Place {
        let place = Place::new();
        place.configure(&format!("[root.layout]\n{}\n{STATE}", self.layout));
        for file in self.files {
            let path = place.root.join(file);
            fs::create_dir_all(path.parent().expect("a parent")).expect("made");
            fs::write(path, T).expect("written");
        }
        fs::write(self.metadata(&place), self.text("init", 0)).expect("written");
        place
    }

    fn metadata(&self, place: &Place) -> PathBuf {
        place.root.join(self.metadata)
    }

    /// The metadata where `s` is in this state; `n` is of no meaning.
    fn text(&self, state: &str, n: u32) -> String {
        let [before, after] = self.around;
        format!(
            "{before}{{\"created_at\":\"2026-01-01T00:00:00Z\",\"state\":\"{state}\",\"n\":{n}}}{after}"
        )
    }

    /// As programs save that are careful: a new file in the old one's place.
    fn exchange(&self, place: &Place, text: &str) {
        let staged = place.beside("staged");
        fs::write(&staged, text).expect("written");
        fs::rename(staged, self.metadata(place)).expect("it is exchanged");
    }
}

/// Session, path, from and to of each change that was told, in order.
fn told(place: &Place) -> Vec<[String; 4]> {
    let lines = place.told("session.state_changed");
    let text = |line: &Value, field: &str| line[field].as_str().unwrap_or("none").to_owned();
    lines
        .iter()
        .map(|line| ["session", "path", "from", "to"].map(|field| text(line, field)))
        .collect()
}

fn until_told(place: &Place, n_changes: usize) {
    wait_for("a change of state", || match told(place) {
        all if all.len() >= n_changes => Ok(()),
        all => Err(format!("{all:?} {}", place.log())),
    });
}

fn rescan(place: &Place, agent: &Agent<'_>) {
    let answer = place.run(&["rescan", "--wait"]);
    assert!(answer.status.success(), "{answer:?} {}", agent.root());
}

#[test]
fn each_change_of_a_state_is_told_once_in_every_kind() {
    for case in &CASES {
        let place = case.place();
        let agent = place.agent();
        rescan(&place, &agent);
        // The first state is none that follows another.
        case.exchange(&place, &case.text("complete", 1));
        until_told(&place, 1);
        // Saved again, in both ways, with the same state.
        case.exchange(&place, &case.text("complete", 2));
        rescan(&place, &agent);
        fs::write(case.metadata(&place), case.text("complete", 3)).expect("written");
        rescan(&place, &agent);
        // Half of it, and then all.
        let next = case.text("failed", 4);
        fs::write(case.metadata(&place), &next[..next.len() / 2]).expect("written");
        fs::write(case.metadata(&place), &next).expect("written");
        until_told(&place, 2);
        // A word that nobody knows is a state as well, and so is none.
        case.exchange(&place, &case.text("paused", 5));
        until_told(&place, 3);
        let without = case.text("paused", 6).replace(",\"state\":\"paused\"", "");
        case.exchange(&place, &without);
        until_told(&place, 4);
        rescan(&place, &agent);
        assert_eq!(agent.stop(), Some(0));
        let change = |from: &str, to: &str| [case.id, case.path, from, to].map(str::to_owned);
        assert_eq!(
            told(&place),
            [
                change("init", "complete"),
                change("complete", "failed"),
                change("failed", "paused"),
                change("paused", "none"),
            ],
            "{}",
            case.layout
        );
    }
}

/// What changed while no agent ran is what is there: nobody saw it change.
#[test]
fn a_start_tells_of_no_change() {
    for case in &CASES {
        let place = case.place();
        for state in ["init", "complete"] {
            case.exchange(&place, &case.text(state, 0));
            let agent = place.agent();
            rescan(&place, &agent);
            assert_eq!(agent.stop(), Some(0));
        }
        assert_eq!(told(&place), [[""; 4]; 0], "{}", case.layout);
    }
}
