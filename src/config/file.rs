//! Reads the configuration file, whole or not at all.

use crate::config::settings::Problem;
use crate::model::path::escape;
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// No configuration is longer; a longer file is some other file, and is refused.
const MAX_BYTES: u64 = 1 << 20;

/// The text of the file, or a sentence with its path and the next step.
pub(super) fn read(path: &Path) -> Result<String, Problem> {
    let problem = |message: String| Problem {
        key: show(path),
        line: None,
        message,
    };
    let bytes = read_bytes(path).map_err(|why| problem(explain(&why)))?;
    String::from_utf8(bytes).map_err(|why| {
        let at = why.utf8_error().valid_up_to();
        let line = why.as_bytes()[..at].iter().filter(|b| **b == b'\n').count() + 1;
        Problem {
            line: Some(line),
            ..problem("the file is not UTF-8 text; save it as UTF-8".to_owned())
        }
    })
}

/// The bytes of a file of at most [`MAX_BYTES`].
pub(super) fn read_bytes(path: &Path) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    if file.metadata()?.is_dir() {
        return Err(ErrorKind::IsADirectory.into());
    }
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(ErrorKind::FileTooLarge.into());
    }
    Ok(bytes)
}

/// A path for people.
pub(super) fn show(path: &Path) -> String {
    escape(path.as_os_str().as_bytes())
}

fn explain(why: &io::Error) -> String {
    match why.kind() {
        ErrorKind::NotFound => {
            "there is no such file; create it or give another one with --config".to_owned()
        }
        ErrorKind::PermissionDenied => {
            "the file may not be read by this user; change its mode or its owner".to_owned()
        }
        ErrorKind::IsADirectory => {
            "this is a directory; give the file in it with --config".to_owned()
        }
        ErrorKind::FileTooLarge => {
            "the file is longer than 1 MiB; give a configuration file".to_owned()
        }
        _ => format!("the file could not be read ({why}); give another one with --config"),
    }
}
