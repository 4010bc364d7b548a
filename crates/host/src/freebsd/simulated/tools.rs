//! The tools that know neither jails nor mounts best: devfs(8), rctl(8), cpuset(1), pkill(1), ps(1),
//! sysctl(8), kldstat(8), kldload(8).

use std::collections::BTreeMap;

use kleene_types::Timestamp;

use super::State;
use super::jail::OF_KERNEL;
use super::words::Reply;
use crate::fake::FakeHost;

/// Resources that rctl(8) knows, in its order.
const RESOURCES: &[&str] = &[
    "cputime",
    "datasize",
    "stacksize",
    "coredumpsize",
    "memoryuse",
    "memorylocked",
    "maxproc",
    "openfiles",
    "vmemoryuse",
    "pseudoterminals",
    "swapuse",
    "nthr",
    "msgqqueued",
    "msgqsize",
    "nmsgq",
    "nsem",
    "nsemop",
    "nshm",
    "shmsize",
    "wallclock",
    "pcpu",
    "readbps",
    "writebps",
    "readiops",
    "writeiops",
];

/// Modules that are in the kernel.
const MODULES: &[&str] = &[
    "zfs",
    "nullfs",
    "fdescfs",
    "tmpfs",
    "procfs",
    "pf",
    "if_bridge",
    "if_epair",
];

const PROCESSORS: u32 = 64;

/// What the kernel has been told.
#[derive(Debug)]
pub struct Rules {
    /// Those of rctl(8).
    pub limits: Vec<String>,
    /// Those of devfs(8), by their sets.
    devices: BTreeMap<String, Vec<String>>,
    /// Whether the kernel counts at all.
    pub counts: bool,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            limits: Vec::new(),
            devices: BTreeMap::new(),
            counts: true,
        }
    }
}

impl Rules {
    /// The rules of a set for devices, which may be empty.
    pub fn of_devices(&self, ruleset: &str) -> Vec<String> {
        self.devices.get(ruleset).cloned().unwrap_or_default()
    }
}

pub fn devfs(state: &mut State, words: &[&str], input: Option<&[u8]>) -> Reply {
    let ["rule", "-s", ruleset, action @ ..] = words else {
        return Reply::usage("devfs");
    };
    let devices = &mut state.rules.devices;
    match action {
        ["delset"] => drop(devices.remove(*ruleset)),
        ["add", "-"] => {
            let text = String::from_utf8_lossy(input.unwrap_or_default()).into_owned();
            let rules = text.lines().map(str::trim).filter(|line| !line.is_empty());
            let rules = rules.map(|line| line.strip_prefix("add ").unwrap_or(line).to_owned());
            devices
                .entry((*ruleset).to_owned())
                .or_default()
                .extend(rules);
        }
        ["add", rule @ ..] => {
            let rules = devices.entry((*ruleset).to_owned()).or_default();
            rules.push(rule.join(" "));
        }
        ["show"] => {
            let rules = state.rules.of_devices(ruleset);
            let lines = rules.iter().zip(1..);
            let lines = lines.map(|(rule, number)| format!("{} {rule}\n", number * 100));
            return Reply::ok(lines.collect::<String>());
        }
        _ => return Reply::usage("devfs rule"),
    }
    Reply::ok("")
}

pub fn rctl(state: &mut State, processes: &FakeHost, words: &[&str]) -> Reply {
    if !state.rules.counts {
        return Reply::fail(
            1,
            "rctl: RACCT/RCTL present, but disabled; enable using kern.racct.enable=1 tunable\n",
        );
    }
    let rules = &mut state.rules.limits;
    match words {
        ["-a", rule] => {
            let parts: Vec<&str> = rule.split(':').collect();
            match parts.as_slice() {
                ["jail", name, resource, amount] if RESOURCES.contains(resource) => {
                    // It takes the place of the same one; what denies, of one that denies otherwise.
                    let denies = format!("jail:{name}:{resource}:deny=");
                    let takes_its_place = |other: &String| {
                        other == rule || (amount.starts_with("deny=") && other.starts_with(&denies))
                    };
                    rules.retain(|other| !takes_its_place(other));
                    rules.insert(0, (*rule).to_owned());
                    Reply::ok("")
                }
                _ => Reply::fail(
                    1,
                    format!("rctl: failed to add rule '{rule}': Invalid argument\n"),
                ),
            }
        }
        ["-r", filter] => {
            let before = rules.len();
            rules.retain(|rule| !of(rule, filter));
            match rules.len() == before {
                false => Reply::ok(""),
                true => Reply::fail(
                    1,
                    format!("rctl: failed to remove rule '{filter}': No such process\n"),
                ),
            }
        }
        ["-u", filter] => {
            let name = filter.strip_prefix("jail:").unwrap_or_default();
            let jail = state.jails.find(name).and_then(|jail| jail.container());
            // Of what isn't there nothing is used.
            let count = jail.map_or(0, |container| processes.jailed(&container).len());
            let amount = |resource: &&str| match *resource {
                "maxproc" | "nthr" => format!("{resource}={count}\n"),
                resource => format!("{resource}=0\n"),
            };
            Reply::ok(RESOURCES.iter().map(amount).collect::<String>())
        }
        [filter] => {
            let found = rules.iter().filter(|rule| of(rule, filter));
            Reply::ok(found.map(|rule| format!("{rule}\n")).collect::<String>())
        }
        _ => Reply::usage("rctl"),
    }
}

