//! The layer as programs see it, mounted where nobody else does.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use super::super::{DiskLayer, Loss, Tail, available};
use crate::DiskFault;

/// Runs a test on a thread with mounts of its own, which end with it. The directory below keeps what
/// was written before the layer came.
fn with_layer(test: impl FnOnce(&Path, DiskLayer) + Send) {
    if let Err(why) = available() {
        return eprintln!("not tested here: {why}");
    }
    thread::scope(|scope| {
        let tested = scope.spawn(|| {
            if let Err(why) = unshare(CloneFlags::CLONE_NEWNS) {
                return eprintln!("not tested here: {why}");
            }
            let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
            mount(None::<&str>, "/", None::<&str>, private, None::<&str>).unwrap();
            let folder = tempfile::tempdir().unwrap();
            fs::write(folder.path().join("before"), "the layer").unwrap();
            let layer = DiskLayer::mount(folder.path()).unwrap();
            test(folder.path(), layer);
        });
        tested.join().unwrap();
    });
}

fn code(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap()
}

#[test]
fn programs_find_what_they_left() {
    with_layer(|path, layer| {
        assert!(layer.is_mounted());
        assert_eq!(fs::read(path.join("before")).unwrap(), b"the layer");
        fs::create_dir_all(path.join("a/b")).unwrap();
        let mut file = File::create_new(path.join("a/b/file")).unwrap();
        file.write_all(b"hello").unwrap();
        let mut again = OpenOptions::new()
            .append(true)
            .read(true)
            .open(path.join("a/b/file"))
            .unwrap();
        again.write_all(b" world").unwrap();
        again.sync_all().unwrap();
        let mut text = String::new();
        again.seek(SeekFrom::Start(0)).unwrap();
        again.read_to_string(&mut text).unwrap();
        assert_eq!(text, "hello world");
        file.set_len(4).unwrap();
        assert_eq!(fs::metadata(path.join("a/b/file")).unwrap().len(), 4);
        fs::hard_link(path.join("a/b/file"), path.join("linked")).unwrap();
        assert_eq!(file.metadata().unwrap().nlink(), 2);
        std::os::unix::fs::symlink("a/b", path.join("short")).unwrap();
        assert_eq!(fs::read(path.join("short/file")).unwrap(), b"hell");
        fs::rename(path.join("a/b/file"), path.join("a/moved")).unwrap();
        fs::remove_dir(path.join("a/b")).unwrap();
        // A file that is removed stays with those who have it open.
        fs::remove_file(path.join("a/moved")).unwrap();
        fs::remove_file(path.join("linked")).unwrap();
        assert_eq!(file.metadata().unwrap().nlink(), 0);
        file.write_all_at(b"H", 0).unwrap();
        let mut byte = [0];
        again.read_exact_at(&mut byte, 0).unwrap();
        assert_eq!(&byte, b"H");
        // A lock is one as on any file system.
        let locked = File::create(path.join("lock")).unwrap();
        locked.try_lock().unwrap();
        File::open(path.join("lock"))
            .unwrap()
            .try_lock()
            .unwrap_err();
        fs::set_permissions(
            path.join("lock"),
            fs::metadata(path.join("before")).unwrap().permissions(),
        )
        .unwrap();
        for i in 0..500 {
            fs::write(path.join(format!("many-{i}")), "x").unwrap();
        }
        let mut names: Vec<_> = fs::read_dir(path)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| !name.starts_with("many"))
            .collect();
        names.sort();
        assert_eq!(names, ["a", "before", "lock", "short"]);
        assert_eq!(fs::read_dir(path).unwrap().count(), 504);
        drop((file, again, locked));
        drop(layer);
        // The directory below has what programs saw.
        assert_eq!(fs::read_dir(path).unwrap().count(), 504);
        assert_eq!(fs::read(path.join("many-499")).unwrap(), b"x");
    });
}

#[test]
fn power_loss_takes_what_was_not_synced() {
    with_layer(|path, layer| {
        let mut log = File::create(path.join("log")).unwrap();
        log.write_all(b"synced;").unwrap();
        log.sync_data().unwrap();
        File::open(path).unwrap().sync_all().unwrap();
        log.write_all(b"not synced;").unwrap();
        fs::write(path.join("nameless"), "x").unwrap();
        fs::remove_file(path.join("before")).unwrap();
        let unsynced = layer.unsynced();
        assert_eq!((unsynced.bytes, unsynced.names), (12, 2));
        drop(log);
        let loss = layer.lose(Tail::None).unwrap();
        // The unsynced content of the one that lost its name, too.
        assert_eq!((loss.files, loss.bytes, loss.names), (2, 12, 2));
        assert_eq!(fs::read(path.join("log")).unwrap(), b"synced;");
        assert!(!path.join("nameless").exists());
        assert_eq!(fs::read(path.join("before")).unwrap(), b"the layer");
        // Settled is durable.
        fs::remove_file(path.join("before")).unwrap();
        layer.settle().unwrap();
        assert_eq!(layer.lose(Tail::None).unwrap(), Loss::default());
        assert!(!path.join("before").exists());
        // Every way to sync counts.
        let mut direct = OpenOptions::new();
        let direct =
            std::os::unix::fs::OpenOptionsExt::custom_flags(&mut direct, nix::libc::O_DSYNC);
        let direct = direct.append(true).open(path.join("log")).unwrap();
        (&direct).write_all(b"as written;").unwrap();
        assert_eq!(layer.lose(Tail::None).unwrap(), Loss::default());
        assert_eq!(fs::read(path.join("log")).unwrap(), b"synced;as written;");
    });
}

