//! `[notify]`: who is told of failures, unmet targets, anomalies and degradation.
//!
//! Secrets come from files that only the agent reads; nothing here repeats one, nor an address,
//! which may have one in it. A receiver with anything wrong is left out and noted: the agent goes on.

use crate::config::file;
use crate::config::reader::{Found, Reader};
use crate::config::settings::Problem;
use crate::config::word;
use crate::model::notice::{Exec, Receivers, Secret, Topic, Webhook};
use reqwest::header::{HeaderName, HeaderValue};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// More receivers are a mistake.
const MAX_WEBHOOKS: usize = 16;
/// A longer token is some other file.
const MAX_TOKEN: usize = 4096;
const EXEC_TIMEOUT: Duration = Duration::from_secs(30);
/// Messages a minute that may be asked for: 1 to 600.
const RATES: std::ops::Range<u64> = 1..601;
/// Headers that say what the body is, or that it is the same as before.
const OUR_HEADERS: [&str; 4] = ["content-type", "content-length", "host", "idempotency-key"];

/// Reads `[notify]`.
pub(super) fn read(mut table: Reader<'_>) -> (Receivers, Vec<Problem>) {
    let mut receivers = Receivers {
        exec: exec(&mut table),
        ..Receivers::default()
    };
    if let Some(rate) = table.number("rate", RATES) {
        receivers.rate = u32::try_from(rate).unwrap_or(receivers.rate);
    }
    let items = match table.find("webhook") {
        Some(found) if found.value.as_table().is_some() => {
            table.problem(
                "webhook",
                "is a single table; begin each with [[notify.webhook]]",
            );
            Vec::new()
        }
        Some(_) | None => table.items("webhook").unwrap_or_default(),
    };
    for (at, item) in items.into_iter().enumerate() {
        if at >= MAX_WEBHOOKS {
            table.item_problem(
                "webhook",
                item,
                "is one of more than 16 webhooks, and left out",
            );
            break;
        }
        let taken = |name: &str| receivers.webhooks.iter().any(|hook| hook.name == name);
        if let Some(hook) = webhook(&mut table, item, at, taken) {
            receivers.webhooks.push(hook);
        }
    }
    (receivers, table.finish())
}

fn exec(table: &mut Reader<'_>) -> Option<Exec> {
    let words = table.texts("exec");
    let topics = topics(table, "exec_events");
    let timeout = table
        .duration_above_zero("exec_timeout")
        .unwrap_or(EXEC_TIMEOUT);
    let mut words = words?;
    if table.has_problem("exec") {
        return None;
    }
    if words.is_empty() || !Path::new(&words[0]).is_absolute() {
        let message = "must begin with the absolute path of a program: exec = [\"/usr/local/bin/tell\", \"arg\"]; there is no shell";
        table.problem("exec", message);
        return None;
    }
    if words.iter().any(|word| word.contains('\0')) {
        table.problem("exec", "has a word with a NUL byte");
        return None;
    }
    Some(Exec {
        program: PathBuf::from(words.remove(0)),
        arguments: words,
        topics,
        timeout,
    })
}

/// All, unless told.
fn topics(table: &mut Reader<'_>, key: &'static str) -> Vec<Topic> {
    let Some(names) = table.texts(key) else {
        return Topic::ALL.to_vec();
    };
    let mut topics = Vec::new();
    for name in names {
        match word::parse(&name) {
            Ok(topic) => topics.push(topic),
            Err(why) => table.problem(key, why),
        }
    }
    topics
}

