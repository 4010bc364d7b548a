//! A private daemon.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use kleene_storage::testkit::ZfsPool;
use tempfile::TempDir;

/// The storage room that a daemon uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    /// Directories and overlayfs.
    Dir,
    /// A file-backed ZFS pool.
    Zfs,
}

/// What a command did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
    /// Its exit code; 128 + signal when a signal ended it.
    pub code: i32,
}

impl Outcome {
    /// The standard output of a command that must have succeeded.
    pub fn ok(self) -> String {
        assert_eq!(self.code, 0, "{}\n{}", self.stdout, self.stderr);
        self.stdout
    }

    /// The standard error of a command that must have failed with this code.
    pub fn fails(self, code: i32) -> String {
        assert_eq!(self.code, code, "{}\n{}", self.stdout, self.stderr);
        self.stderr
    }
}

/// A daemon with a root of its own; all of it goes away when this is dropped.
pub struct Daemon {
    directory: TempDir,
    root: Option<PathBuf>,
    pool: Option<ZfsPool>,
    child: Option<Child>,
    extra: String,
}

/// Where scratch roots lie: in memory where there is such a place, since the suites write a lot.
pub(crate) fn scratch() -> TempDir {
    let memory = Path::new("/dev/shm");
    let builder = tempfile::Builder::new().prefix("kleene-").to_owned();
    if memory.is_dir() {
        builder.tempdir_in(memory)
    } else {
        builder.tempdir()
    }
    .unwrap()
}

/// A program that was built with the tests.
pub fn built(name: &str) -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    let path = tests.parent().and_then(Path::parent).unwrap().join(name);
    assert!(
        path.exists(),
        "{} is missing: run `cargo build --workspace` first",
        path.display()
    );
    path
}

impl Daemon {
    /// Starts a daemon without images.
    pub fn empty(room: Room) -> Self {
        Self::with_config(room, "")
    }

    /// Starts a daemon with further lines in its configuration.
    pub fn with_config(room: Room, extra: &str) -> Self {
        assert!(
            rustix::process::geteuid().is_root(),
            "the system suites need root"
        );
        let pool = (room == Room::Zfs).then(ZfsPool::create);
        let mut daemon = Self {
            directory: scratch(),
            root: None,
            pool,
            child: None,
            extra: extra.to_owned(),
        };
        daemon.start();
        daemon
    }

    /// Starts a daemon whose root is this directory.
    pub fn with_root(root: &Path) -> Self {
        let mut daemon = Self {
            directory: scratch(),
            root: Some(root.to_owned()),
            pool: None,
            child: None,
            extra: String::new(),
        };
        daemon.start();
        daemon
    }

    /// Starts a daemon with the images `FreeBSD:latest` and `nginx:latest`.
    pub fn new(room: Room) -> Self {
        let daemon = Self::empty(room);
        let url = format!("file://{}", archive_in(daemon.directory.path()).display());
        for name in ["FreeBSD", "nginx:latest"] {
            daemon
                .klee(&["image", "create", "-t", name, "fetch", &url])
                .ok();
        }
        daemon
    }

    /// The scratch directory.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The Kleene root as the configuration names it.
    pub fn kleene_root(&self) -> String {
        match (&self.pool, &self.root) {
            (Some(pool), _) => format!("{}/kleene", pool.name()),
            (None, Some(root)) => root.display().to_string(),
            (None, None) => self.directory.path().join("root").display().to_string(),
        }
    }

    /// Where the Kleene root is mounted.
    pub fn mountpoint(&self) -> PathBuf {
        match &self.pool {
            Some(pool) => pool.mountpoint().join("kleene"),
            None => PathBuf::from(self.kleene_root()),
        }
    }

    /// Makes a dataset beside the Kleene root that holds the small image's tree; answers its name.
    pub fn foreign_dataset(&self, name: &str) -> String {
        let pool = self.pool.as_ref().expect("only a daemon on ZFS has a pool");
        let dataset = format!("{}/{name}", pool.name());
        pool.zfs(&["create", &dataset]).unwrap();
        let mut tar = tar::Archive::new(
            std::fs::File::open(crate::image::archive(self.directory.path())).unwrap(),
        );
        tar.unpack(pool.mountpoint().join(name)).unwrap();
        dataset
    }

