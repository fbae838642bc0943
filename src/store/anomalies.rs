//! Since when something has been wrong with a root: `anomalies.json` in its corner of the state
//! directory, so that a restart does not make everything new.
//!
//! Bound: [`MAX_TEXT`]. What has been there longest is kept; of the rest the next start says that
//! it saw it first.

use crate::model::anomaly::AnomalyKind;
use crate::model::path::{RelPath, escape, unescape};
use crate::model::time::{Time, rfc3339};
use crate::store::state::{RootState, StateError};
use serde_json::{Value, json};

const NAME: &str = "anomalies.json";
/// Bytes of the file.
pub const MAX_TEXT: usize = 1 << 20;

/// One anomaly: its kind, its place and when it was seen first.
pub type FirstSeen = (AnomalyKind, RelPath, Time);

impl RootState {
    /// Writes down since when what is wrong has been so.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn keep_anomalies(&self, mut known: Vec<FirstSeen>) -> Result<(), StateError> {
        known.sort_by(|a, b| (a.2, a.0, &a.1).cmp(&(b.2, b.0, &b.1)));
        let mut text = String::from("[");
        for (kind, path, at) in &known {
            let row = json!([kind.name(), escape(path.as_bytes()), rfc3339(*at)]).to_string();
            // A shorter one may find room yet.
            if text.len() + row.len() + 2 > MAX_TEXT {
                continue;
            }
            if text.len() > 1 {
                text.push(',');
            }
            text.push_str(&row);
        }
        text.push(']');
        self.write(NAME, text.as_bytes())
    }

    /// What was written down. What cannot be read says nothing.
    pub fn anomalies(&self) -> Vec<FirstSeen> {
        let path = self.dir().join(NAME);
        let is_small = std::fs::metadata(&path).is_ok_and(|stat| stat.len() <= MAX_TEXT as u64);
        let text = is_small.then(|| std::fs::read(&path)).and_then(Result::ok);
        let rows: Option<Vec<Value>> = text.and_then(|text| serde_json::from_slice(&text).ok());
        rows.iter().flatten().filter_map(row).collect()
    }
}

fn row(row: &Value) -> Option<FirstSeen> {
    let text = |at: usize| row.get(at).and_then(Value::as_str);
    let path = RelPath::new(&unescape(text(1)?)).ok()?;
    let at = chrono::DateTime::parse_from_rfc3339(text(2)?).ok()?;
    Some((AnomalyKind::named(text(0)?)?, path, at.to_utc()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::state::StateDir;
    use std::path::Path;

    fn corner(dir: &Path) -> RootState {
        let state = StateDir::open(dir).expect("a state directory");
        state.root(Path::new("/srv/r")).expect("a corner")
    }

    fn seen(path: &[u8], seconds: i64) -> FirstSeen {
        let at = Time::from_timestamp(seconds, 0).expect("a time");
        (
            AnomalyKind::Unowned,
            RelPath::new(path).expect("a path"),
            at,
        )
    }

    #[test]
    fn what_was_kept_comes_back_and_nonsense_does_not() {
        let hold = tempfile::tempdir().expect("a directory");
        let corner = corner(hold.path());
        assert_eq!(corner.anomalies(), []);
        let known = vec![seen(b"a/\xFF\n", 5), seen(b"b", 3)];
        corner.keep_anomalies(known).expect("space");
        assert_eq!(corner.anomalies(), [seen(b"b", 3), seen(b"a/\xFF\n", 5)]);
        let file = corner.dir().join(NAME);
        let text = r#"[["unowned","../x","2026-01-01T00:00:00Z"],["no","a","2026-01-01T00:00:00Z"],
                       ["unowned","a","soon"],7,["symlink","c","2026-01-01T00:00:00Z"]]"#;
        std::fs::write(&file, text).expect("space");
        assert_eq!(corner.anomalies().len(), 1);
        std::fs::write(&file, "[").expect("space");
        assert_eq!(corner.anomalies(), []);
    }

    #[test]
    fn a_row_that_finds_no_room_takes_none_from_the_others() {
        let hold = tempfile::tempdir().expect("a directory");
        let corner = corner(hold.path());
        let long = vec![b'x'; 15_000];
        let mut known: Vec<_> = (0..80).map(|n| seen(&long, n)).collect();
        known.push(seen(b"short", 99));
        corner.keep_anomalies(known).expect("space");
        let kept = corner.anomalies();
        assert!(kept.len() < 80, "not all find room");
        assert_eq!(kept.last(), Some(&seen(b"short", 99)));
    }

    #[test]
    fn the_file_stays_small_and_has_the_oldest() {
        let hold = tempfile::tempdir().expect("a directory");
        let corner = corner(hold.path());
        let many = (0..60_000).rev();
        let many = many.map(|n| seen(format!("a-long-name-of-no-use-{n}").as_bytes(), n));
        corner.keep_anomalies(many.collect()).expect("space");
        let size = std::fs::metadata(corner.dir().join(NAME))
            .expect("a file")
            .len();
        assert!(
            size <= MAX_TEXT as u64 && size > MAX_TEXT as u64 / 2,
            "{size}"
        );
        let kept = corner.anomalies();
        assert!(kept.len() > 5_000 && kept[0].2.timestamp() == 0);
    }
}
