//! What can go wrong with registries and archives.

/// What can go wrong. Messages name the object and say what to do.
#[derive(Debug, thiserror::Error)]
pub enum DistributionError {
    /// The registry has no such image, or doesn't admit it to strangers; or a blob isn't here.
    #[error("{0}")]
    NotFound(String),
    /// The registry wants to know who asks, or refuses who does.
    #[error("{0}")]
    Denied(String),
    /// The registry doesn't answer, or not as it should: trying again later may help.
    #[error("{0}")]
    Unreachable(String),
    /// The image isn't there for the wanted platform; the message lists those that there are.
    #[error("{0}")]
    NoPlatform(String),
    /// What the registry or the archive holds can't be used: damaged, hostile, too large, of a kind
    /// that isn't a container image.
    #[error("{0}")]
    Invalid(String),
    /// The registry can't do this.
    #[error("{0}")]
    Unsupported(String),
    /// The disk is full.
    #[error("no space left while {0}: free some space and try again")]
    NoSpace(String),
    /// The one who asked went away.
    #[error("cancelled")]
    Cancelled,
    /// Anything else.
    #[error("{action} failed")]
    Failed {
        /// What was being done.
        action: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}
