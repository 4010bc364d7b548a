//! Limits as values of control groups' files.

use std::path::PathBuf;

use kleene_doors::host::HostError;
use kleene_monitor::proto::Setting;
use kleene_types::{ByteSize, ContainerId, Cpus, IoWeight, Limits, SwapLimit};

use super::{Controller, Hierarchies, Home, Version};

/// Microseconds after which a container gets its time of the processors anew.
const PERIOD: u64 = 100_000;

/// What a file of a container's group is to hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted<'h> {
    home: Home<'h>,
    /// Who knows the file.
    pub controller: Controller,
    /// What it is about, for messages: `memory limit 512m`.
    what: String,
    name: &'static str,
    /// What it holds by default.
    unlimited: String,
    /// What was asked for.
    value: Option<String>,
}

/// A file of a container's group with the value that it is to get.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addressed {
    /// Who knows the file.
    pub controller: Controller,
    /// The container's group.
    pub group: PathBuf,
    /// Whether something is limited by it, or no longer.
    pub limits: bool,
    /// The file and its value.
    pub setting: Setting,
}

impl Wanted<'_> {
    /// What is to be written for a new container; `None` when nothing is limited.
    pub fn setting(&self, container: &ContainerId) -> Option<Setting> {
        let address = self.address(container);
        address.limits.then_some(address.setting)
    }

    /// What is to be written for a running container.
    pub fn address(&self, container: &ContainerId) -> Addressed {
        let group = self.home.group(container);
        Addressed {
            controller: self.controller,
            limits: self.value.is_some(),
            setting: Setting {
                what: self.what.clone(),
                file: group.join(self.name),
                value: self.value.as_ref().unwrap_or(&self.unlimited).clone(),
            },
            group,
        }
    }
}

impl Hierarchies {
    /// What is to be written for these limits, also for those that aren't given. The parents must be
    /// ready: see [`Hierarchies::prepare`].
    ///
    /// # Errors
    /// [`HostError::Unsupported`] naming a limit that this host can't enforce.
    pub fn wanted(&self, limits: &Limits) -> Result<Vec<Wanted<'_>>, HostError> {
        let mut wanted = Vec::new();
        if let Some(home) = self.needed(Controller::Memory, "memory", limits.memory.is_some())? {
            self.add_memory(&mut wanted, home, limits);
        }
        if let Some(home) = self.needed(Controller::Cpu, "cpus", limits.cpus.is_some())? {
            add_cpus(&mut wanted, home, limits.cpus);
        }
        if let Some(home) = self.needed(Controller::Cpuset, "cpuset", limits.cpuset.is_some())? {
            add_cpuset(&mut wanted, home, limits)?;
        }
        if let Some(home) = self.needed(Controller::Pids, "pids-limit", limits.pids.is_some())? {
            let what = what("process limit", limits.pids);
            add(
                &mut wanted,
                home,
                Controller::Pids,
                what,
                [(
                    "pids.max",
                    "max".to_owned(),
                    limits.pids.map(|pids| pids.to_string()),
                )],
            );
        }
        if let Some(home) = self.needed(Controller::Io, "io-weight", limits.io_weight.is_some())? {
            add_weight(&mut wanted, home, limits.io_weight)?;
        }
        Ok(wanted)
    }

    fn needed(
        &self,
        controller: Controller,
        limit: &str,
        is_limited: bool,
    ) -> Result<Option<Home<'_>>, HostError> {
        match self.home(controller) {
            None if is_limited => Err(HostError::Unsupported(format!(
                "--{limit} can't be enforced: this host has no writable control groups with the \
                 controller '{}'; enable it (kernel command line, mounts), or leave the limit out",
                controller.legacy_name()
            ))),
            home => Ok(home),
        }
    }

    /// Whether swap space is counted.
    pub fn limits_swap(&self) -> bool {
        self.home(Controller::Memory)
            .is_some_and(|home| offers(&home, swap_file(home.version)))
    }

    /// The largest weight that is told from others, where that is less than the type allows.
    pub fn largest_weight(&self) -> Option<u16> {
        let weight = self.home(Controller::Io).and_then(|home| weight(&home))?;
        (weight.largest < 10_000).then_some(weight.largest)
    }

    /// Whether only the disks' scheduler `bfq` heeds weights.
    pub fn weighs_by_bfq(&self) -> bool {
        let weight = self.home(Controller::Io).and_then(|home| weight(&home));
        weight.is_some_and(|weight| weight.file.contains("bfq"))
    }

    fn add_memory<'h>(&self, wanted: &mut Vec<Wanted<'h>>, home: Home<'h>, limits: &Limits) {
        let (file, unlimited) = match home.version {
            Version::Legacy => ("memory.limit_in_bytes", "-1"),
            Version::Unified => ("memory.max", "max"),
        };
        let memory = limits.memory.map(ByteSize::bytes);
        add(
            wanted,
            home,
            Controller::Memory,
            what("memory limit", limits.memory),
            [(
                file,
                unlimited.to_owned(),
                memory.map(|bytes| bytes.to_string()),
            )],
        );
        if self.limits_swap() {
            let total = total_with_swap(limits);
            let value = match home.version {
                Version::Legacy => total,
                Version::Unified => total.map(|total| total.saturating_sub(memory.unwrap_or(0))),
            };
            let value = value.map(|bytes| bytes.to_string());
            let what = what("limit of memory and swap space", total.map(ByteSize::new));
            let file = swap_file(home.version);
            let setting = (file, unlimited.to_owned(), value);
            add(wanted, home, Controller::Memory, what, [setting]);
        }
    }
}

