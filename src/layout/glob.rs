//! The `sessions` glob, matched name by name.
//!
//! A glob is a list of components, each for one name of the path; `**` stands for any number of
//! names. So one walk over the path answers both questions a scan has: is this a session, and
//! may one lie below it. Names are bytes. Nothing is allocated while matching.

use crate::model::path::is_name;
use globset::{GlobBuilder, GlobSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Longer globs are refused: nobody writes one by hand.
const MAX_BYTES: usize = 1024;

/// A state is one bit of a `u64`, and the end needs one too. More components are refused.
const MAX_COMPONENTS: usize = 63;

/// A checked glob.
#[derive(Debug)]
pub(super) struct Glob {
    components: Vec<Component>,
    /// The states before each `**` that is not at the end.
    inner_deep: u64,
}

#[derive(Debug)]
enum Component {
    /// `**`: any number of names, none of them hidden.
    Deep,
    /// `*`: one name that is not hidden. The common case, without a matcher.
    Any,
    /// No wildcards.
    Literal(Box<[u8]>),
    /// One `*` among letters, like `*.log`: the common case, without a matcher.
    Affixes {
        prefix: Box<[u8]>,
        suffix: Box<[u8]>,
    },
    Wild {
        matcher: GlobSet,
        /// Begins with a dot that is written, so that it may match one.
        writes_dot: bool,
        /// Nothing but `*` and `?`.
        is_bare: bool,
    },
}

/// Where a directory's path got to in a glob: the same for all names in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reached(u64);

/// How far a path gets through a glob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reach {
    /// The glob matches the path.
    pub(super) matches: bool,
    /// The glob could match something below the path.
    pub(super) continues: bool,
}

/// What is known of a path's last name besides the glob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LastName {
    /// Hidden names match only where the glob writes them.
    Plain,
    /// The pattern writes it, so wildcards of the glob match it though it is hidden.
    WrittenByPattern,
}

/// Whether wildcards pass a name over: it begins with a dot or is `lost+found`.
pub(super) fn is_hidden(name: &[u8]) -> bool {
    name.first() == Some(&b'.') || name == b"lost+found"
}

impl Glob {
    /// Checks a glob; the error says what to write instead.
    pub(super) fn new(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("is empty; write \"*\" for every directory of the root".to_owned());
        }
        if text.len() > MAX_BYTES {
            return Err(format!("is longer than {MAX_BYTES} bytes; shorten it"));
        }
        if text.starts_with('/') {
            return Err("begins with a slash; write it relative to the root's path".to_owned());
        }
        let mut components = Vec::new();
        for part in text.split('/') {
            let component = Component::new(part)?;
            // `**/**` is `**`.
            let doubled = matches!(component, Component::Deep)
                && matches!(components.last(), Some(Component::Deep));
            if !doubled {
                components.push(component);
            }
        }
        if components.len() > MAX_COMPONENTS {
            return Err(format!(
                "has more than {MAX_COMPONENTS} levels; use `**` for several"
            ));
        }
        let deep = components.iter().enumerate().rev().skip(1);
        let deep = deep.filter(|(_, component)| matches!(component, Component::Deep));
        let inner_deep = deep.fold(0, |states, (at, _)| states | 1 << at);
        Ok(Self {
            components,
            inner_deep,
        })
    }

    /// Whether the last level is made of wildcards alone, so that it matches any name.
    pub(super) fn ends_in_anything(&self) -> bool {
        match self.components.last() {
            Some(Component::Deep | Component::Any) => true,
            Some(Component::Wild { is_bare, .. }) => *is_bare,
            Some(Component::Literal(_) | Component::Affixes { .. }) | None => false,
        }
    }

    /// Walks the path of a directory (bytes below the root) through the glob.
    pub(super) fn after(&self, dir: &[u8]) -> Reached {
        let mut states = self.closed(1);
        if !dir.is_empty() {
            for name in dir.split(|b| *b == b'/') {
                states = self.step(states, name, is_hidden(name));
            }
        }
        Reached(states)
    }

    /// How far a name in a directory gets, which was [walked to](Glob::after).
    pub(super) fn reach(&self, dir: Reached, name: &[u8], last: LastName) -> Reach {
        let end = self.end();
        let states = self.step(dir.0, name, is_hidden(name));
        let matching = match last {
            LastName::Plain => states,
            // It may be a session then, but wildcards still do not lead through it.
            LastName::WrittenByPattern => self.step(dir.0, name, false),
        };
        Reach {
            matches: matching & end != 0,
            continues: states & (end - 1) != 0,
        }
    }

    /// The states after one more name. State `i`: the components before `i` are used up.
    fn step(&self, states: u64, name: &[u8], hidden: bool) -> u64 {
        let mut next = 0;
        let mut left = states;
        while left != 0 {
            let state = left & left.wrapping_neg();
            left ^= state;
            // The last state is the end, behind all components.
            let component = self.components.get(state.trailing_zeros() as usize);
            let Some(component) = component.filter(|component| component.matches(name, hidden))
            else {
                continue;
            };
            next |= match component {
                // At the end `**` stands for one name or more.
                Component::Deep if state << 1 == self.end() => state | state << 1,
                Component::Deep => state,
                Component::Any
                | Component::Literal(_)
                | Component::Affixes { .. }
                | Component::Wild { .. } => state << 1,
            };
        }
        if next == 0 || !is_name(name) {
            return 0;
        }
        self.closed(next)
    }

    fn end(&self) -> u64 {
        1 << self.components.len()
    }

    /// Adds the states reached by letting a `**` that is not at the end stand for nothing; two of
    /// them never follow each other.
    fn closed(&self, states: u64) -> u64 {
        states | (states & self.inner_deep) << 1
    }
}

