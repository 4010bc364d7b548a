//! Bootstrapping with stand-ins for mmdebstrap and debootstrap, on a host whose configuration is made
//! up. They run in namespaces of their own as the real ones do, which needs root.

#![cfg(target_os = "linux")]
#![allow(
    clippy::disallowed_types,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests may panic"
)]

mod common;

use std::error::Error;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use common::{Outcome, Room, names};
use kleene_command::{Argv, Runner, System};
use kleene_doors::userland::{Extras, Progress, Source, Userland, UserlandError};
use kleene_userland::{Host, SystemUserland};

const OS: &str = "ID=debian\nVERSION_ID=12\nVERSION_CODENAME=bookworm\n";

const SOURCES: &str = "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] \
                       http://deb.example/debian bookworm main contrib\n\
                       deb http://sec.example/debian-security bookworm-security main\n";

/// Makes the tree `$tree` of a system in which the host's files and more are left.
const SYSTEM: &str = r#"
mkdir -p "$tree/bin" "$tree/etc/apt/sources.list.d" "$tree/usr/lib" "$tree/dev" \
    "$tree/var/cache/apt/archives/partial" "$tree/proc"
echo '#!' >"$tree/bin/sh"
chmod 4755 "$tree/bin/sh"
printf 'ID=debian\nVERSION_ID="12"\n' >"$tree/usr/lib/os-release"
ln -s ../usr/lib/os-release "$tree/etc/os-release"
echo secret >"$tree/etc/hostname"
echo secret >"$tree/etc/resolv.conf"
echo deb >"$tree/etc/apt/sources.list"
echo deb >"$tree/var/cache/apt/archives/x.deb"
mknod "$tree/dev/null" c 1 3
"#;

/// A host with programs of its own.
struct World {
    room: Room,
}

impl World {
    fn new() -> Self {
        let world = Self { room: Room::new() };
        for dir in ["host/etc/apt", "programs"] {
            fs::create_dir_all(world.path(dir)).unwrap();
        }
        fs::write(world.path("host/etc/os-release"), OS).unwrap();
        fs::write(world.path("host/etc/apt/sources.list"), SOURCES).unwrap();
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.room.dir.path().join(name)
    }

    /// Installs a program. It finds the world's directory in `$world`.
    fn program(self, name: &str, script: &str) -> Self {
        let path = self.path("programs").join(name);
        let world = self.room.dir.path().display();
        fs::write(
            &path,
            format!("#!/bin/sh\nset -e\nworld={world}\n{script}\n"),
        )
        .unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        self
    }

    fn userland(&self) -> SystemUserland {
        Self::userland_in(self.room.dir.path())
    }

    fn userland_in(dir: &Path) -> SystemUserland {
        SystemUserland::new(dir.join("cache"))
            .host(Host {
                system: "Linux".into(),
                release: "6.12.9".into(),
                machine: "x86_64".into(),
                root: dir.join("host"),
            })
            .programs(dir.join("programs"))
    }

    fn fill(&self) -> Outcome {
        self.fill_until(self.userland(), |_| false)
    }

    /// Nothing is left whatever comes of it.
    fn fill_until(&self, userland: SystemUserland, stop: impl FnMut(&Progress) -> bool) -> Outcome {
        let outcome = self.room.fill_until(stop, |root, sink| {
            userland.fill(&Source::Bootstrap, Extras::default(), root, sink)
        });
        let cache = self.room.cache();
        if cache.exists() {
            assert_eq!(names(&cache.join("bootstrap")), [""; 0]);
        }
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        let world = self.room.dir.path().to_str().unwrap();
        assert!(!mounts.contains(world), "{mounts}");
        outcome
    }

    /// What programs have noted, once all that they started is gone.
    fn noted(&self) -> String {
        fs::read_to_string(self.path("noted")).unwrap()
    }
}

fn runs(word: &str) -> bool {
    let ps = Argv::new("ps").args(["-eo", "stat,args"]);
    let listing = System.run(&ps).unwrap().text();
    listing
        .lines()
        .any(|line| line.contains(word) && !line.starts_with('Z'))
}

fn source_of(outcome: &Outcome) -> String {
    let error = outcome.result.as_ref().unwrap_err();
    assert!(matches!(error, UserlandError::Failed { .. }), "{error:?}");
    format!("{error}: {}", error.source().unwrap())
}

/// Notes its arguments and environment, and makes a tar archive.
fn mmdebstrap() -> String {
    format!(
        r#"
for word in "$@"; do printf '%s\n' "$word"; done >$world/noted
cat "$6" >>$world/noted
echo "proxy $http_proxy" >>$world/noted
echo "I: running apt-get update..." >&2
tree=$TMPDIR/chroot
{SYSTEM}
mount -t proc proc "$tree/proc"
tar -C "$tree" --one-file-system -cf "$5" .
"#
    )
}

