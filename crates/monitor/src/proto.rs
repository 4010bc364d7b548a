//! What the daemon tells a monitor: the payload of [`kleene_doors::frames::Frame::Start`], as JSON;
//! [`StartMessage`] on Linux, [`JailStart`] on FreeBSD.
//!
//! Daemon and monitor are installed together and speak to none of another version about a start, so
//! the format may change freely, with [`VERSION`]. What outlives a daemon is the frames' protocol,
//! the output log ([`kleene_doors::log`]) and [`crate::status`].

use std::path::PathBuf;

use kleene_doors::host::StartRequest;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The version of [`StartMessage`], which a serialized one names first. It changes with anything in
/// the message that a monitor of another version would misunderstand.
pub const VERSION: &str = "3";

/// Everything a monitor needs to start one process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "version", rename = "3")]
pub struct StartMessage {
    /// What the engine asked for.
    pub request: StartRequest,
    /// The execution instance's directory: see [`crate::status`].
    pub directory: PathBuf,
    /// A file with the compiled system call filter: `struct sock_filter`, one after the other.
    pub seccomp: PathBuf,
    /// The descriptor of [`crate::linux::nursery::empty_mount_namespace`], beneath `/proc/PID/fd`.
    pub nursery: PathBuf,
    /// The container's control groups.
    pub cgroups: CgroupPlan,
    /// What its jail parameters ask for.
    pub jail: Jail,
    /// The container's process 1, when the process joins a running container.
    pub join: Option<InitProcess>,
    /// `/proc/sys/kernel/random/boot_id`.
    pub boot_id: String,
    /// The outside OCI runtime that is to start the process instead of the monitor itself.
    pub outside: Option<OutsideRuntime>,
}

/// The version of [`JailStart`].
pub const JAIL_VERSION: &str = "1";

/// Everything a monitor on FreeBSD needs to start one process. The jail is there, with its mounts and
/// limits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "version", rename = "1")]
pub struct JailStart {
    /// What the engine asked for.
    pub request: StartRequest,
    /// The execution instance's directory: see [`crate::status`].
    pub directory: PathBuf,
    /// The jail's number.
    pub jid: i32,
    /// Whether the jail has a `/dev`.
    pub devfs: bool,
    /// Whether the jail is to live on without processes, as its parameters ask for. Otherwise the
    /// monitor of its first process sees to it that it doesn't.
    pub persists: bool,
}

/// Why a message can't be understood.
#[derive(Debug, thiserror::Error)]
pub enum MessageError {
    /// It is of another version.
    #[error("daemon and monitor are of different versions: install both together")]
    Version,
    /// It isn't what this version has.
    #[error("the start message is malformed")]
    Malformed(#[from] serde_json::Error),
}

impl StartMessage {
    /// Reads what a daemon has serialized, after a look at its version.
    ///
    /// # Errors
    /// See [`MessageError`].
    pub fn parse(message: &[u8]) -> Result<Self, MessageError> {
        parse(message, VERSION)
    }
}

impl JailStart {
    /// Reads what a daemon has serialized, after a look at its version.
    ///
    /// # Errors
    /// See [`MessageError`].
    pub fn parse(message: &[u8]) -> Result<Self, MessageError> {
        parse(message, JAIL_VERSION)
    }
}

fn parse<T: DeserializeOwned>(message: &[u8], own: &str) -> Result<T, MessageError> {
    #[derive(Deserialize)]
    struct Versioned {
        version: Option<serde_json::Value>,
    }
    let Versioned { version } = serde_json::from_slice(message)?;
    match version.as_ref().and_then(serde_json::Value::as_str) {
        Some(version) if version == own => Ok(serde_json::from_slice(message)?),
        _ => Err(MessageError::Version),
    }
}

/// An outside OCI runtime, as `runc(8)` and `crun(1)`, and what it needs beside the rest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutsideRuntime {
    /// Its program: an absolute path.
    pub program: PathBuf,
    /// Where it keeps its records of this container (`--root`): an absolute path.
    pub root: PathBuf,
    /// The system call filter as the runtime specification has it (`linux.seccomp`); the compiled
    /// one in [`StartMessage::seccomp`] is the monitor's own affair.
    pub seccomp: serde_json::Value,
}