const fn swap_file(version: Version) -> &'static str {
    match version {
        Version::Legacy => "memory.memsw.limit_in_bytes",
        Version::Unified => "memory.swap.max",
    }
}

/// Memory and swap space together, as Docker has it: twice the memory when nothing is said.
fn total_with_swap(limits: &Limits) -> Option<u64> {
    let memory = limits.memory?.bytes();
    match limits.memory_swap {
        Some(SwapLimit::Total(total)) => Some(total.bytes()),
        Some(SwapLimit::Unlimited) => None,
        None => Some(memory.saturating_mul(2)),
    }
}

fn add_cpus<'h>(wanted: &mut Vec<Wanted<'h>>, home: Home<'h>, cpus: Option<Cpus>) {
    let quota = cpus.map(|cpus| u64::from(cpus.thousandths()) * PERIOD / 1000);
    let what = what("processor limit", cpus);
    match home.version {
        Version::Legacy => {
            let period = ("cpu.cfs_period_us", PERIOD.to_string());
            let quota = quota.map(|quota| quota.to_string());
            add(
                wanted,
                home,
                Controller::Cpu,
                what,
                [
                    (period.0, period.1.clone(), quota.as_ref().map(|_| period.1)),
                    ("cpu.cfs_quota_us", "-1".to_owned(), quota),
                ],
            );
        }
        Version::Unified => add(
            wanted,
            home,
            Controller::Cpu,
            what,
            [(
                "cpu.max",
                format!("max {PERIOD}"),
                quota.map(|quota| format!("{quota} {PERIOD}")),
            )],
        ),
    }
}

/// A group of version 1 needs processors and nodes of memory before anybody can enter it.
fn add_cpuset<'h>(
    wanted: &mut Vec<Wanted<'h>>,
    home: Home<'h>,
    limits: &Limits,
) -> Result<(), HostError> {
    let cpus = limits.cpuset.as_ref().map(ToString::to_string);
    let what = what("set of processors", limits.cpuset.as_ref());
    match home.version {
        Version::Legacy => {
            let all = |name| super::parents::cpuset(&home, name);
            let nodes = all("cpuset.mems")?;
            add(
                wanted,
                home,
                Controller::Cpuset,
                what,
                [
                    ("cpuset.mems", nodes.clone(), cpus.as_ref().map(|_| nodes)),
                    ("cpuset.cpus", all("cpuset.cpus")?, cpus),
                ],
            );
        }
        // An empty line: the parent's.
        Version::Unified => add(
            wanted,
            home,
            Controller::Cpuset,
            what,
            [("cpuset.cpus", "\n".to_owned(), cpus)],
        ),
    }
    Ok(())
}

/// How a host weighs input and output.
struct Weight {
    file: &'static str,
    /// What 100, everybody's weight, is here.
    usual: u16,
    smallest: u16,
    largest: u16,
}

/// In the order in which they are looked for.
const WEIGHTS: [(Version, Weight); 4] = [
    (
        Version::Unified,
        Weight {
            file: "io.weight",
            usual: 100,
            smallest: 1,
            largest: 10_000,
        },
    ),
    (
        Version::Unified,
        Weight {
            file: "io.bfq.weight",
            usual: 100,
            smallest: 1,
            largest: 1000,
        },
    ),
    // Of kernels before 5.0.
    (
        Version::Legacy,
        Weight {
            file: "blkio.weight",
            usual: 500,
            smallest: 10,
            largest: 1000,
        },
    ),
    (
        Version::Legacy,
        Weight {
            file: "blkio.bfq.weight",
            usual: 100,
            smallest: 1,
            largest: 1000,
        },
    ),
];

fn weight(home: &Home<'_>) -> Option<Weight> {
    let of_this = WEIGHTS
        .into_iter()
        .filter(|(version, _)| *version == home.version);
    let mut weights = of_this.map(|(_, weight)| weight);
    weights.find(|weight| offers(home, weight.file))
}

fn add_weight<'h>(
    wanted: &mut Vec<Wanted<'h>>,
    home: Home<'h>,
    asked: Option<IoWeight>,
) -> Result<(), HostError> {
    let Some(weight) = weight(&home) else {
        return match asked {
            None => Ok(()),
            Some(_) => Err(HostError::Unsupported(
                "--io-weight can't be enforced: this host's kernel weighs no input and output \
                 (neither by bfq nor by cost); leave it out"
                    .to_owned(),
            )),
        };
    };
    let value = asked.map(|asked| {
        let scaled = u32::from(asked.get()) * u32::from(weight.usual) / 100;
        let bounded = scaled.clamp(weight.smallest.into(), weight.largest.into());
        bounded.to_string()
    });
    let what = what("weight of input and output", asked.map(IoWeight::get));
    let setting = (weight.file, weight.usual.to_string(), value);
    add(wanted, home, Controller::Io, what, [setting]);
    Ok(())
}

/// Whether the group of all containers has a file; the root has fewer.
fn offers(home: &Home<'_>, file: &str) -> bool {
    home.parent().join(file).exists()
}

fn what(name: &str, value: Option<impl std::fmt::Display>) -> String {
    match value {
        Some(value) => format!("{name} {value}"),
        None => format!("no {name}"),
    }
}

fn add<'h, const N: usize>(
    wanted: &mut Vec<Wanted<'h>>,
    home: Home<'h>,
    controller: Controller,
    what: String,
    files: [(&'static str, String, Option<String>); N],
) {
    for (name, unlimited, value) in files {
        wanted.push(Wanted {
            home,
            controller,
            what: what.clone(),
            name,
            unlimited,
            value,
        });
    }
}
