//! The event loop: between the process and any number of clients, until the process has ended.
//!
//! - Output goes to the log and to every attached client. When more than [`BACKLOG`] waits for them
//!   together, the process's output isn't read until they have caught up: a slow client slows the
//!   process down, and costs a bounded amount of memory. A client that has gone is dropped.
//! - Clients that follow the log are told that it has grown, and never slow the process down.
//! - Once the process has ended, what is left in its pipes is read whatever the clients do, the
//!   status is recorded, everybody is told, and clients that still read get the rest.

use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::{Duration, Instant};

use kleene_doors::frames::{Frame, MAX_CHUNK, output_header};
use kleene_doors::host::ExitStatus;
use kleene_doors::log::Stream;
use kleene_types::Timestamp;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::client::{Client, Role};
use crate::input::Input;
use crate::log::Log;
use crate::status::Status;
use crate::system::{Process, Surroundings};

/// Bytes that may wait for all attached clients together while the process runs.
const BACKLOG: usize = 1 << 20;
/// What is read at least once the process has ended, if there is so much, beside what is there. A
/// process left behind in the container may hold the pipe open, and write without end.
const LEFT_OVER: u64 = 1 << 20;
/// Once the process has ended, a client must take [`PACE`] bytes, or the rest, in each of these
/// spans.
const PATIENCE: Duration = Duration::from_secs(10);
/// More than a client takes that only pretends to read. Its socket holds several times as much, and
/// frees it in pieces of about this size.
const PACE: usize = 32 << 10;
/// How long until a connection is taken that there were no descriptors or memory for.
const SHORTAGE: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 200_000_000,
};
/// How long those that live on when the process has ended are given to end as well.
const LAST_MOMENT: Duration = Duration::from_millis(250);
/// How often it is looked whether all has ended that the end of an ended process waits for: those aren't
/// the monitor's children, so nobody tells it.
const LOOK_AGAIN: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 100_000_000,
};
/// Connections at once; more wait in the socket's queue.
const CLIENTS: usize = 256;

/// The process's streams, from the outside.
pub(crate) struct Streams {
    pub process: Process,
    pub input: Option<Input>,
    /// Standard output, or the terminal.
    pub stdout: Option<OwnedFd>,
    pub stderr: Option<OwnedFd>,
}

/// Who the relay serves.
pub(crate) struct Clients {
    /// Where more of them come.
    pub listener: UnixListener,
    /// The daemon.
    pub control: UnixStream,
    /// The client that wants the streams from the first byte on.
    pub attached: Option<UnixStream>,
}

/// Everything the loop works on.
pub(crate) struct Relay {
    process: Process,
    /// How the process has ended.
    exit: Option<ExitStatus>,
    /// When that was noticed.
    ended: Option<Instant>,
    /// Whether those that are attached know of it, though others live on.
    has_left: bool,
    surroundings: Surroundings,
    input: Option<Input>,
    outputs: [Output; 2],
    listener: UnixListener,
    clients: Vec<Client>,
    /// A connection couldn't be taken; it waits in the socket's queue.
    short: bool,
    log: Log,
    /// The log has grown, which nobody has been told yet.
    grown: bool,
    buffer: Box<[u8]>,
    /// For clients that come later.
    pid: u32,
}

struct Output {
    stream: Stream,
    from: Option<OwnedFd>,
}

/// What became ready.
#[derive(Clone, Copy)]
enum Event {
    Ended,
    Connection,
    Input,
    Output(usize),
    Client(usize, PollFlags),
}

impl Relay {
    /// A relay for a process.
    pub(crate) fn new(
        streams: Streams,
        clients: Clients,
        log: Log,
        surroundings: Surroundings,
    ) -> io::Result<Self> {
        let Clients {
            listener,
            control,
            attached,
        } = clients;
        listener.set_nonblocking(true)?;
        let mut clients = vec![Client::new(control, Role::Watch)?];
        if let Some(attached) = attached {
            clients.push(Client::new(attached, Role::Attach)?);
        }
        let outputs = [
            Output {
                stream: Stream::Stdout,
                from: streams.stdout,
            },
            Output {
                stream: Stream::Stderr,
                from: streams.stderr,
            },
        ];
        Ok(Self {
            process: streams.process,
            exit: None,
            ended: None,
            has_left: false,
            surroundings,
            input: streams.input,
            outputs,
            listener,
            clients,
            short: false,
            log,
            grown: false,
            buffer: vec![0; MAX_CHUNK].into(),
            pid: 0,
        })
    }

    /// Relays until the process has ended and everybody knows.
    pub(crate) fn run(&mut self, mut status: Status) -> io::Result<()> {
        self.pid = status.pid;
        let exit = loop {
            self.take_turn()?;
            let Some(exit) = self.exit.clone() else {
                continue;
            };
            if self.surroundings.are_over()? {
                // Where others lived on, the end is that of the last of them.
                let finished = match self.ended {
                    Some(_) => Timestamp::now(),
                    None => exit.finished,
                };
                break ExitStatus { finished, ..exit };
            }
            if self.leave(exit) {
                status.left = true;
                status.write(Path::new(""))?;
            }
        };
        self.drain();
        status.exit = Some(exit.clone());
        let recorded = status.write(Path::new(""));
        self.tell(exit)?;
        recorded
    }

