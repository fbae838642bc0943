//! What becomes of a file when a session's metadata is rewritten: who may read it, what hangs on
//! it, and what happens where the file system cannot do that.

use crate::support::refusing::{Refused, refusing};
use crate::support::running::Place;
use housekeeper::disk::rewrite::rewrite;
use housekeeper::disk::tree::Tree;
use housekeeper::model::disk::{Disk, Place as Metadata};
use housekeeper::model::path::RelPath;
use rustix::fs::{XattrFlags, getxattr, setxattr};
use rustix::io::Errno;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

const OLD: &str = "{\"state\":\"init\"}";
const NEW: &[u8] = b"{\"state\":\"failed\"}";

/// An access list that lets user 1234 read, as the kernel keeps it: version 2, then tag,
/// rights and id of each entry.
fn access_list() -> Vec<u8> {
    let entry = |tag: u16, rights: u16, id: u32| {
        let (tag, rights) = (tag.to_le_bytes(), rights.to_le_bytes());
        [&tag[..], &rights[..], &id.to_le_bytes()[..]].concat()
    };
    let nobody = u32::MAX;
    let entries = [
        entry(0x01, 6, nobody),
        entry(0x02, 4, 1234),
        entry(0x04, 0, nobody),
        entry(0x10, 4, nobody),
        entry(0x20, 0, nobody),
    ];
    [2_u32.to_le_bytes().to_vec(), entries.concat()].concat()
}

const LIST: &str = "system.posix_acl_access";

fn session() -> (Place, PathBuf) {
    let place = Place::new();
    let dir = place.root.join("s");
    fs::create_dir(&dir).expect("a session");
    let file = dir.join("metadata.json");
    fs::write(&file, OLD).expect("metadata");
    (place, file)
}

fn attribute(file: &Path, name: &str) -> rustix::io::Result<Vec<u8>> {
    let mut value = vec![0; 4096];
    let n = getxattr(file, name, &mut value[..])?;
    value.truncate(n);
    Ok(value)
}

fn rewritten(place: &Place) -> rustix::io::Result<bool> {
    let tree = Tree::open(&place.root).expect("a root");
    let path = RelPath::new(b"s").expect("a path");
    let (dir, stat) = tree.open(&path).expect("a session");
    let (file, old) = tree.open_in(&dir, b"metadata.json").expect("metadata");
    let metadata = Metadata {
        session: &path,
        id: stat.id,
        name: b"metadata.json",
    };
    rewrite(&tree, &metadata, &file, old.signature(), NEW)
}

/// Names in `.housekeeper/` but for its trash.
fn spare_files(place: &Place) -> Vec<String> {
    let entries = fs::read_dir(place.root.join(".housekeeper")).expect("it was made");
    let names = entries.map(|entry| entry.expect("an entry").file_name());
    let names = names.map(|name| name.into_string().expect("UTF-8"));
    names.filter(|name| name != "trash").collect()
}

#[test]
fn owner_mode_access_list_and_attributes_stay() {
    let (place, file) = session();
    std::os::unix::fs::chown(&file, Some(1001), Some(1002)).expect("this test is root's");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).expect("a mode");
    setxattr(&file, LIST, &access_list(), XattrFlags::empty()).expect("an access list");
    setxattr(&file, "user.origin", b"a\0b", XattrFlags::empty()).expect("an attribute");
    let before = fs::metadata(&file).expect("a file");
    assert_eq!(rewritten(&place), Ok(true));
    assert_eq!(fs::read(&file).expect("metadata"), NEW);
    let after = fs::metadata(&file).expect("a file");
    let owner = |of: &fs::Metadata| (of.mode(), of.uid(), of.gid());
    assert_eq!(owner(&after), owner(&before));
    assert_ne!(after.ino(), before.ino());
    assert_eq!(attribute(&file, LIST), Ok(access_list()));
    assert_eq!(attribute(&file, "user.origin").as_deref(), Ok(&b"a\0b"[..]));
    assert_eq!(spare_files(&place), [""; 0]);
}

/// What a directory gives to every new file in it was never the metadata's.
#[test]
fn the_new_file_has_nothing_that_the_old_one_had_not() {
    let (place, file) = session();
    let control = place.root.join(".housekeeper");
    fs::create_dir_all(control.join("trash")).expect("a directory");
    let default = "system.posix_acl_default";
    setxattr(&control, default, &access_list(), XattrFlags::empty()).expect("a list");
    assert_eq!(rewritten(&place), Ok(true));
    assert_eq!(attribute(&file, LIST), Err(Errno::NODATA));
    let mode = fs::metadata(&file).expect("a file").mode();
    assert_eq!(mode & 0o777, 0o644);
}

/// The old file is in its place, nothing is left behind, and the answer says what was refused.
#[test]
fn what_cannot_be_had_ends_it_before_anything_changes() {
    // RENAME_EXCHANGE, as on a file system that cannot; then an attribute that may not be set.
    let exchange = Refused {
        call: libc::SYS_renameat2,
        argument: 4,
        mask: libc::RENAME_EXCHANGE,
        errno: libc::EINVAL,
    };
    let attribute = |call| Refused {
        call,
        argument: 0,
        mask: 0,
        errno: libc::EPERM,
    };
    for (refused, errno) in [
        (exchange, Errno::INVAL),
        (attribute(libc::SYS_fsetxattr), Errno::PERM),
        (attribute(libc::SYS_fgetxattr), Errno::PERM),
        (attribute(libc::SYS_flistxattr), Errno::PERM),
    ] {
        let (place, file) = session();
        setxattr(&file, "user.origin", b"x", XattrFlags::empty()).expect("an attribute");
        let before = fs::metadata(&file).expect("a file").ino();
        let answer = refusing(refused, || rewritten(&place));
        assert_eq!(answer, Err(errno), "{refused:?}");
        assert_eq!(fs::read_to_string(&file).expect("metadata"), OLD);
        assert_eq!(fs::metadata(&file).expect("a file").ino(), before);
        assert_eq!(spare_files(&place), [""; 0]);
        // Without the refusal it goes.
        assert_eq!(rewritten(&place), Ok(true));
    }
}
