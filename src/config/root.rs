//! `[[root]]`: one root from its table, its preset and the flags.
//!
//! Whatever is wrong with it, a root has no limits then: not even a mistake further on could
//! prune by them.

use crate::config::place::{self, Place};
use crate::config::preset::Presets;
use crate::config::reader::{Found, Layer, Origin, Reader};
use crate::config::request::RootFlags;
use crate::config::settings::{Origin as RootOrigin, Problem, Root};
use crate::config::{file, layout, lifecycle, limits, protect, trash};
use crate::layout::Layout;
use crate::layout::spec::LayoutSpec;
use crate::model::path::escape;
use crate::policy::lifecycle::Lifecycle;
use crate::policy::limits::{Limits, Protect};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const MAX_NAME: usize = 64;

/// A root that is read but not yet compared with the others.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) root: Root,
    pub(super) place: Place,
    /// Where its path is written in the file.
    line: Option<usize>,
    /// Why it is not looked after at all.
    pub(super) refused: Vec<Problem>,
}

impl Draft {
    /// Reads an item of `[[root]]`. The error is all that is wrong with a root without a usable
    /// path: there is nothing to look after.
    pub(super) fn from_file<'t>(
        item: Found<'t>,
        presets: &'t Presets,
        flags: &RootFlags,
    ) -> Result<Self, Vec<Problem>> {
        let Some(mut table) = Reader::of_item("root", item) else {
            return Err(vec![Problem {
                key: "root".to_owned(),
                line: item.line,
                message: "must be tables; begin each root with [[root]]".to_owned(),
            }]);
        };
        let path = table.text("path").map(Path::new);
        let name = name(&mut table, path);
        table.about_root(&name);
        let why = match path {
            Some(path) => place::unusable(path).map(|why| format!("the path {why}")),
            None if table.has_problem("path") => None,
            None => Some("is missing; write the directory to look after".to_owned()),
        };
        if let Some(why) = &why {
            table.problem("path", format!("{why}; this root is not looked after"));
        }
        let line = table.line("path").or(item.line);
        let body = Body::read(&mut table, presets, flags);
        let mut problems = table.finish();
        for problem in &mut problems {
            problem.line = problem.line.or(item.line);
        }
        match path.filter(|_| why.is_none()) {
            Some(path) => Ok(body.into_draft(name, path, RootOrigin::File, line, problems)),
            None => Err(problems),
        }
    }

    /// A directory given with `--root`, made absolute before.
    pub(super) fn from_flag(path: &Path, presets: &Presets, flags: &RootFlags) -> Self {
        let mut table = Reader::absent("root");
        let name = default_name(path);
        table.about_root(&name);
        let body = Body::read(&mut table, presets, flags);
        let mut draft = body.into_draft(name, path, RootOrigin::Flag, None, table.finish());
        if let Some(why) = place::unusable(path) {
            draft.refuse(why);
        }
        draft
    }

    /// Takes the root out, with the reason, in words that follow "the path".
    pub(super) fn refuse(&mut self, why: &str) {
        let problem = self.path_problem(&format!("{why}; this root is not looked after"));
        self.refused.push(problem);
    }

    /// Leaves the root watched, but not pruned.
    pub(super) fn hold(&mut self, why: &str) {
        let problem = self.path_problem(&format!("{why}; this root is not pruned"));
        self.root.problems.push(problem);
        self.root.limits = Limits::default();
        self.root.lifecycle = Lifecycle::default();
    }

    fn path_problem(&self, why: &str) -> Problem {
        let key = match self.root.origin {
            RootOrigin::File => "root.path",
            RootOrigin::Flag => "--root",
        };
        let path = file::show(&self.root.path);
        Problem {
            key: key.to_owned(),
            line: self.line,
            message: format!("root `{}`: the path {path} {why}", self.root.name),
        }
    }
}

/// A root without its name, path and problems.
struct Body(Root);

