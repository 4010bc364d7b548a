//! The runner that really starts programs.

#![expect(
    clippy::disallowed_types,
    reason = "this crate is the one place that starts programs"
)]

use std::env;
use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::fs::{Access, access};

use crate::error::remedy;
use crate::process::{Process, Watched, watch};
use crate::{Argv, CommandError, Ending, Output, Runner, Told};

/// Where system programs live; a service's `PATH` often lacks the `sbin` directories.
const SYSTEM_DIRECTORIES: &str =
    "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/rescue";

/// As much of standard output is taken for a complaint.
const MAX_STDOUT: usize = 4 << 10;

/// Starts programs on this host.
#[derive(Debug, Clone, Copy, Default)]
pub struct System;

impl Runner for System {
    fn run(&self, command: &Argv) -> Result<Output, CommandError> {
        let stdin = command.input().map_or_else(Stdio::null, |_| Stdio::piped());
        let mut process = start(command, stdin)?;
        process.feed(command.input())?;
        process.collect(command.max_output())?;
        let mut processes = [process];
        watch(&mut processes, command.limit(), None)?;
        let [process] = processes;
        outcome(process.finish()?)
    }

    fn follow(&self, command: &Argv, told: Told<'_>) -> Result<Output, CommandError> {
        let stdin = command.input().map_or_else(Stdio::null, |_| Stdio::piped());
        let mut process = start(command, stdin)?;
        process.feed(command.input())?;
        process.collect(command.max_output())?;
        process.by_lines();
        let mut processes = [process];
        watch(&mut processes, command.limit(), Some(told))?;
        let [process] = processes;
        outcome(process.finish()?)
    }

    fn pipe(&self, from: &Argv, to: &Argv) -> Result<Output, CommandError> {
        let stdin = from.input().map_or_else(Stdio::null, |_| Stdio::piped());
        let mut first = start(from, stdin)?;
        let between = first.take_stdout();
        let second = start(to, between.map_or_else(Stdio::null, Stdio::from));
        // Dropping `first` on an error kills it.
        let mut second = second?;
        first.feed(from.input())?;
        first.collect(0)?;
        second.collect(to.max_output())?;
        let mut processes = [first, second];
        watch(&mut processes, from.limit().max(to.limit()), None)?;
        let [first, second] = processes;
        let (first, second) = (first.finish()?, second.finish()?);
        // A reader that gives up makes the writer die of a broken pipe: that is no news of its own.
        if first.ending == Ending::Signal(rustix::process::Signal::PIPE.as_raw()) {
            outcome(second)
        } else {
            outcome(first).and_then(|_| outcome(second))
        }
    }
}

fn outcome(watched: Watched) -> Result<Output, CommandError> {
    match watched.ending {
        Ending::Status(0) => Ok(watched.output),
        ending => Err(CommandError::Failed {
            command: watched.command,
            ending,
            stderr: complaint(&watched.output),
        }),
    }
}

/// What a program that failed has to say; some say it on the wrong stream.
fn complaint(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    let stderr = text(&output.stderr);
    if stderr.is_empty() {
        let stdout = output.stdout.get(..MAX_STDOUT).unwrap_or(&output.stdout);
        return text(stdout);
    }
    stderr
}

fn start(argv: &Argv, stdin: Stdio) -> Result<Process, CommandError> {
    let path = search_path();
    let program = find(argv, &path)?;
    // With an absolute program the standard library can use posix_spawn(3), which doesn't copy the
    // daemon's page tables.
    let child = Command::new(program)
        .arg0(argv.program())
        .args(argv.arguments())
        .env_clear()
        .env("PATH", path)
        .env("LC_ALL", "C")
        .env("TZ", "UTC")
        .envs(argv.environment().iter().map(|(name, value)| (name, value)))
        .stdin(stdin)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .map_err(|source| CommandError::Start {
            command: argv.to_string(),
            source,
        })?;
    Process::new(argv.to_string(), child)
}

/// The daemon's `PATH`, and the system's directories that it lacks.
fn search_path() -> OsString {
    let mut path = env::var_os("PATH").unwrap_or_default();
    let present: Vec<PathBuf> = env::split_paths(&path).collect();
    for directory in SYSTEM_DIRECTORIES.split(':') {
        if !present.iter().any(|known| known == Path::new(directory)) {
            if !path.is_empty() {
                path.push(":");
            }
            path.push(directory);
        }
    }
    path
}

fn find(argv: &Argv, path: &OsString) -> Result<PathBuf, CommandError> {
    let program = Path::new(argv.program());
    let missing = || CommandError::NotFound {
        program: program.display().to_string(),
        remedy: remedy(&program.to_string_lossy()),
    };
    if program.components().count() > 1 {
        return match program.try_exists() {
            Ok(false) => Err(missing()),
            _ => Ok(program.to_owned()),
        };
    }
    env::split_paths(path)
        // A relative entry would mean something else in every directory.
        .filter(|directory| directory.is_absolute())
        .map(|directory| directory.join(program))
        .find(|candidate| candidate.is_file() && access(candidate, Access::EXEC_OK).is_ok())
        .ok_or_else(missing)
}
