//! The directory of reports: each is written whole or not at all, and old ones go.
//!
//! What cannot be written here is a warning and never the failure of the run that it tells of.

use crate::model::time::Time;
use crate::report::{Keep, Report, expired, unfinished};
use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use ulid::Ulid;

/// Names of the directory that are looked at after a report. Where there are more, the rest is
/// looked at after one of the next: what went makes room.
const MAX_NAMES: usize = 65_536;
/// For its owner and group: reports are read by other programs.
const MODE: u32 = 0o640;

/// Why a report was not written.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot {operation} {path}: check [registry] report_directory, its owner, and the space there"
)]
pub struct ReportError {
    operation: &'static str,
    path: String,
    #[source]
    source: io::Error,
}

fn error(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ReportError {
    let path = path.display().to_string();
    move |source| ReportError {
        operation,
        path,
        source,
    }
}

/// Where reports are kept.
#[derive(Debug, Clone)]
pub struct ReportDir {
    path: PathBuf,
    keep: Keep,
}

/// A report that is on the disk.
#[derive(Debug)]
pub struct Written {
    pub path: PathBuf,
    pub n_removed: usize,
    /// Old ones that stay because they cannot be removed, or the first reason why none was looked
    /// for. They are tried again after the next report.
    pub left: Option<ReportError>,
}

impl ReportDir {
    pub fn new(path: &Path, keep: Keep) -> Self {
        Self {
            path: path.to_owned(),
            keep,
        }
    }

    /// Writes a report, mode 0640, and removes old ones. The directory is made (mode 0750) where
    /// it is absent.
    ///
    /// # Errors
    /// The directory cannot be made, or the report not be written: then there is none of its name.
    pub fn write(&self, report: &Report, run: Ulid) -> Result<Written, ReportError> {
        let made = DirBuilder::new()
            .recursive(true)
            .mode(0o750)
            .create(&self.path);
        made.map_err(error("make the directory", &self.path))?;
        let name = report.name(run);
        let path = self.path.join(&name);
        let temporary = self.path.join(unfinished(&name));
        let text = format!("{:#}\n", report.document());
        let written = write_synced(&temporary, text.as_bytes())
            .and_then(|()| std::fs::rename(&temporary, &path))
            .and_then(|()| File::open(&self.path)?.sync_all());
        if let Err(source) = written {
            // What stays of it is found by a later clean-up of this directory.
            if let Err(error) = std::fs::remove_file(&temporary) {
                tracing::debug!(error = %error, "an unfinished report stays");
            }
            return Err(error("write the report", &path)(source));
        }
        let mut kept = Written {
            path,
            n_removed: 0,
            left: None,
        };
        self.remove_old(&name, report.at, &mut kept);
        Ok(kept)
    }

    fn remove_old(&self, newest: &str, now: Time, kept: &mut Written) {
        let names = match self.names() {
            Ok(names) => names,
            Err(source) => {
                kept.left = Some(error("list the reports in", &self.path)(source));
                return;
            }
        };
        for name in expired(&names, newest, now, self.keep) {
            let path = self.path.join(name);
            match remove_regular(&path) {
                Ok(true) => kept.n_removed += 1,
                Ok(false) => {}
                Err(source) => {
                    let left = error("remove the old report", &path)(source);
                    kept.left.get_or_insert(left);
                }
            }
        }
    }

    fn names(&self) -> io::Result<Vec<String>> {
        let entries = std::fs::read_dir(&self.path)?.take(MAX_NAMES);
        // A name that is no UTF-8 is not ours.
        let names = entries.filter_map(|entry| match entry {
            Ok(entry) => entry.file_name().into_string().ok().map(Ok),
            Err(error) => Some(Err(error)),
        });
        names.collect()
    }
}

fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .create_new(true)
        .write(true)
        .mode(MODE)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path)?;
    // The umask took some of it away.
    file.set_permissions(Permissions::from_mode(MODE))?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// `false`: it is no regular file, and so no report of ours; or it is gone already.
