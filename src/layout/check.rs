//! Checks a layout's words against each other. All problems are found in one go.

use super::glob::Glob;
use super::moment;
use super::pattern::Pattern;
use super::spec::{Format, Kind, LayoutSpec, Source, SpecProblem, StateSpec, TimeFormat};
use super::template::Template;

/// What the words of a good spec compile to.
#[derive(Debug)]
pub(super) struct Checked {
    pub(super) glob: Glob,
    pub(super) pattern: Option<Pattern>,
    pub(super) sidecar: Option<Template>,
    pub(super) blobs: Vec<Template>,
    pub(super) lock: Option<Lock>,
}

/// Where a session's lock lies.
#[derive(Debug)]
pub(super) struct Lock {
    pub(super) is_inside: bool,
    pub(super) name: Template,
}

/// The problems found so far.
#[derive(Default)]
struct Problems(Vec<SpecProblem>);

impl Problems {
    fn add(&mut self, key: &'static str, message: impl Into<String>) {
        self.0.push(SpecProblem {
            key,
            message: message.into(),
        });
    }

    /// The value, or nothing and one problem more.
    fn take<T>(&mut self, key: &'static str, checked: Result<T, String>) -> Option<T> {
        match checked {
            Ok(value) => Some(value),
            Err(message) => {
                self.add(key, message);
                None
            }
        }
    }
}

/// Checks everything.
pub(super) fn check(spec: &LayoutSpec) -> Result<Checked, Vec<SpecProblem>> {
    let mut problems = Problems::default();
    let glob = problems.take("sessions", Glob::new(&spec.sessions));
    let pattern = spec
        .pattern
        .as_ref()
        .map(|text| problems.take("pattern", Pattern::new(text)));
    // A pattern that does not compile has no groups to check against.
    let groups = match &pattern {
        Some(Some(pattern)) => Groups::Of(pattern),
        Some(None) => Groups::Unknown,
        None => Groups::NoPattern,
    };
    let mut sidecar = None;
    match (spec.kind, spec.metadata.as_deref()) {
        (Kind::Files, None | Some(".")) | (Kind::Sidecar, None) => {}
        (Kind::Files, Some(name)) => problems.add(
            "metadata",
            format!("`{name}` is no file of a single file's own; write \".\" for the file itself"),
        ),
        (Kind::Sidecar, Some(text)) => sidecar = problems.take("metadata", sidecar_form(text)),
        (Kind::Directories | Kind::Catalog, name) => check_file(&mut problems, "metadata", name),
    }
    check_file(&mut problems, "foreign_lock", spec.foreign_lock.as_deref());
    check_file(&mut problems, "marker", spec.marker.as_deref());
    let blobs = spec
        .blobs
        .iter()
        .filter_map(|text| problems.take("blobs", blob(text)))
        .collect();
    let lock = spec
        .lock
        .as_ref()
        .and_then(|text| problems.take("lock", lock(text, groups)));
    check_sources(&mut problems, spec, groups);
    if let Some(state) = &spec.state {
        check_state(&mut problems, spec, state);
    }
    if let Some(group) = &spec.group {
        problems.take("group", pointer(group));
    }
    if let Some(size) = &spec.size {
        problems.take("size", pointer(&size.key));
    }
    match spec.kind {
        Kind::Directories => {}
        Kind::Files | Kind::Sidecar => check_files(&mut problems, spec, glob.as_ref()),
        Kind::Catalog => check_catalog(&mut problems, spec),
    }
    if spec.everything && spec.kind != Kind::Files {
        problems.add("everything", "is for kind \"files\" only; remove it");
    }
    match glob {
        Some(glob) if problems.0.is_empty() => Ok(Checked {
            glob,
            pattern: pattern.flatten(),
            sidecar,
            blobs,
            lock,
        }),
        _ => Err(problems.0),
    }
}

/// What is known of the pattern's groups.
#[derive(Clone, Copy)]
enum Groups<'a> {
    NoPattern,
    Unknown,
    Of(&'a Pattern),
}

impl Groups<'_> {
    /// Whether a name can be read from a group of this name, as far as can be told.
    fn may_have(self, group: &str) -> bool {
        match self {
            Self::NoPattern => false,
            Self::Unknown => true,
            Self::Of(pattern) => pattern.has_group(group),
        }
    }
}

