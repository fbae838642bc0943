//! The state directory: one agent's, with a corner for each root.
//!
//! ```text
//! state_dir/agent.lock             held by the running agent
//! state_dir/roots/<hash>/root.json the root passed its first start
//! state_dir/roots/<hash>/pins.json sessions that stay, see `pin_file`
//! state_dir/roots/<hash>/intents/  decisions to finish, where the root had no space for them
//! state_dir/roots/<hash>/anomalies.json  since when what is wrong has been so
//! state_dir/roots/<hash>/lock      the root's lock, where every session is a file
//! ```

use crate::model::seen::Identity;
use fs2::FileExt;
use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags, fchmod};
use rustix::net::{self, AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// Callers that may wait for the socket.
const BACKLOG: i32 = 128;

/// Why state could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    #[error(
        "cannot make the state directory {path}: give another one with --state-dir or [agent] state_dir"
    )]
    Make {
        path: String,
        #[source]
        source: io::Error,
    },
    #[error("another agent runs on the state directory {path}")]
    Busy { path: String },
    #[error("cannot {operation} {path}")]
    File {
        operation: &'static str,
        path: String,
        #[source]
        source: io::Error,
    },
}

impl StateError {
    /// Whether nothing more can be written there now: no space, no quota, or a read-only file
    /// system.
    pub fn is_no_room(&self) -> bool {
        match self {
            Self::Make { source, .. } | Self::File { source, .. } => matches!(
                source.kind(),
                io::ErrorKind::StorageFull
                    | io::ErrorKind::QuotaExceeded
                    | io::ErrorKind::ReadOnlyFilesystem
            ),
            Self::Busy { .. } => false,
        }
    }

    /// Whether there is no space or quota for more. A read-only file system may be the wrong one:
    /// what lies below a mount that is not there.
    pub fn is_full(&self) -> bool {
        match self {
            Self::Make { source, .. } | Self::File { source, .. } => matches!(
                source.kind(),
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
            ),
            Self::Busy { .. } => false,
        }
    }
}

fn file_error(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StateError {
    let path = path.display().to_string();
    move |source| StateError::File {
        operation,
        path,
        source,
    }
}

/// A state directory that exists.
#[derive(Debug, Clone)]
pub struct StateDir(PathBuf);

/// Held while an agent runs; the kernel frees it with the process.
#[derive(Debug)]
pub struct AgentLock {
    #[expect(dead_code, reason = "held for its lock")]
    dir: Option<File>,
    #[expect(dead_code, reason = "held for its lock")]
    file: Option<File>,
}

impl StateDir {
    /// Makes the directory (mode 0700) where it is absent.
    ///
    /// # Errors
    /// It cannot be made, or something else has its name.
    pub fn open(path: &Path) -> Result<Self, StateError> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
        made.map_err(|source| StateError::Make {
            path: path.display().to_string(),
            source,
        })?;
        Ok(Self(path.to_owned()))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Makes this process the one agent of the directory. Two locks say so: one on the directory
    /// itself, which needs no room on a full disk, and one on a file in it, which works where
    /// directories cannot be locked.
    ///
    /// # Errors
    /// Another one runs, or neither can be had.
    pub fn lock(&self) -> Result<AgentLock, StateError> {
        let dir = File::open(&self.0).map_err(file_error("open", &self.0))?;
        let dir = match dir.try_lock_exclusive() {
            Ok(()) => Some(dir),
            Err(error) if is_contended(&error) => return Err(self.busy()),
            // As on NFS, which locks what is open for writing.
            Err(_) => None,
        };
        let path = self.0.join("agent.lock");
        let opened = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
            .open(&path)
            .map_err(file_error("open", &path));
        let file = match opened {
            Ok(file) => file,
            Err(error) if error.is_full() && dir.is_some() => {
                return Ok(AgentLock { dir, file: None });
            }
            Err(error) => return Err(error),
        };
        match file.try_lock_exclusive() {
            Ok(()) => Ok(AgentLock {
                dir,
                file: Some(file),
            }),
            Err(error) if is_contended(&error) => Err(self.busy()),
            Err(error) => Err(file_error("lock", &path)(error)),
        }
    }

    fn busy(&self) -> StateError {
        StateError::Busy {
            path: self.0.display().to_string(),
        }
    }

    /// The corner of the root at this path.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn root(&self, root: &Path) -> Result<RootState, StateError> {
        let state = self.root_later(root);
        state.make()?;
        Ok(state)
    }

    /// The same; it is made with the first thing that is written to it.
    pub fn root_later(&self, root: &Path) -> RootState {
        RootState::at(&self.0, root)
    }
}

