//! What users hear when something can't be done.

use kleene_doors::host::{HostError, StartFailure};
use kleene_doors::storage::StorageError;
use kleene_doors::userland::UserlandError;
use kleene_store::StoreError;

/// Why an operation failed. `Display` is for the user; the source chain of [`EngineError::Internal`]
/// is for the log.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// No container has this name, id or beginning of an id.
    #[error("no such container '{0}'")]
    ContainerNotFound(String),
    /// The container doesn't run.
    #[error("container '{0}' is not running")]
    ContainerNotRunning(String),
    /// No image has this name, id or beginning of an id.
    #[error("no such image '{0}'")]
    ImageNotFound(String),
    /// A registry has no such image, or doesn't admit it.
    #[error("{0}")]
    ImageNotFoundElsewhere(String),
    /// A registry wants to know who asks, or refuses who does.
    #[error("{0}")]
    Denied(String),
    /// A registry can't be reached, or doesn't answer as it should.
    #[error("{0}")]
    Unreachable(String),
    /// No volume has this name.
    #[error("no such volume '{0}'")]
    VolumeNotFound(String),
    /// No execution instance has this id or beginning of an id.
    #[error("no such execution instance '{0}'")]
    ExecNotFound(String),
    /// The beginning of an id fits several objects.
    #[error("'{reference}' is the beginning of several {kind} ids ({}): type more of it", matches.join(", "))]
    Ambiguous {
        /// `container`, `image` or `execution instance`.
        kind: &'static str,
        /// What was typed.
        reference: String,
        /// Some of the ids.
        matches: Vec<String>,
    },
    /// The request makes no sense; the message says why and what to do.
    #[error("{0}")]
    Invalid(String),
    /// The request doesn't fit the present state.
    #[error("{0}")]
    Conflict(String),
    /// Something that uses the object stands in the way.
    #[error("{0}")]
    InUse(String),
    /// This version or platform doesn't offer it.
    #[error("{0}")]
    NotYet(String),
    /// The disk is full.
    #[error("{0}")]
    NoSpace(String),
    /// A process could not be started.
    #[error(transparent)]
    Start(StartFailure),
    /// The one who asked went away.
    #[error("cancelled")]
    Cancelled,
    /// A failure that isn't the user's.
    #[error("{context}")]
    Internal {
        /// What failed, with the outermost reason.
        context: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl EngineError {
    /// An internal failure that tells its causes in one line, since users see nothing but that.
    pub(crate) fn internal(error: impl std::error::Error + Send + Sync + 'static) -> Self {
        let mut context = error.to_string();
        let mut cause = error.source();
        while let Some(inner) = cause {
            context = format!("{context}: {inner}");
            cause = inner.source();
        }
        Self::Internal {
            context,
            source: Box::new(error),
        }
    }
}

impl From<StoreError> for EngineError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NoSpace => Self::NoSpace(error.to_string()),
            other => Self::internal(other),
        }
    }
}

impl From<StorageError> for EngineError {
    fn from(error: StorageError) -> Self {
        match error {
            StorageError::NoSpace { .. } => Self::NoSpace(error.to_string()),
            StorageError::InUse { .. } => Self::InUse(error.to_string()),
            StorageError::Invalid(_) => Self::Invalid(error.to_string()),
            StorageError::Unsupported(_) => Self::NotYet(error.to_string()),
            other => Self::internal(other),
        }
    }
}

impl From<HostError> for EngineError {
    fn from(error: HostError) -> Self {
        match error {
            HostError::Source(_) => Self::Invalid(error.to_string()),
            HostError::Start(failure) => Self::Start(failure),
            HostError::NotRunning(_) => Self::Conflict(error.to_string()),
            HostError::Unsupported(_) => Self::NotYet(error.to_string()),
            HostError::NoSpace(_) => Self::NoSpace(error.to_string()),
            HostError::Cancelled(_) => Self::Cancelled,
            other => Self::internal(other),
        }
    }
}

impl From<UserlandError> for EngineError {
    fn from(error: UserlandError) -> Self {
        match error {
            UserlandError::Invalid(_) => Self::Invalid(error.to_string()),
            UserlandError::Unsupported(_) => Self::NotYet(error.to_string()),
            UserlandError::NoSpace(_) => Self::NoSpace(error.to_string()),
            UserlandError::Cancelled => Self::Cancelled,
            other => Self::internal(other),
        }
    }
}
