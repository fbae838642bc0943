//! Several who change one registration at the same time: what was acknowledged to one of them stands.

use crate::support::cleaning::Desk;
use std::process::Child;

fn done(mut child: Child) {
    let status = child.wait().expect("it ends");
    assert!(status.success(), "{status}");
}

#[test]
fn two_updates_at_once_both_stand() {
    let desk = Desk::new("");
    let id = desk.add("*.log", &["--max-files", "1"]);
    for n in 2..40 {
        let limit = n.to_string();
        let begin = |words: &[&str]| {
            let mut command = desk.command(&[&["update", &id], words].concat());
            command.stdout(std::process::Stdio::null());
            command.spawn().expect("it starts")
        };
        let (flag, is_read_only) = match n % 2 {
            0 => ("--read-only", true),
            _ => ("--no-read-only", false),
        };
        let (one, other) = (begin(&[flag]), begin(&["--max-files", &limit]));
        done(one);
        done(other);
        let shown = desk.done(&["show", &id]);
        assert_eq!(
            (&shown["read_only"], &shown["max_files"]),
            (&is_read_only.into(), &n.into()),
            "{shown}"
        );
    }
}

#[test]
fn who_registers_anew_does_not_end_what_keeps_a_clean_up_from_removing() {
    let desk = Desk::new("");
    let limit = ["--max-files", "1"];
    let id = desk.add("*.log", &limit);
    let dir = desk.dir().display().to_string();
    for _ in 0..20 {
        desk.done(&["update", &id, "--no-read-only"]);
        let add = [&["add", &dir, "--pattern", "*.log"][..], &limit].concat();
        let begin = |words: &[&str]| {
            let mut command = desk.command(words);
            command.stdout(std::process::Stdio::null());
            command.spawn().expect("it starts")
        };
        let (one, other) = (begin(&["update", &id, "--read-only"]), begin(&add));
        done(one);
        done(other);
        assert_eq!(desk.done(&["show", &id])["read_only"], true);
    }
}