/// Whether a rule is one of a filter's.
fn of(rule: &str, filter: &str) -> bool {
    rule.strip_prefix(filter)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(':'))
}

pub fn cpuset(state: &mut State, words: &[&str]) -> Reply {
    let ["-l", list, "-j", jail] = words else {
        return Reply::usage("cpuset");
    };
    let Some(jail) = state.jails.find(jail) else {
        let shown = match jail.parse::<u32>() {
            Ok(number) => number.to_string(),
            Err(_) => format!("\"{jail}\""),
        };
        return Reply::fail(1, format!("cpuset: jail {shown} not found\n"));
    };
    if list.contains(|c: char| !c.is_ascii_digit() && !",-".contains(c)) {
        return Reply::fail(1, format!("cpuset: Malformed list {list}\n"));
    }
    let mut numbers = list.split([',', '-']);
    if !numbers.all(|number| number.parse::<u32>().is_ok_and(|it| it < PROCESSORS)) {
        return Reply::fail(1, "cpuset: setaffinity: Invalid argument\n");
    }
    jail.cpuset = Some((*list).to_owned());
    Reply::ok("")
}

pub fn pkill(state: &mut State, processes: &FakeHost, words: &[&str]) -> Reply {
    let (signal, jid, session) = match words {
        [signal, "-j", jid] => (signal, jid, None),
        [signal, "-j", jid, "-s", session] => (signal, jid, session.parse().ok()),
        _ => return Reply::usage("pkill"),
    };
    let signal = signal.strip_prefix('-').unwrap_or(signal);
    let jail = state.jails.find(jid).and_then(|jail| jail.container());
    let reached = jail.map_or(0, |it| processes.signal_jailed(&it, session, signal));
    match reached {
        0 => Reply::fail(1, ""),
        _ => Reply::ok(""),
    }
}

pub fn ps(state: &mut State, processes: &FakeHost, words: &[&str]) -> Reply {
    let ["-ww", "-J", jid, columns @ ..] = words else {
        return Reply::usage("ps");
    };
    let wanted =
        "-o pid= -o ppid= -o uid= -o state= -o time= -o rss= -o etimes= -o tt= -o command=";
    if columns.join(" ") != wanted {
        return Reply::usage("ps");
    }
    let Some(jail) = state.jails.find(jid) else {
        return Reply::fail(1, format!("ps: Invalid jail id: {jid}\n"));
    };
    let container = jail.container();
    let found = container.map_or_else(Vec::new, |container| processes.jailed(&container));
    let now = Timestamp::now().microseconds();
    let lines = found.iter().map(|process| {
        let info = &process.info;
        let state = if process.paused { "TCJ" } else { "SCJ" };
        let age = now.saturating_sub(info.started.microseconds()) / 1_000_000;
        let (pid, parent, command) = (info.pid, info.parent, &info.command);
        format!("{pid:>5} {parent:>5} 0 {state:<3} 0:00.00 0 {age:>7} -  {command}\n")
    });
    let lines: String = lines.collect();
    match lines.is_empty() {
        true => Reply::fail(1, ""),
        false => Reply::ok(lines),
    }
}

pub fn sysctl(state: &State, words: &[&str]) -> Reply {
    let values = match words {
        ["-N", "security.jail.param"] => OF_KERNEL
            .iter()
            .map(|name| format!("security.jail.param.{name}\n"))
            .collect(),
        ["-n", names @ ..] => {
            let mut values = String::new();
            for name in names {
                let value = match *name {
                    "hw.physmem" => (64_u64 << 30).to_string(),
                    "hw.ncpu" => PROCESSORS.to_string(),
                    "kern.racct.enable" => u8::from(state.rules.counts).to_string(),
                    name => return Reply::fail(1, format!("sysctl: unknown oid '{name}'\n")),
                };
                values.push_str(&format!("{value}\n"));
            }
            values
        }
        _ => return Reply::usage("sysctl"),
    };
    Reply::ok(values)
}

pub fn kldstat(words: &[&str]) -> Reply {
    match words {
        ["-q", "-m", name] if MODULES.contains(name) => Reply::ok(""),
        ["-q", "-m", _] => Reply::fail(1, ""),
        _ => Reply::usage("kldstat"),
    }
}

/// The kernel has everything built in, and there are no files of modules.
pub fn kldload(words: &[&str]) -> Reply {
    let [name] = words else {
        return Reply::usage("kldload");
    };
    let why = match MODULES.contains(name) && *name != "zfs" {
        true => "module already loaded or in kernel",
        // This one has another name there.
        false => "No such file or directory",
    };
    Reply::fail(1, format!("kldload: can't load {name}: {why}\n"))
}
