//! The processes of a container, as `/proc` has them: see `proc_pid_stat(5)` and its neighbours.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use kleene_doors::observe::ProcessInfo;
use kleene_monitor::status::gone;
use kleene_tree::{Open, open_in_root};
use kleene_types::{ContainerId, Timestamp};
use rustix::fs::{Mode, OFlags, PROC_SUPER_MAGIC, fstatfs};

use super::cgroup::Hierarchies;
use super::clock;

/// Bytes of a command line that are shown.
const COMMAND: u64 = 16 << 10;

/// Bytes of a user database that are read: it is in the hands of whoever is in the container.
const PASSWD: u64 = 1 << 20;

/// Lists a container's processes by their ids, without those that have ended and wait for their
/// parents to notice: these are in no group any more. `init` is its first process.
///
/// # Errors
/// `/proc` or the control group can't be read.
pub fn list(
    groups: &Hierarchies,
    container: &ContainerId,
    init: u32,
) -> io::Result<Vec<ProcessInfo>> {
    let mut pids = match groups.processes(container)? {
        Some(pids) => pids,
        None => in_namespace_of(init)?,
    };
    pids.sort_unstable();
    pids.dedup();
    let (users, boot) = (Users::of(init), clock::boot());
    let infos = pids.into_iter().map(|pid| inspect(pid, &users, boot));
    infos.filter_map(Result::transpose).collect()
}

/// Where there are no control groups to tell: whoever shares the first process's ids. (Processes
/// that have made a namespace of their own aren't found.)
fn in_namespace_of(init: u32) -> io::Result<Vec<u32>> {
    let namespace = |pid: u32| {
        let meta = fs::metadata(format!("/proc/{pid}/ns/pid")).ok()?;
        Some((meta.dev(), meta.ino()))
    };
    let Some(wanted) = namespace(init) else {
        return Ok(Vec::new());
    };
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let pid = name.to_str().and_then(|name| name.parse().ok());
        if let Some(pid) = pid.filter(|pid| namespace(*pid) == Some(wanted)) {
            found.push(pid);
        }
    }
    Ok(found)
}

/// Everything about one process; `None` when it has ended meanwhile.
fn inspect(pid: u32, users: &Users, boot: Timestamp) -> io::Result<Option<ProcessInfo>> {
    let read = || -> io::Result<ProcessInfo> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let mut command = Vec::new();
        File::open(format!("/proc/{pid}/cmdline"))?
            .take(COMMAND)
            .read_to_end(&mut command)?;
        let malformed = || io::Error::other(format!("/proc/{pid}/stat is malformed"));
        let stat = Stat::parse(&stat).ok_or_else(malformed)?;
        let uid = field(&status, "Uid:", 1).unwrap_or(0);
        let started = boot.microseconds() + clock::microseconds(stat.started);
        Ok(ProcessInfo {
            pid,
            // The first is the one that the daemon sees.
            inside_pid: field(&status, "NSpid:", 1).filter(|inside| *inside != pid),
            parent: stat.parent,
            user: users.name(uid),
            state: stat.state,
            cpu_us: clock::microseconds(stat.ticks),
            resident: field::<u64>(&status, "VmRSS:", 0).unwrap_or(0) * 1024,
            started: Timestamp::from_microseconds(started).unwrap_or(boot),
            terminal: terminal(stat.terminal),
            command: command_line(&command, stat.name),
        })
    };
    match read() {
        Err(error) if gone(&error) => Ok(None),
        other => other.map(Some),
    }
}

/// The session of a process, as the id of the process that it has begun with; `None` when the
/// process has ended.
///
/// # Errors
/// `/proc` can't be read.
pub fn session_of(pid: u32) -> io::Result<Option<u32>> {
    let stat = match fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(stat) => stat,
        Err(error) if gone(&error) => return Ok(None),
        Err(error) => return Err(error),
    };
    let stat = Stat::parse(&stat).filter(|stat| !matches!(stat.state, 'Z' | 'X' | 'x'));
    Ok(stat.map(|stat| stat.session))
}

/// The field of this number, from 0, in a line of `/proc/PID/status`.
fn field<T: std::str::FromStr>(status: &str, name: &str, index: usize) -> Option<T> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().nth(index)?.parse().ok()
}

