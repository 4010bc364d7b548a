//! All or nothing, whenever a populate is killed, and once only, however many try.

use std::cell::Cell;
use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, chown, symlink};
use std::sync::Barrier;

use rustix::process::{Pid, Signal, WaitOptions, getpid, kill_process, waitpid};

use super::*;

#[path = "../../tests/common/mod.rs"]
mod common;

use common::{Dir, Mounted, assert_same, facts, scratch};

/// A source with a bit of everything.
fn fill(source: &Dir) {
    fs::create_dir_all(source.join("dir/below")).unwrap();
    fs::write(source.join(".dot"), "dot").unwrap();
    fs::write(source.join("dir/below/file"), "content").unwrap();
    fs::hard_link(source.join("dir/below/file"), source.join("again")).unwrap();
    symlink("/etc", source.join("link")).unwrap();
    let sparse = File::create(source.join("sparse")).unwrap();
    sparse.write_at(b"end", 1 << 20).unwrap();
    common::set_xattr(&source.path, "user.of-the-root", b"value");
    chown(&source.path, Some(70), Some(71)).unwrap();
    fs::set_permissions(&source.path, fs::Permissions::from_mode(0o750)).unwrap();
    let old = rustix::fs::Timespec {
        tv_sec: 1_000_000_000,
        tv_nsec: 5,
    };
    let times = rustix::fs::Timestamps {
        last_access: old,
        last_modification: old,
    };
    rustix::fs::futimens(&source.file, &times).unwrap();
}

/// Runs `work` in a child process that is killed at the point number `at`; whether it was.
fn killed_at(at: u32, work: impl Fn(Hook<'_>)) -> bool {
    // SAFETY: the child only works on files and memory of its own, takes no lock that another
    // thread could have held (the allocator's are handled by the C library), and never returns.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        let passed = Cell::new(0);
        work(&|_| {
            if passed.get() == at {
                let _ = kill_process(getpid(), Signal::KILL);
            }
            passed.set(passed.get() + 1);
        });
        // SAFETY: ends the child at once, without the parent's exit handlers.
        unsafe { libc::_exit(0) };
    }
    let pid = Pid::from_raw(pid).unwrap();
    let (_, status) = waitpid(Some(pid), WaitOptions::empty()).unwrap().unwrap();
    assert!(
        status.signaled() || status.exit_status() == Some(0),
        "{status:?}"
    );
    status.signaled()
}

/// The entries are all there, or none is; tells which.
fn assert_all_or_nothing(source: &Dir, target: &Dir) -> bool {
    let empty = fs::read_dir(&target.path).unwrap().next().is_none();
    if empty {
        let meta = fs::metadata(&target.path).unwrap();
        assert_eq!(
            (meta.mode() & 0o7777, meta.uid()),
            (0o711, 12),
            "the target's own attributes"
        );
    } else {
        assert_same(&source.path, &target.path);
    }
    !empty
}

fn new_target(scratch: &tempfile::TempDir, name: &str) -> Dir {
    let target = Dir::new(scratch, name);
    fs::set_permissions(&target.path, fs::Permissions::from_mode(0o711)).unwrap();
    chown(&target.path, Some(12), Some(0)).unwrap();
    target
}

#[test]
fn killed_anywhere_it_is_finished_or_undone() {
    let scratch = scratch();
    let source = Dir::new(&scratch, "source");
    fill(&source);
    let mut outcomes = Vec::new();
    for at in 0.. {
        let target = new_target(&scratch, &format!("target-{at}"));
        let work = |hook: Hook<'_>| {
            let _ = populate_locked(source.fd(), target.fd(), hook);
        };
        if !killed_at(at, work) {
            break;
        }
        // Recovery is killed at each of its own points, too, and goes on from there.
        for again in 0.. {
            let work = |hook: Hook<'_>| {
                let _ = recover_locked(target.fd(), hook);
            };
            if !killed_at(again, work) {
                break;
            }
        }
        assert!(!recover_populate(target.fd()).unwrap(), "recovered before");
        outcomes.push(assert_all_or_nothing(&source, &target));
        // What was undone can be done again; what was finished isn't touched.
        let outcome = populate(source.fd(), target.fd()).unwrap();
        assert_eq!(
            outcome == PopulateOutcome::TargetNotEmpty,
            outcomes[at as usize]
        );
        assert_same(&source.path, &target.path);
    }
    let undone = outcomes.iter().filter(|finished| !**finished).count();
    assert!(undone >= 9 && outcomes.len() - undone >= 8, "{outcomes:?}");
    assert!(outcomes.is_sorted(), "one point of no return: {outcomes:?}");
}

