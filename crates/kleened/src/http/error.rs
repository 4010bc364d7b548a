//! From the engine's errors to status codes and messages.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use kleene_api::ErrorResponse;
use kleene_engine::EngineError;
use tracing::{debug, error};

/// A request that failed, as its client sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiError {
    /// The status code.
    pub status: StatusCode,
    /// The message.
    pub message: String,
}

impl ApiError {
    /// An error of this status.
    pub fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
        }
    }

    /// A request that makes no sense.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// Something that isn't there.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, message)
    }

    /// A request that doesn't fit the present state.
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, message)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let body = ErrorResponse {
            message: self.message,
        };
        (self.status, Json(body)).into_response()
    }
}

/// The contract's answers where no endpoint wants others.
impl From<EngineError> for ApiError {
    fn from(error: EngineError) -> Self {
        log(&error);
        let message = error.to_string();
        match error {
            EngineError::ContainerNotFound(_) => Self::not_found("container not found"),
            EngineError::ContainerNotRunning(_) => Self::not_found("container not running"),
            EngineError::ImageNotFound(_) => Self::not_found("image not found"),
            EngineError::VolumeNotFound(_) => Self::not_found("No such volume"),
            // Several fit, so none is meant: with this code existing clients show the message.
            EngineError::ExecNotFound(_)
            | EngineError::ImageNotFoundElsewhere(_)
            | EngineError::Ambiguous { .. } => Self::not_found(message),
            EngineError::Denied(_) => Self::new(StatusCode::UNAUTHORIZED, message),
            EngineError::Unreachable(_) => Self::new(StatusCode::BAD_GATEWAY, message),
            EngineError::Invalid(_) => Self::bad_request(message),
            EngineError::Conflict(_)
            | EngineError::InUse(_)
            | EngineError::NotYet(_)
            | EngineError::NoSpace(_)
            | EngineError::Start(_)
            | EngineError::Cancelled => Self::conflict(message),
            EngineError::Internal { .. } => Self::new(StatusCode::INTERNAL_SERVER_ERROR, message),
        }
    }
}

/// Answers of `POST /containers/create`, where the contract has 404 for everything that is wrong
/// with the request: the original client shows the message of no other code.
pub fn on_container_create(error: EngineError) -> ApiError {
    match error {
        EngineError::ImageNotFound(_) | EngineError::Invalid(_) | EngineError::NotYet(_) => {
            log(&error);
            ApiError::not_found(error.to_string())
        }
        other => other.into(),
    }
}

/// Answers of `DELETE /containers/{id}`.
pub fn on_container_remove(error: EngineError) -> ApiError {
    match error {
        EngineError::ContainerNotFound(_) => ApiError::not_found("no such container"),
        other => other.into(),
    }
}

/// Answers of `DELETE /images/{ref}`, where 404 is the contract's only code, also for images in use.
pub fn on_image_remove(error: EngineError) -> ApiError {
    match error {
        EngineError::ImageNotFound(_) | EngineError::InUse(_) => {
            ApiError::not_found(error.to_string())
        }
        other => other.into(),
    }
}

/// Writes a failed operation into the log: what users do wrong is of no interest there.
pub fn log(problem: &EngineError) {
    if let EngineError::Internal { source, .. } = problem {
        error!(error = %problem, causes = chain(source.as_ref()), "internal error");
    } else {
        debug!(error = %problem, "refused");
    }
}

/// An error with its causes, outermost first.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use kleene_doors::host::StartFailure;

    fn answer(error: EngineError) -> (u16, String) {
        let error = ApiError::from(error);
        (error.status.as_u16(), error.message)
    }

    fn internal() -> EngineError {
        EngineError::Internal {
            context: "reading the records failed".into(),
            source: Box::new(std::io::Error::other("disk")),
        }
    }

    #[test]
    fn the_contracts_words() {
        for (error, status, message) in [
            (
                EngineError::ContainerNotFound("x".into()),
                404,
                "container not found",
            ),
            (
                EngineError::ContainerNotRunning("x".into()),
                404,
                "container not running",
            ),
            (
                EngineError::ImageNotFound("x".into()),
                404,
                "image not found",
            ),
            (
                EngineError::VolumeNotFound("x".into()),
                404,
                "No such volume",
            ),
            (
                EngineError::ExecNotFound("x".into()),
                404,
                "no such execution instance 'x'",
            ),
            (EngineError::Invalid("bad".into()), 400, "bad"),
            (EngineError::Conflict("c".into()), 409, "c"),
            (EngineError::InUse("u".into()), 409, "u"),
            (EngineError::NotYet("n".into()), 409, "n"),
            (EngineError::NoSpace("full".into()), 409, "full"),
            (internal(), 500, "reading the records failed"),
        ] {
            assert_eq!(answer(error), (status, message.to_owned()));
        }
        let ambiguous = EngineError::Ambiguous {
            kind: "container",
            reference: "a".into(),
            matches: vec!["a1".into(), "a2".into()],
        };
        let (status, message) = answer(ambiguous);
        assert!(status == 404 && message.contains("a1, a2"), "{message}");
        let start = EngineError::Start(StartFailure {
            code: 127,
            message: "'x' was not found".into(),
        });
        assert_eq!(answer(start), (409, "'x' was not found".to_owned()));
    }

    #[test]
    fn endpoints_with_answers_of_their_own() {
        let created = on_container_create(EngineError::ImageNotFound("x".into()));
        assert_eq!(created, ApiError::not_found("no such image 'x'"));
        let invalid = on_container_create(EngineError::Invalid("bad mount".into()));
        assert_eq!(invalid, ApiError::not_found("bad mount"));
        let taken = on_container_create(EngineError::Conflict("taken".into()));
        assert_eq!(taken, ApiError::conflict("taken"));
        let removed = on_container_remove(EngineError::ContainerNotFound("x".into()));
        assert_eq!(removed, ApiError::not_found("no such container"));
        let running = on_container_remove(EngineError::InUse("running".into()));
        assert_eq!(running, ApiError::conflict("running"));
        let used = on_image_remove(EngineError::InUse("used by\nx".into()));
        assert_eq!(used, ApiError::not_found("used by\nx"));
    }

    #[test]
    fn chains_name_every_cause() {
        let inner = kleene_doors::storage::StorageError::Failed {
            action: "creating",
            dataset: "d".into(),
            source: Box::new(std::io::Error::other("disk")),
        };
        assert_eq!(chain(&inner), "creating 'd' failed: disk");
    }
}