    /// Tells those that are attached, once, that the process has ended while others live on. Those may be
    /// about to end as well, so it waits a moment for that. Whether it has done so now.
    fn leave(&mut self, exit: ExitStatus) -> bool {
        let ended = *self.ended.get_or_insert_with(Instant::now);
        if self.has_left || ended.elapsed() < LAST_MOMENT {
            return false;
        }
        self.has_left = true;
        self.drain();
        let frame = Frame::LivesOn(exit).encode();
        for client in &mut self.clients {
            if client.role == Role::Attach {
                client.send(&frame);
            }
        }
        true
    }

    /// Waits until something can be done, and does it.
    fn take_turn(&mut self) -> io::Result<()> {
        let events = self.wait()?;
        // Output first, so that a client that has just come isn't sent what was there before.
        for event in &events {
            if let Event::Output(index) = *event {
                self.read_output(index);
            }
        }
        self.tell_growth();
        let ended = events.iter().any(|event| matches!(event, Event::Ended));
        for event in events {
            match event {
                Event::Input => self.with_input(Input::flush),
                Event::Client(index, flags) => self.serve(index, flags),
                Event::Connection => self.accept(),
                Event::Output(_) | Event::Ended => {}
            }
        }
        self.clients.retain(|client| !client.is_gone());
        if self.short {
            self.accept();
        }
        if ended && let Some(code) = self.process.exit_code()? {
            self.surroundings.process_has_ended()?;
            self.exit = Some(ExitStatus {
                code,
                finished: Timestamp::now(),
                out_of_memory: self.surroundings.out_of_memory(),
            });
        }
        Ok(())
    }