#[test]
fn without_power_nothing_works_and_no_sync_succeeds() {
    with_layer(|path, layer| {
        let mut file = File::create(path.join("f")).unwrap();
        File::open(path).unwrap().sync_all().unwrap();
        layer.hold_syncs();
        // What has nothing to wait for does not.
        file.sync_all().unwrap();
        file.write_all(b"held").unwrap();
        thread::scope(|scope| {
            let syncing = scope.spawn(|| file.sync_all());
            // It waits: it has not ended when the write is seen not to be durable.
            assert!(layer.unsynced().can_tear);
            thread::sleep(Duration::from_millis(50));
            assert!(!syncing.is_finished());
            layer.cut_power();
            assert_eq!(code(&syncing.join().unwrap().unwrap_err()), nix::libc::EIO);
        });
        assert_eq!(code(&file.write_all(b"x").unwrap_err()), nix::libc::EIO);
        drop(file);
        let loss = layer.lose(Tail::Torn(3)).unwrap();
        let (_, kept, of) = loss.torn.unwrap();
        assert_eq!(of, 4);
        assert_eq!(fs::read(path.join("f")).unwrap(), b"held"[..kept as usize]);
        // Power is back, and syncs are not held any more.
        let mut file = OpenOptions::new()
            .append(true)
            .open(path.join("f"))
            .unwrap();
        file.write_all(b"back").unwrap();
        file.sync_all().unwrap();
        // Held syncs go on when they are let go.
        layer.hold_syncs();
        file.write_all(b"more").unwrap();
        thread::scope(|scope| {
            let syncing = scope.spawn(|| file.sync_all());
            layer.release_syncs();
            syncing.join().unwrap().unwrap();
        });
        assert_eq!(layer.unsynced().changes, 0);
    });
}

#[test]
fn a_full_disk_and_a_read_only_one_refuse() {
    with_layer(|path, layer| {
        let mut file = File::create(path.join("f")).unwrap();
        for (id, fault, errno) in [
            (1, DiskFault::Full, nix::libc::ENOSPC),
            (2, DiskFault::ReadOnly, nix::libc::EROFS),
        ] {
            layer.inject(id, fault);
            assert_eq!(code(&file.write_all(b"x").unwrap_err()), errno);
            assert_eq!(code(&File::create(path.join("g")).unwrap_err()), errno);
            assert_eq!(code(&fs::create_dir(path.join("d")).unwrap_err()), errno);
            assert_eq!(fs::read(path.join("before")).unwrap(), b"the layer");
            assert!(layer.heal(id) && !layer.heal(id));
            file.write_all(b"x").unwrap();
        }
        layer.inject(3, DiskFault::ReadOnly);
        let opened = OpenOptions::new().write(true).open(path.join("before"));
        assert_eq!(code(&opened.unwrap_err()), nix::libc::EROFS);
        assert_eq!(
            code(&fs::remove_file(path.join("before")).unwrap_err()),
            nix::libc::EROFS
        );
        let counters = layer.counters();
        assert_eq!((counters.full, counters.read_only), (3, 5));
    });
}

#[test]
fn a_slow_disk_takes_its_time() {
    with_layer(|path, layer| {
        let mut file = File::create(path.join("f")).unwrap();
        let took = |what: &mut dyn FnMut()| {
            let begun = Instant::now();
            what();
            begun.elapsed()
        };
        layer.inject(1, DiskFault::Slow(60));
        layer.inject(2, DiskFault::Slow(30));
        let least = Duration::from_millis(60);
        assert!(took(&mut || file.write_all(b"x").unwrap()) >= least);
        assert!(took(&mut || file.sync_all().unwrap()) >= least);
        assert!(took(&mut || drop(fs::read(path.join("before")).unwrap())) >= least);
        assert!(layer.counters().delayed >= 3);
        // Whoever waits when it is healed waits no longer.
        layer.inject(3, DiskFault::Slow(3_600_000));
        thread::scope(|scope| {
            let writing = scope.spawn(|| (&file).write_all(b"y"));
            thread::sleep(Duration::from_millis(20));
            assert!(!writing.is_finished());
            layer.heal(3);
            writing.join().unwrap().unwrap();
        });
    });
}

#[test]
fn a_failed_sync_is_not_made_good_by_a_later_one() {
    with_layer(|path, layer| {
        let mut file = File::create(path.join("f")).unwrap();
        File::open(path).unwrap().sync_all().unwrap();
        file.write_all(b"promised").unwrap();
        layer.inject(1, DiskFault::FsyncError);
        for _ in 0..2 {
            assert_eq!(code(&file.sync_all().unwrap_err()), nix::libc::EIO);
        }
        let folder = File::open(path).unwrap();
        assert_eq!(code(&folder.sync_all().unwrap_err()), nix::libc::EIO);
        assert_eq!(layer.counters().syncs_failed, 3);
        layer.heal(1);
        // The disk says that all is well, and programs read what they wrote.
        file.sync_all().unwrap();
        assert_eq!(fs::read(path.join("f")).unwrap(), b"promised");
        drop((file, folder));
        layer.lose(Tail::None).unwrap();
        assert_eq!(fs::read(path.join("f")).unwrap(), b"");
    });
}

#[test]
fn a_layer_that_is_gone_leaves_no_mount() {
    with_layer(|path, layer| {
        let mounted = || {
            let mounts = fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
            mounts.contains(path.to_str().unwrap())
        };
        assert!(mounted());
        // Also while somebody is in it.
        let file = File::open(path.join("before")).unwrap();
        drop(layer);
        assert!(!mounted());
        drop(file);
        let again = DiskLayer::mount(path).unwrap();
        assert!(mounted() && again.is_mounted());
        drop(again);
        assert!(!mounted());
    });
}
