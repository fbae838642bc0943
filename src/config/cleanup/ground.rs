//! Where registrations lie, and beside what: every place is looked up on the disk once, however
//! many registrations are judged then, and each is compared with those near it alone.

use crate::config::cleanup::{Beside, directory};
use crate::config::place::{self, Place, Relation};
use crate::config::roots::{holds_own, own_places};
use crate::config::settings::{Registry, Root};
use crate::model::cleanup::Cleanup;
use crate::model::seen::FileId;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// So many of those at one place are kept in mind: one refusal is enough, one of them may be the
/// registration itself, and one what the store takes for the same.
const ENOUGH: usize = 3;

/// What registrations are judged beside, as it was when it was looked at.
#[derive(Debug)]
pub struct Ground<'a> {
    registry: &'a Registry,
    /// What the agent writes to, by the key of the configuration.
    own: Vec<(&'static str, Place)>,
    roots: Vec<(&'a Root, Place)>,
    others: Neighbours<'a>,
}

impl<'a> Ground<'a> {
    /// Looks at the disk, once for each of `beside`.
    pub fn survey(beside: Beside<'a>) -> Self {
        let mut own = own_places(beside.agent);
        let reports = Place::survey(&beside.registry.report_directory);
        own.push(("report_directory", reports));
        let roots = beside.roots.iter();
        Self {
            registry: beside.registry,
            own,
            roots: roots
                .map(|root| (root, Place::survey(&root.path)))
                .collect(),
            others: Neighbours::of(beside.others),
        }
    }

    /// Whether a registration may be where it is. Answers its directory without symlinks.
    ///
    /// # Errors
    /// It may not; a sentence with the reason.
    pub fn judge(&self, cleanup: &Cleanup) -> Result<PathBuf, String> {
        let path = directory(cleanup);
        let shown = &cleanup.directory;
        let refuse = |why: &str| Err(format!("the directory {shown} {why}"));
        if let Some(why) = place::unusable(&path) {
            return refuse(why);
        }
        let place = Place::survey(&path);
        if let Some(why) = place.refusal(&self.registry.homes) {
            return refuse(&why);
        }
        if !place.is_there() {
            return refuse("does not exist");
        }
        if let Some(why) = holds_own(&self.own, &place) {
            return refuse(&why);
        }
        let is_own = |(_, held): &&(&str, Place)| place.is_within(held);
        if let Some((key, _)) = self.own.iter().find(is_own) {
            return refuse(&format!("lies in the agent's own {key}"));
        }
        for (root, theirs) in &self.roots {
            let how = match place.relation(theirs) {
                Relation::Apart => continue,
                Relation::Same => "is that of",
                Relation::Inside => "lies inside",
                Relation::Around => "holds that of",
            };
            return refuse(&format!("{how} the configured root `{}`", root.name));
        }
        if let Some((how, other)) = self.others.refusal(cleanup, &place) {
            let (owner, id) = (&other.owner, &other.id);
            return refuse(&format!("{how} the clean-up {id} of `{owner}`"));
        }
        Ok(place.real().to_owned())
    }
}

/// Whether a registration's root lies apart from all configured ones.
pub fn is_apart(root: &Root, configured: &[Root]) -> bool {
    let place = Place::survey(&root.path);
    configured
        .iter()
        .all(|other| place.relation(&Place::survey(&other.path)) == Relation::Apart)
}

/// By what a place is found: one directory may have two names, and what is not there no inode.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Mark {
    Id(FileId),
    Path(PathBuf),
}

/// Those that lie at one mark, by their place among all.
#[derive(Debug, Default)]
struct Group<'a> {
    /// The first [`ENOUGH`].
    first: Vec<usize>,
    /// The first [`ENOUGH`] that go by a layout of their own.
    by_layout: Vec<usize>,
    /// Of one pattern, which the store has once for each owner.
    by_pattern: HashMap<&'a str, Vec<usize>>,
}

/// Registrations, found by where they lie. What it costs to ask for one does not depend on how many
/// there are.
#[derive(Debug)]
struct Neighbours<'a> {
    all: &'a [Cleanup],
    at: HashMap<Mark, Group<'a>>,
    /// The first [`ENOUGH`] somewhere below a mark.
    below: HashMap<Mark, Vec<usize>>,
}