fn webhook<'t>(
    table: &mut Reader<'t>,
    item: Found<'t>,
    at: usize,
    taken: impl Fn(&str) -> bool,
) -> Option<Webhook> {
    let Some(mut hook) = table.item_table("webhook", item) else {
        table.item_problem("webhook", item, "must be a table with a `url`");
        return None;
    };
    let name = hook.parsed("name", |name| name_of(name, &taken));
    let url = hook.parsed("url", url_of);
    if hook.find("url").is_none() {
        hook.problem(
            "",
            "has no `url`; write one like url = \"https://example.org/hook\"",
        );
    }
    let format = hook.word("format");
    let topics = topics(&mut hook, "events");
    let header = hook.parsed("header", header_of);
    let token = hook.parsed("token_file", token_of);
    if header.is_some() && hook.find("token_file").is_none() {
        hook.problem("header", "has no `token_file` that says what is in it");
    }
    let is_good = !hook.has_problem("");
    table.absorb(hook);
    if !is_good {
        return None;
    }
    Some(Webhook {
        name: name.unwrap_or_else(|| format!("webhook-{}", at + 1)),
        url: url?,
        format: format.unwrap_or_default(),
        topics,
        header: token.map(|token| match header {
            Some(header) => (header, token),
            None => (
                "authorization".to_owned(),
                Secret(format!("Bearer {}", token.0)),
            ),
        }),
    })
}

fn name_of(name: &str, taken: &impl Fn(&str) -> bool) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if name.is_empty() || name.len() > 64 || !name.chars().all(plain) {
        return Err("must be 1 to 64 letters, digits, `-`, `_` or `.`".to_owned());
    }
    if name == "exec" || taken(name) {
        return Err(format!("`{name}` is the name of another receiver"));
    }
    Ok(name.to_owned())
}

fn url_of(text: &str) -> Result<Secret, String> {
    let wrong = |why: &str| {
        Err(format!(
            "{why}; write one like \"https://example.org/hook\""
        ))
    };
    let Ok(url) = reqwest::Url::parse(text) else {
        return wrong("is no address");
    };
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return wrong("is no address of http or https");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return wrong("has a user or password in it, which belongs into a `token_file`");
    }
    Ok(Secret(text.to_owned()))
}

fn header_of(text: &str) -> Result<String, String> {
    let name = HeaderName::from_bytes(text.as_bytes())
        .map_err(|_| format!("`{text}` is no name of a header; write one like \"X-Api-Key\""))?;
    if OUR_HEADERS.contains(&name.as_str()) {
        return Err(format!(
            "`{text}` is set by the agent itself; name another header"
        ));
    }
    Ok(name.as_str().to_owned())
}

