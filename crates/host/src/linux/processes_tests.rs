//! Tests of reading processes.

use std::os::unix::fs::symlink;

use super::*;

#[test]
fn odd_names_dont_shift_fields() {
    let fields = "S 7 2 3 34817 5 6 7 8 9 10 40 2 13 14 15 16 17 18 4711 20";
    let stat = format!("12 (a) b) {fields}");
    assert_eq!(
        Stat::parse(&stat),
        Some(Stat {
            name: "a) b",
            state: 'S',
            parent: 7,
            session: 3,
            terminal: 34_817,
            ticks: 42,
            started: 4711,
        })
    );
    assert_eq!(Stat::parse("12 (sh) S 7"), None);
}

#[test]
fn terminals_have_names() {
    let device = |major: u32, minor: u32| (major << 8) | (minor & 0xff) | ((minor & !0xff) << 12);
    let name = |major, minor| terminal(device(major, minor));
    assert_eq!(terminal(0), None);
    assert_eq!(name(136, 1).unwrap(), "pts/1");
    assert_eq!(name(136, 300).unwrap(), "pts/300");
    assert_eq!(name(137, 2).unwrap(), "pts/258");
    assert_eq!(name(4, 2).unwrap(), "tty2");
    assert_eq!(name(4, 64).unwrap(), "ttyS0");
    assert_eq!(name(5, 1).unwrap(), "console");
    assert_eq!(name(204, 64).unwrap(), "204:64");
}

#[test]
fn command_lines_are_harmless() {
    assert_eq!(command_line(b"sh\0-c\0a b\0", "sh"), "sh -c a b");
    assert_eq!(command_line(b"", "kworker"), "[kworker]");
    assert_eq!(command_line(b"x\0\x1b[2J\n\0", "x"), "x ?[2J?");
    assert_eq!(command_line(b"\xff\0", "x"), "\u{fffd}");
}

#[test]
fn the_first_name_of_a_user_counts() {
    let users =
        Users::parse("root:x:0:0::/:/bin/sh\ntoor:x:0:0::/:\nwww:x:80:\nodd\n:x:5:\na\x1bb:x:6:\n");
    for (uid, name) in [(0, "root"), (80, "www"), (5, "5"), (6, "6"), (7, "7")] {
        assert_eq!(users.name(uid), name);
    }
}

#[test]
fn own_process_is_seen_as_it_is() {
    let own = inspect(std::process::id(), &Users::default(), clock::boot());
    let own = own.unwrap().unwrap();
    assert_eq!(own.parent, std::os::unix::process::parent_id());
    assert_eq!(own.inside_pid, None);
    assert!(
        own.resident > 0 && own.command.contains("kleene"),
        "{own:?}"
    );
    let age = own.started.seconds_until(Timestamp::now());
    assert!(
        own.started <= Timestamp::now() && age < 24 * 3600,
        "{own:?}"
    );
    assert_eq!(
        inspect(u32::MAX, &Users::default(), clock::boot()).unwrap(),
        None
    );
}

#[test]
fn processes_are_found_by_their_namespace() {
    let own = std::process::id();
    assert!(in_namespace_of(own).unwrap().contains(&own));
    assert_eq!(in_namespace_of(u32::MAX).unwrap(), [0_u32; 0]);
}

#[test]
fn the_users_file_isnt_looked_for_outside() {
    // What a process has for a root is followed by descriptor only: this one's is the host's.
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("etc")).unwrap();
    symlink("/etc/group", dir.path().join("etc/passwd")).unwrap();
    let root = File::open(dir.path()).unwrap();
    let opened = open_in_root(root.as_fd(), Path::new("/etc/passwd"), Open::File);
    assert!(opened.is_err());
}
