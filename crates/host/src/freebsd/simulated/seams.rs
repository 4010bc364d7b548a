//! What the room needs beside tools: monitors, and places of mounts.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use kleene_doors::host::{HostError, Place, SourceKind, StartFailure, Started};
use kleene_monitor::proto::JailStart;
use kleene_tree::memory::Node;
use kleene_types::{ContainerPath, ExecId};

use super::{Fault, Machine, Moment};
use crate::freebsd::seams::{Monitors, Places};
use crate::shared::monitors::{Monitored, Refused};

impl Machine {
    /// What a monitor does when it is told to start a process.
    fn enter(&self, order: &JailStart) -> Result<Monitored, Refused> {
        let mut state = self.settled();
        let failure = |message: &str| {
            let message = message.to_owned();
            Refused::Failure(StartFailure { code: 125, message })
        };
        if state.jails.find(&order.jid.to_string()).is_none() {
            return Err(failure(
                "entering the jail failed: Invalid argument (os error 22)",
            ));
        }
        if order.request.process.tty && !order.devfs {
            return Err(failure("a terminal needs a /dev"));
        }
        let started = self.processes.start_in_jail(order);
        let Started {
            pid,
            watch,
            attached,
        } = started.map_err(|error| match error {
            HostError::Start(failure) => Refused::Failure(failure),
            error => Refused::Broken(io::Error::other(error)),
        })?;
        if let Place::New(setup) = &order.request.place {
            let exec = &order.request.exec;
            state
                .jails
                .is_entered(order.jid, exec, setup.init, order.persists);
            self.processes
                .keep(&order.request.container, order.persists);
        }
        Ok(Monitored {
            pid,
            control: watch,
            attached,
        })
    }
}

/// Monitors of scripted processes.
impl Monitors for Machine {
    fn start(&self, order: &JailStart) -> Result<Monitored, Refused> {
        let argv = order.request.process.argv.join(" ");
        let text = format!("(a monitor starts `{argv}` in jail {})", order.jid);
        let broken = |message: String| Err(Refused::Broken(io::Error::other(message)));
        let result = match self.begin(&text) {
            None | Some(Fault::Says(_)) => self.enter(order),
            Some(Fault::Fails(_, said)) => broken(said),
            Some(Fault::IsMissing) => Err(io::Error::from(io::ErrorKind::NotFound).into()),
            Some(Fault::Hangs | Fault::HangsAfterwards) => {
                broken("the monitor takes too long".to_owned())
            }
        };
        self.tell(Moment::After, &text);
        result
    }

    fn connect(&self, exec: &ExecId, _: &Path) -> io::Result<UnixStream> {
        self.processes.connect_to_monitor(exec)
    }
}

/// Places in the tree of files, with what is mounted over it.
impl Places for Machine {
    fn source(&self, path: &Path) -> Result<(PathBuf, SourceKind), HostError> {
        let state = self.lock();
        let found = state.table.real(self.fs(), path);
        let kind = found
            .as_ref()
            .and_then(|found| state.table.node(self.fs(), found));
        match (found, kind) {
            (Some(found), Some(Node::Dir { .. })) => Ok((found, SourceKind::Directory)),
            (Some(found), Some(Node::File { .. })) => Ok((found, SourceKind::File)),
            _ => Err(HostError::Source(format!(
                "the mount's source '{}' doesn't exist: create it first",
                path.display()
            ))),
        }
    }

    fn mount_point(
        &self,
        root: &Path,
        destination: &ContainerPath,
        kind: SourceKind,
    ) -> Result<PathBuf, HostError> {
        let state = self.lock();
        let (table, fs) = (&state.table, self.fs());
        let refused = |why: &str| {
            HostError::Source(format!(
                "can't mount on '{destination}' in the container: {why}"
            ))
        };
        let found = table.resolve(fs, root, destination.beneath());
        let found = found.ok_or_else(|| refused("too many links"))?;
        let above = found.ancestors().skip(1);
        let above = above.take_while(|path| path.starts_with(root));
        for path in above {
            if !matches!(table.node(fs, path), None | Some(Node::Dir { .. })) {
                return Err(refused("it lies beneath a file"));
            }
        }
        match (table.node(fs, &found), kind) {
            (Some(Node::Dir { .. }), SourceKind::Directory)
            | (Some(Node::File { .. }), SourceKind::File) => Ok(found),
            (Some(_), _) => Err(refused(
                "it doesn't match the mount's source: one is a directory, the other a file",
            )),
            (None, _) if table.is_read_only(&found) => Err(HostError::Failed {
                action: format!("making the mount point '{destination}' in the container"),
                source: io::Error::from(io::ErrorKind::ReadOnlyFilesystem).into(),
            }),
            (None, kind) => {
                let behind = table.behind(&found);
                let behind = behind.ok_or_else(|| refused("it lies in /dev"))?;
                match kind {
                    SourceKind::Directory => fs.create_dir_all(&behind),
                    SourceKind::File => fs.write(&behind, b""),
                }
                Ok(found)
            }
        }
    }
}