fn is_contended(error: &io::Error) -> bool {
    error.kind() == fs2::lock_contended_error().kind()
}

/// The FNV-1a hash of a path: the same in every version of this program.
pub(super) fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// What is kept of one root.
#[derive(Debug, Clone)]
pub struct RootState {
    dir: PathBuf,
    root: PathBuf,
    /// Which directory is at the path, where somebody has looked.
    identity: Option<Identity>,
}

/// What is remembered of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    No,
    /// Accepted, whichever directory it is.
    ByPath,
    As(Identity),
}

impl Known {
    /// Whether this directory passed its first start.
    pub fn is(self, identity: Identity) -> bool {
        match self {
            Self::No => false,
            Self::ByPath => true,
            Self::As(known) => known == identity,
        }
    }
}

impl RootState {
    /// The corner of the root at this path, to be read; it may not be there.
    pub fn at(state_dir: &Path, root: &Path) -> Self {
        let name = format!("{:016x}", fnv1a(root.as_os_str().as_bytes()));
        Self {
            dir: state_dir.join("roots").join(name),
            root: root.to_owned(),
            identity: None,
        }
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    fn make(&self) -> Result<(), StateError> {
        let made = DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.dir);
        made.map_err(file_error("make", &self.dir))
    }

    /// Writes a file of the corner, which is made where it is absent.
    pub(super) fn write(&self, name: &str, text: &[u8]) -> Result<(), StateError> {
        self.make()?;
        write_whole(&self.dir.join(name), text)
    }

    /// The corner itself, held open.
    ///
    /// # Errors
    /// It is gone, or something else has its name.
    pub fn open(&self) -> Result<OwnedFd, StateError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::open(&self.dir, flags, Mode::empty())
            .map_err(|errno| file_error("open", &self.dir)(errno.into()))
    }

    /// The same, with the directory that is at the path.
    pub fn with_identity(self, identity: Identity) -> Self {
        Self {
            identity: Some(identity),
            ..self
        }
    }

    /// Which directory of this path passed its first start. What cannot be read says none.
    pub fn known(&self) -> Known {
        let read = std::fs::read(self.dir.join("root.json")).unwrap_or_default();
        let value: serde_json::Value = serde_json::from_slice(&read).unwrap_or_default();
        if value["path"].as_str() != Some(&*escaped(&self.root)) {
            return Known::No;
        }
        match (value["inode"].as_u64(), value["file_system"].as_u64()) {
            (Some(ino), Some(file_system)) => Known::As(Identity { ino, file_system }),
            _ => Known::ByPath,
        }
    }

    /// Writes down that the root passed its first start.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn remember(&self) -> Result<(), StateError> {
        let text = serde_json::json!({
            "path": escaped(&self.root),
            "inode": self.identity.map(|identity| identity.ino),
            "file_system": self.identity.map(|identity| identity.file_system),
        })
        .to_string();
        self.write("root.json", text.as_bytes())
    }
}

/// Writes a file of the state directory: after a crash it is the old one or the new one, whole.
fn write_whole(path: &Path, text: &[u8]) -> Result<(), StateError> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    let write = || -> io::Result<()> {
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(true)
            .write(true)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW)
            .open(&temporary)?;
        file.write_all(text)?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)
    };
    write().map_err(file_error("write", path))
}

fn escaped(path: &Path) -> String {
    crate::model::path::escape(path.as_os_str().as_bytes())
}

/// Makes a directory with those above it, where absent.
///
/// # Errors
/// What the kernel says.
pub fn make_dir(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).create(path)
}

/// Listens on a socket, mode 0600, that does not block. Its directory is made (mode 0755) where
/// absent, and the stale socket of a dead agent is replaced; anything but a socket is left alone.
///
/// # Errors
/// The directory cannot be made, something that is no socket has the name, or nobody may listen
/// there.
pub fn bind_socket(path: &Path) -> Result<UnixListener, StateError> {
    prepare_socket(path)?;
    listen(path).map_err(file_error("listen on the socket", path))
}

