//! What the demonstration shows: a picture redrawn in place on a terminal, a line a second where
//! somebody else reads.

use super::Frame;
use super::writers::HABITS;
use crate::clock::SystemClock;
use crate::model::bytes::Bytes;
use crate::model::time::Clock;
use anyhow::Context;
use std::io::{ErrorKind, IsTerminal, Write};
use std::ops::ControlFlow;
use std::time::Duration;

const EVERY_LINE: Duration = Duration::from_secs(1);
const BAR_WIDTH: u64 = 40;

/// A line longer than the terminal is cut by the terminal, so that a picture has as many lines
/// as it was given.
const NO_WRAP: &str = "\x1b[?7l";
const WRAP: &str = "\x1b[?7h";
const CLEAR_TO_END: &str = "\x1b[K";

/// Where it is shown.
#[derive(Debug)]
pub(super) enum Screen {
    Picture {
        colours: Colours,
        /// Of the last picture: so far up the next one begins.
        n_lines: usize,
    },
    Lines {
        /// When the next line is due, since the beginning.
        next: Duration,
    },
}

/// What is put around words; nothing where somebody wants no colours.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Colours {
    good: &'static str,
    bad: &'static str,
    dim: &'static str,
    plain: &'static str,
}

impl Colours {
    fn wanted() -> Self {
        if std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty()) {
            return Self::default();
        }
        Self {
            good: "\x1b[32m",
            bad: "\x1b[31m",
            dim: "\x1b[2m",
            plain: "\x1b[0m",
        }
    }
}

impl Screen {
    pub(super) fn open() -> Self {
        if std::io::stdout().is_terminal() {
            return Self::Picture {
                colours: Colours::wanted(),
                n_lines: 0,
            };
        }
        Self::Lines {
            next: Duration::ZERO,
        }
    }

    /// Shows how it is now. `Break`: nobody reads any more.
    pub(super) fn show(&mut self, frame: &Frame) -> anyhow::Result<ControlFlow<()>> {
        match self {
            Self::Picture { colours, n_lines } => {
                let lines = picture(frame, *colours);
                let mut text = String::from(NO_WRAP);
                if *n_lines > 0 {
                    text.push_str(&format!("\x1b[{n_lines}A\r"));
                }
                for line in &lines {
                    text.push_str(&format!("  {line}{CLEAR_TO_END}\n"));
                }
                text.push_str(WRAP);
                *n_lines = lines.len();
                write(&text)
            }
            Self::Lines { next } if frame.elapsed < *next => Ok(ControlFlow::Continue(())),
            Self::Lines { next } => {
                *next += EVERY_LINE;
                say(&line(frame))
            }
        }
    }
}

/// Writes a line to standard output. `Break`: nobody reads any more.
pub(super) fn say(line: &str) -> anyhow::Result<ControlFlow<()>> {
    write(&format!("{line}\n"))
}

fn write(text: &str) -> anyhow::Result<ControlFlow<()>> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(ControlFlow::Continue(())),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(ControlFlow::Break(())),
        Err(error) => Err(error).context("cannot write to standard output"),
    }
}

fn bar(frame: &Frame, colours: Colours) -> String {
    let Colours {
        good,
        bad,
        dim,
        plain,
    } = colours;
    let colour = if frame.usage > frame.limit { bad } else { good };
    let part = frame.usage.0.saturating_mul(BAR_WIDTH) / frame.limit.0.max(1);
    let full = usize::try_from(part.min(BAR_WIDTH)).unwrap_or_default();
    let rest = usize::try_from(BAR_WIDTH).unwrap_or_default() - full;
    format!(
        "{colour}{}{plain}{dim}{}{plain}",
        "█".repeat(full),
        "░".repeat(rest)
    )
}

