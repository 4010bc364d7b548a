//! A running program: its streams, its end, and killing it.

use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, ChildStdin, ChildStdout, ExitStatus};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::process::{Pid, Signal, kill_process_group};

use crate::{CommandError, Ending, Output, Told};

/// How much of standard error is kept; programs that complain more have said it by then.
const STDERR_LIMIT: usize = 64 << 10;

/// How often the end of a program is looked for where the system can't announce it.
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// How often the one who follows a program is asked whether to go on.
const ASK_AGAIN: Duration = Duration::from_millis(100);

/// A longer line is told in pieces.
const LINE_LIMIT: usize = 64 << 10;

/// A program that ended.
#[derive(Debug)]
pub(crate) struct Watched {
    /// The command, for messages.
    pub command: String,
    /// How it ended.
    pub ending: Ending,
    /// What it wrote.
    pub output: Output,
}

/// A stream of the program, and what has come out of it.
#[derive(Debug)]
struct Sink {
    stream: Option<OwnedFd>,
    bytes: Vec<u8>,
    limit: usize,
    /// Whether bytes past the limit are thrown away instead of being an error.
    cut: bool,
    /// What hasn't been told yet, where somebody wants to hear it.
    untold: Option<Vec<u8>>,
}

/// A running program. Dropping it kills it with its children.
#[derive(Debug)]
pub(crate) struct Process {
    command: String,
    child: Child,
    /// Becomes readable when the program ends.
    exit: Option<OwnedFd>,
    status: Option<ExitStatus>,
    stdin: Option<(ChildStdin, Vec<u8>)>,
    stdout: Sink,
    stderr: Sink,
}

impl Process {
    pub(crate) fn new(command: String, mut child: Child) -> Result<Self, CommandError> {
        let stderr = child.stderr.take().map(OwnedFd::from);
        let mut process = Self {
            exit: announcement(&child),
            status: None,
            stdin: None,
            stdout: Sink::new(None, 0, false),
            stderr: Sink::new(None, STDERR_LIMIT, true),
            command,
            child,
        };
        process.stderr.stream = stderr;
        process.unblock(process.stderr.stream.as_ref())?;
        Ok(process)
    }

    /// Gives the program its standard input; nothing when it has none.
    pub(crate) fn feed(&mut self, bytes: Option<&[u8]>) -> Result<(), CommandError> {
        if let (Some(stdin), Some(bytes)) = (self.child.stdin.take(), bytes) {
            self.unblock(Some(&stdin))?;
            self.stdin = Some((stdin, bytes.to_vec()));
        }
        Ok(())
    }

    /// Collects up to `limit` bytes of standard output, unless that was taken.
    pub(crate) fn collect(&mut self, limit: usize) -> Result<(), CommandError> {
        self.stdout = Sink::new(self.child.stdout.take().map(OwnedFd::from), limit, false);
        self.unblock(self.stdout.stream.as_ref())
    }

    /// Keeps the lines of both outputs for somebody who wants to hear them.
    pub(crate) fn by_lines(&mut self) {
        self.stdout.untold = Some(Vec::new());
        self.stderr.untold = Some(Vec::new());
    }

    /// Tells the lines that have come, and without any asks whether to go on.
    fn tell(&mut self, told: Told<'_>) -> Result<(), CommandError> {
        let ended = self.status.is_some();
        let mut lines = self.stdout.lines(ended);
        lines.extend(self.stderr.lines(ended));
        let go_on = if lines.is_empty() {
            told(None)
        } else {
            lines.iter().try_for_each(|line| told(Some(line)))
        };
        if go_on.is_break() {
            return Err(CommandError::Cancelled {
                command: self.command.clone(),
            });
        }
        Ok(())
    }

    /// Takes standard output, for another program.
    pub(crate) fn take_stdout(&mut self) -> Option<ChildStdout> {
        self.child.stdout.take()
    }

    /// What the program did; to be called when [`watch`] has returned.
    pub(crate) fn finish(mut self) -> Result<Watched, CommandError> {
        let status = match self.status {
            Some(status) => status,
            None => self.child.wait().map_err(|error| self.unwatchable(error))?,
        };
        self.status = Some(status);
        let ending = match (status.code(), status.signal()) {
            (Some(code), _) => Ending::Status(code),
            (None, signal) => Ending::Signal(signal.unwrap_or_default()),
        };
        Ok(Watched {
            command: std::mem::take(&mut self.command),
            ending,
            output: Output {
                stdout: std::mem::take(&mut self.stdout.bytes),
                stderr: std::mem::take(&mut self.stderr.bytes),
            },
        })
    }

    fn unblock(&self, stream: Option<&impl AsFd>) -> Result<(), CommandError> {
        let Some(stream) = stream else {
            return Ok(());
        };
        fcntl_getfl(stream)
            .and_then(|flags| fcntl_setfl(stream, flags | OFlags::NONBLOCK))
            .map_err(|errno| self.unwatchable(errno.into()))
    }

    fn unwatchable(&self, source: io::Error) -> CommandError {
        CommandError::Watch {
            command: self.command.clone(),
            source,
        }
    }

    /// Moves what can be moved without waiting.
    fn advance(&mut self) -> Result<(), CommandError> {
        if self.status.is_some() {
            return Ok(());
        }
        // Asked before the streams are read: what the program wrote is in them when it has ended.
        // A child of the program that lives on, a daemon say, may hold them open forever.
        self.status = self
            .child
            .try_wait()
            .map_err(|error| self.unwatchable(error))?;
        self.write().map_err(|error| self.unwatchable(error))?;
        self.stderr
            .read()
            .map_err(|error| self.unwatchable(error))?;
        self.stdout
            .read()
            .map_err(|error| self.unwatchable(error))?;
        if self.stdout.overflowed() {
            return Err(CommandError::TooMuchOutput {
                command: self.command.clone(),
                limit: self.stdout.limit,
            });
        }
        Ok(())
    }

