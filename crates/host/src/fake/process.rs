//! Scripted processes, and the streams of the clients that watch them.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::{io, thread};

use kleene_doors::frames::Frame;
use kleene_doors::host::{ExitStatus, Place, StartRequest, WindowSize};
use kleene_doors::log::Stream;
use kleene_doors::observe::ProcessInfo;
use kleene_monitor::status::Status;
use kleene_types::{ExecId, Init, Limits, Timestamp};

use super::log::Log;

/// Signals whose default is to be ignored, or that stop and continue: no program ends by them.
const HARMLESS: [i32; 8] = [17, 18, 19, 20, 21, 22, 23, 28];
const SIGKILL: i32 = 9;

/// What a program does once it is started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Program {
    /// Prints this and returns that, at once.
    Exits {
        /// What it returns.
        code: i32,
        /// What it prints on standard output.
        output: Vec<u8>,
    },
    /// Runs until a signal or the test ends it.
    Runs,
    /// Runs until `SIGKILL` or the test ends it.
    Stubborn,
    /// Prints what comes on its standard input, and returns 0 when that ends.
    Echoes,
    /// Sends this signal to its container's first process, and returns 0: what `exec.stop` runs.
    Signals(i32),
    /// Does what the first of these does when it is started first, and so on; the last one's turn
    /// doesn't end.
    InTurn(Vec<Program>),
    /// Is there, but can't be executed (126).
    NotExecutable,
}

/// How far a process has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stage {
    /// It runs.
    Running,
    /// It has ended.
    Exited(ExitStatus),
    /// The host doesn't know about it any more.
    Lost,
}

/// What a test can see of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// What was asked for.
    pub request: StartRequest,
    /// Its id.
    pub pid: u32,
    /// How far it has come.
    pub stage: Stage,
    /// Signals that were sent to it, in order.
    pub signals: Vec<i32>,
    /// What clients have sent to its standard input.
    pub stdin: Vec<u8>,
    /// Whether a client has ended its standard input.
    pub stdin_ended: bool,
    /// The size of its terminal.
    pub window: Option<WindowSize>,
    /// Clients that its streams go to.
    pub attached: usize,
    /// Whether its container is paused.
    pub paused: bool,
    /// Its container's limits, of a container's first process.
    pub limits: Limits,
}

pub(super) struct Process {
    pub program: Program,
    pub seen: Seen,
    clients: Vec<Sender<Frame>>,
    pub clients_so_far: usize,
    watches: Vec<Sender<Frame>>,
    followers: Vec<Sender<Frame>>,
    pub log: Log,
    /// Signals that wait for the end of a pause.
    held: Vec<i32>,
    pub started: Timestamp,
    /// How its program has ended, while it waits for the container's other processes.
    over: Option<ExitStatus>,
    /// Whether its clients know that it waits.
    has_left: bool,
    /// Where it is recorded for daemons that come later.
    directory: Option<PathBuf>,
}

impl Process {
    pub fn new(request: StartRequest, program: Program, pid: u32) -> Self {
        let limits = match &request.place {
            Place::New(setup) => setup.limits.clone(),
            Place::Running { .. } => Limits::default(),
        };
        let seen = Seen {
            pid,
            stage: Stage::Running,
            signals: Vec::new(),
            stdin: Vec::new(),
            stdin_ended: false,
            window: request.process.window,
            attached: 0,
            paused: false,
            limits,
            request,
        };
        Self {
            program,
            seen,
            clients: Vec::new(),
            clients_so_far: 0,
            watches: Vec::new(),
            followers: Vec::new(),
            log: Log::default(),
            held: Vec::new(),
            started: Timestamp::now(),
            over: None,
            has_left: false,
            directory: None,
        }
    }

    /// Whether its execution instance runs.
    pub fn runs(&self) -> bool {
        self.seen.stage == Stage::Running
    }

    /// Whether the process itself does.
    pub fn lives(&self) -> bool {
        self.runs() && self.over.is_none()
    }

    /// Whether it is its container's first one.
    pub fn is_first(&self) -> bool {
        matches!(self.seen.request.place, Place::New(_))
    }

    /// Whether its execution instance ends with the container's last process only.
    pub fn waits_for_all(&self) -> bool {
        matches!(&self.seen.request.place, Place::New(setup) if setup.init == Init::All)
    }