fn picture(frame: &Frame, colours: Colours) -> Vec<String> {
    let last = frame.last_gone.as_ref().map_or_else(
        || "none yet".to_owned(),
        |made| {
            let now = SystemClock::start().now().wall;
            let age = (now - made.at).to_std().unwrap_or_default();
            format!("{}, made {} ago", made.name, seconds(age))
        },
    );
    let Colours { dim, plain, .. } = colours;
    let row = |name: &str, what: String| format!("{dim}{name:<10}{plain} {what}");
    let mut lines = vec![
        row(
            "usage",
            format!(
                "{} {} of {}  {}",
                bar(frame, colours),
                frame.usage,
                frame.limit,
                percent(frame.usage, frame.limit)
            ),
        ),
        row(
            "sessions",
            format!(
                "{} there, {} pruned ({})",
                frame.n_sessions, frame.n_pruned, frame.pruned
            ),
        ),
        row("last gone", last),
        row(
            "reaction",
            format!("{}  ({} scheduling)", reaction(frame), frame.scheduling),
        ),
        row(
            "peak",
            format!("{}, {}", frame.peak, overshoot(frame.peak, frame.limit)),
        ),
        row("trash", format!("{} on its way out", frame.trash)),
        String::new(),
        row("writing", format!("{:>9}/s", frame.rate.to_string())),
    ];
    for (habit, rate) in HABITS.iter().zip(frame.rates) {
        let rate = rate.to_string();
        let name = format!("  {}", habit.name);
        lines.push(row(&name, format!("{rate:>9}/s  {}", habit.what)));
    }
    lines.push(String::new());
    lines.push(format!(
        "{dim}{} gone by. Ctrl-C ends it.{plain}",
        seconds(frame.elapsed)
    ));
    lines
}

fn line(frame: &Frame) -> String {
    format!(
        "{:>4} s  {} of {} ({})  sessions {}  pruned {} ({})  reaction {}  peak {}  trash {}  writing {}/s",
        frame.elapsed.as_secs(),
        frame.usage,
        frame.limit,
        percent(frame.usage, frame.limit),
        frame.n_sessions,
        frame.n_pruned,
        frame.pruned,
        reaction(frame),
        overshoot(frame.peak, frame.limit),
        frame.trash,
        frame.rate,
    )
}

pub(super) fn reaction(frame: &Frame) -> String {
    match frame.reaction {
        Some((p50, p99)) => format!("p50 {}, p99 {}", short(p50), short(p99)),
        None => "none yet".to_owned(),
    }
}

/// How far a peak was above the limit.
pub(super) fn overshoot(peak: Bytes, limit: Bytes) -> String {
    let over = peak.saturating_sub(limit);
    if over == Bytes::ZERO {
        return "never over the limit".to_owned();
    }
    format!("{} over the limit ({over})", percent(over, limit))
}

fn percent(part: Bytes, whole: Bytes) -> String {
    format!("{:.1} %", part.0 as f64 * 100.0 / whole.0.max(1) as f64)
}

/// A time that matters: three digits are enough.
fn short(time: Duration) -> String {
    let micros = time.as_micros();
    if micros < 1000 {
        return format!("{micros} µs");
    }
    format!("{:.1} ms", time.as_secs_f64() * 1000.0)
}

pub(super) fn seconds(time: Duration) -> String {
    let whole = time.as_secs();
    match whole {
        0..60 => format!("{:.1} s", time.as_secs_f64()),
        _ => format!("{} min {} s", whole / 60, whole % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::{Colours, Frame, bar, overshoot, seconds, short};
    use crate::model::bytes::Bytes;
    use std::time::Duration;

    #[test]
    fn a_bar_ends_at_the_limit() {
        for (usage, full) in [(0, 0), (50, 20), (100, 40), (1000, 40)] {
            let frame = Frame {
                usage: Bytes(usage),
                limit: Bytes(100),
                ..Frame::default()
            };
            let bar = bar(&frame, Colours::default());
            assert_eq!(bar.matches('█').count(), full, "{bar}");
            assert_eq!(bar.chars().count(), 40, "{bar}");
        }
    }

    #[test]
    fn figures_are_short() {
        assert_eq!(short(Duration::from_micros(43)), "43 µs");
        assert_eq!(short(Duration::from_micros(1250)), "1.2 ms");
        assert_eq!(seconds(Duration::from_millis(5840)), "5.8 s");
        assert_eq!(seconds(Duration::from_secs(61)), "1 min 1 s");
        assert_eq!(overshoot(Bytes(10), Bytes(10)), "never over the limit");
        let over = overshoot(Bytes(101 << 20), Bytes(100 << 20));
        assert_eq!(over, "1.0 % over the limit (1.0 MiB)");
    }
}