/// As above, with so many files that several threads are at work when the process is killed.
#[test]
fn killed_in_the_middle_of_many_files_it_is_finished_or_undone() {
    let scratch = scratch();
    let source = Dir::new(&scratch, "source");
    fill(&source);
    for number in 0..1200 {
        let directory = source.join(format!("many-{}", number / 150));
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join(number.to_string()), vec![1; number]).unwrap();
    }
    let mut outcomes = Vec::new();
    for at in (0..).step_by(61) {
        let target = new_target(&scratch, &format!("target-{at}"));
        let work = |hook: Hook<'_>| {
            let _ = populate_locked(source.fd(), target.fd(), hook);
        };
        let killed = killed_at(at, work);
        recover_populate(target.fd()).unwrap();
        let finished = assert_all_or_nothing(&source, &target);
        outcomes.push(finished);
        crate::remove_contents(target.fd()).unwrap();
        if !killed {
            assert!(finished);
            break;
        }
    }
    assert!(outcomes.len() >= 5, "{outcomes:?}");
}

#[test]
fn the_next_populate_recovers_first() {
    let scratch = scratch();
    let (source, other) = (Dir::new(&scratch, "source"), Dir::new(&scratch, "other"));
    fill(&source);
    fs::write(other.join("other"), "defaults of a second image").unwrap();
    for at in 0.. {
        let target = new_target(&scratch, &format!("target-{at}"));
        let work = |hook: Hook<'_>| {
            let _ = populate_locked(source.fd(), target.fd(), hook);
        };
        if !killed_at(at, work) {
            break;
        }
        match populate(other.fd(), target.fd()).unwrap() {
            PopulateOutcome::TargetNotEmpty => assert_same(&source.path, &target.path),
            PopulateOutcome::Copied(_) => assert_same(&other.path, &target.path),
            PopulateOutcome::SourceEmpty => panic!("it isn't"),
        }
    }
}

