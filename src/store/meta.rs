//! Small things by name, each the business of one module: `<module>.<what>`.

use crate::store::database::Connection;
use crate::store::{Pending, Store};

impl Store {
    /// What is kept under a name.
    pub fn meta(&self, key: &'static str) -> Pending<Option<String>> {
        self.ask("read what it keeps", async move |c: &mut Connection| {
            sqlx::query_scalar("SELECT value FROM meta WHERE key = $1")
                .bind(key)
                .fetch_optional(c)
                .await
        })
    }

    /// Keeps a text under a name, instead of what was there.
    pub fn put_meta(&self, key: &'static str, value: String) -> Pending<()> {
        self.ask("write what it keeps", async move |c: &mut Connection| {
            sqlx::query(
                "INSERT INTO meta (key, value) VALUES ($1, $2) \
                 ON CONFLICT (key) DO UPDATE SET value = excluded.value",
            )
            .bind(key)
            .bind(value)
            .execute(c)
            .await?;
            Ok(())
        })
    }
}
