//! Containers that an outside OCI runtime has started: the setting `oci_runtime`.
//!
//! Each has a directory that tells so, and by which program: exec and removal are that program's
//! affair even if the setting has changed since.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use kleene_command::{Argv, Runner, System};
use kleene_doors::host::{HostError, Place, StartRequest};
use kleene_monitor::proto::OutsideRuntime;
use kleene_types::ContainerId;
use rustix::fs::Access;

use super::{failed, make_private, seccomp};

/// In a container's directory: the runtime's path, and its own records (`--root`).
const PROGRAM: &str = "program";
const ROOT: &str = "root";

/// The outside runtime of new containers, if there is one, and those of running ones.
#[derive(Debug)]
pub struct Outside {
    directory: PathBuf,
    program: Option<PathBuf>,
}

impl Outside {
    /// Keeps its records in `directory`, which is made (0700) when it is needed.
    ///
    /// # Errors
    /// [`HostError::Unsupported`] when `program` is no program.
    pub fn open(directory: PathBuf, program: Option<PathBuf>) -> Result<Self, HostError> {
        if let Some(path) = &program {
            let usable = path.is_absolute()
                && path.is_file()
                && rustix::fs::access(path, Access::EXEC_OK).is_ok();
            if !usable {
                return Err(HostError::Unsupported(format!(
                    "oci_runtime '{}' is no program: install it, name another one by its full \
                     path, or remove the setting to use Kleene's own runtime",
                    path.display()
                )));
            }
        }
        Ok(Self { directory, program })
    }

    /// The runtime that is to start a process, if it isn't the monitor itself. A new container is
    /// written down as the runtime's.
    ///
    /// # Errors
    /// The records can't be written or read, or those of an earlier run not be removed.
    pub fn plan(&self, request: &StartRequest) -> Result<Option<OutsideRuntime>, HostError> {
        let container = &request.container;
        let program = match (&request.place, &self.program) {
            (Place::New(_), program) => {
                // Of a run that has ended with the machine, or hasn't been cleaned up after.
                self.clean(container)?;
                if let Some(program) = program {
                    self.note(container, program).map_err(failed(format!(
                        "recording the OCI runtime of container {container}"
                    )))?;
                }
                program.clone()
            }
            (Place::Running { .. }, _) => self.program_of(container)?,
        };
        let runtime = |program| OutsideRuntime {
            program,
            root: self.of(container).join(ROOT),
            seccomp: seccomp::runtime_spec(),
        };
        Ok(program.map(runtime))
    }

    /// Has the runtime remove what is left of a container of its. Any other container is success.
    ///
    /// # Errors
    /// It can't.
    pub fn clean(&self, container: &ContainerId) -> Result<(), HostError> {
        let Some(program) = self.program_of(container)? else {
            return Ok(());
        };
        let directory = self.of(container);
        if directory.join(ROOT).join(container.as_str()).exists() {
            let delete = Argv::new(program)
                .arg("--root")
                .arg(directory.join(ROOT))
                .args(["delete", "--force", container.as_str()]);
            System.run(&delete).map_err(|error| HostError::Failed {
                action: format!("removing container {container} from the OCI runtime"),
                source: Box::new(error),
            })?;
        }
        fs::remove_dir_all(&directory).map_err(failed(format!("removing {}", directory.display())))
    }

    fn of(&self, container: &ContainerId) -> PathBuf {
        self.directory.join(container.as_str())
    }

    fn note(&self, container: &ContainerId, program: &Path) -> io::Result<()> {
        use std::os::unix::ffi::OsStrExt;
        make_private(&self.of(container).join(ROOT))?;
        fs::write(
            self.of(container).join(PROGRAM),
            program.as_os_str().as_bytes(),
        )
    }

    fn program_of(&self, container: &ContainerId) -> Result<Option<PathBuf>, HostError> {
        use std::os::unix::ffi::OsStringExt;
        match fs::read(self.of(container).join(PROGRAM)) {
            Ok(path) => Ok(Some(std::ffi::OsString::from_vec(path).into())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed(format!(
                "looking for the OCI runtime of container {container}"
            ))(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_program_is_refused() {
        for path in ["/no/such/program", "/etc/passwd", "/usr/bin", "runc"] {
            let refused = Outside::open("/nowhere".into(), Some(path.into()));
            let Err(HostError::Unsupported(message)) = refused else {
                panic!("{path}: {refused:?}");
            };
            assert!(
                message.contains(&format!("oci_runtime '{path}'")),
                "{message}"
            );
        }
    }

    #[test]
    fn containers_of_our_own_need_no_cleaning() {
        let directory = tempfile::tempdir().unwrap();
        let outside = Outside::open(directory.path().join("oci"), None).unwrap();
        outside.clean(&ContainerId::random()).unwrap();
    }
}
