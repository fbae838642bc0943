//! Reads metadata and has the layout say what it means.

use crate::disk::document;
use crate::disk::tree::{Tree, fd_stat};
use crate::engine::{CatalogTrouble, Input, ReadOf, ReadOrder};
use crate::layout::{Layout, Role};
use crate::model::disk::Disk;
use crate::model::listing::Gathered;
use crate::model::path::RelPath;
use crate::model::plan::ReadAs;
use crate::model::seen::{FileKind, Seen, Stat};
use crate::model::session::{Content, Document};
use crate::model::time::Clock;
use rustix::fd::BorrowedFd;

/// The most of a metadata file that is read.
pub const MAX_METADATA: u64 = 1 << 20;
/// The most of a catalogue that is read.
pub const MAX_CATALOGUE: u64 = 256 << 20;

/// Carries out one order.
pub fn read(tree: &Tree, layout: &Layout, clock: &dyn Clock, order: ReadOrder) -> Input {
    let seq = order.seq;
    let of = match &order.session {
        None => catalogue(tree, layout, clock),
        Some((session, key)) => {
            let names = layout.documents(key);
            let documents = names
                .iter()
                .map(|name| document::read(tree, &order.dir, name, MAX_METADATA))
                .collect();
            let inode = order.inode.as_ref().map(|path| tree.look(path));
            let stat = match &inode {
                Some(Seen::There(stat)) => Some(stat),
                Some(Seen::Gone | Seen::Unreadable(_)) | None => None,
            };
            let Gathered { facts, proofs } = gathered(layout, clock, key, stat, documents);
            ReadOf::Session {
                session: *session,
                facts,
                proofs,
            }
        }
    };
    Input::Read { seq, of }
}

/// Reads a session's documents in its open directory. `None` where no session is.
pub fn gather(
    tree: &Tree,
    layout: &Layout,
    clock: &dyn Clock,
    path: &RelPath,
    dir: BorrowedFd<'_>,
) -> Option<Gathered> {
    let key = path.as_bytes();
    if layout.role(key, FileKind::Dir) != Role::Session {
        return None;
    }
    let names = layout.documents(key);
    let documents = names
        .iter()
        .map(|name| document::read_in(tree, dir, name, MAX_METADATA))
        .collect();
    let stat = layout.reads_inode().then(|| fd_stat(dir).ok()).flatten();
    Some(gathered(layout, clock, key, stat.as_ref(), documents))
}

fn gathered(
    layout: &Layout,
    clock: &dyn Clock,
    key: &[u8],
    stat: Option<&Stat>,
    documents: Vec<Document>,
) -> Gathered {
    let facts = layout.facts(key, stat, &documents, clock.now().wall);
    let proof = |document: Document| ReadAs {
        name: document.name,
        signature: document.signature,
    };
    let proofs = documents.into_iter().map(proof).collect();
    Gathered { facts, proofs }
}

fn catalogue(tree: &Tree, layout: &Layout, clock: &dyn Clock) -> ReadOf {
    let Some(name) = layout.catalogue() else {
        return ReadOf::Catalogue {
            signature: None,
            seen: Err(CatalogTrouble::Absent),
        };
    };
    let document = document::read(tree, &RelPath::root(), name, MAX_CATALOGUE);
    let seen = match document.content {
        Content::Absent => Err(CatalogTrouble::Absent),
        Content::NotAFile | Content::TooBig | Content::Unreadable(_) => {
            Err(CatalogTrouble::Unreadable)
        }
        Content::Text(text) => layout
            .catalog(&text, clock.now().wall)
            .map_err(|fault| CatalogTrouble::Corrupt(fault.to_string())),
    };
    ReadOf::Catalogue {
        signature: document.signature,
        seen,
    }
}