impl Component {
    fn new(text: &str) -> Result<Self, String> {
        match text {
            "" => return Err("has an empty level; remove the doubled or last slash".to_owned()),
            "." | ".." => {
                return Err(format!(
                    "contains `{text}`; a glob cannot leave the root, write the names below it"
                ));
            }
            "**" => return Ok(Self::Deep),
            "*" => return Ok(Self::Any),
            ".housekeeper" => {
                return Err("names `.housekeeper`, which is the agent's own".to_owned());
            }
            _ => {}
        }
        if text.contains('\0') {
            return Err("contains a NUL byte, which no name has".to_owned());
        }
        if text.contains("**") {
            return Err("has `**` beside other letters; it must be a level of its own".to_owned());
        }
        if !text.contains(['*', '?', '[', ']', '{', '}', '\\']) {
            return Ok(Self::Literal(text.as_bytes().into()));
        }
        if let Some((prefix, suffix)) = text.split_once('*')
            && !text.contains(['?', '[', ']', '{', '}', '\\'])
            && !suffix.contains('*')
        {
            let [prefix, suffix] = [prefix, suffix].map(|letters| letters.as_bytes().into());
            return Ok(Self::Affixes { prefix, suffix });
        }
        let explain = |error: globset::Error| {
            format!(
                "is no glob at `{text}`: {}; brackets and braces cannot span a slash",
                error.kind()
            )
        };
        let glob = GlobBuilder::new(text)
            .literal_separator(true)
            .backslash_escape(true)
            .build()
            .map_err(explain)?;
        let matcher = GlobSet::builder().add(glob).build().map_err(explain)?;
        Ok(Self::Wild {
            matcher,
            writes_dot: text.starts_with('.') || text.starts_with("\\."),
            is_bare: text.bytes().all(|b| matches!(b, b'*' | b'?')),
        })
    }

