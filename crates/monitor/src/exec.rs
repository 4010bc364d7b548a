//! Finds the program inside the container and executes it.

use std::convert::Infallible;
use std::ffi::{CStr, CString};

use kleene_doors::host::{Process, StartFailure};
use rustix::io::Errno;

use crate::failure::{Started, not_executable, not_found, setup};
use crate::user::Identity;

/// Where programs are looked for when the environment doesn't say.
pub(crate) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A program with its arguments and environment, ready for `execve(2)`.
pub(crate) struct Program {
    name: String,
    candidates: Vec<CString>,
    arguments: Vec<CString>,
    environment: Vec<CString>,
}

impl Program {
    /// Puts everything together.
    pub(crate) fn new(process: &Process, identity: &Identity) -> Started<Self> {
        let name = match process.argv.first() {
            Some(name) if !name.is_empty() => name.clone(),
            _ => return Err(not_found("there is no command to execute: name a program")),
        };
        let environment = environment(process, identity);
        let path = process
            .env
            .iter()
            .rev()
            .find(|variable| variable.name() == "PATH");
        let path = path.and_then(|variable| variable.as_str().strip_prefix("PATH="));
        let candidates = if name.contains('/') {
            vec![name.clone()]
        } else {
            path.unwrap_or(PATH)
                .split(':')
                .map(|directory| join(directory, &name))
                .collect()
        };
        Ok(Self {
            candidates: c_strings(&candidates)?,
            arguments: c_strings(&process.argv)?,
            environment: c_strings(&environment)?,
            name,
        })
    }

    /// Executes the first candidate that is there.
    pub(crate) fn execute(&self) -> Started<Infallible> {
        let mut failure = None;
        for candidate in &self.candidates {
            match (
                execve(candidate, &self.arguments, &self.environment),
                failure,
            ) {
                (Errno::NOENT | Errno::NOTDIR, known) if !is_there(candidate) => failure = known,
                // As shells do: go on looking, but tell of this one if there is no other.
                (Errno::ACCESS, None) => failure = Some((candidate, Errno::ACCESS)),
                (Errno::ACCESS, known) => failure = known,
                (errno, _) => return Err(self.failure(candidate, errno)),
            }
        }
        Err(match failure {
            Some((candidate, errno)) => self.failure(candidate, errno),
            None => self.missing(),
        })
    }

    fn missing(&self) -> StartFailure {
        let name = &self.name;
        not_found(if name.contains('/') {
            format!("executable '{name}' not found in the container: check the path")
        } else {
            format!(
                "executable '{name}' not found in the container's PATH: \
                 give its full path, or set PATH"
            )
        })
    }

    fn failure(&self, candidate: &CStr, errno: Errno) -> StartFailure {
        let path = candidate.to_string_lossy();
        match errno {
            Errno::NOENT => not_found(format!(
                "executable '{path}' can't be executed: its interpreter or loader is not in the \
                 container"
            )),
            Errno::ACCESS if is_directory(candidate) => {
                not_executable(format!("'{path}' is a directory: name a program"))
            }
            Errno::ACCESS => not_executable(format!(
                "executable '{path}' can't be executed: permission denied; \
                 check its mode and owner"
            )),
            Errno::NOEXEC => not_executable(format!(
                "executable '{path}' can't be executed: it is no program for this machine, \
                 and no script with a '#!' line"
            )),
            Errno::TOOBIG => setup("the arguments and the environment are too long".to_owned()),
            errno => not_executable(format!("executable '{path}' can't be executed: {errno}")),
        }
    }
}

/// What `process` says, and `HOME` (and `TERM` on a terminal) if it says nothing of them.
pub(crate) fn environment(process: &Process, identity: &Identity) -> Vec<String> {
    let has = |wanted: &str| process.env.iter().any(|variable| variable.name() == wanted);
    let given = process.env.iter();
    let mut environment: Vec<String> = given.map(|variable| variable.as_str().to_owned()).collect();
    if !has("HOME") {
        environment.push(format!("HOME={}", identity.home.as_deref().unwrap_or("/")));
    }
    if process.tty && !has("TERM") {
        environment.push("TERM=xterm".to_owned());
    }
    environment
}

/// An empty directory in `PATH` means the working directory.
fn join(directory: &str, name: &str) -> String {
    let directory = if directory.is_empty() { "." } else { directory };
    format!("{}/{name}", directory.trim_end_matches('/'))
}

pub(crate) fn c_strings(texts: &[String]) -> Started<Vec<CString>> {
    let c_string = |text: &String| {
        CString::new(text.as_bytes())
            .map_err(|_| setup(format!("{text:?} contains a NUL character: remove it")))
    };
    texts.iter().map(c_string).collect()
}

fn is_there(path: &CStr) -> bool {
    rustix::fs::lstat(path).is_ok()
}

fn is_directory(path: &CStr) -> bool {
    let kind = |stat: rustix::fs::Stat| rustix::fs::FileType::from_raw_mode(stat.st_mode);
    rustix::fs::stat(path).map(kind) == Ok(rustix::fs::FileType::Directory)
}

/// Only returns when it fails.
pub(crate) fn execve(path: &CStr, arguments: &[CString], environment: &[CString]) -> Errno {
    let pointers = |texts: &[CString]| -> Vec<*const libc::c_char> {
        texts
            .iter()
            .map(|text| text.as_ptr())
            .chain([std::ptr::null()])
            .collect()
    };
    let (arguments, environment) = (pointers(arguments), pointers(environment));
    // SAFETY: all are NUL-terminated strings in null-terminated arrays that live until the call
    // returns, if it ever does.
    unsafe { libc::execve(path.as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}
