//! What is to come back for a while: what is written down before it leaves, and where that cannot
//! be.

use super::{On, QUIET, Shared, a_file, blobs, executor, now, refused, remove, session};
use crate::model::path::RelPath;
use crate::model::plan::{Body, Victim};
use crate::model::report::{Aside, Outcome};
use crate::model::time::UnixNanos;
use crate::prune::intent::unfinished;
use crate::prune::origin::Origin;
use crate::prune::rest::finish_blobs;

fn keep(fake: &Shared, victim: &Victim) -> Outcome {
    let mut executor = executor(fake).with_origins(On(fake.clone()));
    executor.keep(victim, now(QUIET), QUIET, &[])
}

#[test]
fn what_is_kept_has_its_record_before_it_leaves_and_what_stays_has_none() {
    let (fake, victim) = session();
    let Outcome::Aside(asides) = keep(&fake, &victim) else {
        panic!("nothing spoke against it");
    };
    let [Aside::Kept(name)] = &asides[..] else {
        panic!("{asides:?}");
    };
    let text = fake.records.borrow()[&name.0].clone();
    assert_eq!(
        Origin::from_json(&name.0, &text),
        Some(Origin::of(&victim, &victim.path))
    );
    let at = |line: &str| fake.log.borrow().iter().position(|logged| logged == line);
    assert!(at("save ") < at("rename a/s"));
    let (fake, victim) = session();
    fake.fail("rename", "a/s", libc::EBUSY);
    assert_eq!(keep(&fake, &victim), refused("rename", libc::EBUSY));
    assert!(fake.records.borrow().is_empty());
}

#[test]
fn what_cannot_be_written_down_or_has_an_entry_goes_without_being_kept() {
    let (fake, victim) = session();
    fake.fail("save", "", libc::ENOSPC);
    let outcome = keep(&fake, &victim);
    assert!(matches!(&outcome, Outcome::Aside(aside) if matches!(aside[..], [Aside::Trash(_)])));
    let (fake, victim) = a_file();
    fake.fail("save", "", libc::ENOSPC);
    let outcome = keep(&fake, &victim);
    assert!(matches!(&outcome, Outcome::Aside(aside) if matches!(aside[..], [Aside::Beside(..)])));
    let (fake, victim) = blobs();
    let outcome = keep(&fake, &victim);
    let all_gone = |aside: &[Aside]| aside.iter().all(|a| matches!(a, Aside::Trash(_)));
    assert!(matches!(&outcome, Outcome::Aside(aside) if aside.len() == 2 && all_gone(aside)));
}

#[test]
fn one_file_is_kept_under_its_own_name() {
    let (fake, victim) = a_file();
    let outcome = keep(&fake, &victim);
    let Outcome::Aside(asides) = &outcome else {
        panic!("{outcome:?}");
    };
    let [Aside::Kept(name)] = &asides[..] else {
        panic!("{asides:?}");
    };
    let text = fake.records.borrow()[&name.0].clone();
    let origin = Origin::from_json(&name.0, &text).expect("a record");
    assert_eq!((origin.shown().as_str(), origin.files), ("x.log", vec![]));
}

/// `x.wav` and `x.json`, without a catalogue.
fn two_files() -> (Shared, Victim) {
    let (fake, victim) = blobs();
    let Body::Blobs { blobs, .. } = victim.body else {
        panic!("blobs");
    };
    let body = Body::Files {
        names: blobs,
        proofs: Vec::new(),
    };
    let victim = Victim { body, ..victim };
    (fake, victim)
}

/// The one bundle that was made.
fn bundle(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Aside(asides) => match &asides[..] {
            [Aside::Kept(name)] => name.0.clone(),
            _ => panic!("{outcome:?}"),
        },
        _ => panic!("{outcome:?}"),
    }
}

#[test]
fn several_files_are_kept_together_and_their_record_comes_first() {
    let (fake, victim) = two_files();
    let name = bundle(&keep(&fake, &victim));
    for file in ["x.wav", "x.txt"] {
        assert!(fake.get(file).is_err());
        assert!(fake.get(&format!("kept/{name}/{file}")).is_ok());
    }
    // What is done has no intent any more.
    let records = fake.records.borrow();
    assert_eq!(records.keys().collect::<Vec<_>>(), [&name]);
    let origin = Origin::from_json(&name, &records[&name]).expect("a record");
    assert_eq!(origin.files, [b"x.wav"[..].into(), b"x.txt"[..].into()]);
    assert_eq!(
        (origin.shown().as_str(), origin.home()),
        ("key", Some(RelPath::root()))
    );
    let log = fake.log.borrow();
    let n_saved = log.iter().take_while(|line| !line.starts_with("rename"));
    assert_eq!(n_saved.filter(|line| *line == "save ").count(), 2);
}