    fn write(&mut self) -> io::Result<()> {
        let Some((stdin, bytes)) = &mut self.stdin else {
            return Ok(());
        };
        while !bytes.is_empty() {
            match stdin.write(bytes) {
                Ok(count) => drop(bytes.drain(..count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // The program doesn't want to read all of it: its exit status says whether that is
                // an error.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => bytes.clear(),
                Err(error) => return Err(error),
            }
        }
        self.stdin = None;
        Ok(())
    }

    /// What to wait for.
    fn events(&self) -> Vec<PollFd<'_>> {
        if self.status.is_some() {
            return Vec::new();
        }
        let input = self.stdin.iter();
        let output = [&self.stdout.stream, &self.stderr.stream, &self.exit];
        input
            .map(|(stdin, _)| PollFd::new(stdin, PollFlags::OUT))
            .chain(
                output
                    .into_iter()
                    .flatten()
                    .map(|fd| PollFd::new(fd, PollFlags::IN)),
            )
            .collect()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.status.is_none() {
            let group = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
            // Nothing is left to be told of a failure: the program has ended by itself then.
            let _ended = group.map(|group| kill_process_group(group, Signal::KILL));
            let _reaped = self.child.wait();
        }
    }
}

impl Sink {
    fn new(stream: Option<OwnedFd>, limit: usize, cut: bool) -> Self {
        Self {
            stream,
            bytes: Vec::new(),
            limit,
            cut,
            untold: None,
        }
    }

    /// Takes the complete lines that haven't been told, without empty ones; at the program's end the
    /// last, incomplete one as well. Where progress is shown by overwriting a line, each state of it
    /// is a line.
    fn lines(&mut self, ended: bool) -> Vec<String> {
        let Some(untold) = &mut self.untold else {
            return Vec::new();
        };
        let last = untold.iter().rposition(|byte| b"\n\r".contains(byte));
        let complete = match last {
            _ if ended || untold.len() > LINE_LIMIT => untold.len(),
            Some(last) => last + 1,
            None => 0,
        };
        let bytes: Vec<u8> = untold.drain(..complete).collect();
        String::from_utf8_lossy(&bytes)
            .split(['\n', '\r'])
            .map(str::trim_end)
            .filter(|line| !line.is_empty())
            .map(str::to_owned)
            .collect()
    }

    fn read(&mut self) -> io::Result<()> {
        let mut buffer = [0; 8192];
        while let Some(stream) = &self.stream {
            match rustix::io::read(stream, &mut buffer) {
                Ok(0) => self.stream = None,
                Ok(count) => {
                    self.bytes.extend(buffer.iter().take(count));
                    if let Some(untold) = &mut self.untold {
                        untold.extend(buffer.iter().take(count));
                    }
                    if self.cut {
                        self.bytes.truncate(self.limit);
                    } else if self.overflowed() {
                        return Ok(());
                    }
                }
                Err(rustix::io::Errno::AGAIN) => return Ok(()),
                Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }

    fn overflowed(&self) -> bool {
        self.bytes.len() > self.limit
    }
}

/// A descriptor that becomes readable when the child ends, where the system has such a thing.
fn announcement(child: &Child) -> Option<OwnedFd> {
    #[cfg(target_os = "linux")]
    {
        let pid = Pid::from_raw(i32::try_from(child.id()).ok()?)?;
        rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).ok()
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = child;
        None
    }
}

/// Watches programs until all of them have ended. `told` hears those whose lines are kept.
pub(crate) fn watch(
    processes: &mut [Process],
    limit: Duration,
    mut told: Option<Told<'_>>,
) -> Result<(), CommandError> {
    let deadline = Instant::now().checked_add(limit);
    loop {
        for process in processes.iter_mut() {
            process.advance()?;
            if let Some(told) = &mut told {
                process.tell(told)?;
            }
        }
        let Some(running) = processes.iter().find(|process| process.status.is_none()) else {
            return Ok(());
        };
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        if left.is_some_and(|left| left.is_zero()) {
            return Err(CommandError::TimedOut {
                command: running.command.clone(),
                limit,
            });
        }
        let pause = match told {
            Some(_) => Some(left.map_or(ASK_AGAIN, |left| left.min(ASK_AGAIN))),
            None => left,
        };
        wait(processes, pause).map_err(|error| running.unwatchable(error))?;
    }
}

/// Waits until something can be moved, at most `left`.
fn wait(processes: &[Process], left: Option<Duration>) -> io::Result<()> {
    let blind = processes
        .iter()
        .any(|process| process.status.is_none() && process.exit.is_none());
    let left = match left {
        Some(left) if blind => Some(left.min(LOOK_AGAIN)),
        None if blind => Some(LOOK_AGAIN),
        left => left,
    };
    let timeout = left.and_then(|left| Timespec::try_from(left).ok());
    let mut events: Vec<PollFd<'_>> = processes.iter().flat_map(Process::events).collect();
    match poll(&mut events, timeout.as_ref()) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sink_that_cuts_keeps_the_beginning() {
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        rustix::io::write(&writer, b"abcdef").unwrap();
        drop(writer);
        let mut sink = Sink::new(Some(reader), 4, true);
        sink.read().unwrap();
        assert_eq!(sink.bytes, b"abcd");
        assert!(!sink.overflowed() && sink.stream.is_none());
    }
}
