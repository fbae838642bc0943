//! How much memory reading a catalogue takes: `cargo bench --bench catalogue_memory [-- FILE]`.
//!
//! Prints the size of the text and by how much the process's peak grew beyond it, once for
//! reading the entries and once for taking every hundredth of them out.

use housekeeper::layout::{Layout, catalog, spec};
use std::error::Error;
use std::io::Write;

/// A catalogue of ordinary entries, for want of a real one.
fn sample() -> Vec<u8> {
    let entry = |n: u32| {
        format!(
            "\"{n:08x}\":{{\"created_at\":\"2026-01-02T03:04:05Z\",\"format\":\"json\",\
             \"state\":\"complete\",\"size\":{n},\"source\":\"https://example.org/{n}\"}}"
        )
    };
    // Room for all of it, once: what growing would touch is not what reading costs.
    let mut text = Vec::with_capacity(64 << 20);
    text.push(b'{');
    for n in 0..400_000 {
        if n > 0 {
            text.push(b',');
        }
        text.extend_from_slice(entry(n).as_bytes());
    }
    text.push(b'}');
    text
}

/// The most memory this process ever had, in bytes.
fn peak() -> Result<u64, Box<dyn Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.ok_or("no peak")?.trim().trim_end_matches(" kB");
    Ok(kib.parse::<u64>()? << 10)
}

fn main() -> Result<(), Box<dyn Error>> {
    // `cargo bench` adds a flag of its own.
    let path = std::env::args_os().skip(1).find(|arg| arg != "--bench");
    let text = match path {
        Some(path) => std::fs::read(path)?,
        None => sample(),
    };
    let layout = Layout::new(spec::LayoutSpec {
        kind: spec::Kind::Catalog,
        blobs: vec!["{id}.{format}".to_owned()],
        ..spec::LayoutSpec::default()
    })
    .map_err(|problems| format!("{problems:?}"))?;
    let before = peak()?;
    let begun = std::time::Instant::now();
    let seen = layout.catalog(&text, chrono::Utc::now())?;
    let (read, took) = (peak()?, begun.elapsed());
    let ids: Vec<_> = seen
        .entries
        .iter()
        .step_by(100)
        .map(|e| e.id.clone())
        .collect();
    let n_entries = seen.entries.len() as u64;
    drop(seen);
    let kept = catalog::without(&text, &ids)?.map_or(0, |text| text.len());
    let edited = peak()?;
    let mut out = std::io::stdout();
    writeln!(out, "text {} bytes, {n_entries} entries", text.len())?;
    writeln!(
        out,
        "reading: {} bytes more, {} an entry, {took:?}",
        read - before,
        (read - before) / n_entries.max(1)
    )?;
    writeln!(
        out,
        "taking out: {} bytes more yet, {kept} bytes stay",
        edited - read
    )?;
    Ok(())
}
