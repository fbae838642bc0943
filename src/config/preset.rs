//! Presets: the keys of a root under a name. What the root itself says comes first.

use crate::layout::presets;
use std::collections::BTreeMap;
use toml::de::DeTable;

/// The presets that a configuration names, parsed.
#[derive(Debug, Default)]
pub(super) struct Presets(BTreeMap<String, Result<DeTable<'static>, String>>);

impl Presets {
    /// Parses those of these names that there are.
    pub(super) fn named<'n>(names: impl IntoIterator<Item = &'n str>) -> Self {
        let parsed = names.into_iter().filter_map(|name| {
            let table = DeTable::parse(presets::text(name)?);
            let table = table
                .map(toml::Spanned::into_inner)
                .map_err(|why| why.message().to_owned());
            Some((name.to_owned(), table))
        });
        Self(parsed.collect())
    }

    /// The table of one of the names, or why there is none.
    pub(super) fn get(&self, name: &str) -> Result<&DeTable<'static>, String> {
        match self.0.get(name) {
            Some(Ok(table)) => Ok(table),
            Some(Err(why)) => Err(format!("the preset `{name}` is broken: {why}")),
            None => Err(format!("there is no preset `{name}`")),
        }
    }
}
