//! Whose data may be deleted.

use std::fs;

use super::stand_in::Scratch;
use crate::local::data::{DataDir, MARK};

#[test]
fn only_what_this_run_made_is_emptied() {
    let scratch = Scratch::new("data-dir");
    let ours = DataDir::create(scratch.0.join("n1"), 1).unwrap();
    fs::write(ours.path().join("journal"), "x").unwrap();
    fs::create_dir(ours.path().join("more")).unwrap();
    let outside = scratch.0.join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("precious"), "x").unwrap();
    std::os::unix::fs::symlink(&outside, ours.path().join("link")).unwrap();
    assert_eq!(ours.count().unwrap(), 3);
    ours.empty().unwrap();
    assert_eq!(ours.count().unwrap(), 0);
    assert!(outside.join("precious").exists());
    // Again, after the node has written anew.
    fs::write(ours.path().join("journal"), "y").unwrap();
    ours.empty().unwrap();

    // Somebody else's: found with something in it, with another mark, or a link.
    let found = DataDir::create(outside.clone(), 2).unwrap();
    found.empty().unwrap_err();
    let other = DataDir::create(scratch.0.join("n3"), 3).unwrap();
    fs::write(other.path().join(MARK), "n4").unwrap();
    other.empty().unwrap_err();
    let linked = DataDir::create(scratch.0.join("n5"), 5).unwrap();
    fs::remove_dir_all(linked.path()).unwrap();
    std::os::unix::fs::symlink(&outside, linked.path()).unwrap();
    linked.empty().unwrap_err();
    assert!(outside.join("precious").exists());
}