/// The control groups of one container: absolute paths on the host.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CgroupPlan {
    /// The group in the unified hierarchy (version 2), entered by `CLONE_INTO_CGROUP`.
    pub unified: Option<PathBuf>,
    /// The groups in hierarchies of version 1, each once, entered through their `tasks`.
    pub legacy: Vec<PathBuf>,
    /// The one of `legacy` that controls devices.
    pub devices: Option<PathBuf>,
    /// Limits: files to be written in this order when the groups of a new container have been made,
    /// before any process enters them.
    pub settings: Vec<Setting>,
    /// The file with a line `oom_kill N`, which counts the container's processes that were killed
    /// for want of memory: `memory.events` (version 2) or `memory.oom_control` (version 1).
    pub out_of_memory: Option<PathBuf>,
}

/// A value for a control group's file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setting {
    /// What it is about, for messages: `memory limit 512m`.
    pub what: String,
    /// The file.
    pub file: PathBuf,
    /// What is written to it.
    pub value: String,
}

impl CgroupPlan {
    /// Every group's directory.
    pub fn directories(&self) -> impl Iterator<Item = &PathBuf> {
        self.unified.iter().chain(&self.legacy)
    }
}

/// What jail parameters change about a container on Linux.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Jail {
    /// `allow.raw_sockets`: whether processes have CAP_NET_RAW.
    pub raw_sockets: bool,
    /// `sysvipc=inherit` and the like: whether it shares the host's System V IPC and POSIX message
    /// queues.
    pub host_ipc: bool,
    /// `mount.devfs`: whether `/dev` is mounted.
    pub devfs: bool,
}

impl Default for Jail {
    fn default() -> Self {
        Self {
            raw_sockets: true,
            host_ipc: false,
            devfs: true,
        }
    }
}

/// A process that can't be mistaken for a later one with the same id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct InitProcess {
    /// Its id on the host.
    pub pid: u32,
    /// When it started: see [`crate::status::start_time`].
    pub start_time: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use kleene_doors::host::{Place, Process, Stdin};
    use kleene_types::{ContainerId, ExecId};

    fn message() -> StartMessage {
        let process = Process {
            argv: vec!["true".into()],
            env: Vec::new(),
            user: String::new(),
            cwd: None,
            ulimits: Vec::new(),
            tty: false,
            window: None,
            stdin: Stdin::Null,
        };
        let request = StartRequest {
            exec: ExecId::random(),
            container: ContainerId::random(),
            place: Place::Running {
                init: ExecId::random(),
            },
            jail_params: Vec::new(),
            process,
            log_limit: 0,
            attach: false,
        };
        StartMessage {
            request,
            directory: "instance".into(),
            seccomp: "filter".into(),
            nursery: "nursery".into(),
            cgroups: CgroupPlan::default(),
            jail: Jail::default(),
            join: None,
            boot_id: "boot".into(),
            outside: None,
        }
    }

    #[test]
    fn messages_name_their_version() {
        let bytes = serde_json::to_vec(&message()).unwrap();
        let parsed = StartMessage::parse(&bytes).unwrap();
        assert_eq!(parsed.boot_id, "boot");
        let mut value = serde_json::to_value(message()).unwrap();
        assert_eq!(value["version"], VERSION);
        for version in ["\"2\"", "3", "null"] {
            let version: serde_json::Value = serde_json::from_str(version).unwrap();
            value["version"] = version;
            let other = StartMessage::parse(value.to_string().as_bytes());
            assert!(matches!(other, Err(MessageError::Version)), "{other:?}");
        }
        value.as_object_mut().unwrap().remove("version");
        let former = StartMessage::parse(value.to_string().as_bytes());
        assert!(matches!(former, Err(MessageError::Version)), "{former:?}");
        let malformed = StartMessage::parse(b"{\"version\": \"3\"}");
        assert!(matches!(malformed, Err(MessageError::Malformed(_))));
    }
}
