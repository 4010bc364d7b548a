//! Starts a program that goes on by itself: a monitor.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Stdio};

/// A program to start that is neither waited for nor limited in time. It gets an empty environment,
/// and the standard error of this process.
#[derive(Debug)]
pub struct Companion<'a> {
    /// The program. `/proc/self/fd/N` is opened anew by the new process, in which a descriptor still has
    /// this number.
    pub program: &'a Path,
    /// Its name and arguments.
    pub argv: &'a [&'a str],
    /// Its working directory.
    pub directory: &'a Path,
    /// Its standard input.
    pub stdin: OwnedFd,
    /// Its standard output.
    pub stdout: OwnedFd,
}

/// Starts the program. The caller reaps it.
///
/// # Errors
/// When it can't be executed.
#[allow(
    clippy::disallowed_types,
    reason = "this crate is where programs are started"
)]
pub fn spawn(companion: Companion<'_>) -> io::Result<Child> {
    let Companion {
        program,
        argv,
        directory,
        stdin,
        stdout,
    } = companion;
    let mut command = std::process::Command::new(program);
    if let Some((name, arguments)) = argv.split_first() {
        command.arg0(name).args(arguments);
    }
    command
        .env_clear()
        .current_dir(directory)
        .stdin(stdin)
        .stdout(stdout)
        .stderr(Stdio::inherit())
        .spawn()
}
