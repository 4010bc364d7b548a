//! Execution instances.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::lenient;

/// A process to run in a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ExecConfig {
    /// Id, beginning of an id, or name of the container.
    pub container_id: String,
    /// The command; empty: the container's.
    #[serde(default)]
    pub cmd: Vec<String>,
    /// Environment, merged over the container's.
    #[serde(default)]
    pub env: Vec<String>,
    /// The user; empty: the container's.
    #[serde(default)]
    pub user: String,
    /// Whether the process gets a terminal.
    #[serde(default, deserialize_with = "lenient::boolean")]
    pub tty: bool,
    /// Working directory; absent: the container's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub working_dir: Option<String>,
}

/// What a client attaches to: the first frame over `/exec/attach`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ExecAttachConfig {
    /// The container (its first process): id, beginning of an id, or name. This or `exec_id` is
    /// given.
    #[serde(default)]
    pub container_id: Option<String>,
    /// The execution instance.
    #[serde(default)]
    pub exec_id: Option<String>,
    /// Whether the client will send input.
    #[serde(default = "yes", deserialize_with = "lenient::boolean")]
    pub stdin: bool,
    /// Size of the client's terminal.
    #[serde(default)]
    pub window: Option<WindowSize>,
}

/// How an execution instance is started: the first frame over `/exec/start`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ExecStartConfig {
    /// The execution instance.
    pub exec_id: String,
    /// Whether the client wants the process's output and sends its input.
    #[serde(deserialize_with = "lenient::boolean")]
    pub attach: bool,
    /// Whether to start the container when it doesn't run.
    #[serde(deserialize_with = "lenient::boolean")]
    pub start_container: bool,
    /// Whether an attached client will send input; without it the process reads end of file.
    #[serde(default = "yes", deserialize_with = "lenient::boolean")]
    pub stdin: bool,
    /// First size of the terminal.
    #[serde(default)]
    pub window: Option<WindowSize>,
}

fn yes() -> bool {
    true
}

/// Size of a terminal in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WindowSize {
    /// Lines.
    pub rows: u16,
    /// Characters a line.
    pub columns: u16,
}

/// An execution instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ExecInspect {
    /// Its id.
    pub id: String,
    /// Its container.
    pub container_id: String,
    /// The command.
    pub cmd: Vec<String>,
    /// The user.
    pub user: String,
    /// Whether it has a terminal.
    pub tty: bool,
    /// Whether its process runs.
    pub running: bool,
    /// Process id on the host while it runs.
    pub pid: Option<u32>,
    /// What the process returned, when it has ended.
    pub exit_code: Option<i32>,
    /// When it was started (RFC 3339, UTC).
    #[serde(default)]
    pub started: Option<String>,
    /// When it ended.
    #[serde(default)]
    pub finished: Option<String>,
    /// Whether a process of the container was killed during its life because the container's memory
    /// limit was reached.
    #[serde(default)]
    pub out_of_memory: bool,
}
