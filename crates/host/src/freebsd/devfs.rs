//! The device nodes that a jail sees.
//!
//! Ruleset 4 is meant for jails, but it is empty unless the system's start-up scripts have filled it, and
//! an empty one hides nothing: neither the host's memory nor its disks. So we load a ruleset of our own.

use kleene_command::{Argv, Runner};
use kleene_doors::host::HostError;

use super::{failed, run};

/// Nodes that are shown; all others are hidden. They are what programs expect to find, and none of them
/// reaches anything of the host.
const SHOWN: &[&str] = &[
    "null", "zero", "full", "random", "urandom", "fd", "fd/*", "stdin", "stdout", "stderr", "ptmx",
    "pts", "pts/*", "ctty", "tty",
];

/// Fills the ruleset of this number, unless it has these rules: running jails have it, and must not be
/// without it for a moment. What it had before is gone. Jails that have it already see the new one only
/// when their /dev is mounted again.
///
/// # Errors
/// What devfs(8) says. The rules are added in their order, the one that hides everything first: a
/// ruleset that is cut short shows too little, never too much.
pub fn load(runner: &dyn Runner, ruleset: u16) -> Result<(), HostError> {
    let action = format!("loading devfs ruleset {ruleset}");
    let number = ruleset.to_string();
    let rule = |words: &[&str]| {
        Argv::new("devfs")
            .args(["rule", "-s", &number])
            .args(words.iter().copied())
    };
    let there = runner.run(&rule(&["show"])).map_err(failed(&action))?;
    if without_numbers(&there.text()) == rules() {
        return Ok(());
    }
    run(runner, &rule(&["delset"]), &action)?;
    // Rules that are read from standard input.
    let all = rule(&["add", "-"]).stdin(rules());
    run(runner, &all, &action)
}

/// One rule a line.
fn rules() -> String {
    let shown = SHOWN.iter().map(|path| format!("path {path} unhide\n"));
    std::iter::once("hide\n".to_owned()).chain(shown).collect()
}

/// Rules as `devfs rule show` lists them, each behind its number.
fn without_numbers(listed: &str) -> String {
    let rules = listed.lines().filter_map(|line| line.split_once(' '));
    rules
        .map(|(_, rule)| format!("{}\n", rule.trim()))
        .collect()
}

#[cfg(test)]
mod tests {
    use kleene_command::{Answer, Scripted};

    use super::*;

    const RULE: [&str; 4] = ["devfs", "rule", "-s", "4711"];
    const SHOW: [&str; 5] = ["devfs", "rule", "-s", "4711", "show"];

    #[test]
    fn old_rules_are_gone_first() {
        let runner = Scripted::new()
            .expect(&SHOW, Answer::ok("100 hide\n200 path null unhide\n"))
            .expect(&[&RULE[..], &["delset"]].concat(), Answer::ok(""))
            .expect(&[&RULE[..], &["add", "-"]].concat(), Answer::ok(""));
        load(&runner, 4711).unwrap();
        runner.finish().unwrap();
        let refused = Answer::fail(1, "devfs rule: ioctl DEVFSIO_SDEL: Operation not permitted");
        let runner = Scripted::new()
            .expect(&SHOW, Answer::ok(""))
            .expect(&[&RULE[..], &["delset"]].concat(), refused);
        load(&runner, 4711).unwrap_err();
        runner.finish().unwrap();
    }

    #[test]
    fn rules_that_are_there_are_left_alone() {
        let rules = rules();
        let listed = rules.lines().zip(1..);
        let listed = listed.map(|(rule, number)| format!("{} {rule}\n", number * 100));
        let runner = Scripted::new().expect(&SHOW, Answer::ok(listed.collect::<String>()));
        load(&runner, 4711).unwrap();
        runner.finish().unwrap();
    }

    #[test]
    fn everything_is_hidden_first() {
        let rules = rules();
        assert!(rules.starts_with("hide\npath null unhide\n"), "{rules}");
        assert_eq!(rules.lines().count(), SHOWN.len() + 1);
        assert_eq!(rules.lines().filter(|rule| *rule == "hide").count(), 1);
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
