//! The real agent on a scratch root with real writers.

use super::args::Demo;

/// Runs the demonstration.
pub fn run(_demo: &Demo) -> anyhow::Result<u8> {
    anyhow::bail!("not written yet")
}
