//! Limits of a process: `getrlimit(2)`.

use kleene_doors::host::StartFailure;
use kleene_types::{Resource as Name, Ulimit};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::failure::{OrFail, Started, setup};

/// Limits that a process may set for itself, whoever it has become.
pub(crate) struct Permitted(Vec<(Name, Resource, Rlimit)>);

/// Cuts limits to what may be set, and raises the calling process's hard limits to that: later, it
/// has no right to. Nothing is enforced yet that isn't now.
pub(crate) fn permit(wanted: &[Ulimit]) -> Started<Permitted> {
    let permit = |limit: &Ulimit| {
        let resource = resource(limit.resource)?;
        let current = getrlimit(resource);
        let hard = match is_above(limit.hard, current.maximum) {
            true => raise(resource, limit, current)?,
            false => limit.hard,
        };
        let limits = Rlimit {
            current: if is_above(limit.soft, hard) {
                hard
            } else {
                limit.soft
            },
            maximum: hard,
        };
        Ok((limit.resource, resource, limits))
    };
    wanted
        .iter()
        .map(permit)
        .collect::<Started<_>>()
        .map(Permitted)
}

impl Permitted {
    /// Sets them.
    pub(crate) fn set(&self) -> Started<()> {
        for (name, resource, limit) in &self.0 {
            setrlimit(*resource, *limit)
                .or_fail(|| format!("setting the ulimit {}", name.name()))?;
        }
        Ok(())
    }

    /// The resources by their names, with soft and hard limit.
    #[cfg(target_os = "linux")]
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Name, Option<u64>, Option<u64>)> {
        self.0
            .iter()
            .map(|(name, _, limit)| (*name, limit.current, limit.maximum))
    }
}

/// Raises a hard limit; gives what it is then.
fn raise(resource: Resource, wanted: &Ulimit, current: Rlimit) -> Started<Option<u64>> {
    let raised = Rlimit {
        maximum: wanted.hard,
        ..current
    };
    match setrlimit(resource, raised) {
        Ok(()) => Ok(wanted.hard),
        // We have no such privilege, or it is above what the kernel has at all (`fs.nr_open`).
        Err(Errno::PERM) => Ok(current.maximum),
        Err(errno) => {
            Err(errno).or_fail(|| format!("raising the ulimit {}", wanted.resource.name()))
        }
    }
}

/// Whether a limit is above another; none is above all.
fn is_above(limit: Option<u64>, other: Option<u64>) -> bool {
    match (limit, other) {
        (_, None) => false,
        (None, Some(_)) => true,
        (Some(limit), Some(other)) => limit > other,
    }
}

fn resource(name: Name) -> Started<Resource> {
    Ok(match name {
        Name::As => Resource::As,
        Name::Core => Resource::Core,
        Name::Cpu => Resource::Cpu,
        Name::Data => Resource::Data,
        Name::Fsize => Resource::Fsize,
        Name::Memlock => Resource::Memlock,
        Name::Nofile => Resource::Nofile,
        Name::Nproc => Resource::Nproc,
        Name::Rss => Resource::Rss,
        Name::Stack => Resource::Stack,
        other => return of_linux(other),
    })
}

/// Those that Linux has beside those of every system.
#[cfg(target_os = "linux")]
fn of_linux(name: Name) -> Started<Resource> {
    Ok(match name {
        Name::Locks => Resource::Locks,
        Name::Msgqueue => Resource::Msgqueue,
        Name::Nice => Resource::Nice,
        Name::Rtprio => Resource::Rtprio,
        Name::Rttime => Resource::Rttime,
        Name::Sigpending => Resource::Sigpending,
        other => return Err(unknown(other)),
    })
}

/// Other systems have no more than those.
#[cfg(not(target_os = "linux"))]
fn of_linux(name: Name) -> Started<Resource> {
    Err(unknown(name))
}

fn unknown(name: Name) -> StartFailure {
    setup(format!("this system has no ulimit {}", name.name()))
}
