//! The standard streams of a process: pipes, or a terminal that it makes for itself.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use kleene_doors::host::{Process, Stdin, WindowSize};
use rustix::pipe::{PipeFlags, pipe_with};

use crate::failure::{OrFail, Started};
use crate::input::Input;
use crate::relay;
use crate::system;

/// The process's ends of its streams.
pub(crate) enum Streams {
    /// A new terminal of the container's.
    Terminal(Option<WindowSize>),
    /// Pipes; no standard input means the container's `/dev/null`.
    Pipes {
        stdin: Option<OwnedFd>,
        stdout: OwnedFd,
        stderr: OwnedFd,
    },
}

/// The monitor's ends of the pipes.
#[derive(Default)]
pub(crate) struct Pipes {
    pub stdin: Option<OwnedFd>,
    pub stdout: Option<OwnedFd>,
    pub stderr: Option<OwnedFd>,
}

/// Makes what a process's standard streams are, or are to become.
pub(crate) fn make(process: &Process) -> Started<(Streams, Pipes)> {
    if process.tty {
        return Ok((Streams::Terminal(process.window), Pipes::default()));
    }
    let pipe = || pipe_with(PipeFlags::CLOEXEC).or_fail(|| "making a pipe".to_owned());
    let (stdout_read, stdout) = pipe()?;
    let (stderr_read, stderr) = pipe()?;
    let (stdin, stdin_write) = match process.stdin {
        Stdin::Null => (None, None),
        Stdin::Stream => {
            let (read, write) = pipe()?;
            (Some(read), Some(write))
        }
    };
    for end in [Some(&stdout_read), Some(&stderr_read), stdin_write.as_ref()]
        .into_iter()
        .flatten()
    {
        rustix::io::ioctl_fionbio(end.as_fd(), true).or_fail(|| "making a pipe".to_owned())?;
    }
    for output in [&stdout_read, &stderr_read] {
        enlarge(output);
    }
    let pipes = Pipes {
        stdin: stdin_write,
        stdout: Some(stdout_read),
        stderr: Some(stderr_read),
    };
    Ok((
        Streams::Pipes {
            stdin,
            stdout,
            stderr,
        },
        pipes,
    ))
}

impl Pipes {
    /// The streams as they are relayed: the pipes, or in their place the terminal's controlling side.
    pub(crate) fn relayed(
        self,
        process: system::Process,
        terminal: Option<OwnedFd>,
    ) -> io::Result<relay::Streams> {
        let Some(terminal) = terminal else {
            return Ok(relay::Streams {
                process,
                input: self.stdin.map(Input::pipe),
                stdout: self.stdout,
                stderr: self.stderr,
            });
        };
        rustix::io::ioctl_fionbio(&terminal, true)?;
        let input = Some(Input::terminal(terminal.try_clone()?));
        Ok(relay::Streams {
            process,
            input,
            stdout: Some(terminal),
            stderr: None,
        })
    }
}

/// Lets a pipe for output hold more, where the system allows it: a process that writes a lot then waits
/// less often, and its monitor reads more at once.
#[cfg(target_os = "linux")]
fn enlarge(output: &OwnedFd) {
    const SIZE: usize = 1 << 20;
    // The usual size does as well.
    let _ = rustix::pipe::fcntl_setpipe_size(output, SIZE);
}

/// FreeBSD's pipes grow by themselves: see pipe(2).
#[cfg(not(target_os = "linux"))]
fn enlarge(_: &OwnedFd) {}