    /// The socket's path.
    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("kleened.sock")
    }

    /// The daemon's log.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("kleened.log")).unwrap_or_default()
    }

    /// The daemon's process id.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    /// Starts the daemon and waits until it listens.
    pub fn start(&mut self) {
        let config = self.directory.path().join("config.yaml");
        let text = format!(
            "kleene_root: \"{}\"\napi_listening_sockets:\n  - address: \"http://{}\"\n{}",
            self.kleene_root(),
            self.socket().display(),
            self.extra
        );
        std::fs::write(&config, text).unwrap();
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.directory.path().join("kleened.log"))
            .unwrap();
        let mut child = Command::new(built("kleened"))
            .arg("--config")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (ready, is_ready) = std::sync::mpsc::channel();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let path = self.directory.path().join("kleened.log");
        std::thread::spawn(move || {
            let mut log = std::fs::OpenOptions::new().append(true).open(path).unwrap();
            for line in stderr.lines().map_while(Result::ok) {
                let _ = writeln!(log, "{line}");
                if line.contains("listening") {
                    let _ = ready.send(());
                }
            }
        });
        self.child = Some(child);
        is_ready
            .recv()
            .unwrap_or_else(|_| panic!("kleened did not start:\n{}", self.log()));
    }

    /// Ends the daemon as SIGKILL does; containers live on.
    pub fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Ends the daemon as SIGTERM does, and answers its exit code; containers live on.
    pub fn terminate(&mut self) -> i32 {
        let mut child = self.child.take().unwrap();
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        child.wait().unwrap().code().unwrap_or(-1)
    }

    /// A command of the command line, ready to be changed and run.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(built("klee"));
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.directory.path())
            .env("KLEE_HOST", format!("http://{}", self.socket().display()))
            .current_dir(self.directory.path())
            .args(arguments);
        command
    }

    /// Runs the command line with nothing on its standard input.
    pub fn klee(&self, arguments: &[&str]) -> Outcome {
        self.klee_with_input(arguments, b"")
    }

    /// Runs the command line with this on its standard input.
    pub fn klee_with_input(&self, arguments: &[&str], input: &[u8]) -> Outcome {
        let mut command = self.command(arguments);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        run(command, input)
    }

    /// Sends a request over the socket; answers the status and the body.
    pub fn request(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        use std::io::Read;
        let mut stream = UnixStream::connect(self.socket()).unwrap();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let status = answer
            .split(' ')
            .nth(1)
            .and_then(|code| code.parse().ok())
            .unwrap_or(0);
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        (status, body.to_owned())
    }

    /// `inspect`'s answer as JSON.
    pub fn inspect(&self, noun: &str, name: &str) -> serde_json::Value {
        serde_json::from_str(&self.klee(&[noun, "inspect", name]).ok()).unwrap()
    }

    /// Ids of all containers.
    pub fn containers(&self) -> Vec<String> {
        let text = self.klee(&["container", "ls", "-a", "-q"]).ok();
        text.lines().map(str::to_owned).collect()
    }
}

fn archive_in(directory: &Path) -> PathBuf {
    crate::image::archive(directory)
}

/// Runs a command to its end.
pub(crate) fn run(mut command: Command, input: &[u8]) -> Outcome {
    use std::os::unix::process::ExitStatusExt;
    let mut child = command.spawn().unwrap();
    if let Some(mut stdin) = child.stdin.take() {
        let input = input.to_vec();
        std::thread::spawn(move || {
            // A program that doesn't read its input may end before it is written.
            let _ = stdin.write_all(&input);
        });
    }
    let output = child.wait_with_output().unwrap();
    let code = output
        .status
        .code()
        .unwrap_or_else(|| 128 + output.status.signal().unwrap_or_default());
    Outcome {
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        code,
    }
}

impl Drop for Daemon {
    /// Removes all containers, then ends the daemon.
    fn drop(&mut self) {
        if self.child.is_none() {
            self.start();
        }
        for id in self.containers() {
            self.klee(&["container", "rm", "-f", &id]);
        }
        self.terminate();
    }
}
