//! Reads metadata and has the layout say what it means.

use crate::disk::document;
use crate::disk::tree::{Tree, fd_stat};
use crate::engine::{CatalogTrouble, Input, ReadOf, ReadOrder};
use crate::layout::spec::Format;
use crate::layout::{Layout, Role};
use crate::model::disk::Disk;
use crate::model::listing::{Gathered, Listing};
use crate::model::path::RelPath;
use crate::model::plan::ReadAs;
use crate::model::seen::{FileKind, Seen, Stat};
use crate::model::session::{Content, Document, Key, SessionId};
use crate::model::time::Clock;
use rustix::fd::BorrowedFd;

/// The most of a metadata file that is read.
pub const MAX_METADATA: u64 = 1 << 20;
/// The most of a metadata file that is read at once.
const MAX_AT_ONCE: u64 = 64 << 10;
/// The most of a catalogue that is read.
pub const MAX_CATALOGUE: u64 = 256 << 20;

/// Carries out one order.
pub fn read(tree: &Tree, layout: &Layout, clock: &dyn Clock, order: ReadOrder) -> Input {
    let of = match &order.session {
        None => catalogue(tree, layout, clock),
        Some((session, key)) => {
            let names = layout.documents(key);
            let documents = names
                .iter()
                .map(|name| document::read(tree, &order.dir, name, MAX_METADATA))
                .collect();
            session_of(tree, layout, clock, &order, (*session, key), documents)
        }
    };
    Input::Read { seq: order.seq, of }
}

/// Carries out one order of a session where that takes no time to speak of. `None` where it is
/// long, others hold it, or its format can make much out of little (YAML): nothing waits here.
pub fn read_at_once(
    tree: &Tree,
    layout: &Layout,
    clock: &dyn Clock,
    order: &ReadOrder,
) -> Option<Input> {
    if layout.spec().format == Format::Yaml {
        return None;
    }
    let (session, key) = order.session.as_ref()?;
    let names = layout.documents(key);
    let documents = names
        .iter()
        .map(|name| document::read_at_once(tree, &order.dir, name, MAX_AT_ONCE))
        .collect::<Option<_>>()?;
    let of = session_of(tree, layout, clock, order, (*session, key), documents);
    Some(Input::Read { seq: order.seq, of })
}

fn session_of(
    tree: &Tree,
    layout: &Layout,
    clock: &dyn Clock,
    order: &ReadOrder,
    (session, key): (SessionId, &Key),
    documents: Vec<Document>,
) -> ReadOf {
    let inode = order.inode.as_ref().map(|path| tree.look(path));
    let stat = match &inode {
        Some(Seen::There(stat)) => Some(stat),
        Some(Seen::Gone | Seen::Unreadable(_)) | None => None,
    };
    let Gathered { facts, proofs } = gathered(layout, clock, key, stat, documents);
    ReadOf::Session {
        session,
        facts,
        proofs,
    }
}

/// Reads the documents of the sessions of a chunk in its open directory: of one that is the
/// directory with the last chunk, of those that are files with the chunk that names their metadata.
pub fn gather(
    tree: &Tree,
    layout: &Layout,
    clock: &dyn Clock,
    listed: &Listing,
    dir: BorrowedFd<'_>,
) -> Vec<(Key, Gathered)> {
    let read = |key: &[u8], stat: Option<&Stat>| {
        let names = layout.documents(key);
        let documents = names
            .iter()
            .map(|name| document::read_in(tree, dir, name, MAX_METADATA))
            .collect();
        let stat = stat.filter(|_| layout.reads_inode());
        (key.into(), gathered(layout, clock, key, stat, documents))
    };
    if !layout.is_of_files() {
        let key = listed.dir.as_bytes();
        let is_session = listed.last && layout.role(key, FileKind::Dir) == Role::Session;
        let stat = is_session.then(|| fd_stat(dir).ok()).flatten();
        return is_session
            .then(|| read(key, stat.as_ref()))
            .into_iter()
            .collect();
    }
    if layout.reads_no_file() || !layout.is_container(&listed.dir) {
        return Vec::new();
    }
    let within = layout.within(listed.dir.as_bytes());
    let documents = listed.entries().filter_map(|(name, seen)| match seen {
        Seen::There(stat) if stat.kind == FileKind::File => {
            let key = layout.document_key(within, &listed.dir, name)?;
            Some(read(&key, Some(stat)))
        }
        Seen::There(_) | Seen::Gone | Seen::Unreadable(_) => None,
    });
    documents.collect()
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
