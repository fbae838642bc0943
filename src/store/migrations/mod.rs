//! How the tables came to be: an append-only list. A migration that was released is never edited;
//! its checksum is in the database, and a differing one refuses to open.

use sqlx::SqlStr;
use sqlx::migrate::{Migration, MigrationType, Migrator};

const ALL: &[(i64, &str, &str)] = &[
    (1, "base", include_str!("0001_base.sql")),
    (2, "spared_by", include_str!("0002_spared_by.sql")),
];

/// All of them, for a database of any age.
pub(super) fn migrator() -> Migrator {
    let migration = |(number, name, sql): &(i64, &'static str, &'static str)| {
        Migration::new(
            *number,
            (*name).into(),
            MigrationType::Simple,
            SqlStr::from_static(sql),
            false,
        )
    };
    Migrator::with_migrations(ALL.iter().map(migration).collect())
}