#[test]
fn mmdebstrap_gets_the_hosts_own_archives() {
    let world = World::new().program("mmdebstrap", &mmdebstrap()).program(
        "apt-config",
        r#"echo 'Acquire::http::Proxy "http://proxy.example:3128";'"#,
    );
    let outcome = world.fill();
    let defaults = outcome.result.as_ref().unwrap();
    assert_eq!(defaults.name.as_deref(), Some("Debian-12"));
    assert_eq!(defaults.cmd, ["/bin/sh"]);
    assert!(
        outcome.steps().contains(&"I: running apt-get update..."),
        "{:?}",
        outcome.steps()
    );
    let root = world.room.root();
    let mode = fs::metadata(root.join("bin/sh"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o7777, 0o4755);
    assert_eq!(names(&root.join("dev")), [""; 0]);
    assert_eq!(names(&root.join("etc")), ["apt", "os-release"]);
    let work = world.room.cache().join("bootstrap/0");
    let work = work.display();
    let proxy = match std::env::var("http_proxy") {
        Ok(own) => own,
        Err(_) => "http://proxy.example:3128".to_owned(),
    };
    assert_eq!(
        world.noted(),
        format!(
            "--variant=minbase\n--mode=root\n--format=tar\nbookworm\n{work}/root.tar\n\
             {work}/debian.sources\n\
             Types: deb\nURIs: http://deb.example/debian\nSuites: bookworm\n\
             Components: main contrib\n\
             Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n\n\
             Types: deb\nURIs: http://sec.example/debian-security\nSuites: bookworm-security\n\
             Components: main\nproxy {proxy}\n"
        )
    );
}

#[test]
fn debootstrap_stands_in_for_it() {
    let script = format!(
        r#"
for word in "$@"; do printf '%s\n' "$word"; done >$world/noted
tree=$5
{SYSTEM}
mount -t proc proc "$tree/proc"
echo "I: Base system installed successfully."
"#
    );
    let world = World::new().program("debootstrap", &script);
    let outcome = world.fill();
    assert_eq!(
        outcome.result.as_ref().unwrap().name.as_deref(),
        Some("Debian-12")
    );
    assert!(
        outcome
            .steps()
            .contains(&"I: Base system installed successfully.")
    );
    let tree = world.room.cache().join("bootstrap/0/root");
    assert_eq!(
        world.noted(),
        format!(
            "--variant=minbase\n--keyring=/usr/share/keyrings/debian-archive-keyring.gpg\n\
             --components=main,contrib\nbookworm\n{}\nhttp://deb.example/debian\n",
            tree.display()
        )
    );
    let root = world.room.root();
    let mode = fs::metadata(root.join("bin/sh"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o7777, 0o4755);
    for empty in ["dev", "proc", "var/cache/apt/archives"] {
        assert_eq!(names(&root.join(empty)), [""; 0], "{empty}");
    }
    assert_eq!(names(&root.join("etc")), ["apt", "os-release"]);
    assert_eq!(names(&root.join("etc/apt")), ["sources.list.d"]);
    let sources = world.room.read("etc/apt/sources.list.d/debian.sources");
    assert!(sources.contains("http://sec.example"), "{sources}");
}

#[test]
fn failures_are_told_by_their_last_words() {
    let world = World::new().program(
        "mmdebstrap",
        "i=0; while [ $i -lt 50 ]; do echo \"W: warning $i\" >&2; i=$((i+1)); done
         echo 'E: Unable to fetch some archives' >&2; echo 'I: cleaning up' >&2; exit 25",
    );
    let message = source_of(&world.fill());
    assert_eq!(
        message,
        "installing bookworm with mmdebstrap failed: mmdebstrap failed with exit status 25: \
         E: Unable to fetch some archives"
    );
    let world = World::new().program("mmdebstrap", "echo 'no such thing' >&2; exit 1");
    assert!(source_of(&world.fill()).ends_with("exit status 1: no such thing"));
    assert_eq!(names(&world.room.root()), [""; 0]);
    let full = "echo 'tar: x: Cannot write: No space left on device'; exit 2";
    let world = World::new().program("debootstrap", full);
    let outcome = world.fill();
    assert!(
        matches!(outcome.result, Err(UserlandError::NoSpace(_))),
        "{:?}",
        outcome.result
    );
    // It says that it has succeeded, and has made nothing.
    let world = World::new().program("mmdebstrap", ":");
    assert!(source_of(&world.fill()).contains("root.tar"));
}

#[test]
fn hostile_archives_are_refused() {
    let script = r#"cd $TMPDIR; echo x >../escaped; tar -P -cf "$5" ../escaped; rm ../escaped"#;
    let world = World::new().program("mmdebstrap", script);
    let message = world.fill().invalid();
    assert!(
        message.contains("the new system can't be used"),
        "{message}"
    );
}

/// Mounts something in its tree, starts processes that outlive it, one in a session of its own, and
/// never ends.
fn endless(seconds: &str) -> String {
    format!(
        r#"
mkdir -p $TMPDIR/root/proc
mount -t proc proc $TMPDIR/root/proc
setsid sleep {seconds} &
sleep {seconds} &
echo "I: waiting"
sleep {seconds}
"#
    )
}

#[test]
fn who_waits_can_stop_it() {
    let seconds = "31557602";
    let world = World::new().program("debootstrap", &endless(seconds));
    let start = Instant::now();
    let mut seen = false;
    let outcome = world.fill_until(world.userland(), |progress| {
        // At the first question after its last word.
        let stop = seen;
        seen |= progress.step == "I: waiting";
        stop
    });
    assert!(
        matches!(outcome.result, Err(UserlandError::Cancelled)),
        "{:?}",
        outcome.result
    );
    assert!(start.elapsed() < Duration::from_secs(30));
    assert!(!runs(seconds));
}

#[test]
fn it_may_not_take_forever() {
    let seconds = "31557603";
    let world = World::new().program("mmdebstrap", &endless(seconds));
    let userland = world.userland().bootstrap_limit(Duration::from_secs(2));
    let message = source_of(&world.fill_until(userland, |_| false));
    assert!(message.contains("longer than 2 s"), "{message}");
    assert!(!runs(seconds));
}

/// Names the directory of a world for another process of this program.
const WORLD: &str = "KLEENE_TEST_BOOTSTRAP";

/// Does nothing of its own: another test starts it as a process, and kills that.
#[test]
fn as_a_process_of_its_own() {
    let Some(dir) = std::env::var_os(WORLD).map(PathBuf::from) else {
        return;
    };
    let userland = World::userland_in(&dir);
    let mut sink = |_| std::ops::ControlFlow::Continue(());
    let result = userland.fill(
        &Source::Bootstrap,
        Extras::default(),
        &dir.join("images/new"),
        &mut sink,
    );
    panic!("{result:?}");
}

#[test]
fn the_daemons_death_ends_it() {
    let seconds = "31557604";
    let world = World::new().program(
        "debootstrap",
        &format!(
            "mkfifo $world/ready.new; mv $world/ready.new $world/ready\n{}",
            endless(seconds)
        )
        .replace("echo \"I: waiting\"", "echo >$world/ready"),
    );
    fs::create_dir_all(world.room.root()).unwrap();
    let mut daemon = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "as_a_process_of_its_own"])
        .env(WORLD, world.room.dir.path())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    // The stand-in says when it has mounted and started everything.
    let fifo = world.path("ready");
    wait_until(|| fifo.exists());
    fs::read(&fifo).unwrap();
    assert!(runs(seconds));
    daemon.kill().unwrap();
    daemon.wait().unwrap();
    wait_until(|| !runs(seconds));
    // The next daemon tidies up; this one does so before it fails.
    let world = world.program("debootstrap", "exit 1");
    assert_eq!(names(&world.room.cache().join("bootstrap")), ["0"]);
    assert!(source_of(&world.fill()).contains("exit status 1"));
}

/// Waits for what another process does, but not forever.
fn wait_until(mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < Duration::from_secs(30));
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn what_is_missing_is_told_with_the_other_methods() {
    let unsupported = |world: &World| match world.fill().result {
        Err(UserlandError::Unsupported(message)) => message,
        other => panic!("{other:?}"),
    };
    let world = World::new();
    let message = unsupported(&world);
    for part in ["mmdebstrap", "debootstrap", "'fetch'", "'host'", "registry"] {
        assert!(message.contains(part), "{part}: {message}");
    }
    let world = World::new().program("mmdebstrap", "exit 99");
    fs::write(
        world.path("host/etc/apt/sources.list"),
        "deb http://x.example trixie main\n",
    )
    .unwrap();
    let message = unsupported(&world);
    assert!(message.contains("no archive of bookworm"), "{message}");
    fs::write(
        world.path("host/etc/os-release"),
        "ID=fedora\nVERSION_ID=42\n",
    )
    .unwrap();
    let message = unsupported(&world);
    assert!(message.contains("Debian, Ubuntu"), "{message}");
}
