//! What a jail's processes are, and what they have used: ps(1), rctl(8).

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use kleene_command::{Argv, CommandError, Ending, Runner};
use kleene_doors::host::HostError;
use kleene_doors::observe::{CpuUsage, IoUsage, MemoryUsage, PidsUsage, ProcessInfo, Stats};
use kleene_tree::{Open, open_in_root};
use kleene_types::Timestamp;
use rustix::fs::{Mode, OFlags};

use super::check::Machine;
use super::{Misunderstood, failed};

/// Bytes of a user database that are read: it is in the hands of whoever is in the container.
const PASSWD: u64 = 1 << 20;

/// What is asked of each process. The command comes last: it has blanks.
const COLUMNS: [&str; 9] = [
    "pid", "ppid", "uid", "state", "time", "rss", "etimes", "tt", "command",
];

/// A jail's processes by their ids, without those that have ended and wait for their parents to notice.
/// `root` is the jail's, whose users are named.
///
/// # Errors
/// What ps(1) says, or that its answer can't be understood.
pub fn processes(
    runner: &dyn Runner,
    jid: i32,
    root: &Path,
) -> Result<Vec<ProcessInfo>, HostError> {
    let action = format!("listing the processes of jail {jid}");
    let mut command = Argv::new("ps").args(["-ww", "-J", &jid.to_string()]);
    for column in COLUMNS {
        // An empty heading for each leaves no line of headings.
        command = command.args(["-o".to_owned(), format!("{column}=")]);
    }
    let text = match runner.run(&command) {
        Ok(output) => output.text(),
        // There are none, or the jail has just gone with the last one.
        Err(CommandError::Failed {
            ending: Ending::Status(1),
            stderr,
            ..
        }) if stderr.is_empty() || stderr.starts_with("ps: Invalid jail id") => {
            return Ok(Vec::new());
        }
        Err(error) => return Err(failed(&action)(error)),
    };
    let users = Users::of(root);
    let now = Timestamp::now();
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    let mut found = Vec::new();
    for line in lines {
        let process = process(line, &users, now).ok_or_else(|| HostError::Failed {
            action: action.clone(),
            source: Box::new(Misunderstood {
                command: command.to_string(),
                answer: line.to_owned(),
            }),
        })?;
        if process.state != 'Z' {
            found.push(process);
        }
    }
    found.sort_by_key(|process| process.pid);
    Ok(found)
}

/// One line of ps(1).
fn process(line: &str, users: &Users, now: Timestamp) -> Option<ProcessInfo> {
    let mut rest = line.trim_start();
    let mut word = || {
        let (word, others) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
        rest = others.trim_start();
        (!word.is_empty()).then_some(word)
    };
    let pid = word()?.parse().ok()?;
    let parent = word()?.parse().ok()?;
    let uid = word()?.parse().ok()?;
    let state = word()?.chars().next()?;
    let cpu_us = cpu_time(word()?)?;
    let resident = word()?.parse::<u64>().ok()?;
    // Nothing is known of the age of a process that is swapped out.
    let age = match word()? {
        "-" => 0,
        age => age.parse::<u64>().ok()?,
    };
    let terminal = word()?;
    let started = now
        .microseconds()
        .saturating_sub(age.saturating_mul(1_000_000));
    Some(ProcessInfo {
        pid,
        inside_pid: None,
        parent,
        user: users.name(uid),
        state,
        cpu_us,
        resident: resident.saturating_mul(1024),
        started: Timestamp::from_microseconds(started)?,
        terminal: (terminal != "-").then(|| terminal.to_owned()),
        command: rest.trim_end().to_owned(),
    })
}

/// `MINUTES:SECONDS.HUNDREDTHS` or with `HOURS:` and `DAYS-` before it, in microseconds.
fn cpu_time(text: &str) -> Option<u64> {
    let (days, clock) = match text.split_once('-') {
        Some((days, clock)) => (days.parse::<u64>().ok()?, clock),
        None => (0, text),
    };
    let mut parts = clock.rsplit(':');
    let seconds: f64 = parts.next()?.parse().ok()?;
    let mut whole = days * 86_400;
    for (part, unit) in parts.zip([60, 3600]) {
        whole += part.parse::<u64>().ok()? * unit;
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "less than a minute, and never below zero"
    )]
    let fraction = (seconds.clamp(0.0, 60.0) * 1e6) as u64;
    Some(whole * 1_000_000 + fraction)
}

/// What a jail has used: by the kernel's accounts where it keeps some, else by its processes.
///
/// # Errors
/// As [`processes`].
pub fn stats(runner: &dyn Runner, jail: &str, jid: i32, root: &Path) -> Result<Stats, HostError> {
    let machine = Machine::look(runner);
    let memory = machine.map_or(0, |machine| machine.memory);
    let online = machine.map_or(1, |machine| machine.processors);
    let command = Argv::new("rctl").args(["-u".to_owned(), format!("jail:{jail}")]);
    if let Ok(output) = runner.run(&command)
        && let Some(accounts) = Accounts::parse(&output.text())
    {
        let rules = Argv::new("rctl").arg(format!("jail:{jail}"));
        let rules = runner
            .run(&rules)
            .map(|output| output.text())
            .unwrap_or_default();
        return Ok(accounts.stats(&rules, memory, online));
    }
    let processes = processes(runner, jid, root)?;
    let sum = |of: fn(&ProcessInfo) -> u64| processes.iter().map(of).sum();
    Ok(Stats {
        cpu: Some(CpuUsage {
            total_us: sum(|process| process.cpu_us),
            online,
            ..CpuUsage::default()
        }),
        memory: Some(MemoryUsage {
            used: sum(|process| process.resident),
            limit: memory,
            ..MemoryUsage::default()
        }),
        pids: Some(PidsUsage {
            current: processes.len() as u64,
            limit: None,
        }),
        ..Stats::default()
    })
}

