//! Why something with a registry or an archive failed, before it is known what a person was after.

use std::io;
use std::time::Duration;

use kleene_doors::distribution::DistributionError;
use kleene_types::Registry;
use ureq::http::StatusCode;

/// Why a request, or something else on the way, failed.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// The server answered, but not with what it was asked for.
    Refused(Refusal),
    /// The registry's token service, or the registry itself, wants somebody else.
    Login(String),
    /// No answer, or half of one.
    Network {
        /// For a person.
        why: String,
        /// Whether asking again may help.
        passing: bool,
    },
    /// What came isn't what it should be.
    Content {
        /// For a person.
        why: String,
        /// Whether asking again may help.
        passing: bool,
    },
    /// The one who asked went away.
    Cancelled,
    /// Nothing that a server could do anything about.
    Final(DistributionError),
}

/// A server's answer that isn't what it was asked for.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub status: StatusCode,
    /// What the server says about it, made harmless.
    pub message: Option<String>,
    /// When to ask again, if the server says so.
    pub retry_after: Option<Duration>,
}

impl Trouble {
    pub fn passing(why: impl Into<String>) -> Self {
        Self::Network {
            why: why.into(),
            passing: true,
        }
    }

    pub fn lasting(why: impl Into<String>) -> Self {
        Self::Network {
            why: why.into(),
            passing: false,
        }
    }

    /// What came can't be used.
    pub fn content(why: impl Into<String>) -> Self {
        Self::Content {
            why: why.into(),
            passing: false,
        }
    }

    /// A file of this room's own.
    pub fn local(action: impl Into<String>, error: io::Error) -> Self {
        Self::Final(io_error(action, error))
    }

    /// Whether asking again may help.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Refused(Refusal { status, .. }) => {
                status.is_server_error()
                    || *status == StatusCode::TOO_MANY_REQUESTS
                    || *status == StatusCode::REQUEST_TIMEOUT
            }
            Self::Network { passing, .. } | Self::Content { passing, .. } => *passing,
            Self::Login(_) | Self::Cancelled | Self::Final(_) => false,
        }
    }

    /// Whether another server could do better.
    pub fn is_the_servers(&self) -> bool {
        !matches!(self, Self::Cancelled | Self::Final(_))
    }

    /// When the server wants to be asked again.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused(refusal) => refusal.retry_after,
            _ => None,
        }
    }

    /// In a few words, for showing why there is a pause.
    pub fn short(&self) -> String {
        match self {
            Self::Refused(refusal) => format!("the registry answered {}", refusal.status),
            Self::Network { why, .. } | Self::Content { why, .. } | Self::Login(why) => why.clone(),
            Self::Cancelled => "cancelled".to_owned(),
            Self::Final(error) => error.to_string(),
        }
    }
}

impl From<DistributionError> for Trouble {
    fn from(error: DistributionError) -> Self {
        Self::Final(error)
    }
}

/// What a person was after, for messages.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Subject<'s> {
    /// `'debian:12'`, or another noun.
    pub what: &'s str,
    pub registry: &'s Registry,
    /// Whether there were credentials.
    pub known: bool,
}

impl Subject<'_> {
    /// The error for the person.
    pub fn explain(self, trouble: Trouble) -> DistributionError {
        let Self { what, registry, .. } = self;
        match trouble {
            Trouble::Refused(refusal) => self.refused(&refusal),
            Trouble::Login(why) => DistributionError::Denied(format!(
                "{registry} refuses the login: {why}. Log in with: klee image login {registry}"
            )),
            Trouble::Network { why, .. } => DistributionError::Unreachable(format!(
                "{what} can't be had from {registry}: {why}"
            )),
            Trouble::Content { why, .. } => {
                DistributionError::Invalid(format!("{what} from {registry} can't be used: {why}"))
            }
            Trouble::Cancelled => DistributionError::Cancelled,
            Trouble::Final(error) => error,
        }
    }

    fn refused(self, refusal: &Refusal) -> DistributionError {
        let Self {
            what,
            registry,
            known,
        } = self;
        let says = match &refusal.message {
            Some(message) => format!(" (the registry says: {message})"),
            None => String::new(),
        };
        let login = format!("klee image login {registry}");
        match refusal.status {
            StatusCode::NOT_FOUND => DistributionError::NotFound(if known {
                format!("{what} isn't in {registry}, or not for this user{says}: check the name")
            } else {
                format!(
                    "{what} not found in {registry}, or no access{says}: check the name, or log in \
                     with: {login}"
                )
            }),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                DistributionError::Denied(if known {
                    format!(
                        "{registry} refuses access to {what}{says}: it doesn't exist or this user \
                         may not; log in as somebody else with: {login}"
                    )
                } else {
                    format!(
                        "{what} not found in {registry}, or no access{says}: check the name, or \
                         log in with: {login}"
                    )
                })
            }
            StatusCode::TOO_MANY_REQUESTS => {
                let when = match refusal.retry_after {
                    Some(pause) => format!("in {} s", pause.as_secs()),
                    None => "later".to_owned(),
                };
                let remedy = if known {
                    String::new()
                } else {
                    format!(", or log in, which often helps, with: {login}")
                };
                DistributionError::Unreachable(format!(
                    "{registry} has answered too many requests from here{says}: try again \
                     {when}{remedy}"
                ))
            }
            status => DistributionError::Unreachable(format!(
                "{what}: {registry} answered {status}{says}{}",
                if status.is_server_error() {
                    ": try again later"
                } else {
                    ""
                }
            )),
        }
    }
}

/// The error of an input or output operation that belongs to `action`.
pub(crate) fn io_error(action: impl Into<String>, error: io::Error) -> DistributionError {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            DistributionError::NoSpace(action.into())
        }
        _ => DistributionError::Failed {
            action: action.into(),
            source: error.into(),
        },
    }
}

/// A stranger's text as a part of a message: one line without control characters, and not long.
pub(crate) fn harmless(text: &str) -> String {
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    text.trim().chars().take(200).map(plain).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn explained(status: u16, known: bool) -> DistributionError {
        let registry = Registry::docker_hub();
        let subject = Subject {
            what: "'debian:13'",
            registry: &registry,
            known,
        };
        subject.explain(Trouble::Refused(Refusal {
            status: StatusCode::from_u16(status).unwrap(),
            message: None,
            retry_after: None,
        }))
    }

    #[test]
    fn refusals_say_what_to_do() {
        let text = |status, known| explained(status, known).to_string();
        for status in [401, 403, 404, 429] {
            assert!(
                text(status, false).contains("klee image login docker.io"),
                "{status}"
            );
        }
        assert!(text(404, true).contains("check the name"));
        assert!(text(403, true).contains("somebody else"));
        assert!(text(503, false).contains("try again later"));
        assert!(matches!(
            explained(404, true),
            DistributionError::NotFound(_)
        ));
        assert!(matches!(
            explained(401, false),
            DistributionError::Denied(_)
        ));
        assert!(matches!(
            explained(500, false),
            DistributionError::Unreachable(_)
        ));
    }

    #[test]
    fn what_servers_say_is_harmless() {
        assert_eq!(harmless(" a\n\x1b[31mb "), "a  [31mb");
        assert_eq!(harmless(&"x".repeat(999)).len(), 200);
    }
}
