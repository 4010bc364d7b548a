//! Whether this machine can give what a container is to be limited to.

use std::fs;

use kleene_doors::host::HostError;
use kleene_types::{ByteSize, Cpus, Limits, Resource, Ulimit};
use rustix::process::getrlimit;

use super::cgroup::Hierarchies;
use crate::shared::limits::{check_memory, refused};

/// What the machine has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// Bytes of memory.
    pub memory: u64,
    /// Bytes of swap space.
    pub swap: u64,
    /// Processors that are online.
    pub processors: Vec<u32>,
    /// The largest number of processes and threads.
    pub pid_max: u64,
    /// The largest number of open files that a process can be given.
    pub nr_open: u64,
    /// Whether a disk is scheduled by `bfq`.
    pub bfq: bool,
    /// Whether the daemon may raise its hard limits.
    pub raises_limits: bool,
}

impl Machine {
    /// Looks at this one. What can't be read is taken to be without bounds.
    pub fn look() -> Self {
        let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let online = fs::read_to_string("/sys/devices/system/cpu/online").unwrap_or_default();
        let online = online.trim().parse::<kleene_types::CpuSet>();
        Self {
            memory: kibibytes(&meminfo, "MemTotal:").unwrap_or(u64::MAX),
            swap: kibibytes(&meminfo, "SwapTotal:").unwrap_or(0),
            processors: online.map(|set| set.iter().collect()).unwrap_or_default(),
            pid_max: number("/proc/sys/kernel/pid_max").unwrap_or(u64::MAX),
            nr_open: number("/proc/sys/fs/nr_open").unwrap_or(u64::MAX),
            bfq: has_bfq(),
            raises_limits: may_raise_limits(),
        }
    }
}

/// Checks what a container is to be limited to. Answers what can't be done quite as asked.
///
/// # Errors
/// [`HostError::Unsupported`] naming the limit and the reason.
pub fn check(
    groups: &Hierarchies,
    machine: &Machine,
    limits: &Limits,
    shm_size: Option<ByteSize>,
    ulimits: &[Ulimit],
) -> Result<Vec<String>, HostError> {
    check_memory(machine.memory, limits)?;
    if let Some(cpus) = limits.cpus {
        check_cpus(machine, cpus)?;
    }
    check_cpuset(groups, machine, limits)?;
    check_pids(machine, limits.pids)?;
    if let Some(size) = shm_size {
        check_shm(machine, size)?;
    }
    groups.prepare(limits)?;
    groups.wanted(limits)?;
    let mut warnings = Vec::from_iter(swap_warning(groups, machine, limits));
    warnings.extend(weight_warnings(groups, machine, limits));
    for ulimit in ulimits {
        warnings.extend(ulimit_warning(machine, ulimit));
    }
    Ok(warnings)
}

fn check_cpus(machine: &Machine, cpus: Cpus) -> Result<(), HostError> {
    let online = machine.processors.len();
    let most = u32::try_from(online).unwrap_or(u32::MAX);
    // Nothing is known of the machine then.
    if most == 0 || cpus.thousandths() <= most.saturating_mul(1000) {
        return Ok(());
    }
    refused(format!(
        "--cpus {cpus} is more than this machine has ({online} processors): give less, or leave \
         the limit out"
    ))
}

fn check_cpuset(groups: &Hierarchies, machine: &Machine, limits: &Limits) -> Result<(), HostError> {
    let Some(set) = &limits.cpuset else {
        return Ok(());
    };
    let available = match groups.processors() {
        Some(set) => set.iter().collect(),
        None => machine.processors.clone(),
    };
    let absent = set.iter().find(|processor| !available.contains(processor));
    match absent {
        Some(absent) if !available.is_empty() => refused(format!(
            "--cpuset {set} names processor {absent}, but this machine has only {}: leave it out",
            list(&available)
        )),
        _ => Ok(()),
    }
}

/// Numbers with commas between.
fn list(numbers: &[u32]) -> String {
    let numbers: Vec<String> = numbers.iter().map(u32::to_string).collect();
    let text = numbers.join(",");
    match text.parse::<kleene_types::CpuSet>() {
        Ok(set) => set.to_string(),
        Err(_) => text,
    }
}

