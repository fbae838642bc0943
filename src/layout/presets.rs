//! Layouts of known programs, by name. Their texts are configuration, parsed as such.
//!
//! A preset is one TOML file with a `[layout]` table, its subtables and, where its program has
//! such rules, `[protect]` and `[lifecycle]`; to add one, write the file and a line in [`PRESETS`].

/// Sorted by name.
const PRESETS: [(&str, &str); 8] = [
    ("directories", include_str!("presets/directories.toml")),
    ("files", include_str!("presets/files.toml")),
    ("gofr-dig", include_str!("presets/gofr-dig.toml")),
    ("gofr-doc", include_str!("presets/gofr-doc.toml")),
    ("habla", include_str!("presets/habla.toml")),
    ("modular-logs", include_str!("presets/modular-logs.toml")),
    (
        "portal-uploads",
        include_str!("presets/portal-uploads.toml"),
    ),
    ("tus", include_str!("presets/tus.toml")),
];

const NAMES: [&str; PRESETS.len()] = {
    let mut names = [""; PRESETS.len()];
    let mut at = 0;
    while at < names.len() {
        names[at] = PRESETS[at].0;
        at += 1;
    }
    names
};

/// The TOML of the preset of this name.
pub fn text(name: &str) -> Option<&'static str> {
    PRESETS
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, text)| *text)
}

/// What it is for: the sentence that its text begins with.
pub fn summary(name: &str) -> Option<String> {
    let lines = text(name)?
        .lines()
        .map_while(|line| line.strip_prefix("# "));
    let words = lines.collect::<Vec<_>>().join(" ");
    let end = words.find(". ").map_or(words.len(), |at| at + 1);
    Some(words[..end].to_owned())
}

/// What a user can choose from, sorted.
pub fn names() -> &'static [&'static str] {
    &NAMES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_preset_is_a_layout_and_nothing_unknown() {
        assert!(names().is_sorted());
        for name in names() {
            let text = text(name).expect("a listed preset");
            let table: toml::Table = text.parse().expect("TOML");
            assert!(table.contains_key("layout"), "{name}");
            let summary = summary(name).expect("a comment");
            assert!(summary.ends_with('.') && summary.len() > 20, "{summary}");
            for key in table.keys() {
                assert!(
                    matches!(key.as_str(), "layout" | "protect" | "lifecycle"),
                    "{name}: {key}"
                );
            }
        }
        assert_eq!(text("nothing"), None);
    }
}
