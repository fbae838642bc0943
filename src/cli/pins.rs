//! `pin`, `unpin` and `pins`: through the agent where one runs, else in the state it will find.

use super::args::{Args, Command, Pin, RootArgs};
use super::ask::send;
use super::{DONE, FAILED, WRONG_CONFIG, complain, print_document, settings_for};
use crate::agent::pins::{self, carry_out};
use crate::clock::SystemClock;
use crate::config;
use crate::config::duration;
use crate::config::request::Request;
use crate::model::path::printable;
use crate::model::time::{Clock, Time, rfc3339};
use anyhow::{anyhow, bail};
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};

/// Asks the agent, or does it here.
pub(super) fn pins(args: &Args, request: Request) -> anyhow::Result<u8> {
    let now = SystemClock::start().now().wall;
    let (mut question, root, json) = match &args.command {
        Command::Pin(pin) => (question_of(pin, now)?, &pin.root, pin.ask.json),
        Command::Unpin(unpin) => (
            json!({ "command": "unpin", "session": unpin.session }),
            &unpin.root,
            unpin.ask.json,
        ),
        Command::Pins(pins) => (json!({ "command": "pins" }), &pins.root, pins.ask.json),
        _ => bail!("this command pins nothing"),
    };
    let agent = match config::load_agent(&request) {
        Ok(settings) => settings.agent,
        Err(problems) => {
            complain(&problems)?;
            return Ok(WRONG_CONFIG);
        }
    };
    question["root"] = named(root)?;
    let answer = match send(&agent.socket, &question)? {
        Some(answer) => answer,
        None => {
            let settings = match settings_for(args, &request)? {
                Ok(settings) => settings,
                Err(code) => return Ok(code),
            };
            let state_dir = &settings.agent.state_dir;
            if question["command"] == "pins" {
                let roots = settings.roots.iter();
                let roots = roots.map(|root| pins::list(state_dir, root, now));
                json!({ "roots": roots.collect::<Vec<_>>() })
            } else {
                let [root] = &settings.roots[..] else {
                    bail!("there are several roots, or none: name one with --root");
                };
                let change = pins::change(&question).map_err(|error| anyhow!(error))?;
                carry_out(state_dir, root, change, now)?
            }
        }
    };
    if let Some(error) = answer["error"].as_str() {
        bail!("{error}");
    }
    print_document(&answer, json, render)?;
    let is_missing = answer["unpinned"] == false;
    Ok(if is_missing { FAILED } else { DONE })
}

fn named(root: &RootArgs) -> anyhow::Result<Value> {
    Ok(match &root.roots[..] {
        [] => Value::Null,
        [root] => root.to_string_lossy().into(),
        _ => bail!("give one --root"),
    })
}

fn question_of(pin: &Pin, now: Time) -> anyhow::Result<Value> {
    let until = match &pin.until {
        None => None,
        Some(text) => Some(moment(text, now)?),
    };
    Ok(json!({
        "command": "pin",
        "session": pin.session,
        "reason": pin.reason,
        "owner": pin.owner,
        "until": until.map(rfc3339),
    }))
}

/// A time, or how long from now.
fn moment(text: &str, now: Time) -> anyhow::Result<Time> {
    let wait = duration::parse_above_zero(text).ok();
    let after = wait.and_then(|wait| now.checked_add_signed(TimeDelta::from_std(wait).ok()?));
    let at = DateTime::parse_from_rfc3339(text).map(|at| at.with_timezone(&Utc));
    let at = after.or(at.ok());
    match at {
        Some(at) if at > now => Ok(at),
        Some(_) => bail!("`{text}` is over already"),
        None => bail!("`{text}` is neither a time such as 2027-01-31T12:00:00Z nor one like 30d"),
    }
}

fn render(document: &Value) -> String {
    let text = |value: &Value| printable(value.as_str().unwrap_or("-"));
    let end = |pin: &Value| match pin["until"].as_str() {
        Some(until) => format!("until {}", printable(until)),
        None => "until it is unpinned".to_owned(),
    };
    if let Some(unpinned) = document["unpinned"].as_bool() {
        let session = text(&document["session"]);
        return if unpinned {
            format!("{session} is not pinned any more.\n")
        } else {
            format!("{session} was not pinned; `housekeeper pins` lists what is.\n")
        };
    }
    let Some(roots) = document["roots"].as_array() else {
        let missing = match document["exists"].as_bool() {
            Some(false) => {
                " Nothing is at that path now: the pin waits for a session of that name or id."
            }
            Some(true) | None => "",
        };
        let session = text(&document["session"]);
        return format!("{session} stays {}.{missing}\n", end(document));
    };
    let mut lines = String::new();
    for root in roots {
        let name = text(&root["name"]);
        if let Some(error) = root["error"].as_str() {
            let error = printable(error);
            lines += &format!("{name}: the pins cannot be read ({error}): nothing is removed.\n");
        }
        for pin in root["pins"].as_array().into_iter().flatten() {
            let ended = if pin["ended"] == true { ", ended" } else { "" };
            let (session, reason) = (text(&pin["session"]), text(&pin["reason"]));
            let owner = text(&pin["owner"]);
            lines += &format!(
                "{name}  {session}  {}{ended}  {owner}  {reason}\n",
                end(pin)
            );
        }
    }
    if lines.is_empty() {
        lines += "Nothing is pinned.\n";
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::moment;
    use chrono::{DateTime, TimeDelta};

    #[test]
    fn an_end_is_a_time_or_a_while_and_not_over() {
        let now = DateTime::from_timestamp(1_800_000_000, 0).expect("in range");
        let day = now + TimeDelta::days(1);
        assert_eq!(moment("1d", now).expect("a while"), day);
        assert_eq!(moment(&day.to_rfc3339(), now).expect("a time"), day);
        for wrong in ["", "0s", "soon", "2020-01-01T00:00:00Z", "-1d"] {
            assert!(moment(wrong, now).is_err(), "{wrong}");
        }
    }
}