#[test]
fn of_several_files_that_cannot_go_none_is_kept() {
    for (operation, path, errno, outcome) in [
        (
            "rename",
            "x.wav",
            libc::EPERM,
            refused("rename", libc::EPERM),
        ),
        ("rename", "x.wav", libc::EXDEV, Outcome::InPlace),
        (
            "bundle",
            "",
            libc::EACCES,
            refused("make a place to keep it", libc::EACCES),
        ),
        (
            "save",
            "",
            libc::EACCES,
            refused("write down where it comes from", libc::EACCES),
        ),
    ] {
        let (fake, victim) = two_files();
        fake.fail(operation, path, errno);
        assert_eq!(keep(&fake, &victim), outcome, "{operation}");
        assert!(fake.get("x.wav").is_ok() && fake.get("x.txt").is_ok());
        assert!(
            !fake
                .names
                .borrow()
                .keys()
                .any(|name| name.starts_with("kept/"))
        );
        // Only the removal in place is finished later.
        let n_left = usize::from(outcome == Outcome::InPlace);
        assert_eq!(fake.records.borrow().len(), n_left, "{operation}");
    }
    let (fake, victim) = two_files();
    fake.fail("bundle", "", libc::ENOSPC);
    let outcome = keep(&fake, &victim);
    assert!(
        matches!(&outcome, Outcome::Aside(aside) if aside.len() == 2),
        "{outcome:?}"
    );
    assert_eq!(fake.n_trash(), 2, "a rule took it");
}

#[test]
fn what_is_left_of_several_files_goes_to_where_the_others_are() {
    for is_there in [true, false] {
        let (fake, victim) = two_files();
        fake.fail("rename", "x.txt", libc::EIO);
        let name = bundle(&keep(&fake, &victim));
        assert_eq!(fake.records.borrow().len(), 2, "an intent and an origin");
        fake.errors.borrow_mut().clear();
        if !is_there {
            fake.take_away(&format!("kept/{name}"));
        }
        let disk = On(fake.clone());
        // The fake has one place for all records; the origin is no intent.
        fake.records.borrow_mut().remove(&name);
        let intents = unfinished(&disk).expect("one").intents;
        let (asides, left) = finish_blobs(&disk, &intents[0].1, now(QUIET));
        assert_eq!((asides.len(), left.len()), (usize::from(!is_there), 0));
        assert!(fake.get("x.txt").is_err());
        let kept = fake.get(&format!("kept/{name}/x.txt"));
        assert_eq!(kept.is_ok(), is_there);
    }
}

/// Where what is kept cannot be used for another reason than space, nothing goes that could not
/// come back.
#[test]
fn what_may_not_be_kept_stays() {
    for (operation, path, told) in [
        ("keep", "a/s", "rename"),
        ("save", "", "write down where it comes from"),
    ] {
        let (fake, victim) = session();
        fake.fail(operation, path, libc::EACCES);
        assert_eq!(keep(&fake, &victim), refused(told, libc::EACCES));
        assert!(fake.records.borrow().is_empty());
    }
}

/// Where there is no place for what is kept, the rules hold all the same.
#[test]
fn what_has_no_place_to_be_kept_goes_all_the_same() {
    for errno in [libc::EXDEV, libc::ENOSPC, libc::EDQUOT] {
        let (fake, victim) = session();
        fake.fail("keep", "a/s", errno);
        let outcome = keep(&fake, &victim);
        let is_gone =
            matches!(&outcome, Outcome::Aside(aside) if matches!(aside[..], [Aside::Trash(_)]));
        assert!(is_gone, "{outcome:?}");
        assert!(fake.records.borrow().is_empty());
    }
}

/// A restart may give a file system another device number: number and birth say what it is.
#[test]
fn what_is_left_is_known_again_under_another_device_number() {
    for (birth, n_gone) in [
        (Some(UnixNanos(21)), 1),
        (Some(UnixNanos(99)), 0),
        (None, 0),
    ] {
        let (fake, victim) = two_files();
        fake.fail("rename", "x.txt", libc::EIO);
        let outcome = remove(&fake, &victim, &[]);
        assert!(
            matches!(&outcome, Outcome::Aside(aside) if aside.len() == 1),
            "{outcome:?}"
        );
        fake.errors.borrow_mut().clear();
        let mut renumbered = fake.get("x.txt").expect("it stays");
        (renumbered.id.dev, renumbered.btime) = (2, birth);
        fake.names.borrow_mut().insert("x.txt".into(), renumbered);
        let disk = On(fake.clone());
        let intents = unfinished(&disk).expect("one").intents;
        let (asides, left) = finish_blobs(&disk, &intents[0].1, now(QUIET));
        assert_eq!((asides.len(), left.len()), (n_gone, 0), "{birth:?}");
        assert_eq!(fake.get("x.txt").is_err(), n_gone == 1);
    }
}
