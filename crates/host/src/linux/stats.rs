//! What a container has used, from its control groups' files: some ten short reads.
//!
//! Sources: the kernel's `admin-guide/cgroup-v2.rst` and `admin-guide/cgroup-v1/{memory,cpuacct,
//! blkio-controller,pids}.rst`.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use kleene_doors::observe::{CpuUsage, InterfaceUsage, IoUsage, MemoryUsage, PidsUsage, Stats};
use kleene_types::ContainerId;
use rustix::process::Pid;

use super::cgroup::{Controller, Hierarchies, Version};

/// Reads what a container has used whose first process is `init`. What isn't there, or goes away
/// meanwhile, is left out.
pub fn read(groups: &Hierarchies, container: &ContainerId, init: u32) -> Stats {
    Stats {
        cpu: cpu(groups, container, init),
        memory: memory(groups, container),
        pids: pids(groups, container),
        io: io(groups, container),
        network: network(init),
    }
}

fn group(
    groups: &Hierarchies,
    controller: Controller,
    container: &ContainerId,
) -> Option<(Version, PathBuf)> {
    let home = groups.home(controller)?;
    Some((home.version, home.group(container)))
}

fn cpu(groups: &Hierarchies, container: &ContainerId, init: u32) -> Option<CpuUsage> {
    // Every group of the unified hierarchy counts time, whoever limits it.
    let unified = groups.unified_group(container);
    let counted = unified.and_then(|group| Keyed::read(&group.join("cpu.stat")));
    let limited = group(groups, Controller::Cpu, container);
    let mut usage = match &counted {
        Some(stat) => CpuUsage {
            total_us: stat.get("usage_usec")?,
            user_us: stat.get("user_usec")?,
            system_us: stat.get("system_usec")?,
            ..CpuUsage::default()
        },
        None => cpuacct(groups, container)?,
    };
    usage.throttled_us = match limited {
        Some((Version::Unified, _)) => counted.and_then(|stat| stat.get("throttled_usec")),
        Some((Version::Legacy, group)) => {
            let stat = Keyed::read(&group.join("cpu.stat"));
            let nanoseconds = stat.and_then(|stat| stat.get("throttled_time"));
            nanoseconds.map(|time| time / 1000)
        }
        None => None,
    }
    .unwrap_or(0);
    usage.online = processors(init);
    Some(usage)
}

/// Counted in nanoseconds and, apart, in ticks.
fn cpuacct(groups: &Hierarchies, container: &ContainerId) -> Option<CpuUsage> {
    let (_, group) = group(groups, Controller::Cpuacct, container)?;
    let stat = Keyed::read(&group.join("cpuacct.stat"))?;
    let ticks = |name: &str| stat.get(name).map(super::clock::microseconds);
    Some(CpuUsage {
        total_us: number(&group.join("cpuacct.usage"))? / 1000,
        user_us: ticks("user")?,
        system_us: ticks("system")?,
        ..CpuUsage::default()
    })
}

/// How many processors the process may run on.
fn processors(pid: u32) -> u32 {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let set = rustix::thread::sched_getaffinity(pid);
    set.map_or(0, |set| set.count())
}

fn memory(groups: &Hierarchies, container: &ContainerId) -> Option<MemoryUsage> {
    let (version, group) = group(groups, Controller::Memory, container)?;
    let [usage, peak, limit, inactive] = match version {
        Version::Legacy => [
            "memory.usage_in_bytes",
            "memory.max_usage_in_bytes",
            "memory.limit_in_bytes",
            "total_inactive_file",
        ],
        Version::Unified => [
            "memory.current",
            "memory.peak",
            "memory.max",
            "inactive_file",
        ],
    };
    let usage = number(&group.join(usage))?;
    let stat = Keyed::read(&group.join("memory.stat"));
    // The two are read one after the other.
    let reclaimable = stat.and_then(|stat| stat.get(inactive)).unwrap_or(0);
    let reclaimable = reclaimable.min(usage);
    let killed = groups.out_of_memory(container);
    let killed = killed.and_then(|path| Keyed::read(&path)?.get("oom_kill"));
    let machine = super::clock::machine_memory();
    Some(MemoryUsage {
        used: usage - reclaimable,
        reclaimable,
        peak: number(&group.join(peak)).unwrap_or(0),
        limit: number(&group.join(limit)).map_or(machine, |limit| limit.min(machine)),
        oom_kills: killed.unwrap_or(0),
    })
}