impl Body {
    fn read<'t>(table: &mut Reader<'t>, presets: &'t Presets, flags: &RootFlags) -> Self {
        let written = table.filled_text("preset");
        let preset = flags.preset.clone().or(written);
        match preset.as_deref().map(|name| presets.get(name)) {
            Some(Ok(preset)) => table.lay_under(Layer {
                table: preset,
                origin: Origin::Preset,
            }),
            Some(Err(why)) => table.problem("preset", why),
            None => {}
        }
        let backend = table.word("backend").unwrap_or_default();
        let (spec, layout) = match table.table("layout") {
            Some(mut below) => {
                let read = layout::read(&mut below);
                table.absorb(below);
                read
            }
            None => (LayoutSpec::default(), None),
        };
        let mut below = table.table_or_absent("limits");
        let limits = limits::read(&mut below, flags);
        table.absorb(below);
        let mut below = table.table_or_absent("protect");
        let protect = protect::read(&mut below, &spec, flags);
        table.absorb(below);
        let lifecycle = lifecycle::read(table, &spec);
        let trash_keep = trash::read(table, &spec);
        let mut below = table.table_or_absent("guard");
        let first_start = below.word("first_start").unwrap_or_default();
        table.absorb(below);
        Self(Root {
            name: String::new(),
            path: PathBuf::new(),
            real: PathBuf::new(),
            origin: RootOrigin::File,
            preset,
            backend,
            layout: Arc::new(layout.unwrap_or_else(default_layout)),
            limits,
            protect,
            lifecycle,
            trash_keep,
            first_start: flags.first_start.unwrap_or(first_start),
            problems: Vec::new(),
        })
    }

    fn into_draft(
        self,
        name: String,
        path: &Path,
        origin: RootOrigin,
        line: Option<usize>,
        problems: Vec<Problem>,
    ) -> Draft {
        let (limits, lifecycle) = if problems.is_empty() {
            (self.0.limits, self.0.lifecycle)
        } else {
            (Limits::default(), Lifecycle::default())
        };
        let place = Place::survey(path);
        Draft {
            line,
            refused: Vec::new(),
            root: Root {
                name,
                path: place::tidy(path),
                real: place.real().to_owned(),
                origin,
                limits,
                lifecycle,
                problems,
                ..self.0
            },
            place,
        }
    }
}

/// What a preset says of sessions, and of what protects them. Nothing of it is a limit.
///
/// # Errors
/// There is no such preset; a sentence.
pub(super) fn of_preset(name: &str) -> Result<(Arc<Layout>, Protect), String> {
    let presets = Presets::named([name]);
    let layer = Layer {
        table: presets.get(name)?,
        origin: Origin::Preset,
    };
    let mut table = Reader::new("preset", vec![layer]);
    let Body(root) = Body::read(&mut table, &presets, &RootFlags::default());
    match table.finish().first() {
        Some(problem) => Err(format!("the preset `{name}` is broken: {problem}")),
        None => Ok((root.layout, root.protect)),
    }
}

fn default_layout() -> Layout {
    Layout::new(LayoutSpec::default()).expect("the default layout is sound, which a test checks")
}

/// The name as written, or the one that the path gives.
fn name(table: &mut Reader<'_>, path: Option<&Path>) -> String {
    let written = table.parsed("name", |name| {
        let letters = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
        if name.is_empty() || name.len() > MAX_NAME || !name.bytes().all(letters) {
            return Err(format!(
                "`{}` is no name: 1 to {MAX_NAME} letters, digits, `.`, `_` or `-`",
                escape(name.as_bytes())
            ));
        }
        if matches!(name, "." | "..") {
            return Err(format!("`{name}` is no name"));
        }
        Ok(name.to_owned())
    });
    written.unwrap_or_else(|| path.map_or_else(|| "?".to_owned(), default_name))
}

/// The last name of the path, each letter that a name can't have as `_`.
fn default_name(path: &Path) -> String {
    let last = path.file_name().unwrap_or_default().as_bytes();
    let name: String = String::from_utf8_lossy(last)
        .chars()
        .map(|c| match c {
            'a'..='z' | 'A'..='Z' | '0'..='9' | '.' | '_' | '-' => c,
            _ => '_',
        })
        .take(MAX_NAME)
        .collect();
    if name.is_empty() {
        return "root".to_owned();
    }
    name
}

#[cfg(test)]
mod tests {
    use super::{default_layout, default_name};
    use std::path::Path;

    #[test]
    fn the_default_layout_is_sound() {
        default_layout();
    }

    #[test]
    fn a_path_gives_a_name() {
        for (path, name) in [
            ("/srv/recordings", "recordings"),
            ("/srv/recordings/", "recordings"),
            ("/srv/my tapes", "my_tapes"),
            ("/srv/Bänder", "B_nder"),
            ("/", "root"),
        ] {
            assert_eq!(default_name(Path::new(path)), name);
        }
        assert_eq!(default_name(Path::new(&"x".repeat(300))).len(), 64);
    }
}
