//! Questions about registered clean-ups and their answers: the same for a running agent, which asks
//! one at a time, and for a command without one.

use crate::agent::audit::Clerk;
use crate::agent::cleaning::{self, Done, Means, Task};
use crate::agent::halt::Halt;
use crate::agent::service::chain;
use crate::config::cleanup::layout::{preset_of, root_of, what_of};
use crate::config::cleanup::{Beside, Judged, Wanted, change, register};
use crate::disk::tree::Tree;
use crate::model::cleanup::Cleanup;
use crate::model::time::{Time, rfc3339};
use crate::store::Pending;
use crate::store::audit::{Actor, Entry};
use crate::store::error::StoreError;
use crate::store::runs::Run;
use crate::watch::choice;
use chrono::TimeDelta;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use ulid::Ulid;

/// How long the store is waited for.
const PATIENCE: Duration = Duration::from_secs(30);
/// Runs that `show` lists.
const N_RUNS: u64 = 20;
/// Registrations that there may be: each is looked at every turn of the schedule.
const MAX_CLEANUPS: usize = 10_000;

/// Tries to change one that others change at the same time; each that fails is a change of theirs
/// that is done.
const MAX_TRIES: u32 = 32;

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    Add(Wanted),
    List,
    Show { id: String },
    Update { id: String, wanted: Wanted },
    Remove { id: String },
    Run(RunAsk),
}

/// `None`: all of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunAsk {
    pub id: Option<String>,
    pub dry_run: bool,
}

/// Reads a question as the socket has it: `do` says what, `id` which one, `cleanup` what it is to
/// be, `by` who asks (`command` or `api`). `Err` says what is wrong.
pub fn parse(question: &Value) -> Result<(Ask, Actor), String> {
    let id = || match &question["id"] {
        Value::String(id) if !id.is_empty() => Ok(id.clone()),
        _ => Err("`id` must be that of a clean-up; `housekeeper cleanup list` has them".to_owned()),
    };
    let wanted = || {
        serde_json::from_value::<Wanted>(question["cleanup"].clone())
            .map_err(|error| format!("`cleanup` is none: {error}"))
    };
    let ask = match question["do"].as_str() {
        Some("add") => Ask::Add(wanted()?),
        Some("list") => Ask::List,
        Some("show") => Ask::Show { id: id()? },
        Some("update") => Ask::Update {
            id: id()?,
            wanted: wanted()?,
        },
        Some("remove") => Ask::Remove { id: id()? },
        Some("run") => Ask::Run(RunAsk {
            id: match &question["id"] {
                Value::Null => None,
                _ => Some(id()?),
            },
            dry_run: match &question["dry_run"] {
                Value::Null => false,
                Value::Bool(dry_run) => *dry_run,
                _ => return Err("`dry_run` must be true or false".to_owned()),
            },
        }),
        _ => return Err("`do` must be add, list, show, update, remove or run".to_owned()),
    };
    let by = match &question["by"] {
        Value::Null => Actor::Command,
        by if by == "command" => Actor::Command,
        by if by == "api" => Actor::Api,
        _ => return Err("`by` must be command or api".to_owned()),
    };
    Ok((ask, by))
}

/// A registration as every answer spells it. A running agent adds what it knows.
pub fn spell(cleanup: &Cleanup) -> Value {
    json!({
        "id": cleanup.id,
        "owner": cleanup.owner,
        "directory": cleanup.directory,
        "pattern": cleanup.pattern,
        // What this version cannot read has none, and says so where it is to run.
        "preset": preset_of(cleanup).unwrap_or_default(),
        "retention_days": cleanup.retention_days,
        "max_files": cleanup.max_files,
        "max_size_mb": cleanup.max_size_mb,
        "priority": cleanup.priority,
        "description": cleanup.description,
        "schedule": cleanup.schedule,
        "watch": cleanup.watch,
        "read_only": cleanup.read_only,
        "created_at": rfc3339(cleanup.created_at),
        "updated_at": rfc3339(cleanup.updated_at),
        "last_run": cleanup.last_run.map(rfc3339),
        "next_run": null,
        "watching": false,
        "unwatched_because": null,
    })
}

