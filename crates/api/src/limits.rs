//! What containers may use, and how they are started, stopped and checked.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::lenient;

/// A health check. Times are texts like `30s`, `1m30s`, `500ms`, or seconds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HealthCheckConfig {
    /// Program and arguments, run in the container; exit code 0 means healthy. Empty: no health
    /// check.
    pub cmd: Vec<String>,
    /// Time between two checks; 30 seconds when absent.
    #[serde(deserialize_with = "lenient::text")]
    pub interval: Option<String>,
    /// How long a check may take; 30 seconds when absent.
    #[serde(deserialize_with = "lenient::text")]
    pub timeout: Option<String>,
    /// Time after the start in which failures don't count; none when absent.
    #[serde(deserialize_with = "lenient::text")]
    pub start_period: Option<String>,
    /// Failures in a row that make the container unhealthy; 3 when absent.
    pub retries: Option<u32>,
}

/// What a container may use; what is absent has no limit. Sizes are bytes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct Limits {
    /// Memory of all processes together.
    pub memory: Option<u64>,
    /// Memory and swap space together; -1: as much swap space as there is.
    pub memory_swap: Option<i64>,
    /// Processors' time.
    pub cpus: Option<f64>,
    /// Processors that may be used.
    pub cpuset: Option<String>,
    /// Processes and threads.
    pub pids: Option<u64>,
    /// Share of input and output, from 1 to 10000.
    pub io_weight: Option<u16>,
    /// Limits of each process: `NAME=SOFT:HARD`.
    pub ulimits: Vec<String>,
    /// Size of `/dev/shm`.
    pub shm_size: Option<u64>,
    /// What the container's root may occupy.
    pub storage_quota: Option<u64>,
    /// What the output log of each of its processes may occupy.
    pub log_limit: Option<u64>,
}

/// The health of a running container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Health {
    /// `starting`, `healthy` or `unhealthy`.
    pub status: String,
    /// Failures in a row.
    pub failing_streak: u32,
    /// The last checks, the oldest first.
    pub log: Vec<HealthResult>,
}

/// The result of one health check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HealthResult {
    /// When it began (RFC 3339, UTC).
    pub start: String,
    /// When it ended.
    pub end: String,
    /// What the command returned; `null` when it took too long or couldn't be run.
    pub exit_code: Option<i32>,
    /// The beginning of what it printed, or why it couldn't be run.
    pub output: String,
}