impl<'a> Neighbours<'a> {
    fn of(all: &'a [Cleanup]) -> Self {
        let mut found = Self {
            all,
            at: HashMap::new(),
            below: HashMap::new(),
        };
        for (n, cleanup) in all.iter().enumerate() {
            let place = Place::survey(&directory(cleanup));
            // A symlink came into its way: it does not run, and keeps nobody from running.
            if place.real() == place.written() {
                found.add(n, cleanup, &place);
            }
        }
        found
    }

    fn add(&mut self, n: usize, cleanup: &'a Cleanup, place: &Place) {
        let push = |list: &mut Vec<usize>| {
            if list.len() < ENOUGH {
                list.push(n);
            }
        };
        for mark in marks_of(place) {
            let group = self.at.entry(mark).or_default();
            push(&mut group.first);
            if cleanup.layout.is_some() {
                push(&mut group.by_layout);
            }
            let alike = group.by_pattern.entry(&cleanup.pattern).or_default();
            alike.push(n);
        }
        for mark in marks_above(place) {
            push(self.below.entry(mark).or_default());
        }
    }

    /// The first of the others that this one may not lie beside, and how it lies to that one.
    fn refusal(&self, cleanup: &Cleanup, place: &Place) -> Option<(&'static str, &'a Cleanup)> {
        let near = self.near(cleanup, place);
        let others = near
            .into_iter()
            .map(|(relation, n)| (relation, n, &self.all[n]));
        let refusing = others.filter_map(|(relation, n, other)| {
            let how = match relation {
                Relation::Apart => return None,
                _ if other.id == cleanup.id => return None,
                Relation::Same if other.pattern == cleanup.pattern => {
                    // The store makes one of them.
                    if other.owner == cleanup.owner && other.directory == cleanup.directory {
                        return None;
                    }
                    "has the same pattern registered already in"
                }
                // What one counts as a file may be a part of a session of the other.
                Relation::Same => "is shared, which no preset can be, with",
                Relation::Inside => "lies inside that of",
                Relation::Around => "holds that of",
            };
            Some((n, how, other))
        });
        let first = refusing.min_by_key(|(n, ..)| *n);
        first.map(|(_, how, other)| (how, other))
    }

    /// Those that may be in its way. Of one directory several are ordinary, which look at their own
    /// names under its one lock: they are left out.
    fn near(&self, cleanup: &Cleanup, place: &Place) -> Vec<(Relation, usize)> {
        let mut near = Vec::new();
        let mut add = |relation, found: Option<&Vec<usize>>| {
            near.extend(found.into_iter().flatten().map(|n| (relation, *n)));
        };
        for mark in marks_of(place) {
            if let Some(group) = self.at.get(&mark) {
                let beside = match cleanup.layout {
                    Some(_) => &group.first,
                    None => &group.by_layout,
                };
                add(Relation::Same, Some(beside));
                let alike = group.by_pattern.get(cleanup.pattern.as_str());
                add(Relation::Same, alike);
            }
            add(Relation::Around, self.below.get(&mark));
        }
        for mark in marks_above(place) {
            let group = self.at.get(&mark);
            add(Relation::Inside, group.map(|group| &group.first));
        }
        near
    }
}

fn marks_of(place: &Place) -> Vec<Mark> {
    let mut marks: Vec<Mark> = place.itself().map(Mark::Id).into_iter().collect();
    marks.push(Mark::Path(place.real().to_owned()));
    if place.written() != place.real() {
        marks.push(Mark::Path(place.written().to_owned()));
    }
    marks
}

fn marks_above(place: &Place) -> Vec<Mark> {
    let mut marks: Vec<Mark> = place.above().iter().copied().map(Mark::Id).collect();
    let mut add = |path: &Path| {
        let above = path.ancestors().skip(1);
        marks.extend(above.map(|path| Mark::Path(path.to_owned())));
    };
    add(place.real());
    if place.written() != place.real() {
        add(place.written());
    }
    marks
}

#[cfg(test)]
mod tests;
