//! The method `host`: a minimal userland out of the host's own programs.
//!
//! Everything is planned first: which programs there are, what they are loaded with, through which
//! links they are reached. Only then is anything written, so that what can't work is told at once.

mod elf;
mod freebsd;
mod loader;
mod loader_conf;
mod plan;
pub(crate) mod programs;
mod skeleton;
mod write;

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use kleene_doors::userland::UserlandError;
use kleene_types::HostPath;

use self::elf::Kind;
use self::loader::{Loader, Missing};
use self::plan::Plan;
use crate::SystemUserland;
use crate::defaults::PATH;
use crate::error::io_error;
use crate::progress::Reporter;

/// The one program that must be there.
const SHELL: &str = "/bin/sh";

/// A script's interpreter may be a script itself; Linux goes as far.
const MAX_INTERPRETERS: usize = 4;

/// Parts of older C libraries that are only loaded when a name is looked up.
const NAME_SERVICES: [&str; 2] = ["libnss_files.so.2", "libnss_dns.so.2"];

/// Fills the empty directory `into`; `add` names further programs, files and directories.
pub(crate) fn fill(
    userland: &SystemUserland,
    add: &[PathBuf],
    into: &Path,
    reporter: &mut Reporter<'_>,
) -> Result<(), UserlandError> {
    let is_freebsd = userland.host.is_freebsd();
    reporter.step("collecting the host's programs", 0, None)?;
    let planning = |error| io_error("planning the image's directories", error);
    let mut assembly = Assembly {
        plan: Plan::default(),
        loader: Loader::of_host(),
        tree_bytes: 0,
        configure: false,
    };
    match is_freebsd {
        true => freebsd::dirs(&mut assembly.plan),
        false => skeleton::dirs(&mut assembly.plan),
    }
    .map_err(planning)?;
    for path in add {
        assembly.add(path, into, reporter)?;
    }
    assembly.shell()?;
    let own = if is_freebsd { freebsd::NAMES } else { &[] };
    for name in programs::NAMES.iter().chain(own) {
        assembly.optional(name, reporter)?;
    }
    // A link to `../usr/lib/os-release` on most hosts, and absent on some.
    let _ = assembly.plan.file(Path::new("/etc/os-release"));
    for path in skeleton::terminals().chain(freebsd::files(is_freebsd)) {
        // Hosts have them in different places, and not all of them.
        let _ = assembly.plan.file(&path);
    }
    if assembly.configure {
        assembly.loader_configuration().map_err(planning)?;
    }
    let accounts = match is_freebsd {
        true => freebsd::texts(&mut assembly.plan, PATH),
        false => skeleton::files(&mut assembly.plan, PATH).map(|()| false),
    }
    .map_err(planning)?;
    fs::set_permissions(into, Permissions::from_mode(0o755))
        .map_err(|error| io_error(format!("preparing {}", into.display()), error))?;
    write::write(&assembly.plan, assembly.tree_bytes, into, reporter)?;
    match accounts {
        true => freebsd::account_databases(&*userland.runner, into, reporter),
        false => Ok(()),
    }
}

/// Why a program can't be in the image.
enum Unfit {
    /// The host lacks something.
    Missing(Missing),
    Io(io::Error),
}