fn spell_run(run: &Run) -> Value {
    json!({
        "id": run.id,
        "cause": run.cause,
        "started_at": rfc3339(run.started_at),
        "ended_at": run.ended_at.map(rfc3339),
        "outcome": run.outcome,
        "dry_run": run.dry_run,
        "files_deleted": run.files_deleted,
        "space_freed": run.bytes_freed,
        "files_kept": run.files_kept,
        "message": run.message,
    })
}

/// Whoever answers.
#[derive(Debug)]
pub struct Desk<'a> {
    pub means: &'a Means,
    pub actor: Actor,
}

impl Desk<'_> {
    /// Does what is asked, runs apart. What is answered without an error is on the disk.
    ///
    /// # Errors
    /// It is refused, or the store cannot do it; a sentence. Nothing changed.
    pub fn answer(&self, ask: &Ask) -> Result<Value, String> {
        match ask {
            Ask::Add(wanted) => self.add(wanted),
            Ask::List => {
                let all = self.all()?;
                let rows: Vec<Value> = all.iter().map(spell).collect();
                Ok(json!({ "cleanups": rows }))
            }
            Ask::Show { id } => self.show(id),
            Ask::Update { id, wanted } => self.update(id, wanted),
            Ask::Remove { id } => self.remove(id),
            Ask::Run(asked) => self.run(asked),
        }
    }

    /// Runs, one after the other, without waiting for anybody's lock.
    fn run(&self, asked: &RunAsk) -> Result<Value, String> {
        let all: Arc<[Cleanup]> = self.all()?.into();
        let chosen = chosen(&all, asked.id.as_deref())?;
        let done: Vec<Done> = chosen
            .into_iter()
            .map(|cleanup| {
                let task = Task {
                    cleanup,
                    others: all.clone(),
                    dry_run: asked.dry_run,
                    actor: self.actor,
                    stop: Halt::default(),
                    timeout: Some(self.means.settings.registry.limits.timeout),
                    lock_patience: Duration::ZERO,
                };
                cleaning::run(&task, self.means)
            })
            .collect();
        Ok(cleaning::answer(&done, asked.dry_run, self.means))
    }

    /// All that are registered.
    ///
    /// # Errors
    /// The store cannot say.
    pub fn all(&self) -> Result<Vec<Cleanup>, String> {
        wait(self.means.store.cleanups())
    }

    fn one(&self, id: &str) -> Result<Cleanup, String> {
        wait(self.means.store.cleanup(id.to_owned()))?.ok_or_else(|| unknown(id))
    }

    fn beside<'b>(&'b self, others: &'b [Cleanup]) -> Beside<'b> {
        let settings = &self.means.settings;
        Beside {
            agent: &settings.agent,
            registry: &settings.registry,
            roots: &settings.roots,
            others,
        }
    }

    fn now(&self) -> Time {
        self.means.clock.now().wall
    }

    fn add(&self, wanted: &Wanted) -> Result<Value, String> {
        let others = self.all()?;
        let id = Ulid::generate().to_string();
        let Judged { cleanup, mut notes } =
            register(wanted, id.clone(), self.now(), self.beside(&others))?;
        check_watch(&cleanup)?;
        let key = |c: &Cleanup| (c.owner.clone(), c.directory.clone(), c.pattern.clone());
        let known = others.iter().find(|other| key(other) == key(&cleanup));
        if others.len() >= MAX_CLEANUPS && known.is_none() {
            return Err(format!(
                "there are {MAX_CLEANUPS} clean-ups already, and no more may be; remove some"
            ));
        }
        let store = &self.means.store;
        let put = written(match wanted.read_only {
            Some(_) => store.put_cleanup(cleanup),
            // Somebody may keep it from removing anything: no restart of its program ends that.
            None => store.renew_cleanup(cleanup),
        })?;
        let updated = put.id != id;
        if wanted.read_only.is_none() && put.read_only {
            notes.push("it stays read-only, as it was; `cleanup update` can end that".to_owned());
        }
        let event = if updated {
            "cleanup.updated"
        } else {
            "cleanup.added"
        };
        self.note(event, &put);
        let mut document = spell(&put);
        document["updated"] = updated.into();
        document["notes"] = notes.into();
        Ok(document)
    }

    fn show(&self, id: &str) -> Result<Value, String> {
        let mut document = spell(&self.one(id)?);
        let runs = wait(self.means.store.runs(Some(id.to_owned()), N_RUNS))?;
        document["runs"] = runs.iter().map(spell_run).collect::<Vec<_>>().into();
        Ok(document)
    }

    fn update(&self, id: &str, wanted: &Wanted) -> Result<Value, String> {
        for _ in 0..MAX_TRIES {
            let Some(Judged { cleanup, notes }) = self.try_to_update(id, wanted)? else {
                continue;
            };
            self.note("cleanup.updated", &cleanup);
            let mut document = spell(&cleanup);
            document["updated"] = true.into();
            document["notes"] = notes.into();
            return Ok(document);
        }
        Err(format!(
            "others change the clean-up `{id}` all the while; nothing was changed: try again"
        ))
    }

    /// `None`: somebody changed it between reading and writing.
    fn try_to_update(&self, id: &str, wanted: &Wanted) -> Result<Option<Judged>, String> {
        let others = self.all()?;
        let old = self.one(id)?;
        // Each change has another time, whatever the clock says: it is known by it.
        let after = old
            .updated_at
            .checked_add_signed(TimeDelta::microseconds(1));
        let now = after.map_or(self.now(), |after| after.max(self.now()));
        let judged = change(&old, wanted, now, self.beside(&others))?;
        check_watch(&judged.cleanup)?;
        let store = &self.means.store;
        let changed = store.update_cleanup(old.updated_at, judged.cleanup.clone());
        match changed.wait_for(PATIENCE) {
            Ok(changed) => Ok(changed.then_some(judged)),
            Err(error) if error.is_conflict() => Err(format!(
                "`{}` has another clean-up with this directory and pattern",
                judged.cleanup.owner
            )),
            Err(error) => Err(unwritten(&error)),
        }
    }

    fn remove(&self, id: &str) -> Result<Value, String> {
        let removed = written(self.means.store.remove_cleanup(id.to_owned()))?;
        let removed = removed.ok_or_else(|| unknown(id))?;
        self.note("cleanup.removed", &removed);
        let mut document = spell(&removed);
        document["removed"] = true.into();
        Ok(document)
    }

    /// A row of the audit about a registration.
    fn note(&self, event: &str, cleanup: &Cleanup) {
        let word = event.strip_prefix("cleanup.").unwrap_or(event);
        let because = format!(
            "the clean-up of {} in {} was {word} by `{}`",
            what_of(cleanup),
            cleanup.directory,
            cleanup.owner
        );
        let entry = Entry {
            root: Some(cleanup.root_name()),
            path: Some(cleanup.directory.clone()),
            ..Clerk::new(self.actor).note(self.now(), event, because)
        };
        self.means.store.audit(entry);
    }
}

