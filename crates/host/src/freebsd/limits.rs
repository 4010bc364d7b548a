//! A container's limits as rules of rctl(8), and its processors by cpuset(1).

use kleene_command::{Argv, Runner};
use kleene_doors::host::HostError;
use kleene_types::{Limits, SwapLimit};

use super::check::Machine;
use super::{failed, run};

/// What a container's limits are on FreeBSD.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Rules without their subject, as `memoryuse:deny=1048576`.
    rules: Vec<String>,
    /// The list of processors, as cpuset(1) takes it.
    cpuset: Option<String>,
}

impl Plan {
    /// Translates limits.
    ///
    /// # Errors
    /// [`HostError::Unsupported`] naming the limit that FreeBSD hasn't.
    pub fn new(limits: &Limits) -> Result<Self, HostError> {
        if limits.io_weight.is_some() {
            return Err(HostError::Unsupported(
                "FreeBSD has no weights of input and output: leave --io-weight out".to_owned(),
            ));
        }
        let mut rules = Vec::new();
        if let Some(memory) = limits.memory {
            // Memory in use can't be denied: pages are written out where there is swap space, and what
            // still uses more when the kernel counts, every second, is killed.
            rules.push(format!("memoryuse:sigkill={}", memory.bytes()));
        }
        let mut deny =
            |resource: &str, amount: u64| rules.push(format!("{resource}:deny={amount}"));
        if let Some(memory) = limits.memory {
            deny("memoryuse", memory.bytes());
            if let Some(SwapLimit::Total(total)) = limits.memory_swap {
                // All that may ever have to be swapped out is reserved, in memory or not.
                deny("swapuse", total.bytes());
            }
        }
        if let Some(cpus) = limits.cpus {
            // Percent of one processor; a limit of 0 would stop everything.
            deny("pcpu", u64::from(cpus.thousandths() / 10).max(1));
        }
        if let Some(pids) = limits.pids {
            deny("maxproc", pids);
        }
        Ok(Self {
            rules,
            cpuset: limits.cpuset.as_ref().map(ToString::to_string),
        })
    }

    /// Whether there are rules to be removed with the jail.
    pub fn has_rules(&self) -> bool {
        !self.rules.is_empty()
    }

    /// Sets the limits of a jail that exists.
    ///
    /// # Errors
    /// What rctl(8) and cpuset(1) say. Limits that were set before the one that failed stay, until the
    /// jail is removed.
    pub fn apply(&self, runner: &dyn Runner, jail: &str) -> Result<(), HostError> {
        let action = format!("limiting jail {jail}");
        for rule in &self.rules {
            let command = Argv::new("rctl").args(["-a".to_owned(), format!("jail:{jail}:{rule}")]);
            run(runner, &command, &action)?;
        }
        if let Some(list) = &self.cpuset {
            let command = Argv::new("cpuset").args(["-l", list, "-j", jail]);
            run(runner, &command, &action)?;
        }
        Ok(())
    }
}

impl Plan {
    /// Sets the limits of a jail in the place of those that it has. `limited`: whether it may have rules.
    ///
    /// # Errors
    /// What the tools say. Some of the limits are the former ones then; none is missing that was there
    /// and is to be there.
    pub fn replace(&self, runner: &dyn Runner, jail: &str, limited: bool) -> Result<(), HostError> {
        let subject = format!("jail:{jail}");
        let mut old = Vec::new();
        if limited {
            let command = Argv::new("rctl").arg(&subject);
            let listed = runner.run(&command);
            let listed = listed.map_err(failed(&format!("listing the limits of jail {jail}")))?;
            old.extend(listed.text().lines().map(str::to_owned));
        }
        let all = Self {
            rules: self.rules.clone(),
            cpuset: self.cpuset.clone().or_else(|| every_processor(runner)),
        };
        all.apply(runner, jail)?;
        // What denies has taken the place of what denied before; all else is added.
        let is_new = |old: &str| {
            let mut new = self.rules.iter().map(|rule| format!("{subject}:{rule}"));
            new.any(|new| {
                let denies = new
                    .rsplit_once('=')
                    .filter(|(kind, _)| kind.ends_with(":deny"));
                new == old || denies.is_some_and(|(kind, _)| old.starts_with(&format!("{kind}=")))
            })
        };
        let mut others = old.iter().filter(|old| !is_new(old));
        others.try_for_each(|old| remove_rules(runner, jail, old))
    }
}

