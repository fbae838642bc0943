//! `[root.limits]`. A limit is a number that somebody wrote and that makes sense with the others,
//! or there is a problem, and then the root is not pruned at all.

use crate::config::reader::Reader;
use crate::config::request::RootFlags;
use crate::policy::limits::{Headroom, Limits};

/// Reads the table and lays the flags over it.
pub(super) fn read(table: &mut Reader<'_>, flags: &RootFlags) -> Limits {
    let mut limits = Limits {
        max_size: table.limit("max_size"),
        prune_to: table.limit("prune_to"),
        max_age: table.duration_above_zero("max_age"),
        max_count: table.number("max_count", 1..u64::MAX),
        measure: table.word("measure").unwrap_or_default(),
        headroom: headroom(table),
    };
    override_with(&mut limits, flags);
    check(table, &limits);
    limits
}

fn headroom(table: &mut Reader<'_>) -> Headroom {
    let automatic = table
        .find("headroom")
        .is_some_and(|found| found.value.as_str() == Some("auto"));
    if automatic {
        return Headroom::Auto;
    }
    Headroom::Fixed(table.size("headroom").unwrap_or_default())
}

fn override_with(limits: &mut Limits, flags: &RootFlags) {
    if let Some(max_size) = flags.max_size {
        limits.max_size = Some(max_size);
        // It belonged to the limit that the flag replaces.
        limits.prune_to = limits.prune_to.filter(|goal| *goal <= max_size);
    }
    limits.prune_to = flags.prune_to.or(limits.prune_to);
    limits.max_age = flags.max_age.or(limits.max_age);
    limits.max_count = flags.max_count.or(limits.max_count);
}

/// What each key allows may not make sense together.
fn check(table: &mut Reader<'_>, limits: &Limits) {
    if table.has_problem("max_size") || table.has_problem("prune_to") {
        return;
    }
    let Some(max_size) = limits.max_size else {
        if limits.prune_to.is_some() {
            table.problem("prune_to", "means nothing without max_size");
        }
        if limits.headroom != Headroom::default() {
            table.problem("headroom", "means nothing without max_size");
        }
        return;
    };
    let goal = limits.prune_to.unwrap_or(max_size);
    if goal > max_size {
        table.problem(
            "prune_to",
            format!("{goal} is more than max_size {max_size}: it must not be above it"),
        );
    } else if limits.ahead() >= goal {
        // Pruning stops at the goal less headroom: that would be an empty root.
        table.problem(
            "headroom",
            format!(
                "{} leaves nothing of {goal}; it must be smaller",
                limits.ahead()
            ),
        );
    }
}