/// What rctl(8) counts, by its names.
struct Accounts(HashMap<String, u64>);

impl Accounts {
    /// Lines `RESOURCE=AMOUNT`.
    fn parse(text: &str) -> Option<Self> {
        let amounts = text.lines().filter_map(|line| {
            let (name, amount) = line.split_once('=')?;
            Some((name.trim().to_owned(), amount.trim().parse().ok()?))
        });
        let all: HashMap<String, u64> = amounts.collect();
        all.contains_key("memoryuse").then_some(Self(all))
    }

    fn amount(&self, name: &str) -> u64 {
        self.0.get(name).copied().unwrap_or(0)
    }

    fn stats(&self, rules: &str, memory: u64, online: u32) -> Stats {
        let limit = |resource: &str| {
            let amount = |line: &str| {
                let (_, amount) = line.split_once(&format!(":{resource}:deny="))?;
                amount.trim().parse::<u64>().ok()
            };
            rules.lines().find_map(amount)
        };
        Stats {
            cpu: Some(CpuUsage {
                total_us: self.amount("cputime").saturating_mul(1_000_000),
                online,
                ..CpuUsage::default()
            }),
            memory: Some(MemoryUsage {
                used: self.amount("memoryuse"),
                limit: limit("memoryuse").unwrap_or(memory),
                ..MemoryUsage::default()
            }),
            pids: Some(PidsUsage {
                current: self.amount("maxproc"),
                limit: limit("maxproc"),
            }),
            // These are rates of the last second: nothing that could be added up.
            io: None::<IoUsage>,
            network: Vec::new(),
        }
    }
}

/// Names of the container's users, by its own database.
struct Users(HashMap<u32, String>);

impl Users {
    fn of(root: &Path) -> Self {
        Self(Self::read(root).map_or_else(HashMap::new, |text| Self::parse(&text)))
    }

    fn read(root: &Path) -> Option<String> {
        let root = open(root).ok()?;
        let file = open_in_root(root.as_fd(), Path::new("/etc/passwd"), Open::File).ok()?;
        let mut text = Vec::new();
        File::from(file).take(PASSWD).read_to_end(&mut text).ok()?;
        Some(String::from_utf8_lossy(&text).into_owned())
    }

    fn parse(text: &str) -> HashMap<u32, String> {
        let mut names = HashMap::new();
        for line in text.lines() {
            let mut fields = line.split(':');
            let (name, uid) = (fields.next().unwrap_or_default(), fields.nth(1));
            if let Some(uid) = uid.and_then(|uid| uid.parse().ok()) {
                // The first one counts.
                names.entry(uid).or_insert_with(|| name.to_owned());
            }
        }
        names
    }

    fn name(&self, uid: u32) -> String {
        self.0.get(&uid).cloned().unwrap_or_else(|| uid.to_string())
    }
}

fn open(root: &Path) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(root, flags, Mode::empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_understood() {
        let users = Users(HashMap::from([(80, "www".to_owned())]));
        let now = Timestamp::from_microseconds(1_000_000_000_000_000).unwrap();
        let line = "  344     1  80 SJ+  0:01.50 2204   61 0  /bin/sleep 100 a  b ";
        let found = process(line, &users, now).unwrap();
        let wanted = ProcessInfo {
            pid: 344,
            inside_pid: None,
            parent: 1,
            user: "www".to_owned(),
            state: 'S',
            cpu_us: 1_500_000,
            resident: 2204 * 1024,
            started: Timestamp::from_microseconds(1_000_000_000_000_000 - 61_000_000).unwrap(),
            terminal: Some("0".to_owned()),
            command: "/bin/sleep 100 a  b".to_owned(),
        };
        assert_eq!(found, wanted);
        let swapped = process("344 1 80 IWJ 0:01.50 0 - - (sleep)", &users, now).unwrap();
        assert_eq!((swapped.started, swapped.terminal), (now, None));
        assert!(process("344 1 80", &users, now).is_none());
        assert!(process("a b c d e f g h i", &users, now).is_none());
    }

    #[test]
    fn processor_times() {
        assert_eq!(cpu_time("0:00.02"), Some(20_000));
        assert_eq!(cpu_time("61:02.00"), Some(3_662_000_000));
        assert_eq!(cpu_time("1:00:01.5"), Some(3_601_500_000));
        assert_eq!(cpu_time("2-00:00:00"), Some(172_800_000_000));
        assert_eq!(cpu_time("x"), None);
    }

    #[test]
    fn accounts_and_limits() {
        let accounts = Accounts::parse("cputime=3\nmemoryuse=4096\nmaxproc=2\npcpu=0\n").unwrap();
        let rules = "jail:c1:memoryuse:deny=67108864\njail:c1:maxproc:deny=100\n";
        let stats = accounts.stats(rules, 1 << 30, 2);
        assert_eq!(stats.cpu.unwrap().total_us, 3_000_000);
        let memory = stats.memory.unwrap();
        assert_eq!((memory.used, memory.limit), (4096, 64 << 20));
        let pids = stats.pids.unwrap();
        assert_eq!((pids.current, pids.limit), (2, Some(100)));
        assert_eq!(
            accounts.stats("", 1 << 30, 2).memory.unwrap().limit,
            1 << 30
        );
        assert!(Accounts::parse("rctl: RACCT/RCTL support not present").is_none());
    }

    #[test]
    fn users_have_their_first_names() {
        let names =
            Users::parse("# x\nroot:*:0:0:Charlie:/root:/bin/sh\ntoor:*:0:0::/root:\nx:*:a\n");
        assert_eq!(names, HashMap::from([(0, "root".to_owned())]));
    }
}
