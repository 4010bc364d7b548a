//! Restart policies.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// When a container is started without being asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum RestartPolicy {
    /// Never.
    #[default]
    No,
    /// Whenever the daemon starts.
    OnStartup,
    /// When it has ended with another exit code than 0.
    OnFailure {
        /// How often in a row; `None`: for ever.
        limit: Option<u32>,
    },
    /// Whenever it has ended, unless somebody stopped it; and when the daemon starts, even then.
    Always,
    /// Whenever it has ended, unless somebody stopped it.
    UnlessStopped,
}

/// Why a text is not a restart policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "invalid restart policy '{0}': use one of no, on-startup, on-failure[:TIMES], always, \
     unless-stopped"
)]
pub struct RestartPolicyError(pub String);

impl FromStr for RestartPolicy {
    type Err = RestartPolicyError;

    fn from_str(text: &str) -> Result<Self, RestartPolicyError> {
        let error = || RestartPolicyError(text.to_owned());
        Ok(match text {
            "no" => Self::No,
            "on-startup" => Self::OnStartup,
            "always" => Self::Always,
            "unless-stopped" => Self::UnlessStopped,
            "on-failure" => Self::OnFailure { limit: None },
            _ => {
                let times = text.strip_prefix("on-failure:").ok_or_else(error)?;
                // `parse` would take a sign.
                let digits = times.bytes().all(|byte| byte.is_ascii_digit());
                match times.parse() {
                    Ok(limit @ 1..) if digits => Self::OnFailure { limit: Some(limit) },
                    _ => return Err(error()),
                }
            }
        })
    }
}

impl TryFrom<String> for RestartPolicy {
    type Error = RestartPolicyError;

    fn try_from(text: String) -> Result<Self, RestartPolicyError> {
        text.parse()
    }
}

impl From<RestartPolicy> for String {
    fn from(policy: RestartPolicy) -> Self {
        policy.to_string()
    }
}

impl fmt::Display for RestartPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::No => f.write_str("no"),
            Self::OnStartup => f.write_str("on-startup"),
            Self::OnFailure { limit: None } => f.write_str("on-failure"),
            Self::OnFailure { limit: Some(limit) } => write!(f, "on-failure:{limit}"),
            Self::Always => f.write_str("always"),
            Self::UnlessStopped => f.write_str("unless-stopped"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words() {
        for text in [
            "no",
            "on-startup",
            "on-failure",
            "on-failure:3",
            "always",
            "unless-stopped",
        ] {
            assert_eq!(text.parse::<RestartPolicy>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "yes",
            "on-failure:",
            "on-failure:0",
            "on-failure:-1",
            "on-failure:+1",
            "No",
        ] {
            assert!(text.parse::<RestartPolicy>().is_err(), "{text}");
        }
    }
}
