//! Whether this machine can give what a container is to be limited to.

use kleene_command::{Argv, Runner};
use kleene_doors::host::HostError;
use kleene_types::{ByteSize, Limits, Resource, Ulimit};

use super::{kernel, limits};
use crate::shared::limits::{check_memory, refused};

/// What the machine has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Machine {
    /// Bytes of memory.
    pub memory: u64,
    /// Processors, numbered from 0.
    pub processors: u32,
}

impl Machine {
    /// Looks at this one; `None` when sysctl(8) doesn't tell.
    pub fn look(runner: &dyn Runner) -> Option<Self> {
        let command = Argv::new("sysctl").args(["-n", "hw.physmem", "hw.ncpu"]);
        let text = runner.run(&command).ok()?.text();
        let mut lines = text.lines();
        Some(Self {
            memory: lines.next()?.trim().parse().ok()?,
            processors: lines.next()?.trim().parse().ok()?,
        })
    }
}

/// Checks what a container is to be limited to.
///
/// # Errors
/// [`HostError::Unsupported`] naming the limit and the reason.
pub fn check(
    runner: &dyn Runner,
    limits: &Limits,
    shm_size: Option<ByteSize>,
    ulimits: &[Ulimit],
) -> Result<Vec<String>, HostError> {
    if shm_size.is_some() {
        return refused(
            "--shm-size is not on FreeBSD: shared memory isn't a file system there; limit it with \
             --memory"
                .to_owned(),
        );
    }
    let absent = ulimits.iter().find(|ulimit| !has(ulimit.resource));
    if let Some(ulimit) = absent {
        return refused(format!(
            "--ulimit {} is not on FreeBSD: leave it out",
            ulimit.resource.name()
        ));
    }
    let plan = limits::Plan::new(limits)?;
    if let Some(machine) = Machine::look(runner) {
        check_memory(machine.memory, limits)?;
        check_processors(machine, limits)?;
    }
    if plan.has_rules() {
        kernel::check_limits_work(runner)?;
    }
    Ok(Vec::new())
}

/// Whether FreeBSD has this limit of a process: see getrlimit(2).
fn has(resource: Resource) -> bool {
    match resource {
        Resource::As
        | Resource::Core
        | Resource::Cpu
        | Resource::Data
        | Resource::Fsize
        | Resource::Memlock
        | Resource::Nofile
        | Resource::Nproc
        | Resource::Rss
        | Resource::Stack => true,
        Resource::Locks
        | Resource::Msgqueue
        | Resource::Nice
        | Resource::Rtprio
        | Resource::Rttime
        | Resource::Sigpending => false,
    }
}

fn check_processors(machine: Machine, limits: &Limits) -> Result<(), HostError> {
    let Machine { processors, .. } = machine;
    if let Some(cpus) = limits.cpus
        && cpus.thousandths() > processors.saturating_mul(1000)
    {
        return refused(format!(
            "--cpus {cpus} is more than this machine has ({processors} processors): give less, or \
             leave the limit out"
        ));
    }
    let Some(set) = &limits.cpuset else {
        return Ok(());
    };
    match set.iter().find(|processor| *processor >= processors) {
        Some(absent) => refused(format!(
            "--cpuset {set} names processor {absent}, but this machine has only 0-{}: leave it out",
            processors.saturating_sub(1)
        )),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use kleene_command::{Answer, Scripted};

    use super::*;

    const LOOK: [&str; 4] = ["sysctl", "-n", "hw.physmem", "hw.ncpu"];
    const RACCT: [&str; 3] = ["sysctl", "-n", "kern.racct.enable"];

    fn machine() -> Scripted {
        Scripted::new().expect(&LOOK, Answer::ok("2147483648\n2\n"))
    }

    fn said(runner: &Scripted, limits: &Limits) -> String {
        let error = check(runner, limits, None, &[]).unwrap_err();
        error.to_string()
    }

    #[test]
    fn what_fits_is_taken() {
        let limits = Limits {
            memory: Some("64m".parse().unwrap()),
            cpus: Some("1.5".parse().unwrap()),
            cpuset: Some("0-1".parse().unwrap()),
            ..Limits::default()
        };
        let runner = machine().expect(&RACCT, Answer::ok("1\n"));
        assert!(check(&runner, &limits, None, &[]).unwrap().is_empty());
        runner.finish().unwrap();
        // Processors alone need no counting kernel.
        let limits = Limits {
            cpuset: limits.cpuset,
            ..Limits::default()
        };
        check(&machine(), &limits, None, &[]).unwrap();
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let of = |set: fn(&mut Limits)| {
            let mut limits = Limits::default();
            set(&mut limits);
            limits
        };
        for (limits, named) in [
            (of(|l| l.memory = "1m".parse().ok()), "--memory 1"),
            (of(|l| l.memory = "3g".parse().ok()), "--memory 3"),
            (of(|l| l.cpus = "3".parse().ok()), "--cpus 3"),
            (of(|l| l.cpuset = "0,2".parse().ok()), "processor 2"),
        ] {
            let said = said(&machine(), &limits);
            assert!(said.contains(named), "{said}");
        }
        let limits = of(|limits| limits.pids = Some(10));
        let runner = machine().expect(&RACCT, Answer::ok("0\n"));
        assert!(said(&runner, &limits).contains("kern.racct.enable=1"));
    }

    #[test]
    fn what_linux_alone_has_is_refused_at_once() {
        let none = Scripted::new();
        let size = "64m".parse().unwrap();
        let error = check(&none, &Limits::default(), Some(size), &[]).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("--shm-size is not on FreeBSD")
        );
        let ulimit: Ulimit = "msgqueue=10".parse().unwrap();
        let error = check(&none, &Limits::default(), None, &[ulimit]).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("--ulimit msgqueue is not on FreeBSD")
        );
    }
}
