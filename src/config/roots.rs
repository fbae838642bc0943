//! All roots together: which are looked after, and whether they can be side by side.
//!
//! A root inside another one is not looked after, and the one around it is watched but not pruned:
//! it would take the inner one's files for its own. Of one directory twice likewise.

use crate::config::file;
use crate::config::place::{self, Place, Relation};
use crate::config::preset::Presets;
use crate::config::reader::{Found, Reader};
use crate::config::request::Request;
use crate::config::root::Draft;
use crate::config::settings::{Agent, Origin, Problem, Root};
use crate::config::word;
use std::path::{Component, Path};

/// What became of the roots that the file and the flags name.
#[derive(Debug, Default)]
pub(super) struct Roots {
    pub(super) kept: Vec<Root>,
    pub(super) refused: Vec<Problem>,
}

/// Reads `[[root]]` and `--root`. With `--root`, the roots it does not name are compared with
/// those it does, and else left alone.
pub(super) fn read(request: &Request, table: &mut Reader<'_>, agent: &Agent) -> Roots {
    let items = items(table);
    let names = items.iter().filter_map(preset_name);
    let presets = Presets::named(names.chain(request.root.preset.as_deref()));
    let mut refused = Vec::new();
    let mut drafts = Vec::new();
    for item in items {
        match Draft::from_file(item, &presets, &request.root) {
            Ok(draft) => drafts.push(draft),
            Err(problems) => refused.extend(problems),
        }
    }
    refuse_same_names(&mut drafts);
    let asked = !request.roots.is_empty();
    if asked {
        refused.clear();
    }
    let selected = select(request, &presets, &mut drafts, &mut refused);
    judge(&mut drafts, agent, request);
    let mut kept = Vec::new();
    for (at, draft) in drafts.into_iter().enumerate() {
        if asked && !selected.contains(&at) {
            continue;
        }
        // Who types a command is there to mend it; a file is read when nobody is.
        let wrong_flags = draft.root.origin == Origin::Flag && !draft.root.problems.is_empty();
        if draft.refused.is_empty() && !wrong_flags {
            kept.push(draft.root);
        } else {
            refused.extend(draft.refused);
            refused.extend(draft.root.problems);
        }
    }
    Problem::sort(&mut refused);
    Roots { kept, refused }
}

fn items<'t>(table: &mut Reader<'t>) -> Vec<Found<'t>> {
    match table.find("root") {
        Some(found) if found.value.as_table().is_some() => {
            table.problem("root", "is a single table; begin each root with [[root]]");
            Vec::new()
        }
        Some(_) | None => table.items("root").unwrap_or_default(),
    }
}

fn preset_name<'t>(item: &Found<'t>) -> Option<&'t str> {
    item.value.as_table()?.get("preset")?.get_ref().as_str()
}

/// A name says which root is meant, so the first one keeps it.
fn refuse_same_names(drafts: &mut [Draft]) {
    for at in 1..drafts.len() {
        let (before, rest) = drafts.split_at_mut(at);
        let name = &rest[0].root.name;
        if before.iter().any(|draft| draft.root.name == *name) {
            rest[0].refuse("has the name of another root; give one of them another `name`");
        }
    }
}

/// Which drafts `--root` means. What it names that is not configured becomes a new one.
fn select(
    request: &Request,
    presets: &Presets,
    drafts: &mut Vec<Draft>,
    refused: &mut Vec<Problem>,
) -> Vec<usize> {
    let n_configured = drafts.len();
    let mut selected = Vec::new();
    for given in &request.roots {
        if let Some(at) = configured(&drafts[..n_configured], given) {
            selected.push(at);
            continue;
        }
        let path = place::absolute(given);
        let place = Place::survey(&path);
        if let Some(problem) = mistaken_name(&drafts[..n_configured], given, &path) {
            refused.push(problem);
            continue;
        }
        let same = |draft: &Draft| draft.place.relation(&place) == Relation::Same;
        if let Some(at) = drafts.iter().position(same) {
            selected.push(at);
            continue;
        }
        let mut draft = Draft::from_flag(&path, presets, &request.root);
        rename_apart(&mut draft, drafts);
        selected.push(drafts.len());
        drafts.push(draft);
    }
    selected
}