    /// Records it in a directory, and how it ends as well.
    pub fn record_in(&mut self, directory: &Path) {
        self.directory = Some(directory.to_owned());
        self.record(None);
    }

    fn record(&self, exit: Option<ExitStatus>) {
        let Some(directory) = &self.directory else {
            return;
        };
        let status = Status {
            container: self.seen.request.container.clone(),
            pid: self.seen.pid,
            start_time: 0,
            boot_id: String::new(),
            exit,
            left: self.has_left,
        };
        if let Err(problem) = status.write(directory) {
            tracing::warn!(exec = %self.seen.request.exec, %problem, "a process isn't recorded");
        }
    }

    pub fn add_client(&mut self, to: Sender<Frame>) {
        self.clients.push(to);
        self.clients_so_far += 1;
        self.seen.attached = self.clients.len();
    }

    pub fn add_watch(&mut self, to: Sender<Frame>) {
        self.watches.push(to);
    }

    pub fn add_follower(&mut self, to: Sender<Frame>) {
        // One that has gone away already is no concern of the process.
        let _ = to.send(Frame::Started(self.seen.pid));
        self.followers.push(to);
    }

    /// Serves a client that has said what it wants, as a monitor does.
    pub fn serve(&mut self, wish: &Frame, to: Sender<Frame>) {
        // One that has gone away already is no concern of the process.
        match (&self.seen.stage, wish) {
            (Stage::Running, Frame::Attach) => self.add_client(to),
            (Stage::Running, Frame::Follow) => self.add_follower(to),
            (Stage::Running, _) => {
                let _ = to.send(Frame::Started(self.seen.pid));
                self.add_watch(to);
            }
            (Stage::Exited(status), _) => drop(to.send(Frame::Exited(status.clone()))),
            (Stage::Lost, _) => {}
        }
    }

    /// The process as a list of processes shows it.
    pub fn info(&self) -> ProcessInfo {
        ProcessInfo {
            pid: self.seen.pid,
            inside_pid: None,
            parent: 1,
            user: "root".to_owned(),
            state: 'S',
            cpu_us: 0,
            resident: 0,
            started: self.started,
            terminal: None,
            command: self.seen.request.process.argv.join(" "),
        }
    }

    /// Prints: clients get it, and it is logged.
    pub fn output(&mut self, stream: Stream, data: &[u8]) {
        if let Err(problem) = self.log.append(stream, data) {
            tracing::warn!(exec = %self.seen.request.exec, %problem, "output isn't logged");
        }
        self.tell_clients(&match stream {
            Stream::Stdout => Frame::Stdout(data.to_vec()),
            Stream::Stderr => Frame::Stderr(data.to_vec()),
        });
        self.followers
            .retain(|follower| follower.send(Frame::Grown).is_ok());
    }

    /// Sends a frame to every attached client; those that have gone away are forgotten.
    fn tell_clients(&mut self, frame: &Frame) {
        self.clients
            .retain(|client| client.send(frame.clone()).is_ok());
        self.seen.attached = self.clients.len();
    }

    /// Ends the process. Its clients and watches hear of it, then their streams end, unless it waits for
    /// others: then [`Process::leave`] or [`Process::finish`] comes next.
    pub fn end(&mut self, code: i32) {
        self.end_with(code, false);
    }

    /// The same, perhaps because there was no memory left.
    pub fn end_with(&mut self, code: i32, out_of_memory: bool) {
        if !self.lives() {
            return;
        }
        self.over = Some(ExitStatus {
            code,
            finished: Timestamp::now(),
            out_of_memory,
        });
        if !self.waits_for_all() {
            self.finish();
        }
    }

    /// Tells the clients, once, that the container goes on without the process.
    pub fn leave(&mut self) {
        if let Some(status) = self.over.clone().filter(|_| !self.has_left) {
            self.has_left = true;
            self.record(None);
            self.tell_clients(&Frame::LivesOn(status));
        }
    }

