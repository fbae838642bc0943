//! Whether the places that the agent works on can be read, or written to: asked of the disks by threads of
//! their own, one a place, each for a bounded time. One that hangs is not asked again before it
//! has answered.

use crate::agent::readiness::{Finding, Level};
use crate::disk::probe::{is_readable, is_writable};
use rustix::io::Errno;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// So long a disk may take to answer.
const DEADLINE: Duration = Duration::from_secs(2);

type Answer = watch::Receiver<Option<Result<(), Errno>>>;

/// A place, and what is wanted of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Place {
    pub(super) dir: PathBuf,
    /// Else it is only read.
    pub(super) is_written: bool,
}

impl Place {
    fn ask(&self) -> Result<(), Errno> {
        match self.is_written {
            true => is_writable(&self.dir),
            false => is_readable(&self.dir),
        }
    }
}

/// Who is being asked.
#[derive(Debug, Default)]
pub(super) struct Storage {
    /// One a place at most, until it has answered.
    asked: Mutex<HashMap<Place, Answer>>,
}

impl Storage {
    /// Asks about places, all at once, and answers in their order.
    pub(super) async fn check(&self, places: &[Place]) -> Vec<Finding> {
        let ask = |place: &Place| (self.ask(place), place.is_written);
        let answers: Vec<_> = places.iter().map(ask).collect();
        let deadline = Instant::now() + DEADLINE;
        let mut findings = Vec::new();
        for (answer, is_written) in answers {
            findings.push(finding(answer, is_written, deadline).await);
        }
        findings
    }

    /// The answer to come: of who is being asked already, where somebody is.
    fn ask(&self, place: &Place) -> std::io::Result<Answer> {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.retain(|_, answer| answer.borrow().is_none() && answer.has_changed().is_ok());
        if let Some(answer) = asked.get(place) {
            return Ok(answer.clone());
        }
        let (tell, answer) = watch::channel(None);
        let asked_of = place.clone();
        std::thread::Builder::new()
            .name("storage".to_owned())
            .spawn(move || tell.send_replace(Some(asked_of.ask())))?;
        asked.insert(place.clone(), answer.clone());
        Ok(answer)
    }
}

async fn finding(answer: std::io::Result<Answer>, is_written: bool, deadline: Instant) -> Finding {
    let say = |level, message: &str| Finding::new("storage", level, message);
    let Ok(mut answer) = answer else {
        return say(Level::Down, "no thread could be had to ask the disk");
    };
    let answered = answer.wait_for(Option::is_some);
    match tokio::time::timeout_at(deadline, answered).await {
        Err(_) => say(Level::Down, "the disk does not answer"),
        // The thread is gone without a word.
        Ok(Err(_)) => say(Level::Down, "the disk was not asked"),
        Ok(Ok(answer)) => match *answer {
            Some(Ok(())) if is_written => say(Level::Ok, "can be written to"),
            Some(Ok(())) => say(Level::Ok, "can be read"),
            Some(Err(Errno::ROFS)) => say(Level::Down, "read-only"),
            Some(Err(Errno::NOENT)) => say(Level::Down, "not there"),
            Some(Err(Errno::ACCESS | Errno::PERM)) => say(Level::Down, "not permitted"),
            Some(Err(_)) | None => say(Level::Down, "the disk refuses"),
        },
    }
}