impl From<io::Error> for Unfit {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

struct Assembly {
    plan: Plan,
    loader: Loader,
    /// The sizes of the files in directories that are copied as a whole.
    tree_bytes: u64,
    /// Whether the image's loader needs the host's configuration.
    configure: bool,
}

impl Assembly {
    /// Takes what the user asked for.
    fn add(
        &mut self,
        path: &Path,
        into: &Path,
        reporter: &mut Reporter<'_>,
    ) -> Result<(), UserlandError> {
        let invalid = |why: String| {
            UserlandError::Invalid(format!(
                "can't add '{}' to the image: {why}",
                path.display()
            ))
        };
        let text = path
            .to_str()
            .ok_or_else(|| invalid("its name isn't UTF-8".into()))?;
        let wanted: HostPath = text.parse().map_err(|error| invalid(format!("{error}")))?;
        check_place(wanted.as_path()).map_err(invalid)?;
        let (found, metadata) = self
            .plan
            .resolve(wanted.as_path())
            .map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => invalid("it doesn't exist on this host".into()),
                _ => invalid(format!("{error}")),
            })?;
        check_place(&found).map_err(invalid)?;
        if metadata.is_dir() {
            if fs::canonicalize(into).is_ok_and(|into| into.starts_with(&found)) {
                return Err(invalid("the image itself would be inside".into()));
            }
            self.scan(&found, reporter)?;
            self.plan.tree(found);
            return Ok(());
        }
        if !metadata.is_file() {
            return Err(invalid("it is neither a file nor a directory".into()));
        }
        self.file(&found, MAX_INTERPRETERS)
            .map_err(|unfit| match unfit {
                Unfit::Missing(missing) => invalid(format!(
                    "{} needs '{}', which isn't on this host",
                    missing.needed_by.display(),
                    missing.name.display()
                )),
                Unfit::Io(error) => io_error(format!("reading {}", found.display()), error),
            })
    }

    fn shell(&mut self) -> Result<(), UserlandError> {
        let unsupported = |why: String| {
            UserlandError::Unsupported(format!(
                "method 'host' can't be used here: {why}. Use method 'fetch' with the URL of a \
                 root file system's tar archive"
            ))
        };
        self.file(Path::new(SHELL), MAX_INTERPRETERS)
            .map_err(|unfit| match unfit {
                Unfit::Missing(missing) => {
                    unsupported(format!("{SHELL} needs '{}'", missing.name.display()))
                }
                Unfit::Io(error) => unsupported(format!("{SHELL}: {error}")),
            })?;
        let (shell, _) = self
            .plan
            .resolve(Path::new(SHELL))
            .map_err(|e| io_error(SHELL, e))?;
        if let Some(elf) = self
            .loader
            .elf(&shell)
            .filter(|elf| elf.interpreter.is_some())
        {
            for name in NAME_SERVICES {
                if let Some(library) = self.loader.library(OsStr::new(name), elf.target) {
                    self.plan
                        .file(&library)
                        .map_err(|e| io_error(format!("reading {name}"), e))?;
                }
            }
        }
        Ok(())
    }

    /// Takes a program that the image can do without.
    fn optional(&mut self, name: &str, reporter: &mut Reporter<'_>) -> Result<(), UserlandError> {
        let why = match programs::find(name).map(|path| self.file(&path, MAX_INTERPRETERS)) {
            Some(Ok(())) => return Ok(()),
            None => "it isn't on this host".to_owned(),
            Some(Err(Unfit::Missing(missing))) => format!("it needs {}", missing.name.display()),
            Some(Err(Unfit::Io(error))) => error.to_string(),
        };
        reporter.step(format!("leaving out {name}: {why}"), 0, None)
    }

    /// Takes one regular file, and what it needs to run if it is a program.
    fn file(&mut self, path: &Path, depth: usize) -> Result<(), Unfit> {
        let (found, metadata) = self.plan.resolve(path)?;
        if !metadata.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file").into());
        }
        self.needs(&found, depth)?;
        self.plan.file(&found)?;
        Ok(())
    }

    /// Takes what the regular file `path`, whose path is free of links, needs to run.
    fn needs(&mut self, path: &Path, depth: usize) -> Result<(), Unfit> {
        match elf::kind(path)? {
            Kind::Other => Ok(()),
            Kind::Elf => {
                let mut closure = self.loader.closure(path);
                if let Some(missing) = closure.missing.pop() {
                    return Err(Unfit::Missing(missing));
                }
                self.libraries(&closure.files, closure.needs_configuration)?;
                Ok(())
            }
            Kind::Script(line) => self.interpreters(path, &line, depth),
        }
    }

    fn libraries(&mut self, files: &[PathBuf], configure: bool) -> io::Result<()> {
        self.configure |= configure;
        for file in files {
            self.plan.file(file)?;
        }
        Ok(())
    }

    fn interpreters(&mut self, script: &Path, line: &[u8], depth: usize) -> Result<(), Unfit> {
        let Some(depth) = depth.checked_sub(1) else {
            return Err(io::Error::other("too many interpreters of interpreters").into());
        };
        for interpreter in interpreters(line) {
            let found = match &interpreter {
                Interpreter::At(path) if programs::is_program(path) => Some(path.clone()),
                Interpreter::Named(name) => programs::find(name),
                Interpreter::At(_) => None,
            };
            let Some(found) = found else {
                let name = interpreter.into_path();
                return Err(Unfit::Missing(Missing {
                    name,
                    needed_by: script.to_owned(),
                }));
            };
            self.file(&found, depth)?;
        }
        Ok(())
    }

    /// Looks through a directory that is copied as a whole, for what the programs in it need from
    /// outside. Such directories hold plug-ins and examples too: what isn't there is left out.
    fn scan(&mut self, dir: &Path, reporter: &mut Reporter<'_>) -> Result<(), UserlandError> {
        reporter.step(format!("looking through {}", dir.display()), 0, None)?;
        let mut pending = vec![dir.to_owned()];
        while let Some(dir) = pending.pop() {
            let reading = |error| io_error(format!("reading {}", dir.display()), error);
            for entry in fs::read_dir(&dir).map_err(reading)? {
                let entry = entry.map_err(reading)?;
                let Ok(metadata) = entry.metadata() else {
                    continue;
                };
                if metadata.is_dir() {
                    pending.push(entry.path());
                } else if metadata.is_file() {
                    self.tree_bytes += metadata.len();
                    self.scan_file(&entry.path(), metadata.permissions().mode() & 0o111 != 0);
                }
            }
            reporter.done(0)?;
        }
        Ok(())
    }

    fn scan_file(&mut self, path: &Path, executable: bool) {
        match elf::kind(path) {
            Ok(Kind::Elf) => {
                let closure = self.loader.closure(path);
                let _ = self.libraries(&closure.files, closure.needs_configuration);
            }
            Ok(Kind::Script(line)) if executable => {
                let _ = self.interpreters(path, &line, MAX_INTERPRETERS);
            }
            _ => {}
        }
    }

    fn loader_configuration(&mut self) -> io::Result<()> {
        for file in loader_conf::configuration_files() {
            self.plan.file(&file)?;
        }
        Ok(())
    }
}

