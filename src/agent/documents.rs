//! Reads metadata and has the layout say what it means.

use crate::disk::document;
use crate::disk::tree::Tree;
use crate::engine::{CatalogTrouble, Input, ReadOf, ReadOrder};
use crate::layout::Layout;
use crate::model::disk::Disk;
use crate::model::path::RelPath;
use crate::model::plan::Proof;
use crate::model::seen::Seen;
use crate::model::session::{Content, Document};
use crate::model::time::Clock;

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
            let documents: Vec<Document> = layout
                .documents(key)
                .iter()
                .map(|name| document::read(tree, &order.dir, name, MAX_METADATA))
                .collect();
            let inode = order.inode.as_ref().map(|path| tree.look(path));
            let stat = match &inode {
                Some(Seen::There(stat)) => Some(stat),
                Some(Seen::Gone | Seen::Unreadable(_)) | None => None,
            };
            let facts = layout.facts(key, stat, &documents, clock.now().wall);
            let proofs = documents
                .into_iter()
                .map(|d| Proof {
                    name: d.name,
                    signature: d.signature,
                })
                .collect();
            ReadOf::Session {
                session: *session,
                facts,
                proofs,
            }
        }
    };
    Input::Read { seq, of }
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
