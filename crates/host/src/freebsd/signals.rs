//! Signals to the processes of a jail: pkill(1).

use kleene_command::{Argv, CommandError, Ending, Runner};
use kleene_doors::host::HostError;

use super::failed;

/// Which processes of a jail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// All.
    All,
    /// Those of the session that begins with this process.
    Session(u32),
}

/// Sends a signal, by its name without `SIG` or its number, to processes of a jail. That there are none is fine.
///
/// # Errors
/// What pkill(1) says.
pub fn send(runner: &dyn Runner, jid: i32, whose: Whose, signal: &str) -> Result<(), HostError> {
    let mut command = Argv::new("pkill").args([format!("-{signal}"), "-j".into(), jid.to_string()]);
    if let Whose::Session(leader) = whose {
        command = command.args(["-s".to_owned(), leader.to_string()]);
    }
    match runner.run(&command) {
        Ok(_) => Ok(()),
        // Nobody is there to take it.
        Err(CommandError::Failed {
            ending: Ending::Status(1),
            ..
        }) => Ok(()),
        Err(error) => Err(failed(&format!("sending signal {signal} to jail {jid}"))(
            error,
        )),
    }
}

#[cfg(test)]
mod tests {
    use kleene_command::{Answer, Scripted};

    use super::*;

    #[test]
    fn all_and_sessions() {
        let runner = Scripted::new()
            .expect(&["pkill", "-TERM", "-j", "7"], Answer::ok(""))
            .expect(
                &["pkill", "-KILL", "-j", "7", "-s", "344"],
                Answer::fail(1, ""),
            )
            .expect(
                &["pkill", "-KILL", "-j", "7"],
                Answer::fail(3, "pkill: kvm_open failed"),
            );
        send(&runner, 7, Whose::All, "TERM").unwrap();
        send(&runner, 7, Whose::Session(344), "KILL").unwrap();
        send(&runner, 7, Whose::All, "KILL").unwrap_err();
        runner.finish().unwrap();
    }
}