fn remove_regular(path: &Path) -> io::Result<bool> {
    match std::fs::symlink_metadata(path) {
        Ok(found) if !found.is_file() => return Ok(false),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    }
    match std::fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::bytes::Bytes;
    use crate::report::Detail;
    use std::os::unix::fs::symlink;
    use std::time::Duration;

    fn report(at: &str) -> Report {
        Report {
            at: at.parse().expect("a time"),
            dry_run: false,
            details: vec![Detail {
                id: "a".to_owned(),
                directory: "/srv/logs".to_owned(),
                pattern: "*.log".to_owned(),
                preset: None,
                success: true,
                dry_run: false,
                files_deleted: 1,
                space_freed: Bytes(5),
                files_kept: 0,
                message: "Deleted 1 files, freeing 5 bytes".to_owned(),
            }],
        }
    }

    fn names(dir: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(dir).expect("a directory");
        let names = entries.map(|e| {
            e.expect("an entry")
                .file_name()
                .into_string()
                .expect("text")
        });
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    }

    /// REAL BUG b of the programs served: a configured directory got no report.
    #[test]
    fn a_configured_directory_is_made_and_gets_its_reports() {
        let scratch = tempfile::tempdir().expect("a scratch directory");
        let dir = scratch.path().join("configured/reports");
        let reports = ReportDir::new(&dir, Keep::default());
        let one = reports
            .write(&report("2026-02-10T12:00:00Z"), Ulid(1))
            .expect("written");
        let two = reports
            .write(&report("2026-02-10T12:00:00Z"), Ulid(2))
            .expect("written");
        assert_eq!(names(&dir).len(), 2);
        for written in [one, two] {
            let meta = std::fs::metadata(&written.path).expect("it is there");
            assert_eq!(meta.permissions().mode() & 0o7777, 0o640);
            let text = std::fs::read_to_string(&written.path).expect("it is text");
            let document: serde_json::Value = serde_json::from_str(&text).expect("it is JSON");
            assert_eq!(document["total_space_freed"], 5);
        }
    }

    #[test]
    fn old_reports_go_and_nothing_else_does() {
        let scratch = tempfile::tempdir().expect("a scratch directory");
        let keep = Keep {
            count: 2,
            age: Duration::from_secs(24 * 3600),
        };
        let reports = ReportDir::new(scratch.path(), keep);
        let of = |day: u32| report(&format!("2026-02-{day:02}T12:00:00Z"));
        // A symlink and a directory with names of ours, and files with other names.
        symlink("/etc/passwd", scratch.path().join(of(1).name(Ulid(1)))).expect("a symlink");
        std::fs::create_dir(scratch.path().join(of(1).name(Ulid(2)))).expect("a directory");
        for stranger in [
            "cleanup_report_old.json",
            "notes.txt",
            "cleanup_report_20200101_000000.json",
        ] {
            std::fs::write(scratch.path().join(stranger), "mine").expect("a file");
        }
        let before = names(scratch.path());
        for n in 0..5 {
            let written = reports.write(&of(10), Ulid(n)).expect("written");
            assert!(written.left.is_none(), "{:?}", written.left);
        }
        let ours: Vec<String> = [3, 4].map(|n| of(10).name(Ulid(n))).to_vec();
        let mut expected = before.clone();
        expected.extend(ours);
        expected.sort();
        assert_eq!(names(scratch.path()), expected);
        let late = reports.write(&of(20), Ulid(9)).expect("written");
        assert_eq!(late.n_removed, 2);
        let mut expected = before;
        expected.push(of(20).name(Ulid(9)));
        expected.sort();
        assert_eq!(names(scratch.path()), expected);
    }

    #[test]
    fn what_cannot_be_written_is_said_and_leaves_nothing() {
        let scratch = tempfile::tempdir().expect("a scratch directory");
        let file = scratch.path().join("file");
        std::fs::write(&file, "mine").expect("a file");
        let refused =
            ReportDir::new(&file, Keep::default()).write(&report("2026-02-10T12:00:00Z"), Ulid(1));
        let why = refused.expect_err("no directory").to_string();
        assert!(
            why.contains("report_directory") && why.contains("file"),
            "{why}"
        );
        // Something has the name already, and nothing of it is harmed.
        let taken = report("2026-02-10T12:00:00Z").name(Ulid(1));
        let dir = scratch.path().join("dir");
        std::fs::create_dir_all(dir.join(&taken)).expect("a directory");
        let refused =
            ReportDir::new(&dir, Keep::default()).write(&report("2026-02-10T12:00:00Z"), Ulid(1));
        assert!(refused.is_err());
        assert_eq!(names(&dir), [taken]);
    }
}
