//! A release daemon to measure.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::measure::time_command;
use crate::shell;

/// A running daemon; ended when dropped.
pub struct Daemon {
    child: Option<Child>,
    directory: PathBuf,
    root: PathBuf,
}

impl Daemon {
    /// Starts one whose socket lies in `directory` and waits until it listens.
    pub fn start(directory: &Path, root: &Path) -> Result<Self> {
        std::fs::create_dir_all(directory)?;
        let config = directory.join("config.yaml");
        let text = format!(
            "kleene_root: \"{}\"\napi_listening_sockets:\n  - address: \"http://{}\"\n",
            root.to_string_lossy(),
            directory.join("kleened.sock").display()
        );
        std::fs::write(&config, text)?;
        let mut child = Command::new(shell::target_dir("release").join("kleened"))
            .arg("--config")
            .arg(&config)
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let stderr = child
            .stderr
            .take()
            .context("kleened has no standard error")?;
        let mut lines = BufReader::new(stderr).lines();
        let mut seen = String::new();
        loop {
            match lines.next() {
                Some(Ok(line)) if line.contains("listening") => break,
                Some(Ok(line)) => seen.push_str(&line),
                _ => bail!("kleened did not start:\n{seen}"),
            }
        }
        // Its log is read on, so that it never waits for us.
        std::thread::spawn(move || lines.for_each(drop));
        Ok(Self {
            child: Some(child),
            directory: directory.to_owned(),
            root: root.to_owned(),
        })
    }

    /// A command of the command line.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(shell::target_dir("release").join("klee"));
        let host = format!("http://{}", self.directory.join("kleened.sock").display());
        command
            .env("KLEE_HOST", host)
            .args(arguments)
            .stdin(Stdio::null());
        command
    }

    /// Runs the command line; it must succeed.
    pub fn klee(&self, arguments: &[&str]) -> Result<String> {
        shell::output(&mut self.command(arguments))
    }

    /// Milliseconds of a command.
    pub fn time(&self, arguments: &[&str]) -> Result<f64> {
        time_command(&mut self.command(arguments))
    }

    /// A connection for several requests.
    pub fn connect(&self) -> Result<UnixStream> {
        Ok(UnixStream::connect(self.directory.join("kleened.sock"))?)
    }

    /// One request over a connection of its own.
    pub fn request(&self, method: &str, path: &str, body: &str) -> Result<Vec<u8>> {
        request(&mut self.connect()?, method, path, body)
    }

    fn pid(&self) -> u32 {
        self.child.as_ref().map_or(0, Child::id)
    }

    /// Resident memory in KiB.
    pub fn resident(&self) -> Result<u64> {
        field(&format!("/proc/{}/status", self.pid()), "VmRSS:")
    }

    /// Private memory in KiB of the monitor of one of this daemon's execution instances, beside the
    /// spare one, with which it shares the program.
    pub fn monitor_private(&self) -> Result<u64> {
        for _ in 0..1000 {
            let monitors = self.monitors()?;
            let is_spare = |path: &&PathBuf| text(path, "cmdline").contains("waiting");
            let (spare, working): (Vec<_>, Vec<_>) = monitors.iter().partition(is_spare);
            if let (Some(_), Some(monitor)) = (spare.first(), working.first()) {
                let rollup = monitor.join("smaps_rollup").display().to_string();
                return Ok(field(&rollup, "Private_Clean:")? + field(&rollup, "Private_Dirty:")?);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        bail!("no monitor runs, or no spare one waits")
    }

    /// The directories in `/proc` of this daemon's monitors.
    fn monitors(&self) -> Result<Vec<PathBuf>> {
        let parent = format!("PPid:\t{}\n", self.pid());
        let is_ours = |path: &PathBuf| {
            text(path, "comm").starts_with("kleene-monitor")
                && text(path, "status").contains(&parent)
        };
        let processes = std::fs::read_dir("/proc")?.flatten();
        let processes = processes.map(|entry| entry.path());
        Ok(processes.filter(is_ours).collect())
    }

    /// Ends the daemon; answers where it kept things.
    pub fn stop(mut self) -> Result<(PathBuf, PathBuf)> {
        self.end()?;
        Ok((self.directory.clone(), self.root.clone()))
    }

    fn end(&mut self) -> Result<()> {
        if let Some(mut child) = self.child.take() {
            shell::output(Command::new("kill").arg(child.id().to_string()))?;
            child.wait()?;
        }
        Ok(())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if self.child.is_some() {
            // After a failure in the middle; its containers would live on.
            let ids = self.klee(&["lsc", "-aq"]).unwrap_or_default();
            for id in ids.lines() {
                let _ = self.klee(&["rmc", "-f", id]);
            }
        }
        let _ = self.end();
    }
}

/// A file of a process, which may be gone.
fn text(process: &Path, name: &str) -> String {
    std::fs::read_to_string(process.join(name)).unwrap_or_default()
}

/// A number in KiB of a file of lines `NAME   NUMBER kB`.
fn field(file: &str, name: &str) -> Result<u64> {
    let text = std::fs::read_to_string(file).with_context(|| file.to_owned())?;
    let line = text
        .lines()
        .find(|line| line.starts_with(name))
        .context(name.to_owned())?;
    let number = line.split_whitespace().nth(1).context("no number")?;
    Ok(number.parse()?)
}

/// Sends a request and reads the whole answer; the connection can be used again.
pub fn request(stream: &mut UnixStream, method: &str, path: &str, body: &str) -> Result<Vec<u8>> {
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let ok = line
        .split(' ')
        .nth(1)
        .is_some_and(|code| code.starts_with('2'));
    let mut length = 0;
    loop {
        let mut header = String::new();
        reader.read_line(&mut header)?;
        if header.trim().is_empty() {
            break;
        }
        if let Some(value) = header.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse()?;
        }
    }
    let mut answer = vec![0; length];
    reader.read_exact(&mut answer)?;
    if !ok {
        bail!(
            "{method} {path}: {line}{}",
            String::from_utf8_lossy(&answer)
        );
    }
    Ok(answer)
}