fn configured(drafts: &[Draft], given: &Path) -> Option<usize> {
    drafts
        .iter()
        .position(|draft| given.as_os_str() == draft.root.name.as_str())
}

/// Where roots are configured, a bare word that is no directory is more likely the misspelt name
/// of one than a directory to be made here.
fn mistaken_name(drafts: &[Draft], given: &Path, path: &Path) -> Option<Problem> {
    let mut parts = given.components();
    let bare = matches!(
        (parts.next(), parts.next()),
        (Some(Component::Normal(_)), None)
    );
    if drafts.is_empty() || !bare || path.symlink_metadata().is_ok() {
        return None;
    }
    let name = file::show(given);
    let names = drafts.iter().map(|draft| draft.root.name.as_str());
    let hint = word::nearest(&name, names)
        .map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
    Some(Problem {
        key: "--root".to_owned(),
        line: None,
        message: format!(
            "`{name}` is neither the name of a configured root nor a directory here{hint}"
        ),
    })
}

/// Nobody chose the name of a directory on the command line, so it may give way.
fn rename_apart(draft: &mut Draft, others: &[Draft]) {
    let base = draft.root.name.clone();
    let mut number = 2;
    while others
        .iter()
        .any(|other| other.root.name == draft.root.name)
    {
        draft.root.name = format!("{base}-{number}");
        number += 1;
    }
}

/// Where each root lies, by itself and beside the others.
fn judge(drafts: &mut [Draft], agent: &Agent, request: &Request) {
    let homes = place::homes(request.directory("HOME"));
    let own = own_places(agent);
    for draft in drafts.iter_mut() {
        if !draft.refused.is_empty() {
            continue;
        }
        let why = draft.place.refusal(&homes);
        if let Some(why) = why.or_else(|| holds_own(&own, &draft.place)) {
            draft.refuse(&why);
        }
    }
    for (at, verdict) in overlaps(drafts) {
        match verdict {
            Overlap::Refuse(why) => drafts[at].refuse(&why),
            Overlap::Hold(why) => drafts[at].hold(&why),
        }
    }
}

/// What the agent itself writes to, each by its key.
pub(super) fn own_places(agent: &Agent) -> Vec<(&'static str, Place)> {
    let mut own = vec![("state_dir", &agent.state_dir), ("socket", &agent.socket)];
    own.extend(agent.database.as_ref().map(|path| ("store", path)));
    let own = own.into_iter();
    own.map(|(key, path)| (key, Place::survey(path))).collect()
}

/// Why nothing that is removed may lie in `place`, in words that follow "the path".
pub(super) fn holds_own(own: &[(&'static str, Place)], place: &Place) -> Option<String> {
    let (key, held) = own.iter().find(|(_, held)| held.is_within(place))?;
    let path = file::show(held.written());
    Some(format!(
        "holds the agent's own {key} {path}; move one of them"
    ))
}

enum Overlap {
    Refuse(String),
    Hold(String),
}

/// Every pair of roots that share files, judged before any of them is refused for it.
fn overlaps(drafts: &[Draft]) -> Vec<(usize, Overlap)> {
    let mut found = Vec::new();
    let standing = |at: &usize| drafts[*at].refused.is_empty();
    for second in (0..drafts.len()).filter(standing) {
        for first in (0..second).filter(standing) {
            let relation = drafts[second].place.relation(&drafts[first].place);
            let (inner, outer, how) = match relation {
                Relation::Apart => continue,
                Relation::Same => (second, first, "is the same directory as that"),
                Relation::Inside => (second, first, "lies inside that"),
                Relation::Around => (first, second, "lies inside that"),
            };
            let name = |at: usize| &drafts[at].root.name;
            let refuse = format!("{how} of root `{}`", name(outer));
            let hold = match relation {
                Relation::Same => format!("is that of root `{}` as well", name(inner)),
                Relation::Inside | Relation::Around | Relation::Apart => {
                    format!("holds that of root `{}`", name(inner))
                }
            };
            found.push((inner, Overlap::Refuse(refuse)));
            found.push((outer, Overlap::Hold(hold)));
        }
    }
    found
}