/// The registrations that a run is of.
///
/// # Errors
/// There is none of this id.
pub fn chosen(all: &[Cleanup], id: Option<&str>) -> Result<Vec<Cleanup>, String> {
    let Some(id) = id else {
        return Ok(all.to_vec());
    };
    let found = all.iter().find(|cleanup| cleanup.id == id);
    Ok(vec![found.ok_or_else(|| unknown(id))?.clone()])
}

fn wait<T>(pending: Pending<T>) -> Result<T, String> {
    pending.wait_for(PATIENCE).map_err(|error| chain(&error))
}

/// Waits for a change. One that the store refused is made by nobody later.
fn written<T>(pending: Pending<T>) -> Result<T, String> {
    pending
        .wait_for(PATIENCE)
        .map_err(|error| unwritten(&error))
}

fn unwritten(error: &StoreError) -> String {
    match error {
        StoreError::Unavailable(_) | StoreError::Failed { .. } => format!(
            "{}; nothing was changed: repeat the command once that is mended",
            chain(error)
        ),
        StoreError::Off | StoreError::Busy | StoreError::Closed => chain(error),
    }
}

fn unknown(id: &str) -> String {
    format!("there is no clean-up `{id}`; `housekeeper cleanup list` has them")
}

/// Refuses a watch where nobody would tell of changes.
fn check_watch(cleanup: &Cleanup) -> Result<(), String> {
    if !cleanup.watch {
        return Ok(());
    }
    let root = root_of(cleanup)?;
    let tree = Tree::open(&root.real).map_err(|error| chain(&error))?;
    match choice::foreign(tree.root()) {
        None => Ok(()),
        Some(name) => Err(format!(
            "the directory {} is on {name}, where changes are told to nobody here: give it a \
             schedule instead of --watch",
            cleanup.directory
        )),
    }
}
