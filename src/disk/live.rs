//! What the lifecycle of sessions needs of a root's tree.

use crate::disk::catalogue_edit::edit_catalogue;
use crate::disk::document::{MAX_METADATA, read_all};
use crate::disk::in_place::remove_files_in_place;
use crate::disk::tree::{Tree, fd_stat};
use crate::disk::{rewrite, session};
use crate::model::disk::{LiveDisk, Place};
use crate::model::path::RelPath;
use crate::model::report::Unlist;
use crate::model::seen::{FileId, FileKind, Inode, Signature, Stat};
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;
use std::io;

impl LiveDisk for Tree {
    fn look_through(
        &self,
        path: &RelPath,
        id: FileId,
        each: &mut dyn FnMut(&[u8], &Stat),
    ) -> io::Result<()> {
        Ok(session::look_through(self, path, id, each)?)
    }

    fn read(&self, file: &OwnedFd) -> io::Result<Vec<u8>> {
        let stat = fd_stat(file.as_fd())?;
        if stat.kind != FileKind::File || stat.apparent > MAX_METADATA {
            return Err(Errno::FBIG.into());
        }
        Ok(read_all(file, stat.apparent, MAX_METADATA)?.ok_or(Errno::FBIG)?)
    }

    fn rewrite(
        &self,
        place: &Place<'_>,
        file: &OwnedFd,
        old: Signature,
        text: &[u8],
    ) -> io::Result<bool> {
        Ok(rewrite::rewrite(self, place, file, old, text)?)
    }

    fn edit(&self, name: &[u8], edit: &mut dyn FnMut(&[u8]) -> Option<Vec<u8>>) -> Unlist {
        edit_catalogue(self, name, edit)
    }

    fn unlink(&self, path: &RelPath, inode: Inode) -> io::Result<()> {
        let (Some(dir), Some(name)) = (path.parent(), path.name()) else {
            return Err(Errno::INVAL.into());
        };
        match remove_files_in_place(self, &dir, &[(name.into(), inode)]).first() {
            None => Ok(()),
            Some((_, errno)) => Err(io::Error::from_raw_os_error(*errno)),
        }
    }
}