#[test]
fn of_many_at_once_one_copies() {
    let scratch = scratch();
    let target = new_target(&scratch, "target");
    let sources: Vec<_> = (0..8)
        .map(|number| {
            let source = Dir::new(&scratch, &format!("source-{number}"));
            fill(&source);
            fs::write(source.join("number"), number.to_string()).unwrap();
            source
        })
        .collect();
    let barrier = Barrier::new(sources.len());
    let outcomes: Vec<_> = std::thread::scope(|scope| {
        let run = |source: &Dir| {
            barrier.wait();
            // Each with a descriptor of its own, as separate requests have.
            let target = File::open(&target.path).unwrap();
            populate(source.fd(), target.as_fd()).unwrap()
        };
        let threads: Vec<_> = sources
            .iter()
            .map(|source| scope.spawn(move || run(source)))
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    let copied = outcomes
        .iter()
        .filter(|outcome| matches!(outcome, PopulateOutcome::Copied(_)))
        .count();
    let refused = outcomes
        .iter()
        .filter(|outcome| **outcome == PopulateOutcome::TargetNotEmpty);
    assert_eq!((copied, refused.count()), (1, 7));
    let winner: usize = fs::read_to_string(target.join("number"))
        .unwrap()
        .parse()
        .unwrap();
    assert!(matches!(outcomes[winner], PopulateOutcome::Copied(_)));
    assert_same(&sources[winner].path, &target.path);
}

/// Lesson 1: it is the volume that must be empty. A second container's defaults never overwrite.
#[test]
fn data_in_the_target_are_never_touched() {
    let scratch = scratch();
    let source = Dir::new(&scratch, "source");
    fill(&source);
    for name in [
        "again",
        "unrelated",
        ".hidden",
        "lost+found/something",
        "lost+found",
    ] {
        let target = new_target(&scratch, &format!("target-{}", name.replace('/', "-")));
        if name == "lost+found" {
            fs::write(target.join(name), "a file of this name").unwrap();
        } else {
            fs::create_dir_all(target.join(name).parent().unwrap()).unwrap();
            fs::write(target.join(name), "precious").unwrap();
        }
        let before = facts(&target.path);
        let outcome = populate(source.fd(), target.fd()).unwrap();
        assert_eq!(outcome, PopulateOutcome::TargetNotEmpty, "{name}");
        assert_eq!(facts(&target.path), before);
    }
}

#[test]
fn a_new_file_system_counts_as_empty() {
    let scratch = scratch();
    let (source, target) = (Dir::new(&scratch, "source"), new_target(&scratch, "target"));
    fill(&source);
    fs::create_dir(target.join("lost+found")).unwrap();
    fs::create_dir_all(target.join(".kleene-populate/tree/half")).unwrap();
    let private = fs::Permissions::from_mode(0o700);
    fs::set_permissions(target.join(".kleene-populate"), private).unwrap();
    assert!(matches!(
        populate(source.fd(), target.fd()),
        Ok(PopulateOutcome::Copied(_))
    ));
    fs::remove_dir(target.join("lost+found")).unwrap();
    assert_eq!(facts(&target.path).len(), facts(&source.path).len());
}

#[test]
fn staging_names_that_are_not_ours_are_data() {
    let scratch = scratch();
    let (source, target) = (Dir::new(&scratch, "source"), new_target(&scratch, "target"));
    fill(&source);
    let outside = Dir::new(&scratch, "outside");
    fs::create_dir(outside.join("tree")).unwrap();
    fs::write(outside.join("tree/secret"), "x").unwrap();
    for name in [".kleene-publish", ".kleene-populate"] {
        symlink(&outside.path, target.join(name)).unwrap();
        assert!(!recover_populate(target.fd()).unwrap());
        let outcome = populate(source.fd(), target.fd()).unwrap();
        assert_eq!(outcome, PopulateOutcome::TargetNotEmpty);
        fs::remove_file(target.join(name)).unwrap();
    }
    assert!(outside.join("tree/secret").exists());
    for (name, mode) in [(".kleene-publish", 0o700), (".kleene-populate", 0o755)] {
        fs::create_dir(target.join(name)).unwrap();
        fs::set_permissions(target.join(name), fs::Permissions::from_mode(mode)).unwrap();
        fs::write(target.join(name).join("doc"), "precious").unwrap();
        assert!(!recover_populate(target.fd()).unwrap());
        let outcome = populate(source.fd(), target.fd()).unwrap();
        assert_eq!(outcome, PopulateOutcome::TargetNotEmpty);
        assert!(target.join(name).join("doc").exists());
        fs::remove_dir_all(target.join(name)).unwrap();
    }
}

/// Whoever can open a volume can lock it, a container that mounts it read-only, too.
#[test]
fn locks_of_others_stop_nobody() {
    let scratch = scratch();
    let (source, target) = (Dir::new(&scratch, "source"), new_target(&scratch, "target"));
    fill(&source);
    let other = File::open(&target.path).unwrap();
    rustix::fs::flock(&other, rustix::fs::FlockOperation::LockExclusive).unwrap();
    assert!(matches!(
        populate(source.fd(), target.fd()),
        Ok(PopulateOutcome::Copied(_))
    ));
}

/// An application that uses the volume already has given it the attributes that it needs.
#[test]
fn an_empty_source_leaves_chosen_attributes_alone() {
    let scratch = scratch();
    let (source, target) = (Dir::new(&scratch, "source"), new_target(&scratch, "target"));
    let before = facts(&target.path);
    let outcome = populate(source.fd(), target.fd()).unwrap();
    assert_eq!(outcome, PopulateOutcome::SourceEmpty);
    assert_eq!(facts(&target.path), before);
}

#[test]
fn entries_made_while_publishing_win() {
    let scratch = scratch();
    let (source, target) = (Dir::new(&scratch, "source"), new_target(&scratch, "target"));
    fill(&source);
    let hook = |point| {
        if point == Point::Committed {
            fs::write(target.join("again"), "theirs").unwrap();
        }
    };
    populate_locked(source.fd(), target.fd(), &hook).unwrap();
    assert_eq!(fs::read_to_string(target.join("again")).unwrap(), "theirs");
    assert_eq!(
        fs::read_to_string(target.join("dir/below/file")).unwrap(),
        "content"
    );
    assert!(!target.join(".kleene-publish").exists());
}

/// Lesson 2: a user other than root must be able to write to a volume that starts out empty.
#[test]
fn an_empty_source_gives_its_own_attributes() {
    let scratch = scratch();
    let (source, target) = (Dir::new(&scratch, "source"), Dir::new(&scratch, "target"));
    chown(&target.path, Some(0), Some(0)).unwrap();
    fs::set_permissions(&target.path, fs::Permissions::from_mode(0o755)).unwrap();
    chown(&source.path, Some(999), Some(998)).unwrap();
    fs::set_permissions(&source.path, fs::Permissions::from_mode(0o1770)).unwrap();
    assert_eq!(
        populate(source.fd(), target.fd()).unwrap(),
        PopulateOutcome::SourceEmpty
    );
    assert_same(&source.path, &target.path);
    fs::create_dir(target.join("lost+found")).unwrap();
    assert!(!recover_populate(target.fd()).unwrap());
}

#[test]
fn a_full_file_system_leaves_nothing_behind() {
    let scratch = scratch();
    let source = Dir::new(&scratch, "source");
    fill(&source);
    fs::write(source.join("zz-large"), vec![1; 3 << 20]).unwrap();
    let path = scratch.path().join("small");
    fs::create_dir(&path).unwrap();
    let _mount = Mounted::tmpfs(&path, "1m", None);
    let target = new_target(&scratch, "small");
    let result = populate(source.fd(), target.fd());
    assert!(
        matches!(&result, Err(TreeError::NoSpace { .. })),
        "{result:?}"
    );
    assert!(!assert_all_or_nothing(&source, &target));
    fs::remove_file(source.join("zz-large")).unwrap();
    assert!(matches!(
        populate(source.fd(), target.fd()),
        Ok(PopulateOutcome::Copied(_))
    ));
    assert!(assert_all_or_nothing(&source, &target));
}

#[cfg(target_os = "linux")]
#[test]
fn the_source_may_be_an_overlay() {
    let scratch = scratch();
    let dirs = ["lower", "upper", "work", "merged"].map(|name| Dir::new(&scratch, name));
    let [lower, upper, work, merged] = &dirs;
    fill(lower);
    fs::write(lower.join("deleted"), "x").unwrap();
    let options = format!(
        "lowerdir={},upperdir={},workdir={}",
        lower.path.display(),
        upper.path.display(),
        work.path.display()
    );
    let _mount = Mounted::new("overlay", &merged.path, "overlay", &options);
    fs::remove_file(merged.join("deleted")).unwrap();
    fs::write(merged.join("dir/below/new"), "upper").unwrap();
    fs::set_permissions(merged.join(".dot"), fs::Permissions::from_mode(0o600)).unwrap();
    let source = File::open(&merged.path).unwrap();
    let target = new_target(&scratch, "target");
    assert!(matches!(
        populate(source.as_fd(), target.fd()),
        Ok(PopulateOutcome::Copied(_))
    ));
    assert_same(&merged.path, &target.path);
    assert!(!target.join("deleted").exists() && target.join("dir/below/new").exists());
}
