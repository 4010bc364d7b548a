//! The same container by our runtime and by runc: what differs inside must be listed here.
#![cfg(target_os = "linux")]
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests may panic, their helpers included"
)]

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use common::{Container, Outcome, World, process, terminal};
use kleene_doors::host::{Network, Process};
use rustix::fs::{CWD, FileType, Mode, makedev};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

const RUNC: &str = "/usr/sbin/runc";

/// What is looked at, by name.
const PROBES: [(&str, &str); 14] = [
    ("status", "cat /proc/self/status"),
    (
        "namespaces",
        "for n in /proc/self/ns/*; do echo ${n##*/} $(readlink $n); done",
    ),
    ("mounts", "cat /proc/self/mountinfo"),
    ("limits", "cat /proc/self/limits"),
    ("devices", "ls -ln /dev /dev/pts /dev/shm /dev/mqueue"),
    ("root", "ls -ln / /data"),
    ("environment", "env"),
    (
        "process",
        "umask; pwd; hostname; id; ls /proc/self/fd; cat /proc/self/cgroup; \
         cat /proc/self/oom_score_adj /proc/self/timerslack_ns",
    ),
    (
        "session",
        "set -- $(cat /proc/1/stat); echo $1 $6; tty; stat -c '%F %a %u:%g %t:%T' /dev/console",
    ),
    (
        "hidden",
        "for f in kcore keys timer_list latency_stats; do [ -e /proc/$f ] && \
           echo $f $(wc -c < /proc/$f); done; ls /proc/acpi /proc/scsi /sys/firmware",
    ),
    (
        "written",
        "for f in /data/x /data/inner/x /both/x /sys/x /proc/sys/kernel/domainname \
           /proc/irq/x /new /dev/new /dev/shm/new; do \
           (echo x > $f) 2>/dev/null && echo $f; done",
    ),
    (
        "permitted",
        "for c in 'mknod /tmp/disk b 254 0' 'cat /tmp/disk' 'cat /data/inner/null' \
           'mount -t tmpfs x /tmp' 'umount /data' 'hostname other' 'chown 7:7 /tmp' \
           'chmod 4711 /tmp/suid' 'ping -c1 127.0.0.1'; do \
           $c >/dev/null 2>&1; echo $c gives $?; done",
    ),
    (
        // What the system call filter and the capabilities refuse, and how.
        "filtered",
        "for c in 'unshare -U true' 'unshare -m true' 'nsenter -t 1 -m true' 'dmesg -s 1' \
           'chroot / /bin/true' 'pivot_root / /tmp' 'ionice -c 1 true' 'renice -5 1' \
           'swapoff /new'; do \
           /bin/busybox $c; echo $c gives $?; done",
    ),
    ("network", "ip -o addr; ls /sys/class/net"),
];

/// What of `/proc/self/status` is about a process's rights, not about its momentary state.
const STATUS: [&str; 17] = [
    "Uid:",
    "Gid:",
    "Groups:",
    "Umask:",
    "NStgid:",
    "CapInh:",
    "CapPrm:",
    "CapEff:",
    "CapBnd:",
    "CapAmb:",
    "NoNewPrivs:",
    "Seccomp:",
    "SigBlk:",
    "SigIgn:",
    "SigCgt:",
    "ShdPnd:",
    "TracerPid:",
];

/// Differences that are on purpose: where, by whom, what, and why. `HIDDEN` is any of [`HIDDEN`].
const ON_PURPOSE: [(&str, Whose, &str, &str); 3] = [
    (
        "mounts",
        Whose::Ours,
        "HIDDEN tmpfs {\"nodev\", \"noexec\", \"nosuid\", \"relatime\", \"ro\"}",
        "what covers hidden directories can't be used for anything at all",
    ),
    (
        "mounts",
        Whose::Theirs,
        "HIDDEN tmpfs {\"relatime\", \"ro\"}",
        "the same: runc's cover is read-only and no more",
    ),
    (
        "devices",
        Whose::Ours,
        "lrwxrwxrwx 0 0 [] core -> /proc/kcore",
        "runc makes the link where the kernel has the file, which is hidden in either case",
    ),
];

/// Directories that are hidden in containers.
const HIDDEN: [&str; 5] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whose {
    Ours,
    Theirs,
}

#[test]
fn root_without_network() {
    let setting = |container: &mut Container<'_>| container.setup.network = Network::Disabled;
    compare(setting, process);
}

#[test]
fn a_user_on_the_hosts_network() {
    let user = |argv: &[&str]| Process {
        user: "www".into(),
        ..process(argv)
    };
    compare(|_| {}, user);
}

#[test]
fn a_terminal() {
    compare(|_| {}, |argv| terminal(argv, 20, 300));
}

