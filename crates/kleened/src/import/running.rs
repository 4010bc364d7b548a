//! Who works with the data: nobody may, while it is taken over.

use std::fs;
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use kleene_command::{Argv, Runner};
use kleene_host::freebsd::jails;
use kleene_store::original::Original;

use super::{ImportError, Machine};
use crate::config::{Place, SocketConfig};

/// Where the original's daemon, and ours where rc.d starts it, writes down its process id.
const PID_FILE: &str = "var/run/kleened.pid";

/// How long a daemon may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// Daemons that run, the original's or ours, by their process or their sockets.
pub(super) fn daemons(machine: &Machine<'_>, sockets: &[SocketConfig]) -> Vec<String> {
    let mut found = Vec::new();
    let pid = fs::read_to_string(machine.directory.join(PID_FILE));
    if let Some(pid) = pid.ok().and_then(|text| text.trim().parse::<u32>().ok())
        && is_kleened(machine.runner, pid)
    {
        found.push(format!(
            "kleened runs as process {pid}: stop it with `service kleened stop`"
        ));
    }
    for socket in sockets {
        if answers(&socket.address.place) {
            found.push(format!(
                "somebody listens at {}: stop that daemon with `service kleened stop`",
                socket.address
            ));
        }
    }
    found
}

/// Whether a process is a daemon: its number may have come to another one long ago. The original is a
/// program of Erlang's, in a directory that is named after it.
fn is_kleened(runner: &dyn Runner, pid: u32) -> bool {
    let command = Argv::new("ps").args(["-o", "command=", "-p", &pid.to_string()]);
    let answer = runner.run(&command);
    answer.is_ok_and(|output| output.text().contains("kleened"))
}

fn answers(place: &Place) -> bool {
    match place {
        Place::Unix(path) => UnixStream::connect(path).is_ok(),
        Place::Tcp(address) => TcpStream::connect_timeout(address, PATIENCE).is_ok(),
    }
}

/// Containers that run: the original leaves jails behind when it is stopped, which nobody would know.
pub(super) fn containers(
    machine: &Machine<'_>,
    original: &Original,
) -> Result<Vec<String>, ImportError> {
    if !machine.has_jails || original.containers.is_empty() {
        return Ok(Vec::new());
    }
    let jails = jails::all(machine.runner)?;
    let running = jails.into_iter().filter(|jail| {
        let name = &jail.name;
        original.containers.iter().any(|it| it.key == *name)
    });
    Ok(running
        .map(|jail| format!("container {0} runs: stop it with `jail -r {0}`", jail.name))
        .collect())
}
