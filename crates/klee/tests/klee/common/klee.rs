//! The real `klee`.

#![allow(
    clippy::disallowed_types,
    reason = "the tests have to start the program that they test, with signals and pipes"
)]

use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use super::FakeDaemon;

/// Longest run of klee.
const PATIENCE: Duration = Duration::from_secs(60);

/// A command line of klee, with nothing of the tester's environment.
pub struct Klee {
    command: Command,
    input: Vec<u8>,
}

/// What klee did.
#[derive(Debug)]
pub struct Output {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Output {
    /// Checks all of it.
    #[track_caller]
    pub fn assert(&self, code: i32, stdout: &str, stderr: &str) {
        assert_eq!(self.stdout, stdout, "stdout; {self:?}");
        assert_eq!(self.stderr, stderr, "stderr; {self:?}");
        assert_eq!(self.code, Some(code), "exit code; {self:?}");
    }
}

impl Klee {
    /// Without a daemon.
    pub fn alone(arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_klee"));
        command.args(arguments).env_clear();
        Self {
            command,
            input: Vec::new(),
        }
    }

    /// Against a daemon, in its directory.
    pub fn new(daemon: &FakeDaemon, arguments: &[&str]) -> Self {
        Self::alone(arguments)
            .env("KLEE_HOST", &daemon.address())
            .env("HOME", daemon.directory().to_str().unwrap())
            .within(daemon.directory())
    }

    /// With an environment variable.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    /// In a directory.
    pub fn within(mut self, directory: &std::path::Path) -> Self {
        self.command.current_dir(directory);
        self
    }

    /// With standard input.
    pub fn input(mut self, input: &[u8]) -> Self {
        self.input = input.to_vec();
        self
    }

    /// Starts it with these streams.
    pub fn spawn(mut self, stdin: Stdio, stdout: Stdio, stderr: Stdio) -> Running {
        let child = self
            .command
            .stdin(stdin)
            .stdout(stdout)
            .stderr(stderr)
            .spawn()
            .unwrap();
        Running(child)
    }

    /// Runs it to its end, with pipes for all streams.
    pub fn run(mut self) -> Output {
        let input = std::mem::take(&mut self.input);
        let mut running = self.spawn(Stdio::piped(), Stdio::piped(), Stdio::piped());
        let mut stdin = running.0.stdin.take().unwrap();
        let writer = thread::spawn(move || {
            // Klee may not want all of it.
            let _ = stdin.write_all(&input);
        });
        let stdout = collect(running.0.stdout.take().unwrap());
        let stderr = collect(running.0.stderr.take().unwrap());
        let code = running.wait();
        writer.join().unwrap();
        Output {
            code,
            stdout: stdout.join().unwrap(),
            stderr: stderr.join().unwrap(),
        }
    }
}

fn collect(mut from: impl Read + Send + 'static) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut all = Vec::new();
        from.read_to_end(&mut all).unwrap();
        String::from_utf8_lossy(&all).into_owned()
    })
}

/// A klee that runs.
pub struct Running(pub Child);

impl Running {
    /// Its process id.
    pub fn pid(&self) -> rustix::process::Pid {
        rustix::process::Pid::from_child(&self.0)
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: rustix::process::Signal) {
        rustix::process::kill_process(self.pid(), signal).unwrap();
    }

    /// Waits for its end and returns its exit code; kills it when it takes too long.
    pub fn wait(mut self) -> Option<i32> {
        let pid = self.pid();
        let (done, is_done) = mpsc::channel::<()>();
        let watchdog = thread::spawn(move || {
            if is_done.recv_timeout(PATIENCE) == Err(mpsc::RecvTimeoutError::Timeout) {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        });
        let status = self.0.wait().unwrap();
        drop(done);
        watchdog.join().unwrap();
        status.code()
    }
}