fn check_file(problems: &mut Problems, key: &'static str, name: Option<&str>) {
    if let Some(name) = name {
        problems.take(key, plain_name(name));
    }
}

fn plain_name(name: &str) -> Result<(), String> {
    match Template::new(name)?.words().next() {
        None => Ok(()),
        Some(word) => Err(format!(
            "`{{{word}}}` has no meaning here; write the name itself"
        )),
    }
}

fn blob(text: &str) -> Result<Template, String> {
    let template = Template::new(text)?;
    if !template.words().any(|word| word == "id") {
        return Err(format!(
            "`{text}` is one file for all sessions; add `{{id}}` to its name"
        ));
    }
    if text.starts_with('.') {
        return Err(format!(
            "`{text}` begins with a dot; blobs must not be hidden"
        ));
    }
    Ok(template)
}

fn sidecar_form(text: &str) -> Result<Template, String> {
    let template = Template::new(text)?;
    let is_one = template.words().eq(["id"]);
    if !is_one || text == "{id}" {
        return Err(format!(
            "`{text}` must be `{{id}}` and more, such as \"{{id}}.json\""
        ));
    }
    Ok(template)
}

fn lock(text: &str, groups: Groups<'_>) -> Result<Lock, String> {
    let (is_inside, name) = match text.strip_prefix("./") {
        Some(name) => (true, name),
        None => (false, text),
    };
    let name = Template::new(name)?;
    for word in name.words() {
        if !matches!(word, "stem" | "id") && !groups.may_have(word) {
            return Err(format!(
                "`{{{word}}}` is neither `stem`, `id` nor a group of `pattern`"
            ));
        }
    }
    Ok(Lock { is_inside, name })
}

fn pointer(text: &str) -> Result<(), String> {
    let is_escaped = text
        .split('~')
        .skip(1)
        .all(|after| after.starts_with(['0', '1']));
    if text.starts_with('/') && is_escaped {
        Ok(())
    } else {
        Err(format!(
            "`{text}` is no JSON pointer; write it as \"/name\", with ~0 for ~ and ~1 for /"
        ))
    }
}

fn check_sources(problems: &mut Problems, spec: &LayoutSpec, groups: Groups<'_>) {
    const KEY: &str = "created_at.from";
    if spec.created_at.is_empty() {
        problems.add(
            KEY,
            "is empty, so no session could ever go; name a source such as { key = \"/created_at\" }",
        );
    }
    for source in &spec.created_at {
        match source {
            Source::Key { key, format, .. } => {
                problems.take(KEY, pointer(key));
                problems.take(KEY, format_words(format));
                if spec.metadata.is_none() {
                    problems.add(KEY, format!("`{key}` needs `metadata`; set its file name"));
                }
            }
            Source::Name {
                group,
                format,
                radix,
                ..
            } => {
                problems.take(KEY, group_exists(group, groups));
                problems.take(KEY, format_words(format));
                problems.take(KEY, radix_fits(*radix, format));
            }
            Source::File { file, format, .. } => {
                problems.take(KEY, plain_name(file));
                problems.take(KEY, format_words(format));
            }
            Source::Birth | Source::Mtime => {}
        }
    }
}

fn group_exists(group: &str, groups: Groups<'_>) -> Result<(), String> {
    match groups {
        Groups::NoPattern => Err(format!(
            "`{group}` is read from a name, which needs `pattern` with a group `(?<{group}>…)`"
        )),
        Groups::Unknown => Ok(()),
        Groups::Of(pattern) if pattern.has_group(group) => Ok(()),
        Groups::Of(_) => Err(format!(
            "`pattern` has no group `{group}`; add `(?<{group}>…)` to it"
        )),
    }
}

fn radix_fits(radix: u32, format: &TimeFormat) -> Result<(), String> {
    if !(2..=36).contains(&radix) {
        return Err(format!("radix {radix} must be from 2 to 36"));
    }
    match format {
        TimeFormat::Rfc3339 | TimeFormat::Strftime(_) if radix != 10 => Err(format!(
            "radix {radix} has no meaning for text; use it with an epoch format"
        )),
        _ => Ok(()),
    }
}

