//! What commands say to people, where it was once not so: each sentence names what is, and what helps.

use crate::support::fixture::{Scratch, with_config};
use crate::support::running::{Place, make_session};
use crate::support::{Done, housekeeper, recount};
use clap::CommandFactory;
use housekeeper::cli::args::Args;
use std::collections::BTreeSet;

fn command(words: &[&str]) -> Done {
    Done::of(housekeeper().args(words).output().expect("it runs"))
}

#[test]
fn a_directory_that_is_not_there_is_said_once() {
    let done = command(&["detect", "/nonexistent"]);
    assert_eq!((done.code, done.stderr.lines().count()), (1, 1), "{done:?}");
}

#[test]
fn one_problem_is_one() {
    let scratch = Scratch::new();
    let config = scratch.path("config.toml");
    std::fs::write(&config, "[agent]\n").expect("written");
    let config = config.display().to_string();
    let done = command(&["check-config", "--config", &config]);
    assert!(done.stdout.contains("1 problem;"), "{done:?}");
}

#[test]
fn a_restore_where_no_root_keeps_anything_says_so() {
    let scratch = Scratch::new();
    let root = |keep: &str| {
        format!(
            "socket = {:?}\n[[root]]\nname = \"r\"\npath = {:?}\n[root.limits]\nmax_count = 9\n{keep}",
            scratch.path("nobody.sock"),
            scratch.root()
        )
    };
    let says = "`[root.trash] keep` is not set";
    let done = with_config(&scratch, &root(""), &["restore", "s1"]);
    assert!(done.code == 1 && done.stderr.contains(says), "{done:?}");
    let keep = "[root.trash]\nkeep = \"1d\"\n";
    let done = with_config(&scratch, &root(keep), &["restore", "s1"]);
    assert!(done.code == 1 && !done.stderr.contains(says), "{done:?}");
}

#[test]
fn what_comes_back_under_a_pin_without_an_end_stays_until_it_is_unpinned() {
    let place = Place::new();
    place.configure(
        "[root.layout]\nmetadata = \"metadata.json\"\n[root.layout.created_at]\n\
         from = [{ key = \"/created_at\", as = \"rfc3339\" }]\n[root.protect]\nquiet = \"0s\"\n\
         [root.limits]\nmax_count = 1\n[root.trash]\nkeep = \"1d\"",
    );
    let staging = place.beside("staging");
    for (name, age) in [("new", 10), ("old", 20)] {
        make_session(&place.root, &staging, name, age, (1, 1000));
    }
    let agent = place.agent();
    agent.until("the older one gone", |_| {
        recount::sessions(&place.root).iter().eq(["new"])
    });
    assert_eq!(agent.stop(), Some(0));
    let pinned = Done::of(place.run(&["pin", "old", "--reason", "evidence"]));
    assert_eq!(pinned.code, 0, "{pinned:?}");
    let back = Done::of(place.run(&["restore", "old"]));
    assert!(
        back.stdout.contains("pinned until it is unpinned"),
        "{back:?}"
    );
}

/// The table of commands has all there are, and no others.
#[test]
fn the_readme_has_a_row_for_each_command() {
    let readme = include_str!("../../README.md");
    let (_, table) = readme
        .split_once("## Commands and exit codes")
        .expect("the chapter");
    let rows = table
        .lines()
        .skip_while(|line| !line.starts_with('|'))
        .skip(2)
        .take_while(|line| line.starts_with('|'));
    let cells = rows.filter_map(|row| row.split('|').nth(1));
    let named: BTreeSet<&str> = cells
        .flat_map(|cell| cell.split('`').skip(1).step_by(2))
        .filter_map(|words| words.split(' ').next())
        .collect();
    let args = Args::command();
    let all: BTreeSet<&str> = args
        .get_subcommands()
        .map(clap::Command::get_name)
        .collect();
    let cleanup = args.find_subcommand("cleanup").expect("it is there");
    let below: BTreeSet<&str> = cleanup
        .get_subcommands()
        .map(clap::Command::get_name)
        .collect();
    let unknown: Vec<_> = named
        .difference(&all)
        .filter(|n| !below.contains(*n))
        .collect();
    let missing: Vec<_> = all.difference(&named).filter(|n| **n != "help").collect();
    assert!(
        unknown.is_empty() && missing.is_empty(),
        "{unknown:?} {missing:?}"
    );
}
