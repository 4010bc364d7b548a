//! The programs that install a minimal system.

use std::collections::VecDeque;
use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use kleene_command::{Argv, CommandError, Ending};
use kleene_doors::userland::UserlandError;

use super::apt::{self, Archive};
use super::suite::Suite;
use crate::SystemUserland;
use crate::error::{failed, io_error};
use crate::host::programs;
use crate::progress::Reporter;

/// Namespaces of mounts and processes that end with the program, and the program with the daemon.
const ALONE: [&str; 9] = [
    "--pdeathsig",
    "KILL",
    "unshare",
    "--mount",
    "--pid",
    "--fork",
    "--kill-child",
    "--mount-proc",
    "--",
];

/// As many of the last lines say why it failed.
const LAST_LINES: usize = 5;

/// What programs learn of proxies; those of the daemon itself, or of apt.
const PROXIES: [(&str, &str); 2] = [
    ("http_proxy", "Acquire::http::Proxy"),
    ("https_proxy", "Acquire::https::Proxy"),
];

/// A program that installs a minimal system, and where it is.
pub(crate) enum Program {
    Mmdebstrap(PathBuf),
    Debootstrap(PathBuf),
}

impl Program {
    /// The one that there is; mmdebstrap is twice as fast, and knows several archives.
    pub fn find(userland: &SystemUserland) -> Option<Self> {
        find(userland, "mmdebstrap")
            .map(Self::Mmdebstrap)
            .or_else(|| find(userland, "debootstrap").map(Self::Debootstrap))
    }
}

fn find(userland: &SystemUserland, name: &str) -> Option<PathBuf> {
    match &userland.programs {
        Some(dir) => Some(dir.join(name)).filter(|path| programs::is_program(path)),
        None => programs::find(name),
    }
}

/// What is to be installed, and where.
pub(crate) struct Job<'a> {
    pub userland: &'a SystemUserland,
    pub suite: &'a Suite,
    /// At least one.
    pub sources: &'a [Archive],
    /// An empty directory.
    pub work: &'a Path,
}

impl Job<'_> {
    /// Makes a tar archive of the system, and returns its path.
    pub fn mmdebstrap(
        &self,
        program: &Path,
        reporter: &mut Reporter<'_>,
    ) -> Result<PathBuf, UserlandError> {
        let sources = self.work.join(self.suite.file_name());
        fs::write(&sources, apt::deb822(self.sources))
            .map_err(|error| io_error(format!("writing {}", sources.display()), error))?;
        let tar = self.work.join("root.tar");
        let arguments: [OsString; 6] = [
            "--variant=minbase".into(),
            "--mode=root".into(),
            "--format=tar".into(),
            self.suite.name.as_str().into(),
            tar.as_os_str().to_owned(),
            sources.into(),
        ];
        self.run("mmdebstrap", program, &arguments, reporter)?;
        Ok(tar)
    }

    /// Makes a tree of the system, and returns its path.
    pub fn debootstrap(
        &self,
        program: &Path,
        reporter: &mut Reporter<'_>,
    ) -> Result<PathBuf, UserlandError> {
        let tree = self.work.join("root");
        let mut arguments: Vec<OsString> = vec!["--variant=minbase".into()];
        let main = self.sources.first();
        if let Some(keyring) = main.and_then(|archive| archive.signed_by.as_deref()) {
            arguments.push(format!("--keyring={keyring}").into());
        }
        if let Some(archive) = main {
            arguments.push(format!("--components={}", archive.components.join(",")).into());
        }
        arguments.push(self.suite.name.as_str().into());
        arguments.push(tree.as_os_str().to_owned());
        arguments.extend(
            main.and_then(|archive| archive.uris.first())
                .map(OsString::from),
        );
        self.run("debootstrap", program, &arguments, reporter)?;
        Ok(tree)
    }

    fn run(
        &self,
        name: &str,
        program: &Path,
        arguments: &[OsString],
        reporter: &mut Reporter<'_>,
    ) -> Result<(), UserlandError> {
        let action = format!("installing {} with {name}", self.suite.name);
        reporter.step(action.clone(), 0, None)?;
        let mut command = Argv::new("setpriv")
            .args(ALONE)
            .arg(program)
            .args(arguments)
            .env("TMPDIR", self.work)
            .time_limit(self.userland.bootstrap_limit);
        for (variable, value) in self.proxies() {
            command = command.env(variable, value);
        }
        let mut last = VecDeque::new();
        let mut is_full = false;
        let mut told = |line: Option<&str>| {
            if let Some(line) = line {
                is_full |= line.contains("No space left on device");
                if last.len() == LAST_LINES {
                    last.pop_front();
                }
                last.push_back(line.trim().to_owned());
            }
            reporter.heard(line)
        };
        let result = self.userland.runner.follow(&command, &mut told);
        match result {
            Ok(_) => Ok(()),
            Err(CommandError::Cancelled { .. }) => Err(UserlandError::Cancelled),
            Err(_) if is_full => Err(UserlandError::NoSpace(action)),
            Err(CommandError::Failed { ending, .. }) => {
                Err(failed(action, why(name, ending, &last)))
            }
            Err(error) => Err(failed(action, error)),
        }
    }

    /// The daemon's own proxies, else apt's.
    fn proxies(&self) -> Vec<(&'static str, OsString)> {
        let mut found: Vec<_> = ["http_proxy", "https_proxy", "no_proxy"]
            .into_iter()
            .filter_map(|name| Some((name, env::var_os(name)?)))
            .collect();
        if !found.is_empty() {
            return found;
        }
        let Some(program) = find(self.userland, "apt-config") else {
            return found;
        };
        let dump = Argv::new(program)
            .arg("dump")
            .args(PROXIES.map(|(_, key)| key));
        // An apt that can't be asked says so itself in a moment.
        if let Ok(output) = self.userland.runner.run(&dump) {
            let text = output.text();
            found.extend(PROXIES.into_iter().filter_map(|(variable, key)| {
                let value = apt::setting(&text, key).filter(|value| *value != "DIRECT")?;
                Some((variable, value.into()))
            }));
        }
        found
    }
}

/// What the last lines say; the program's own errors if there are any.
fn why(name: &str, ending: Ending, last: &VecDeque<String>) -> String {
    let errors: Vec<&str> = last
        .iter()
        .map(String::as_str)
        .filter(|line| line.starts_with("E: "))
        .collect();
    let lines = if errors.is_empty() {
        last.iter().map(String::as_str).collect()
    } else {
        errors
    };
    format!("{name} {ending}: {}", lines.join("; "))
}
