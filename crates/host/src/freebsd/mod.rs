//! The FreeBSD room: containers are jails, which the system's tools make and a monitor each process
//! attaches itself to.
//!
//! Nothing here depends on the system that it is compiled on: programs are started through a
//! [`kleene_command::Runner`], and what else the room needs are the doubles' doors in [`seams`]. The
//! tests give them the answers of a FreeBSD 14.2.
//!
//! | Where is… | |
//! | --- | --- |
//! | the host door | `room` |
//! | what a container has on the host, made and taken away | `container`, written down in `record` |
//! | the files of containers that don't run | `looks` |
//! | jail parameters | `params` |
//! | jail(8), jls(8) | [`jails`] |
//! | mount(8), mount_nullfs(8), umount(8) | [`mounts`]; where mounts go: `places` |
//! | devfs(8) | [`devfs`] |
//! | rctl(8), cpuset(1) | [`limits`], checked in `check` |
//! | pkill(1) | `signals` |
//! | ps(1), what rctl(8) has counted | `observe` |
//! | kldstat(8), kldload(8), sysctl(8) | [`kernel`] |
//! | monitors, started and reaped | `spawn` |
//! | all of these in memory, for tests | [`simulated`] |

mod check;
mod container;
pub mod devfs;
pub mod jails;
pub mod kernel;
pub mod limits;
mod looks;
pub mod mounts;
mod observe;
mod params;
mod places;
mod record;
mod room;
pub mod seams;
mod signals;
pub mod simulated;
mod spawn;

pub use room::{FreeBsdHost, FreeBsdHostConfig};

#[cfg(test)]
mod samples;

use kleene_command::{Argv, CommandError, Runner};
use kleene_doors::host::HostError;

/// Runs a tool whose answer doesn't matter.
fn run(runner: &dyn Runner, command: &Argv, action: &str) -> Result<(), HostError> {
    runner.run(command).map(drop).map_err(failed(action))
}

fn failed(action: &str) -> impl FnOnce(CommandError) -> HostError {
    let action = action.to_owned();
    move |error| HostError::Failed {
        action,
        source: Box::new(error),
    }
}

/// A tool has answered something that can't be understood.
#[derive(Debug, thiserror::Error)]
#[error("`{command}` answered something new: {answer}")]
struct Misunderstood {
    command: String,
    answer: String,
}

/// Escapes control characters, but for line ends. The tools print them in JSON's strings as they are, where
/// they may not be: a jail's host name has any that somebody in the jail likes.
fn escape_controls(text: &str) -> String {
    let is_raw = |c: char| c.is_control() && c != '\n';
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match is_raw(character) {
            true => escaped.push_str(&format!("\\u{:04x}", u32::from(character))),
            false => escaped.push(character),
        }
    }
    escaped
}

/// Runs a tool that answers in JSON, and takes the list at these keys of the answer.
fn list<T: serde::de::DeserializeOwned>(
    runner: &dyn Runner,
    command: &Argv,
    keys: [&str; 2],
    action: &str,
) -> Result<Vec<T>, HostError> {
    let text = runner.run(command).map_err(failed(action))?.text();
    let text = escape_controls(&text);
    let [outer, inner] = keys;
    let parsed = serde_json::from_str(&text).and_then(|mut answer: serde_json::Value| {
        let entries = answer
            .get_mut(outer)
            .and_then(|within| within.get_mut(inner))
            .map_or(serde_json::Value::Null, serde_json::Value::take);
        serde_json::from_value(entries)
    });
    parsed.map_err(|_| HostError::Failed {
        action: action.to_owned(),
        source: Box::new(Misunderstood {
            command: command.to_string(),
            answer: text,
        }),
    })
}
