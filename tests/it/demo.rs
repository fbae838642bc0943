//! The demonstration, as somebody without a terminal runs it.

use assert_cmd::Command;

/// The number before `word` in a text.
fn number_before(text: &str, word: &str) -> u64 {
    let (before, _) = text
        .split_once(word)
        .unwrap_or_else(|| panic!("no `{word}` in {text}"));
    let digits = before.rsplit(' ').next().unwrap_or_default();
    digits
        .parse()
        .unwrap_or_else(|_| panic!("no number before `{word}` in {text}"))
}

/// The line of the summary that begins with `name`.
fn line<'t>(text: &'t str, name: &str) -> &'t str {
    text.lines()
        .find_map(|line| line.trim_start().strip_prefix(name))
        .unwrap_or_else(|| panic!("no line `{name}` in {text}"))
}

#[test]
fn it_prunes_and_leaves_nothing() {
    let place = tempfile::tempdir().expect("a directory");
    let done = Command::new(env!("CARGO_BIN_EXE_housekeeper"))
        .args(["demo", "--for", "3s", "--limit", "20MiB", "--dir"])
        .arg(place.path())
        .assert()
        .success();
    let text = String::from_utf8(done.get_output().stdout.clone()).expect("UTF-8");
    let n_pruned = number_before(line(&text, "pruned "), " sessions");
    assert!(n_pruned > 0, "{text}");
    assert!(
        line(&text, "in progress").contains("no session was touched"),
        "{text}"
    );
    assert!(line(&text, "recount").contains("knows just that"), "{text}");
    // With the other tests on the same cores, more than a bound on nonsense says nothing.
    let peak = line(&text, "peak");
    assert!(peak.contains("never over") || !over_twice(peak), "{text}");
    let left: Vec<_> = std::fs::read_dir(place.path())
        .expect("a directory")
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

/// Whether a peak of "NN.N % over the limit" is one of 100 % or more.
fn over_twice(peak: &str) -> bool {
    let (before, _) = peak.split_once(" % over").expect("a part over the limit");
    let percent = before.rsplit(' ').next().unwrap_or_default();
    percent.parse::<f64>().expect("a number") >= 100.0
}

#[test]
fn too_small_a_limit_is_wrong_usage() {
    let place = tempfile::tempdir().expect("a directory");
    Command::new(env!("CARGO_BIN_EXE_housekeeper"))
        .args(["demo", "--limit", "1kB", "--dir"])
        .arg(place.path())
        .assert()
        .code(64);
    assert_eq!(
        std::fs::read_dir(place.path())
            .expect("a directory")
            .count(),
        0
    );
}

#[test]
fn a_place_that_is_not_there_is_said() {
    let place = tempfile::tempdir().expect("a directory");
    let failed = Command::new(env!("CARGO_BIN_EXE_housekeeper"))
        .args(["demo", "--dir"])
        .arg(place.path().join("absent"))
        .assert()
        .code(1);
    let text = String::from_utf8_lossy(&failed.get_output().stderr).into_owned();
    assert!(text.contains("absent"), "{text}");
}