    /// Ends the execution instance of a process that has ended.
    pub fn finish(&mut self) {
        let Some(status) = self.over.take() else {
            return;
        };
        self.record(Some(status.clone()));
        let frame = Frame::Exited(status.clone());
        self.tell_clients(&frame);
        for watch in self.watches.iter().chain(&self.followers) {
            // A watch that nobody reads any more is no concern of the process.
            let _ = watch.send(frame.clone());
        }
        self.seen.stage = Stage::Exited(status);
        self.seen.paused = false;
        self.hang_up();
    }

    /// Ends all streams without a word, as when the monitor is killed.
    pub fn hang_up(&mut self) {
        self.clients.clear();
        self.watches.clear();
        self.followers.clear();
        self.seen.attached = 0;
    }

    /// Sends a signal; whether it ends the process.
    pub fn signal(&mut self, signal: i32) -> bool {
        if !self.lives() {
            return false;
        }
        self.seen.signals.push(signal);
        self.take(signal)
    }

    /// Lets the process go on; whether a signal that it got meanwhile ends it.
    pub fn unpause(&mut self) -> bool {
        self.seen.paused = false;
        let held = std::mem::take(&mut self.held);
        held.into_iter().any(|signal| self.take(signal))
    }

    fn take(&mut self, signal: i32) -> bool {
        if self.seen.paused && signal != SIGKILL {
            self.held.push(signal);
            return false;
        }
        let survives =
            HARMLESS.contains(&signal) || (self.program == Program::Stubborn && signal != SIGKILL);
        if survives {
            return false;
        }
        self.end(128 + signal);
        true
    }

    /// What a client has sent; whether it ended the process.
    pub fn receive(&mut self, frame: Frame) -> bool {
        match frame {
            Frame::Stdin(data) => {
                if self.program == Program::Echoes {
                    self.output(Stream::Stdout, &data);
                }
                self.seen.stdin.extend_from_slice(&data);
                false
            }
            Frame::StdinEnd => {
                self.seen.stdin_ended = true;
                let ends = self.lives() && self.program == Program::Echoes;
                if ends {
                    self.end(0);
                }
                ends
            }
            Frame::Resize(size) => {
                self.seen.window = Some(size);
                false
            }
            Frame::Signal(signal) => self.signal(signal),
            _ => false,
        }
    }
}

/// A stream for a client: what is sent to the returned end of the channel is written to it, and
/// `receive` gets what the client sends. Both threads end with the channel or the client's end.
pub(super) fn connect(
    exec: &ExecId,
    receive: impl Fn(&ExecId, Frame) + Send + 'static,
) -> io::Result<(UnixStream, Sender<Frame>)> {
    let exec = exec.clone();
    let (theirs, reading, to) = stream()?;
    read_frames(reading, move |frame| receive(&exec, frame))?;
    Ok((theirs, to))
}

/// As [`connect`], for a client that says what it wants: `receive` has the channel until it knows whose
/// it is.
pub(super) fn serve(
    exec: &ExecId,
    receive: impl Fn(&ExecId, Frame, &mut Option<Sender<Frame>>) + Send + 'static,
) -> io::Result<UnixStream> {
    let exec = exec.clone();
    let (theirs, reading, to) = stream()?;
    let mut to = Some(to);
    read_frames(reading, move |frame| receive(&exec, frame, &mut to))?;
    Ok(theirs)
}

/// The client's end, ours for reading, and a channel that is written to it.
fn stream() -> io::Result<(UnixStream, UnixStream, Sender<Frame>)> {
    let (theirs, ours) = UnixStream::pair()?;
    let reading = ours.try_clone()?;
    let (to, frames) = channel();
    thread::Builder::new().spawn(move || write_frames(ours, &frames))?;
    Ok((theirs, reading, to))
}

fn read_frames(
    from: UnixStream,
    mut receive: impl FnMut(Frame) + Send + 'static,
) -> io::Result<()> {
    thread::Builder::new().spawn(move || {
        let mut from = io::BufReader::new(from);
        while let Ok(Some(frame)) = Frame::read(&mut from) {
            receive(frame);
        }
    })?;
    Ok(())
}

fn write_frames(mut to: UnixStream, frames: &Receiver<Frame>) {
    for frame in frames {
        if frame.write(&mut to).is_err() {
            break;
        }
    }
    // The reading thread has a descriptor of the same socket, so closing this one isn't enough. The
    // error is that the client has closed its end already.
    let _ = to.shutdown(std::net::Shutdown::Both);
}