fn pids(groups: &Hierarchies, container: &ContainerId) -> Option<PidsUsage> {
    let (_, group) = group(groups, Controller::Pids, container)?;
    Some(PidsUsage {
        current: number(&group.join("pids.current"))?,
        limit: number(&group.join("pids.max")),
    })
}

fn io(groups: &Hierarchies, container: &ContainerId) -> Option<IoUsage> {
    let (version, group) = group(groups, Controller::Io, container)?;
    let read = |name: &str| fs::read_to_string(group.join(name)).ok();
    match version {
        Version::Unified => read("io.stat").map(|text| unified_io(&text)),
        Version::Legacy => {
            let bytes = legacy_io(&read("blkio.throttle.io_service_bytes")?);
            let operations = legacy_io(&read("blkio.throttle.io_serviced")?);
            Some(IoUsage {
                read_bytes: bytes.0,
                write_bytes: bytes.1,
                reads: operations.0,
                writes: operations.1,
            })
        }
    }
}

/// Lines like `8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6`, summed up.
fn unified_io(text: &str) -> IoUsage {
    let mut usage = IoUsage::default();
    for (name, value) in text
        .split_whitespace()
        .filter_map(|word| word.split_once('='))
    {
        let value: u64 = value.parse().unwrap_or(0);
        match name {
            "rbytes" => usage.read_bytes += value,
            "wbytes" => usage.write_bytes += value,
            "rios" => usage.reads += value,
            "wios" => usage.writes += value,
            _ => {}
        }
    }
    usage
}

/// Lines like `8:0 Read 4096`, summed up: what was read and what was written.
fn legacy_io(text: &str) -> (u64, u64) {
    let mut sums = (0, 0);
    for line in text.lines() {
        let mut words = line.split(' ').skip(1);
        let (Some(name), Some(value)) = (words.next(), words.next()) else {
            continue;
        };
        let value: u64 = value.parse().unwrap_or(0);
        match name {
            "Read" => sums.0 += value,
            "Write" => sums.1 += value,
            _ => {}
        }
    }
    sums
}

/// The interfaces of a process's network, if it isn't the daemon's own.
fn network(init: u32) -> Vec<InterfaceUsage> {
    let namespace = |process: &str| {
        let meta = fs::metadata(format!("/proc/{process}/ns/net")).ok()?;
        Some((meta.dev(), meta.ino()))
    };
    let theirs = namespace(&init.to_string());
    if theirs.is_none() || theirs == namespace("self") {
        return Vec::new();
    }
    let text = fs::read_to_string(format!("/proc/{init}/net/dev")).unwrap_or_default();
    interfaces(&text)
}

/// `/proc/PID/net/dev`: two lines of titles, then a line an interface with eight numbers received
/// and eight sent. See `proc_pid_net(5)`.
fn interfaces(text: &str) -> Vec<InterfaceUsage> {
    let parse = |line: &str| {
        let (name, numbers) = line.split_once(':')?;
        let numbers: Vec<u64> = numbers
            .split_whitespace()
            .map_while(|number| number.parse().ok())
            .collect();
        Some(InterfaceUsage {
            name: name.trim().to_owned(),
            rx_bytes: *numbers.first()?,
            rx_packets: *numbers.get(1)?,
            tx_bytes: *numbers.get(8)?,
            tx_packets: *numbers.get(9)?,
        })
    };
    let interfaces = text.lines().skip(2).filter_map(parse);
    interfaces
        .filter(|interface| interface.name != "lo")
        .collect()
}

/// A file of lines `name number`.
struct Keyed(String);

impl Keyed {
    fn read(path: &Path) -> Option<Self> {
        fs::read_to_string(path).ok().map(Self)
    }

    fn get(&self, name: &str) -> Option<u64> {
        let mut lines = self.0.lines();
        let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
        value.trim().parse().ok()
    }
}

/// A file with one number; anything else, as `max`, is none.
fn number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

#[cfg(test)]
#[path = "stats_tests.rs"]
mod tests;