fn format_words(format: &TimeFormat) -> Result<(), String> {
    match format {
        TimeFormat::Strftime(words) => moment::check_words(words),
        TimeFormat::Rfc3339
        | TimeFormat::EpochS
        | TimeFormat::EpochMs
        | TimeFormat::EpochUs
        | TimeFormat::EpochNs => Ok(()),
    }
}

fn check_state(problems: &mut Problems, spec: &LayoutSpec, state: &StateSpec) {
    problems.take("state.key", pointer(&state.key));
    if spec.metadata.is_none() {
        problems.add("state", "is read from `metadata`; set its file name");
    }
    let lists = [
        ("active", &state.active),
        ("complete", &state.complete),
        ("failed", &state.failed),
    ];
    for (at, (name, words)) in lists.iter().enumerate() {
        for (other, other_words) in &lists[at + 1..] {
            for word in words.iter().filter(|word| other_words.contains(word)) {
                problems.add(
                    "state",
                    format!("`{word}` is both {name} and {other}; keep it in one list"),
                );
            }
        }
    }
}

/// What sessions that are files must have, and what has no place there.
fn check_files(problems: &mut Problems, spec: &LayoutSpec, glob: Option<&Glob>) {
    match spec.kind {
        Kind::Files => {
            let owns_all = spec.pattern.is_none() && !spec.everything;
            if owns_all && glob.is_some_and(Glob::ends_in_anything) {
                problems.add(
                    "sessions",
                    "ends in wildcards alone, so every file would be one; write what they have in common, such as \"*.log\", or set everything = true",
                );
            }
            if !spec.blobs.is_empty() {
                problems.add("blobs", "has no meaning for kind \"files\"; remove it");
            }
        }
        Kind::Sidecar => {
            if spec.metadata.is_none() {
                problems.add(
                    "metadata",
                    "is missing; write the form of its name, such as \"{id}.json\"",
                );
            }
            if spec.blobs.is_empty() {
                problems.add(
                    "blobs",
                    "is empty; write the form of the files, such as \"{id}.{ext}\"",
                );
            }
            if !spec.required && spec.pattern.is_none() {
                problems.add(
                    "required",
                    "is false, so that a name alone makes a session; add a `pattern` for the ids",
                );
            }
        }
        Kind::Directories | Kind::Catalog => {}
    }
    if spec.marker.is_some() {
        problems.add(
            "marker",
            "lies inside a directory, which a file is not; remove it",
        );
    }
    if spec
        .lock
        .as_deref()
        .is_some_and(|lock| lock.starts_with("./"))
    {
        problems.add(
            "lock",
            "lies inside a directory, which a file is not; remove the \"./\"",
        );
    }
    if spec
        .created_at
        .iter()
        .any(|source| matches!(source, Source::File { .. }))
    {
        problems.add(
            "created_at.from",
            "a `file` lies inside a directory; read a key or the name",
        );
    }
}