/// What is taken of `/proc/PID/stat`.
#[derive(Debug, PartialEq, Eq)]
struct Stat<'s> {
    name: &'s str,
    state: char,
    parent: u32,
    /// The id of the process that its session has begun with.
    session: u32,
    /// The device number of the controlling terminal; 0: none.
    terminal: u32,
    /// Processor time in clock ticks.
    ticks: u64,
    /// When it started, in clock ticks since the machine did.
    started: u64,
}

impl<'s> Stat<'s> {
    /// The name may itself hold spaces and parentheses. Fields behind it count from 3.
    fn parse(text: &'s str) -> Option<Self> {
        let (before, behind) = text.rsplit_once(") ")?;
        let (_, name) = before.split_once('(')?;
        let fields: Vec<&str> = behind.split(' ').collect();
        let field = |number: usize| fields.get(number - 3).copied();
        let ticks = |number| field(number)?.parse::<u64>().ok();
        Some(Self {
            name,
            state: field(3)?.chars().next()?,
            parent: field(4)?.parse().ok()?,
            session: field(6)?.parse().ok()?,
            terminal: field(7)?.parse::<i32>().ok()?.cast_unsigned(),
            ticks: ticks(14)? + ticks(15)?,
            started: ticks(22)?,
        })
    }
}

/// What a terminal is called, by the numbers in the kernel's `admin-guide/devices.txt`.
fn terminal(device: u32) -> Option<String> {
    let (major, minor) = (
        (device >> 8) & 0xfff,
        (device & 0xff) | ((device >> 12) & 0xfff00),
    );
    match (major, minor) {
        (0, 0) => None,
        (136..=143, minor) => Some(format!("pts/{}", (major - 136) * 256 + minor)),
        (4, 64..) => Some(format!("ttyS{}", minor - 64)),
        (4, minor) => Some(format!("tty{minor}")),
        (5, 1) => Some("console".to_owned()),
        _ => Some(format!("{major}:{minor}")),
    }
}

/// Words with spaces between; what a terminal would obey is shown as `?`. Without words, the name in
/// brackets.
fn command_line(words: &[u8], name: &str) -> String {
    let text = String::from_utf8_lossy(words);
    let text = text.trim_end_matches('\0').replace('\0', " ");
    let text = match text.is_empty() {
        true => format!("[{name}]"),
        false => text,
    };
    let plain = |c: char| if c.is_control() { '?' } else { c };
    text.chars().map(plain).collect()
}

/// The names of a container's users.
#[derive(Debug, Default)]
struct Users(HashMap<u32, String>);

impl Users {
    /// By the container's own `/etc/passwd`: none if it can't be read.
    fn of(init: u32) -> Self {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(format!("/proc/{init}/root"), flags, Mode::empty());
        let read = || -> Option<Vec<u8>> {
            let file =
                open_in_root(root.ok()?.as_fd(), Path::new("/etc/passwd"), Open::File).ok()?;
            // Reading the kernel's own files can have effects.
            if fstatfs(&file).ok()?.f_type == PROC_SUPER_MAGIC {
                return None;
            }
            let mut text = Vec::new();
            File::from(file).take(PASSWD).read_to_end(&mut text).ok()?;
            Some(text)
        };
        Self::parse(&String::from_utf8_lossy(&read().unwrap_or_default()))
    }

    /// See `passwd(5)`. The first name of a number counts.
    fn parse(passwd: &str) -> Self {
        let mut users = HashMap::new();
        for line in passwd.lines() {
            let mut fields = line.split(':');
            let (name, uid) = (fields.next(), fields.nth(1));
            let uid = uid.and_then(|uid| uid.parse::<u32>().ok());
            let plain = |name: &&str| !name.is_empty() && !name.contains(char::is_control);
            if let (Some(name), Some(uid)) = (name.filter(plain), uid) {
                users.entry(uid).or_insert_with(|| name.to_owned());
            }
        }
        Self(users)
    }

    fn name(&self, uid: u32) -> String {
        self.0.get(&uid).cloned().unwrap_or_else(|| uid.to_string())
    }
}

#[cfg(test)]
#[path = "processes_tests.rs"]
mod tests;
