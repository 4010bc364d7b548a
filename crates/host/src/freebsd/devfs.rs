//! The device nodes that a jail sees.
//!
//! Ruleset 4 is meant for jails, but it is empty unless the system's start-up scripts have filled it, and
//! an empty one hides nothing: neither the host's memory nor its disks. So we load a ruleset of our own.

use kleene_command::{Argv, Runner};
use kleene_doors::host::HostError;

use super::run;

/// Nodes that are shown; all others are hidden. They are what programs expect to find, and none of them
/// reaches anything of the host.
const SHOWN: &[&str] = &[
    "null", "zero", "full", "random", "urandom", "fd", "fd/*", "stdin", "stdout", "stderr", "ptmx",
    "pts", "pts/*", "ctty", "tty",
];

/// Fills the ruleset of this number; what it had before is gone. Jails that have it already see the new
/// one only when their /dev is mounted again.
///
/// # Errors
/// What devfs(8) says. The rules are added one after the other, the one that hides everything first: a
/// ruleset that is cut short shows too little, never too much.
pub fn load(runner: &dyn Runner, ruleset: u16) -> Result<(), HostError> {
    let action = format!("loading devfs ruleset {ruleset}");
    let number = ruleset.to_string();
    let rule = |words: &[&str]| {
        let command = Argv::new("devfs")
            .args(["rule", "-s", &number])
            .args(words.iter().copied());
        run(runner, &command, &action)
    };
    rule(&["delset"])?;
    rule(&["add", "hide"])?;
    SHOWN
        .iter()
        .try_for_each(|path| rule(&["add", "path", path, "unhide"]))
}

#[cfg(test)]
mod tests {
    use kleene_command::{Answer, Scripted};

    use super::*;

    const RULE: [&str; 4] = ["devfs", "rule", "-s", "4711"];

    fn script(rules: usize) -> Scripted {
        let runner = Scripted::new()
            .expect(&[&RULE[..], &["delset"]].concat(), Answer::ok(""))
            .expect(&[&RULE[..], &["add", "hide"]].concat(), Answer::ok(""));
        for path in SHOWN.iter().take(rules) {
            let words = [&RULE[..], &["add", "path", path, "unhide"]].concat();
            runner.then(&words, Answer::ok(""));
        }
        runner
    }

    #[test]
    fn everything_is_hidden_first() {
        let runner = script(SHOWN.len());
        load(&runner, 4711).unwrap();
        runner.finish().unwrap();
    }

    #[test]
    fn a_rule_that_fails_is_the_last() {
        let runner = script(1);
        let words = [&RULE[..], &["add", "path", "zero", "unhide"]].concat();
        runner.then(&words, Answer::fail(1, "devfs rule: ioctl DEVFSIO_RADD"));
        load(&runner, 4711).unwrap_err();
        runner.finish().unwrap();
    }

    #[test]
    fn nodes_of_the_host_are_not_shown() {
        for path in [
            "mem", "kmem", "io", "pf", "bpf", "vtbd0", "zfs", "mdctl", "console", "*",
        ] {
            assert!(!SHOWN.contains(&path), "{path}");
        }
    }
}