/// What a catalogue must have, and what would silently do nothing there.
fn check_catalog(problems: &mut Problems, spec: &LayoutSpec) {
    match spec.metadata.as_deref() {
        None => problems.add("metadata", "is missing; a catalogue needs its file's name"),
        Some(name) if name == ".housekeeper" || name.starts_with(".hk-") => {
            problems.add("metadata", format!("`{name}` is a name of the agent's own"));
        }
        Some(_) => {}
    }
    if spec.blobs.is_empty() {
        problems.add(
            "blobs",
            "is empty; a catalogue needs the form of its blobs, such as \"{id}.{format}\"",
        );
    }
    if spec.sessions != "*" {
        problems.add(
            "sessions",
            "must be \"*\" in a catalogue, which itself says what the sessions are",
        );
    }
    if spec.marker.is_some() {
        problems.add(
            "marker",
            "lies inside a directory, which a catalogue's session is not; remove it",
        );
    }
    if spec.lock.is_some() {
        problems.add("lock", "is not supported in a catalogue; remove it");
    }
    if spec.remove_empty_parents {
        problems.add(
            "remove_empty_parents",
            "a catalogue lies in the root itself; remove it",
        );
    }
    if spec.format != Format::Json {
        let why = format!("a catalogue is JSON, not {}", spec.format.word());
        problems.add("format", why);
    }
    for source in &spec.created_at {
        match source {
            Source::Key { .. } | Source::Name { .. } => {}
            Source::File { .. } | Source::Birth | Source::Mtime => problems.add(
                "created_at.from",
                "a catalogue's entry has neither files nor an inode; read its `key` or its name",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::zone::Zone;

    fn keys(change: impl FnOnce(&mut LayoutSpec)) -> Vec<&'static str> {
        let mut spec = LayoutSpec::default();
        change(&mut spec);
        match check(&spec) {
            Ok(_) => Vec::new(),
            Err(problems) => problems.iter().map(|problem| problem.key).collect(),
        }
    }

    fn name(group: &str, format: TimeFormat, radix: u32) -> Source {
        Source::Name {
            group: group.to_owned(),
            format,
            zone: Zone::Utc,
            radix,
        }
    }

    #[test]
    fn each_problem_names_its_key() {
        assert_eq!(keys(|_| {}), [""; 0]);
        assert_eq!(keys(|s| s.sessions = "../*".to_owned()), ["sessions"]);
        assert_eq!(keys(|s| s.pattern = Some("(".to_owned())), ["pattern"]);
        for bad in ["a/b", "", "..", "a{", "{id}.json", "a\0"] {
            assert_eq!(keys(|s| s.metadata = Some(bad.to_owned())), ["metadata"]);
            assert_eq!(keys(|s| s.marker = Some(bad.to_owned())), ["marker"]);
        }
        for bad in ["a/b", "./a/b", "../a", "./", "{nothing}.lock"] {
            assert_eq!(keys(|s| s.lock = Some(bad.to_owned())), ["lock"]);
        }
        for bad in ["a/{id}", "fixed.bin", ".{id}"] {
            assert_eq!(keys(|s| s.blobs = vec![bad.to_owned()]), ["blobs"]);
        }
        for bad in ["", "group", "/a~2"] {
            assert_eq!(keys(|s| s.group = Some(bad.to_owned())), ["group"]);
        }
        assert_eq!(keys(|s| s.metadata = None), ["created_at.from"]);
    }

    #[test]
    fn sources_that_cannot_answer() {
        let file = |file: &str, words: &str| Source::File {
            file: file.to_owned(),
            format: TimeFormat::Strftime(words.to_owned()),
            zone: Zone::Utc,
        };
        let key = Source::Key {
            key: "created_at".to_owned(),
            format: TimeFormat::Rfc3339,
            zone: Zone::Utc,
        };
        for bad in [
            vec![],
            vec![name("created", TimeFormat::Rfc3339, 10)],
            vec![file("a/b", "%Y%m%d")],
            vec![file("a", "%Q")],
            vec![key],
        ] {
            assert_eq!(
                keys(|s| s.created_at = bad.clone()),
                ["created_at.from"],
                "{bad:?}"
            );
        }
        for (source, n_problems) in [
            (name("created", TimeFormat::EpochUs, 36), 0),
            (name("created", TimeFormat::EpochUs, 37), 1),
            (name("created", TimeFormat::EpochUs, 1), 1),
            (name("created", TimeFormat::Rfc3339, 36), 1),
            (name("other", TimeFormat::EpochUs, 10), 1),
        ] {
            let found = keys(|s| {
                s.pattern = Some("^(?<created>.+)$".to_owned());
                s.created_at = vec![source.clone()];
            });
            assert_eq!(found.len(), n_problems, "{source:?}");
        }
    }

    #[test]
    fn states() {
        let state = |active: &str, failed: &str| {
            Some(StateSpec {
                key: "/state".to_owned(),
                active: vec![active.to_owned()],
                complete: Vec::new(),
                failed: vec![failed.to_owned()],
            })
        };
        assert_eq!(keys(|s| s.state = state("a", "b")), [""; 0]);
        assert_eq!(keys(|s| s.state = state("a", "a")), ["state"]);
        let without_metadata = keys(|s| {
            s.state = state("a", "b");
            s.metadata = None;
            s.created_at = vec![Source::Birth];
        });
        assert_eq!(without_metadata, ["state"]);
    }

    #[test]
    fn a_catalogue_has_words_of_its_own() {
        let catalog = |change: fn(&mut LayoutSpec)| {
            keys(|s| {
                s.kind = Kind::Catalog;
                s.blobs = vec!["{id}.{format}".to_owned()];
                change(s);
            })
        };
        assert_eq!(catalog(|_| {}), [""; 0]);
        assert_eq!(catalog(|s| s.blobs.clear()), ["blobs"]);
        assert_eq!(catalog(|s| s.sessions = "a".to_owned()), ["sessions"]);
        assert_eq!(catalog(|s| s.marker = Some("a".to_owned())), ["marker"]);
        assert_eq!(catalog(|s| s.lock = Some("a".to_owned())), ["lock"]);
        assert_eq!(
            catalog(|s| s.metadata = Some(".hk-a".to_owned())),
            ["metadata"]
        );
        assert_eq!(
            catalog(|s| s.metadata = None),
            ["created_at.from", "metadata"]
        );
        assert_eq!(
            catalog(|s| s.created_at = vec![Source::Mtime]),
            ["created_at.from"]
        );
    }

    #[test]
    fn files_have_words_of_their_own() {
        let files = |change: fn(&mut LayoutSpec)| {
            keys(|s| {
                s.kind = Kind::Files;
                s.sessions = "*.log".to_owned();
                s.metadata = Some(".".to_owned());
                change(s);
            })
        };
        assert_eq!(files(|_| {}), [""; 0]);
        for anything in ["*", "**", "a/*", "?*", "**/**"] {
            let all = keys(|s| {
                s.kind = Kind::Files;
                s.sessions = anything.to_owned();
                s.metadata = Some(".".to_owned());
            });
            assert_eq!(all, ["sessions"], "{anything}");
        }
        let everything = files(|s| {
            s.sessions = "*".to_owned();
            s.everything = true;
        });
        assert_eq!(everything, [""; 0]);
        let by_pattern = files(|s| {
            s.sessions = "*".to_owned();
            s.pattern = Some("^a".to_owned());
        });
        assert_eq!(by_pattern, [""; 0]);
        assert_eq!(files(|s| s.metadata = Some("m".to_owned())), ["metadata"]);
        assert_eq!(files(|s| s.metadata = None), ["created_at.from"]);
        assert_eq!(files(|s| s.marker = Some("m".to_owned())), ["marker"]);
        assert_eq!(files(|s| s.lock = Some("./m".to_owned())), ["lock"]);
        assert_eq!(files(|s| s.blobs = vec!["{id}".to_owned()]), ["blobs"]);
        assert_eq!(keys(|s| s.everything = true), ["everything"]);
    }

    #[test]
    fn a_sidecar_has_words_of_its_own() {
        let sidecar = |change: fn(&mut LayoutSpec)| {
            keys(|s| {
                s.kind = Kind::Sidecar;
                s.metadata = Some("{id}.json".to_owned());
                s.blobs = vec!["{id}".to_owned()];
                change(s);
            })
        };
        assert_eq!(sidecar(|_| {}), [""; 0]);
        for bad in ["m.json", "{id}", "{id}.{x}", "{name}.json", "a/{id}"] {
            let found = keys(|s| {
                s.kind = Kind::Sidecar;
                s.metadata = Some(bad.to_owned());
                s.blobs = vec!["{id}".to_owned()];
            });
            assert_eq!(found, ["metadata"], "{bad}");
        }
        assert_eq!(sidecar(|s| s.blobs.clear()), ["blobs"]);
        assert_eq!(sidecar(|s| s.required = false), ["required"]);
        assert_eq!(sidecar(|s| s.marker = Some("m".to_owned())), ["marker"]);
    }

    #[test]
    fn all_problems_come_at_once() {
        let found = keys(|s| {
            s.sessions = String::new();
            s.pattern = Some("(".to_owned());
            s.marker = Some("/".to_owned());
            s.lock = Some("/".to_owned());
            s.created_at = vec![name("g", TimeFormat::EpochS, 99)];
        });
        assert_eq!(
            found,
            ["sessions", "pattern", "marker", "lock", "created_at.from"]
        );
    }
}
