//! Jails: made without a process, listed, removed.
//!
//! A jail is made with `persist` and its processes are put into it afterwards: `jail -c command=…` keeps
//! the command's exit status to itself (it returns 0 or 1).

use std::path::PathBuf;

use kleene_command::{Argv, Runner};
use kleene_doors::host::{HostError, StartFailure};
use serde::Deserialize;

use super::{failed, list, run};

/// A jail of this host.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Jail {
    /// The number that the kernel knows it by.
    pub jid: i32,
    /// Its name; Kleene's jails have their containers' ids.
    pub name: String,
    /// Its root on the host.
    pub path: PathBuf,
}

/// Makes a jail that has no processes. Parameters are as in jail(8); `command` isn't among them.
///
/// # Errors
/// What jail(8) says: a parameter that doesn't exist, a root that isn't there. Then there is no jail.
pub fn create(runner: &dyn Runner, name: &str, params: &[String]) -> Result<(), HostError> {
    let command = Argv::new("jail")
        .args(["-c".to_owned(), format!("name={name}")])
        .args(params)
        .arg("persist");
    run(runner, &command, &format!("making jail {name}"))
}

/// Removes a jail and kills its processes at once. Left to itself, jail(8) would ask them to end first, and
/// wait for that: it takes a configuration on standard input that says otherwise. A jail that isn't there
/// is removed already.
///
/// # Errors
/// What jail(8) says.
pub fn ensure_removed(runner: &dyn Runner, name: &str) -> Result<(), HostError> {
    let command = Argv::new("jail")
        .args(["-f", "-", "-r", name])
        .stdin(format!("{name} {{ stop.timeout = 0; }}\n"));
    let absent = format!("jail: \"{name}\" not found");
    match runner.run(&command) {
        Ok(_) => Ok(()),
        Err(error) if error.stderr() == Some(absent.as_str()) => Ok(()),
        Err(error) => Err(failed(&format!("removing jail {name}"))(error)),
    }
}

/// Lets the kernel remove a jail that persists with its last process. One that isn't there is fine.
///
/// # Errors
/// What jail(8) says.
pub fn end_with_last_process(runner: &dyn Runner, name: &str) -> Result<(), HostError> {
    let command =
        Argv::new("jail").args(["-m".to_owned(), format!("name={name}"), "nopersist".into()]);
    match runner.run(&command) {
        Ok(_) => Ok(()),
        Err(error)
            if error
                .stderr()
                .is_some_and(|said| said.ends_with("not found")) =>
        {
            Ok(())
        }
        Err(error) => Err(failed(&format!("changing jail {name}"))(error)),
    }
}

/// The parameters that this kernel knows, without those of jail(8) itself.
///
/// # Errors
/// What sysctl(8) says.
pub fn kernel_params(runner: &dyn Runner) -> Result<Vec<String>, HostError> {
    const NODE: &str = "security.jail.param.";
    let command = Argv::new("sysctl").args(["-N", "security.jail.param"]);
    let output = runner
        .run(&command)
        .map_err(failed("listing jail parameters"))?;
    let text = output.text();
    let names = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix(NODE));
    // Those that have others beneath end with a dot.
    Ok(names
        .map(|name| name.trim_end_matches('.').to_owned())
        .collect())
}

/// The jail of this name.
///
/// # Errors
/// As [`all`], or that there is none.
pub fn find(runner: &dyn Runner, name: &str) -> Result<Jail, HostError> {
    let mut jails = all(runner)?.into_iter();
    jails.find(|jail| jail.name == name).ok_or_else(|| {
        HostError::Start(StartFailure {
            code: 125,
            message: format!(
                "jail {name} has gone as soon as it was made: who else removes jails here?"
            ),
        })
    })
}

/// All jails of this host, also those that aren't Kleene's, but none that has been removed and is only
/// kept by something that still holds on to it.
///
/// # Errors
/// What jls(8) says, or that its answer can't be understood.
pub fn all(runner: &dyn Runner) -> Result<Vec<Jail>, HostError> {
    let command = Argv::new("jls").args(["-v", "--libxo", "json"]);
    list(
        runner,
        &command,
        ["jail-information", "jail"],
        "listing jails",
    )
}

#[cfg(test)]
mod tests {
    use kleene_command::{Answer, Scripted};

    use super::super::samples::{answer, chain, failure, sample, success};
    use super::*;

    const ROOT: &str = "/zroot/kleene/container/c1";
    const LIST: [&str; 4] = ["jls", "-v", "--libxo", "json"];

    #[test]
    fn jails_are_listed() {
        let runner = sample(&LIST, success);
        assert_eq!(
            all(&runner).unwrap(),
            [Jail {
                jid: 6,
                name: "c1".to_owned(),
                path: ROOT.into(),
            }]
        );
        runner.finish().unwrap();
    }

    #[test]
    fn new_answers_are_shown() {
        for answer in [
            "",
            "{}",
            r#"{"jail-information": {"jail": [{"jid": "six"}]}}"#,
        ] {
            let runner = Scripted::new().expect(&LIST, Answer::ok(answer));
            let said = chain(&all(&runner).unwrap_err());
            assert_eq!(
                said,
                format!(
                    "listing jails failed: `jls -v --libxo json` answered something new: {answer}"
                )
            );
        }
    }

    /// Processes of any jail may give it such a host name, which is no reason to find none of them.
    #[test]
    fn host_names_with_control_characters_are_no_hindrance() {
        let text = "{\"__version\": \"2\", \"jail-information\": {\"jail\": [{\"jid\":4,\"hostname\":\"a\tb\u{1}\u{1b}[31m\",\
                    \"path\":\"/a\tb\",\"name\":\"c1\",\"state\":\"ACTIVE\",\"cpusetid\":3, \"ipv4_addrs\": []}]}}\n";
        let runner = Scripted::new().expect(&LIST, Answer::ok(text));
        let jail = find(&runner, "c1").unwrap();
        assert_eq!((jail.jid, jail.path), (4, "/a\tb".into()));
    }

    #[test]
    fn jails_are_made_without_a_process() {
        let words = ["jail", "-c", "name=c1", "path=/r", "mount.devfs", "persist"];
        let runner = Scripted::new().expect(&words, Answer::ok(""));
        let params = ["path=/r", "mount.devfs"].map(str::to_owned);
        create(&runner, "c1", &params).unwrap();
        runner.finish().unwrap();
    }

    #[test]
    fn what_jail_says_is_passed_on() {
        let complaint = "jail: unknown parameter: allow.nonsense";
        let words = ["jail", "-c", "name=c1", "allow.nonsense", "persist"];
        let runner = Scripted::new().expect(&words, Answer::fail(1, complaint));
        let error = create(&runner, "c1", &["allow.nonsense".to_owned()]).unwrap_err();
        assert!(chain(&error).ends_with(complaint), "{}", chain(&error));
    }

    #[test]
    fn removing_is_idempotent() {
        let words = ["jail", "-f", "-", "-r", "c1"];
        // It says the same with a configuration.
        let sampled = ["jail", "-r", "c1"];
        for ending in [success, failure] {
            let runner = Scripted::new().expect(&words, answer(&sampled, ending));
            ensure_removed(&runner, "c1").unwrap();
            runner.finish().unwrap();
        }
        let runner = Scripted::new().expect(&words, Answer::fail(1, "jail: not permitted"));
        ensure_removed(&runner, "c1").unwrap_err();
    }
}
