//! A catalogue costs about its own text to read and to edit, whatever is in it: the commands
//! run here with less memory than a tree of its values would take.

use crate::support::fixture::Scratch;
use crate::support::{Done, mb};
use std::fs;
use std::process::Command;

/// An entry with this many numbers that nobody asked for: 16 MiB of text, and a tree of values
/// of more than half a gibibyte.
const N_NUMBERS: usize = 8 << 20;
/// Of one session, in bytes that take no room.
const BLOB: u64 = 4 << 20;
/// In KiB. The program itself with the stacks of its threads takes less than half of it.
const MEMORY: usize = 384 << 10;

fn catalogue() -> String {
    let numbers = "0,".repeat(N_NUMBERS);
    format!(
        "{{\n \"a\": {{\"format\":\"json\",\"created_at\":\"2026-02-10T12:00:00\"}} ,\
         \n \"b\": {{\"format\":\"json\",\"x\":[{numbers}0],\"created_at\":\"2026-02-11T12:00:00\"}}\n}}\n"
    )
}

#[test]
fn a_giant_entry_is_read_and_edited_in_little_memory() {
    let scratch = Scratch::new();
    let text = catalogue();
    fs::write(scratch.root().join("metadata.json"), &text).expect("written");
    for id in ["a", "b"] {
        let blob = fs::File::create(scratch.root().join(format!("{id}.json")));
        blob.and_then(|blob| blob.set_len(BLOB)).expect("made");
    }
    let script = format!("ulimit -v {MEMORY} && exec \"$0\" \"$@\"");
    let mut command = Command::new("sh");
    // Room that an allocator sets aside for threads and never uses would count as well.
    command.env("MALLOC_ARENA_MAX", "1");
    command.args(["-c", &script, env!("CARGO_BIN_EXE_housekeeper")]);
    command.args(["prune-size", "--preset", "gofr-dig", "--json"]);
    command.args(["--quiet", "0s"]);
    command.arg("--root").arg(scratch.root());
    command.arg("--state-dir").arg(scratch.path("state"));
    // The catalogue and one blob: what is left when the older session has gone.
    command.arg("--max-mb").arg(mb(text.len() as u64 + BLOB));
    let done = Done::of(command.output().expect("it runs"));
    assert_eq!(done.code, 0, "{done:?}");
    assert_eq!(done.root()["removed"][0]["id"], "a", "{done:?}");
    let left = fs::read_to_string(scratch.root().join("metadata.json")).expect("text");
    let gone = "\n \"a\": {\"format\":\"json\",\"created_at\":\"2026-02-10T12:00:00\"} ,";
    assert!(left == text.replacen(gone, "", 1), "all else is as it was");
}
