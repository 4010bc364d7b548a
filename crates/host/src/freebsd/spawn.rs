//! Starts monitors, and reaps them.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::thread;

use kleene_command::spawn::{Companion, spawn};
use kleene_doors::frames::Frame;
use kleene_monitor::process::NOBODYS;
use kleene_monitor::proto::JailStart;
use kleene_monitor::status::SOCKET;
use kleene_types::ExecId;

use super::seams::Monitors;
use crate::shared::monitors::{Monitored, Refused, tell, wait_for_start};

/// Stack of a thread that does nothing but wait.
const STACK: usize = 64 << 10;

/// Monitors that are programs.
#[derive(Debug)]
pub struct Programs {
    /// The program `kleene-monitor`.
    pub program: PathBuf,
}

impl Monitors for Programs {
    fn start(&self, order: &JailStart) -> Result<Monitored, Refused> {
        let message = serde_json::to_vec(order).map_err(io::Error::other)?;
        let (control, theirs) = UnixStream::pair()?;
        let (attached, their_attached) = UnixStream::pair()?;
        let mut monitor = spawn(Companion {
            program: &self.program,
            argv: &["kleene-monitor", NOBODYS],
            // It goes to the execution instance's directory when it knows it.
            directory: Path::new("/"),
            stdin: theirs.into(),
            stdout: their_attached.into(),
        })?;
        let started = tell(&control, &Frame::Start(message).encode())
            .map_err(Refused::from)
            .and_then(|()| wait_for_start(&control));
        match started {
            Ok(pid) => {
                reap(monitor)?;
                Ok(Monitored {
                    pid,
                    control,
                    attached: order.request.attach.then_some(attached),
                })
            }
            Err(refused) => {
                // It is ending by itself, or hangs; its process dies with it.
                drop(monitor.kill());
                monitor.wait()?;
                Err(refused)
            }
        }
    }

    fn connect(&self, _: &ExecId, directory: &Path) -> io::Result<UnixStream> {
        UnixStream::connect(directory.join(SOCKET))
    }
}

/// Waits for a monitor's end in a thread of its own, which costs less than all the rest of a container.
fn reap(mut monitor: Child) -> io::Result<()> {
    let thread = thread::Builder::new()
        .name("reaper".to_owned())
        .stack_size(STACK);
    thread.spawn(move || {
        if let Err(problem) = monitor.wait() {
            tracing::debug!(%problem, "a monitor that has ended isn't reaped");
        }
    })?;
    Ok(())
}