fn token_of(text: &str) -> Result<Secret, String> {
    let path = Path::new(text);
    if !path.is_absolute() {
        return Err(format!("`{text}` is not absolute; begin it with `/`"));
    }
    let bytes = file::read_bytes(path)
        .map_err(|why| format!("the token in {} cannot be read ({why})", file::show(path)))?;
    let token = String::from_utf8(bytes).unwrap_or_default();
    let token = token.trim();
    if token.is_empty() || token.len() > MAX_TOKEN || HeaderValue::from_str(token).is_err() {
        return Err(format!(
            "{} holds no token: one line of at most {MAX_TOKEN} visible letters",
            file::show(path)
        ));
    }
    Ok(Secret(token.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::read;
    use crate::config::reader::{Layer, Lines, Origin, Reader};
    use crate::config::settings::Problem;
    use crate::model::notice::{BodyFormat, Receivers, Topic};
    use toml::de::DeTable;

    fn parsed(text: &str) -> (Receivers, Vec<Problem>) {
        let lines = Lines::new(text);
        let (table, errors) = DeTable::parse_recoverable(text);
        assert!(errors.is_empty(), "{errors:?}");
        let layer = Layer {
            table: table.get_ref(),
            origin: Origin::File(&lines),
        };
        let mut all = Reader::new("", vec![layer]);
        read(all.table_or_absent("notify"))
    }

    #[test]
    fn receivers_are_read() {
        let scratch = tempfile::tempdir().expect("a scratch directory");
        let token = scratch.path().join("token");
        std::fs::write(&token, " s3cret\n").expect("written");
        let (receivers, problems) = parsed(&format!(
            "[notify]\nrate = 5\nexec = [\"/bin/tell\", \"a b\"]\nexec_events = [\"failure\"]\n\
             [[notify.webhook]]\nurl = \"https://example.org/x\"\ntoken_file = {token:?}\n\
             [[notify.webhook]]\nname = \"chat\"\nurl = \"http://127.0.0.1:1/y\"\nformat = \"slack\"\n\
             events = [\"target_unmet\", \"degraded\"]\nheader = \"X-Key\"\ntoken_file = {token:?}\n"
        ));
        assert_eq!(problems, []);
        assert_eq!(receivers.rate, 5);
        let exec = receivers.exec.as_ref().expect("a command");
        assert_eq!(
            (exec.arguments.as_slice(), exec.topics.as_slice()),
            (&["a b".to_owned()][..], &[Topic::Failure][..])
        );
        let [one, two] = receivers.webhooks.as_slice() else {
            panic!("{receivers:?}");
        };
        assert_eq!((one.name.as_str(), one.topics.len()), ("webhook-1", 4));
        let (header, secret) = one.header.as_ref().expect("a header");
        assert_eq!(
            (header.as_str(), secret.0.as_str()),
            ("authorization", "Bearer s3cret")
        );
        assert_eq!((two.name.as_str(), two.format), ("chat", BodyFormat::Slack));
        assert_eq!(two.topics, [Topic::TargetUnmet, Topic::Degraded]);
        assert_eq!(
            two.header
                .as_ref()
                .map(|(name, secret)| (name.as_str(), secret.0.as_str())),
            Some(("x-key", "s3cret"))
        );
        assert!(!format!("{receivers:?}").contains("s3cret"));
        assert!(!format!("{receivers:?}").contains("example.org"));
        assert_eq!(parsed("").0, Receivers::default());
    }

    #[test]
    fn what_is_wrong_is_named_without_secrets_and_the_rest_stays() {
        for (bad, key) in [
            ("url = \"s3cret\"", "notify.webhook.url"),
            ("url = \"ftp://s3cret/x\"", "notify.webhook.url"),
            (
                "url = \"https://joe:s3cret@example.org/\"",
                "notify.webhook.url",
            ),
            ("name = \"x\"", "notify.webhook"),
            (
                "url = \"http://h/s3cret\"\nformat = \"xml\"",
                "notify.webhook.format",
            ),
            (
                "url = \"http://h/s3cret\"\nevents = [\"failures\"]",
                "notify.webhook.events",
            ),
            (
                "url = \"http://h/s3cret\"\nname = \"exec\"",
                "notify.webhook.name",
            ),
            (
                "url = \"http://h/s3cret\"\nname = \"good\"",
                "notify.webhook.name",
            ),
            (
                "url = \"http://h/s3cret\"\nheader = \"Host\"\ntoken_file = \"/etc/hostname\"",
                "notify.webhook.header",
            ),
            (
                "url = \"http://h/s3cret\"\nheader = \"X-Key\"",
                "notify.webhook.header",
            ),
            (
                "url = \"http://h/s3cret\"\ntoken_file = \"/nonexistent/token\"",
                "notify.webhook.token_file",
            ),
            (
                "url = \"http://h/s3cret\"\ntoken_file = \"token\"",
                "notify.webhook.token_file",
            ),
            (
                "url = \"http://h/s3cret\"\ntoken = \"s3cret\"",
                "notify.webhook.token",
            ),
        ] {
            let text = format!(
                "[[notify.webhook]]\nname = \"good\"\nurl = \"http://g/\"\n[[notify.webhook]]\n{bad}\n"
            );
            let (receivers, problems) = parsed(&text);
            assert!(
                problems.iter().any(|problem| problem.key == key),
                "{bad}: {problems:?}"
            );
            assert!(!format!("{problems:?}").contains("s3cret"), "{problems:?}");
            let names: Vec<&str> = receivers
                .webhooks
                .iter()
                .map(|hook| hook.name.as_str())
                .collect();
            if key != "notify.webhook.token" {
                assert_eq!(names, ["good"], "{bad}");
            }
        }
        for bad in [
            "exec = []",
            "exec = [\"tell\"]",
            "exec = \"/bin/tell\"",
            "exec = [1]",
            "rate = 0",
            "webhook = 1",
            "exec_timeout = \"0s\"",
            "nonsense = 1",
        ] {
            let (receivers, problems) = parsed(&format!("[notify]\n{bad}\n"));
            assert_eq!(problems.len(), 1, "{bad}: {problems:?}");
            assert!(receivers.exec.is_none() && receivers.rate == 30);
        }
    }
}