/// Runs the probes as first process and as one that joins, by both runtimes.
fn compare(setting: impl Fn(&mut Container<'_>), process: impl Fn(&[&str]) -> Process) {
    assert!(
        Path::new(RUNC).exists(),
        "install the package runc: {RUNC} is missing"
    );
    let [ours, theirs] = [World::new(), World::outside(RUNC)].map(|world| {
        let data = Data::new(world.tmp.path().join("data"));
        facts_of(&world, &data.0, &setting, &process)
    });
    let mut unexplained = Vec::new();
    for (whose, here, there) in [
        (Whose::Ours, &ours, &theirs),
        (Whose::Theirs, &theirs, &ours),
    ] {
        for fact in here.difference(there) {
            if !is_on_purpose(whose, fact) {
                unexplained.push(format!("{whose:?} {fact}"));
            }
        }
    }
    assert!(unexplained.is_empty(), "{}", unexplained.join("\n"));
    assert!(ours.len() > 150, "few facts: {ours:#?}");
}

fn is_on_purpose(whose: Whose, fact: &str) -> bool {
    let (_, fact) = fact.split_once(' ').unwrap();
    ON_PURPOSE.iter().any(|(place, of, what, _)| {
        let is =
            |directory: &&str| fact == format!("{place}: {}", what.replace("HIDDEN", directory));
        *of == whose && HIDDEN.iter().any(is)
    })
}

/// A directory with a file system and a device in it.
struct Data(PathBuf);

impl Data {
    fn new(path: PathBuf) -> Self {
        let inner = path.join("inner");
        fs::create_dir_all(&inner).unwrap();
        mount("none", &inner, "tmpfs", MountFlags::empty(), c"size=64k").unwrap();
        let data = Self(path);
        let (kind, mode) = (FileType::CharacterDevice, Mode::from_raw_mode(0o666));
        rustix::fs::mknodat(CWD, inner.join("null"), kind, mode, makedev(1, 3)).unwrap();
        data
    }
}

impl Drop for Data {
    fn drop(&mut self) {
        let _ = unmount(self.0.join("inner"), UnmountFlags::DETACH);
    }
}

fn facts_of(
    world: &World,
    data: &Path,
    setting: impl Fn(&mut Container<'_>),
    process: impl Fn(&[&str]) -> Process,
) -> BTreeSet<String> {
    let mut container = world
        .container()
        .mount(data, "/data", true)
        .mount(data, "/both", false)
        .mount(world.image.join("etc/passwd"), "/srv/deep/file", true);
    setting(&mut container);
    let script: String = PROBES
        .iter()
        .map(|(name, script)| format!("echo '== {name}'; {script}; "))
        .collect();
    let script = ["sh", "-c", &format!("{{ {script} true; }} 2>&1")];
    let first = container.run_process(process(&script));
    let init = container.idle();
    let joined = init.join(process(&script)).finish();
    init.kill();
    let mut facts = facts("first", &container, &first);
    facts.extend(self::facts("joined", &container, &joined));
    facts
}

/// One text a fact: which process, which probe, and what it has seen.
fn facts(which: &str, container: &Container<'_>, seen: &Outcome) -> BTreeSet<String> {
    assert_eq!(seen.code, Some(0), "{seen:?}");
    // The host's own may change from one look to the next.
    let has_network = container.setup.network == Network::Disabled;
    let mut probe = "";
    let mut facts = BTreeSet::new();
    let text = seen
        .stdout()
        .replace('\r', "")
        .replace(container.id.as_str(), "CONTAINER");
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("== ") {
            probe = name;
            facts.insert(format!("{which} {probe}: reached"));
            continue;
        }
        if probe == "network" && !has_network {
            continue;
        }
        if let Some(fact) = reduced(probe, line) {
            facts.insert(format!("{which} {probe}: {fact}"));
        }
    }
    assert!(
        facts.contains(&format!("{which} network: reached")),
        "{facts:#?}"
    );
    facts
}

/// A line without what can't be the same twice; `None` for one that says nothing else.
fn reduced(probe: &str, line: &str) -> Option<String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    match probe {
        // The first is the host's number, the last the container's: both depend on what was before.
        "status" if line.starts_with("NStgid:") => Some(format!("{} numbers", words.len())),
        "status" => STATUS
            .iter()
            .any(|field| line.starts_with(field))
            .then(|| words.join(" ")),
        "namespaces" => {
            let own = fs::read_link(format!("/proc/self/ns/{}", words[0])).unwrap();
            let is_own = own.to_str() == Some(words[1]);
            Some(format!("{} of the host: {is_own}", words[0]))
        }
        "mounts" => {
            let end = words.iter().position(|word| *word == "-").unwrap();
            let options: BTreeSet<&str> = words[5].split(',').collect();
            Some(format!("{} {} {options:?}", words[4], words[end + 1]))
        }
        // Mode, links, owner, group, size or numbers, and the name without the time.
        "devices" | "root" if words.len() >= 8 => {
            let name = line.split(':').next_back().unwrap_or_default();
            let name = name.split_once(' ').map_or(name, |(_, name)| name);
            let size = if line.starts_with('c') {
                &words[4..6]
            } else {
                &[]
            };
            Some(format!(
                "{} {} {} {size:?} {name}",
                words[0], words[2], words[3]
            ))
        }
        "devices" | "root" if line.starts_with("total") => None,
        _ => Some(line.to_owned()),
    }
}