/// All processors of the machine, as cpuset(1) takes them.
fn every_processor(runner: &dyn Runner) -> Option<String> {
    let machine = Machine::look(runner)?;
    Some(format!("0-{}", machine.processors.saturating_sub(1)))
}

/// Removes all rules of a jail, which need not be there any more.
///
/// # Errors
/// What rctl(8) says.
pub fn remove(runner: &dyn Runner, jail: &str) -> Result<(), HostError> {
    remove_rules(runner, jail, &format!("jail:{jail}"))
}

fn remove_rules(runner: &dyn Runner, jail: &str, filter: &str) -> Result<(), HostError> {
    let command = Argv::new("rctl").args(["-r", filter]);
    match runner.run(&command) {
        Ok(_) => Ok(()),
        Err(error) if error.stderr().is_some_and(says_there_are_none) => Ok(()),
        Err(error) => Err(failed(&format!("removing the limits of jail {jail}"))(
            error,
        )),
    }
}

/// There are no such rules, or can't be any: the kernel doesn't count, or has no part that could.
fn says_there_are_none(complaint: &str) -> bool {
    complaint.ends_with("No such process") || complaint.contains("RACCT/RCTL")
}

#[cfg(test)]
mod tests {
    use kleene_command::{Answer, Scripted};
    use kleene_types::ByteSize;

    use super::super::samples::{answer, chain, failure};
    use super::*;

    fn limits() -> Limits {
        Limits {
            memory: Some("64m".parse().unwrap()),
            memory_swap: Some(SwapLimit::Total("96m".parse::<ByteSize>().unwrap())),
            cpus: Some("1.5".parse().unwrap()),
            cpuset: Some("0-1,3".parse().unwrap()),
            pids: Some(100),
            io_weight: None,
        }
    }

    #[test]
    fn limits_are_rules() {
        let runner = Scripted::new();
        for rule in [
            "memoryuse:sigkill=67108864",
            "memoryuse:deny=67108864",
            "swapuse:deny=100663296",
            "pcpu:deny=150",
            "maxproc:deny=100",
        ] {
            runner.then(&["rctl", "-a", &format!("jail:c1:{rule}")], Answer::ok(""));
        }
        runner.then(&["cpuset", "-l", "0-1,3", "-j", "c1"], Answer::ok(""));
        Plan::new(&limits()).unwrap().apply(&runner, "c1").unwrap();
        runner.finish().unwrap();
    }

    #[test]
    fn no_limits_are_no_commands() {
        let plan = Plan::new(&Limits::default()).unwrap();
        plan.apply(&Scripted::new(), "c1").unwrap();
    }

    #[test]
    fn weights_are_refused_by_name() {
        let limits = Limits {
            io_weight: Some(50_u64.try_into().unwrap()),
            ..limits()
        };
        let said = Plan::new(&limits).unwrap_err().to_string();
        assert!(said.contains("--io-weight"), "{said}");
    }

    #[test]
    fn rules_that_are_not_there_are_removed_already() {
        for said in [
            "rctl: failed to remove rule 'jail:c1': No such process",
            "rctl: RACCT/RCTL present, but disabled; enable using kern.racct.enable=1 tunable",
        ] {
            let runner = Scripted::new().expect(&["rctl", "-r", "jail:c1"], Answer::fail(1, said));
            remove(&runner, "c1").unwrap();
        }
        let refused = Answer::fail(1, "rctl: Operation not permitted");
        let runner = Scripted::new().expect(&["rctl", "-r", "jail:c1"], refused);
        remove(&runner, "c1").unwrap_err();
    }

    #[test]
    fn what_rctl_says_is_passed_on() {
        let words = ["rctl", "-a", "jail:c1:nonsense:deny=1"];
        let runner = Scripted::new().expect(&words, answer(&words, failure));
        let plan = Plan {
            rules: vec!["nonsense:deny=1".to_owned()],
            cpuset: None,
        };
        let said = chain(&plan.apply(&runner, "c1").unwrap_err());
        assert!(said.ends_with("Invalid argument"), "{said}");
    }
}