/// The name takes the socket's own mode, so that nobody else may connect at any moment. A umask
/// would do that, too, but for every thread: directories that others make meanwhile would be
/// closed to the agent itself.
fn listen(path: &Path) -> io::Result<UnixListener> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    net::bind(&socket, &SocketAddrUnix::new(path)?)?;
    net::listen(&socket, BACKLOG)?;
    Ok(UnixListener::from(socket))
}

fn prepare_socket(path: &Path) -> Result<(), StateError> {
    if let Some(dir) = path.parent() {
        let made = DirBuilder::new().recursive(true).mode(0o755).create(dir);
        made.map_err(file_error("make", dir))?;
    }
    use std::os::unix::fs::FileTypeExt;
    match std::fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() && UnixStream::connect(path).is_ok() => {
            let error = io::Error::new(
                io::ErrorKind::AddrInUse,
                "another agent listens there: stop it, or give another --socket",
            );
            Err(file_error("listen on the socket", path)(error))
        }
        Ok(found) if found.file_type().is_socket() => match std::fs::remove_file(path) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(file_error("replace the socket", path)(error)),
        },
        Ok(_) => {
            let error = io::Error::new(io::ErrorKind::AlreadyExists, "it is no socket");
            Err(file_error("use", path)(error))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(file_error("look at", path)(error)),
    }
}

/// Takes the socket away at the end.
///
/// # Errors
/// It is there and cannot be removed.
pub fn remove_socket(path: &Path) -> Result<(), StateError> {
    match std::fs::remove_file(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(file_error("remove the socket", path)(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_is_known_by_its_path_and_as_the_directory_that_it_was() {
        let scratch = tempfile::tempdir().expect("a scratch directory");
        let state = StateDir::open(&scratch.path().join("a/b")).expect("made");
        let root = state.root(Path::new("/srv/x")).expect("made");
        let identity = |ino| Identity {
            ino,
            file_system: u64::MAX,
        };
        assert_eq!(root.known(), Known::No);
        root.remember().expect("written");
        assert!(root.known() == Known::ByPath && root.known().is(identity(1)));
        let root = root.with_identity(identity(1));
        root.remember().expect("written");
        assert!(root.known().is(identity(1)) && !root.known().is(identity(2)));
        let other = state.root(Path::new("/srv/y")).expect("made");
        assert_eq!(other.known(), Known::No);
    }

    #[test]
    fn a_second_agent_is_refused() {
        let scratch = tempfile::tempdir().expect("a scratch directory");
        let state = StateDir::open(scratch.path()).expect("made");
        let first = state.lock().expect("free");
        assert!(matches!(state.lock(), Err(StateError::Busy { .. })));
        // Nor is one taken for the first whose file somebody took away.
        std::fs::remove_file(scratch.path().join("agent.lock")).expect("removed");
        assert!(matches!(state.lock(), Err(StateError::Busy { .. })));
        drop(first);
        assert!(state.lock().is_ok());
    }

    #[test]
    fn a_corner_that_could_not_be_made_is_made_with_the_first_thing_written() {
        let scratch = tempfile::tempdir().expect("a scratch directory");
        let state = StateDir::open(scratch.path()).expect("made");
        let root = state.root_later(Path::new("/srv/x"));
        assert!(!root.dir().exists() && root.known() == Known::No);
        root.remember().expect("written");
        assert_eq!(root.known(), Known::ByPath);
        assert_eq!(
            state.root(Path::new("/srv/x")).expect("there").dir(),
            root.dir()
        );
    }

    #[test]
    fn a_socket_is_private_and_binding_it_changes_nothing_for_others() {
        use std::os::unix::fs::PermissionsExt;
        let scratch = tempfile::tempdir().expect("a scratch directory");
        let at = |n: u32| scratch.path().join(format!("d{n}"));
        let mode = |path: &Path| {
            let meta = std::fs::symlink_metadata(path).expect("it is there");
            meta.permissions().mode() & 0o777
        };
        std::thread::scope(|scope| {
            let others = scope.spawn(|| {
                for n in 0..2000 {
                    DirBuilder::new().mode(0o700).create(at(n)).expect("made");
                }
            });
            let socket = scratch.path().join("socket");
            while !others.is_finished() {
                let bound = bind_socket(&socket).expect("bound");
                assert_eq!(mode(&socket), 0o600);
                assert!(UnixStream::connect(&socket).is_ok());
                drop(bound);
            }
            others.join().expect("no panic");
        });
        assert!((0..2000).all(|n| mode(&at(n)) == 0o700));
    }
}