    fn matches(&self, name: &[u8], hidden: bool) -> bool {
        match self {
            Self::Deep | Self::Any => !hidden,
            Self::Literal(text) => **text == *name,
            Self::Affixes { prefix, suffix } => {
                (!hidden || (prefix.first() == Some(&b'.') && name.first() == Some(&b'.')))
                    && name.len() >= prefix.len() + suffix.len()
                    && name.starts_with(prefix)
                    && name.ends_with(suffix)
            }
            Self::Wild {
                matcher,
                writes_dot,
                ..
            } => {
                let open = !hidden || (*writes_dot && name.first() == Some(&b'.'));
                open && matcher.is_match(Path::new(OsStr::from_bytes(name)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn reach(glob: &str, path: &[u8]) -> (bool, bool) {
        let glob = Glob::new(glob).expect("a good glob");
        let name = crate::layout::last_name(path);
        let dir = glob.after(crate::layout::path_above(path));
        let reach = glob.reach(dir, name, LastName::Plain);
        (reach.matches, reach.continues)
    }

    #[test]
    fn paths_get_as_far_as_the_glob_goes() {
        for (glob, path, matches, continues) in [
            ("*", "a", true, false),
            ("*", "a/b", false, false),
            ("*", ".a", false, false),
            ("*", "lost+found", false, false),
            (".*", ".a", true, false),
            (".*", "lost+found", false, false),
            ("\\.a*", ".ab", true, false),
            ("[.]a", ".a", false, false),
            ("?a", ".a", false, false),
            ("lost+found", "lost+found", true, false),
            ("l*", "lost+found", false, false),
            ("*/*", "a", false, true),
            ("*/*", "a/b", true, false),
            ("*/*", ".a/b", false, false),
            ("*/*", "a/.b", false, false),
            (".x/*", ".x", false, true),
            ("a/*/c", "b", false, false),
            ("a/*/c", "a", false, true),
            ("a/*/c", "a/b", false, true),
            ("a/*/c", "a/b/c", true, false),
            ("**", "a", true, true),
            ("**", "a/b", true, true),
            ("**", ".a", false, false),
            ("**/s", "s", true, true),
            ("**/s", "a", false, true),
            ("**/s", "a/b/s", true, true),
            ("**/s", "a/.b/s", false, false),
            ("a/**", "a", false, true),
            ("a/**", "a/b/c", true, true),
            ("a/**/**/z", "a/z", true, true),
            ("a/**/z", "a/b/c/z", true, true),
            ("a/**/z", "b/z", false, false),
            ("{x,y}-[0-9]", "y-3", true, false),
            ("a*a", "a", false, false),
            ("a*a", "aa", true, false),
            ("*.log", "a.log", true, false),
            ("*.log", "log", false, false),
            ("*.log", ".log", false, false),
            (".*rc", ".xrc", true, false),
            (".*rc", "xrc", false, false),
            ("*b*", "abc", true, false),
            ("*", "", false, false),
            (".*", "..", false, false),
        ] {
            assert_eq!(
                reach(glob, path.as_bytes()),
                (matches, continues),
                "{glob} on {path}"
            );
        }
    }

    proptest! {
        /// One star among letters is matched here as the library would.
        #[test]
        fn one_star_means_what_it_means_to_the_library(
            prefix in "[ab.]{0,3}",
            suffix in "[ab.]{0,3}",
            name in "[ab.]{1,7}",
        ) {
            let text = format!("{prefix}*{suffix}");
            prop_assume!(name != "." && name != "..");
            let glob = GlobBuilder::new(&text).literal_separator(true).build();
            let matcher = glob.expect("a good glob").compile_matcher();
            let is_open = !name.starts_with('.') || prefix.starts_with('.');
            let expected = is_open && matcher.is_match(&name);
            prop_assert_eq!(reach(&text, name.as_bytes()).0, expected);
        }
    }

    #[test]
    fn names_need_not_be_text() {
        assert_eq!(reach("*", b"a\xFF"), (true, false));
        assert_eq!(reach("a*", b"a\xFF\xFE"), (true, false));
        assert_eq!(reach("b*", b"a\xFF"), (false, false));
    }

    #[test]
    fn bad_globs_are_refused() {
        let deep = "a/".repeat(64) + "a";
        for bad in [
            "",
            "/a",
            "a/",
            "a//b",
            "../a",
            "a/..",
            "./a",
            "{a/b,c}",
            "[a",
            "a**",
            "a\0",
            ".housekeeper/trash",
            &deep,
            &"a".repeat(2000),
        ] {
            assert!(Glob::new(bad).is_err(), "{bad}");
        }
    }
}