fn check_pids(machine: &Machine, pids: Option<u64>) -> Result<(), HostError> {
    let most = machine.pid_max;
    match pids {
        Some(0) => refused("--pids-limit 0 lets no process start: give 1 or more".to_owned()),
        Some(pids) if pids > most => refused(format!(
            "--pids-limit {pids} is more than this machine can have ({most}): give less, or leave \
             the limit out"
        )),
        _ => Ok(()),
    }
}

fn check_shm(machine: &Machine, size: ByteSize) -> Result<(), HostError> {
    if size.bytes() == 0 {
        return refused("--shm-size 0 means no shared memory at all: give 4k or more".to_owned());
    }
    if size.bytes() > machine.memory {
        return refused(format!(
            "--shm-size {size} is more than this machine's memory ({} bytes): give less",
            machine.memory
        ));
    }
    Ok(())
}

fn swap_warning(groups: &Hierarchies, machine: &Machine, limits: &Limits) -> Option<String> {
    let matters = limits.memory_swap.is_some() || machine.swap > 0;
    (limits.memory.is_some() && matters && !groups.limits_swap()).then(|| {
        "swap space isn't limited: the kernel doesn't count it (boot with swapaccount=1 to have \
         that)"
            .to_owned()
    })
}

fn weight_warnings(groups: &Hierarchies, machine: &Machine, limits: &Limits) -> Vec<String> {
    let Some(weight) = limits.io_weight else {
        return Vec::new();
    };
    let mut warnings = Vec::new();
    if let Some(largest) = groups.largest_weight().filter(|most| *most < weight.get()) {
        warnings.push(format!(
            "io-weight {} is cut to {largest}, the most that this host knows",
            weight.get()
        ));
    }
    if groups.weighs_by_bfq() && !machine.bfq {
        warnings.push(
            "io-weight has no effect as long as no disk of this host is scheduled by bfq \
             (/sys/block/DISK/queue/scheduler)"
                .to_owned(),
        );
    }
    warnings
}

fn ulimit_warning(machine: &Machine, ulimit: &Ulimit) -> Option<String> {
    let asked = ulimit.hard.unwrap_or(u64::MAX);
    let name = ulimit.resource.name();
    if ulimit.resource == Resource::Nofile && asked > machine.nr_open {
        return Some(format!(
            "ulimit {name} is cut to {}, the most that the kernel gives (/proc/sys/fs/nr_open)",
            machine.nr_open
        ));
    }
    let own = getrlimit(resource(ulimit.resource)).maximum?;
    (!machine.raises_limits && asked > own).then(|| {
        format!(
            "ulimit {name} is cut to {own}, the daemon's own limit: it may not raise it \
             (CAP_SYS_RESOURCE)"
        )
    })
}

fn resource(resource: Resource) -> rustix::process::Resource {
    use rustix::process::Resource as Kernel;
    match resource {
        Resource::As => Kernel::As,
        Resource::Core => Kernel::Core,
        Resource::Cpu => Kernel::Cpu,
        Resource::Data => Kernel::Data,
        Resource::Fsize => Kernel::Fsize,
        Resource::Locks => Kernel::Locks,
        Resource::Memlock => Kernel::Memlock,
        Resource::Msgqueue => Kernel::Msgqueue,
        Resource::Nice => Kernel::Nice,
        Resource::Nofile => Kernel::Nofile,
        Resource::Nproc => Kernel::Nproc,
        Resource::Rss => Kernel::Rss,
        Resource::Rtprio => Kernel::Rtprio,
        Resource::Rttime => Kernel::Rttime,
        Resource::Sigpending => Kernel::Sigpending,
        Resource::Stack => Kernel::Stack,
    }
}

/// See `proc_meminfo(5)`.
fn kibibytes(meminfo: &str, name: &str) -> Option<u64> {
    let value = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
    let value: u64 = value.trim().strip_suffix(" kB")?.parse().ok()?;
    value.checked_mul(1024)
}

fn number(path: &str) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn has_bfq() -> bool {
    let disks = fs::read_dir("/sys/block").into_iter().flatten().flatten();
    disks
        .map(|disk| disk.path().join("queue/scheduler"))
        .any(|path| fs::read_to_string(path).is_ok_and(|text| text.contains("[bfq]")))
}

fn may_raise_limits() -> bool {
    use rustix::thread::{CapabilitySet, capabilities};
    capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::SYS_RESOURCE))
}

#[cfg(test)]
#[path = "limits_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "live_tests.rs"]
mod live_tests;