/// The kernel's own directories are mounted in each container; the root directory would be all of
/// the host.
fn check_place(path: &Path) -> Result<(), String> {
    if path == Path::new("/") {
        return Err("name a program, file or directory beneath it".into());
    }
    match ["/dev", "/proc", "/sys"]
        .into_iter()
        .find(|dir| path.starts_with(dir))
    {
        Some(dir) => Err(format!("each container has a {dir} of its own")),
        None => Ok(()),
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Interpreter {
    At(PathBuf),
    /// A program that `env` looks for.
    Named(String),
}

impl Interpreter {
    fn into_path(self) -> PathBuf {
        match self {
            Self::At(path) => path,
            Self::Named(name) => name.into(),
        }
    }
}

/// The programs that a script's first line (without `#!`) starts: one, or `env` and what it finds.
fn interpreters(line: &[u8]) -> Vec<Interpreter> {
    let mut words = line
        .split(u8::is_ascii_whitespace)
        .filter(|word| !word.is_empty())
        .map(OsStr::from_bytes);
    let Some(first) = words.next().map(PathBuf::from) else {
        return Vec::new();
    };
    let is_env = first.file_name() == Some(OsStr::new("env"));
    let mut found = vec![Interpreter::At(first)];
    if is_env {
        let is_program = |word: &&str| !word.starts_with('-') && !word.contains('=');
        let program = words.filter_map(OsStr::to_str).find(is_program);
        found.extend(program.map(|name| match Path::new(name).is_absolute() {
            true => Interpreter::At(name.into()),
            false => Interpreter::Named(name.into()),
        }));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_lines_of_scripts() {
        let at = |path: &str| Interpreter::At(path.into());
        let named = |name: &str| Interpreter::Named(name.into());
        for (line, expected) in [
            ("/bin/sh", vec![at("/bin/sh")]),
            (" /bin/sh -e\r", vec![at("/bin/sh")]),
            (
                "/usr/bin/env python3",
                vec![at("/usr/bin/env"), named("python3")],
            ),
            (
                "/usr/bin/env -S A=1 perl -w",
                vec![at("/usr/bin/env"), named("perl")],
            ),
            (
                "/usr/bin/env /opt/x",
                vec![at("/usr/bin/env"), at("/opt/x")],
            ),
            ("", vec![]),
        ] {
            assert_eq!(interpreters(line.as_bytes()), expected, "{line}");
        }
    }
}