    /// Waits until something can be done.
    fn wait(&self) -> io::Result<Vec<Event>> {
        let attached = self.clients.iter().filter(|c| c.role == Role::Attach);
        let paused = attached.map(Client::waiting).sum::<usize>() > BACKLOG;
        let full = self.input.as_ref().is_some_and(Input::is_full);
        let mut polled = Vec::with_capacity(5 + self.clients.len());
        if self.exit.is_none() {
            polled.push((PollFd::new(&self.process, PollFlags::IN), Event::Ended));
        }
        // In a shortage the connection stays in the queue, and polling would never wait.
        if self.clients.len() < CLIENTS && !self.short {
            polled.push((
                PollFd::new(&self.listener, PollFlags::IN),
                Event::Connection,
            ));
        }
        if let Some(input) = self.input.as_ref().filter(|input| input.is_waiting()) {
            polled.push((PollFd::new(input, PollFlags::OUT), Event::Input));
        }
        for (index, output) in self.outputs.iter().enumerate() {
            if let Some(from) = output.from.as_ref().filter(|_| !paused) {
                polled.push((PollFd::new(from, PollFlags::IN), Event::Output(index)));
            }
        }
        for (index, client) in self.clients.iter().enumerate() {
            let mut wanted = PollFlags::empty();
            wanted.set(PollFlags::OUT, client.waiting() > 0);
            let hushed = client.is_silent() || full && client.role == Role::Attach;
            wanted.set(PollFlags::IN, !hushed);
            polled.push((
                PollFd::new(client, wanted),
                Event::Client(index, PollFlags::empty()),
            ));
        }
        let (mut fds, events): (Vec<PollFd<'_>>, Vec<Event>) = polled.into_iter().unzip();
        let limit = match (self.short, &self.exit) {
            (true, _) => Some(&SHORTAGE),
            (false, Some(_)) => Some(&LOOK_AGAIN),
            (false, None) => None,
        };
        while let Err(errno) = poll(&mut fds, limit) {
            if errno != Errno::INTR {
                return Err(errno.into());
            }
        }
        let ready = fds
            .iter()
            .map(PollFd::revents)
            .zip(events)
            .filter(|(now, _)| !now.is_empty());
        Ok(ready
            .map(|(now, event)| match event {
                Event::Client(index, _) => Event::Client(index, now),
                other => other,
            })
            .collect())
    }

    /// Takes one piece of output, and gives its size; 0: there is none now.
    fn read_output(&mut self, index: usize) -> usize {
        let Some(output) = self.outputs.get_mut(index) else {
            return 0;
        };
        let Some(from) = &output.from else {
            return 0;
        };
        let count = match rustix::io::read(from, &mut *self.buffer) {
            Ok(count @ 1..) => count,
            Err(Errno::AGAIN | Errno::INTR) => return 0,
            // A terminal says EIO when nobody holds its other side any more.
            Ok(0) | Err(_) => {
                output.from = None;
                return 0;
            }
        };
        let data = self.buffer.get(..count).unwrap_or_default();
        self.log.write(output.stream, data);
        self.grown = true;
        let header = output_header(output.stream, count);
        for client in &mut self.clients {
            if client.role == Role::Attach {
                client.send_parts(&header, data);
            }
        }
        count
    }

    /// Tells those that follow the log.
    fn tell_growth(&mut self) {
        if std::mem::take(&mut self.grown) {
            let followers = self.clients.iter_mut().filter(|c| c.role == Role::Follow);
            followers.for_each(Client::tell_growth);
        }
    }

    /// Takes a connection. Whatever is in its way is no reason to end the process: a client that
    /// has gone again is forgotten, and a shortage passes.
    fn accept(&mut self) {
        use ErrorKind::{ConnectionAborted, Interrupted, WouldBlock};
        self.short = match self.listener.accept() {
            Ok((stream, _)) => {
                self.clients.extend(Client::new(stream, Role::New));
                false
            }
            Err(error) => !matches!(error.kind(), WouldBlock | Interrupted | ConnectionAborted),
        };
    }

    fn serve(&mut self, index: usize, flags: PollFlags) {
        let Some(client) = self.clients.get_mut(index) else {
            return;
        };
        if flags.contains(PollFlags::OUT) {
            client.flush();
        }
        if flags.contains(PollFlags::IN) {
            for frame in client.receive(&mut self.buffer) {
                self.obey(index, frame);
            }
        } else if flags.intersects(PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL) {
            client.lose();
        }
    }

    fn obey(&mut self, index: usize, frame: Frame) {
        match frame {
            Frame::Stdin(data) => self.with_input(|input| input.push(&data)),
            Frame::StdinEnd => self.with_input(Input::end),
            Frame::Resize(size) => self.with_input(|input| {
                // A terminal that is being hung up has no size to set.
                drop(input.resize(size));
                true
            }),
            // The process may have ended a moment ago; that is told in its own time.
            Frame::Signal(signal) => drop(self.process.signal(signal)),
            Frame::Attach => self.set_role(index, Role::Attach),
            Frame::Watch => self.set_role(index, Role::Watch),
            Frame::Follow => self.set_role(index, Role::Follow),
            // What only a monitor says.
            _ => {
                if let Some(client) = self.clients.get_mut(index) {
                    client.lose();
                }
            }
        }
    }

    fn set_role(&mut self, index: usize, role: Role) {
        let started = Frame::Started(self.pid).encode();
        // Nothing comes any more of a process that has ended, and nothing reaches it.
        let left = self.exit.clone().filter(|_| self.has_left);
        if let Some(client) = self.clients.get_mut(index).filter(|c| c.role == Role::New) {
            client.role = role;
            match (role, left) {
                (Role::Attach, Some(exit)) => client.send(&Frame::LivesOn(exit).encode()),
                (Role::Attach, None) => {}
                _ => client.send(&started),
            }
        }
    }

    /// Works on the input, if there is one, and closes it when it says so.
    fn with_input(&mut self, work: impl FnOnce(&mut Input) -> bool) {
        if let Some(input) = &mut self.input
            && !work(input)
        {
            self.input = None;
        }
    }

    /// Reads what the process has left behind.
    fn drain(&mut self) {
        for index in 0..self.outputs.len() {
            let from = self
                .outputs
                .get(index)
                .and_then(|output| output.from.as_ref());
            let there = from.map(rustix::io::ioctl_fionread);
            let mut left = there.and_then(Result::ok).unwrap_or(0).max(LEFT_OVER);
            while left > 0 {
                match self.read_output(index) {
                    0 => break,
                    count => left = left.saturating_sub(count as u64),
                }
            }
        }
        self.tell_growth();
    }

    /// Tells everybody, those included that have just come, how the process ended.
    fn tell(&mut self, exit: ExitStatus) -> io::Result<()> {
        while self.clients.len() < CLIENTS
            && let Ok((stream, _)) = self.listener.accept()
        {
            self.clients.extend(Client::new(stream, Role::Watch));
        }
        let exited = Frame::Exited(exit).encode();
        for client in &mut self.clients {
            client.send(&exited);
            client.take_progress();
        }
        let mut deadline = Instant::now() + PATIENCE;
        loop {
            let waits = |client: &Client| !client.is_gone() && client.waiting() > 0;
            self.clients.retain(waits);
            if self.clients.is_empty() {
                return Ok(());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                // Some room there may be, just not enough to be told of it.
                self.clients.iter_mut().for_each(Client::flush);
                self.clients.retain_mut(|c| c.take_progress() >= PACE);
                deadline = Instant::now() + PATIENCE;
                continue;
            }
            let left = Timespec::try_from(left).map_err(io::Error::other)?;
            let ready = |client| PollFd::new(client, PollFlags::OUT);
            let mut fds: Vec<PollFd<'_>> = self.clients.iter().map(ready).collect();
            match poll(&mut fds, Some(&left)) {
                Ok(_) => self.clients.iter_mut().for_each(Client::flush),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}
