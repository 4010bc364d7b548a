//! What requests bring: bodies, path segments and queries, with errors that say what is wrong.

use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::error::ApiError;
use crate::config::did_you_mean;

/// Largest body that is read: 16 MiB.
pub const MAX_BODY: usize = 16 << 20;

/// How long a client may take to send it.
const BODY_LIMIT: Duration = Duration::from_secs(60);

/// A JSON body, whatever content type the client gives it.
pub struct JsonBody<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for JsonBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        let bytes = read(request.into_body()).await?;
        if bytes.is_empty() {
            return Err(ApiError::bad_request(
                "the request has no body: a JSON object is wanted",
            ));
        }
        parse_object(&bytes)
            .map(Self)
            .map_err(ApiError::bad_request)
    }
}

async fn read(body: Body) -> Result<Vec<u8>, ApiError> {
    let Ok(read) = timeout(BODY_LIMIT, Limited::new(body, MAX_BODY).collect()).await else {
        return Err(ApiError::new(
            StatusCode::REQUEST_TIMEOUT,
            format!(
                "the request's body didn't come within {} seconds",
                BODY_LIMIT.as_secs()
            ),
        ));
    };
    match read {
        Ok(collected) => Ok(collected.to_bytes().into()),
        Err(error) if error.is::<LengthLimitError>() => Err(ApiError::bad_request(format!(
            "the request's body is too large: at most {MAX_BODY} bytes are read"
        ))),
        Err(error) => Err(ApiError::bad_request(format!(
            "the request's body can't be read: {error}"
        ))),
    }
}

/// Parses a JSON object; the error names the field and the position.
///
/// # Errors
/// What is wrong, for the user.
pub fn parse_object<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    // A derived deserialiser also takes an array of a structure's fields in their order.
    match bytes.trim_ascii_start().first() {
        Some(b'[') => Err("invalid JSON: an object is wanted, not an array".to_owned()),
        _ => parse_json(bytes),
    }
}

/// Parses JSON; the error names the field and the position.
///
/// # Errors
/// What is wrong, for the user.
pub fn parse_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let field = error.path().to_string();
        match field.as_str() {
            "." => format!("invalid JSON: {}", error.inner()),
            field => format!("invalid JSON in field '{field}': {}", error.inner()),
        }
    })?;
    deserializer
        .end()
        .map_err(|error| format!("invalid JSON: {error}"))?;
    Ok(value)
}

/// The variable part of a path, percent-decoded.
pub struct Name(pub String);

impl<S: Send + Sync> FromRequestParts<S> for Name {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        match Path::<String>::from_request_parts(parts, state).await {
            Ok(Path(name)) => Ok(Self(name)),
            Err(error) => Err(ApiError::bad_request(error.body_text())),
        }
    }
}

/// A query string.
pub struct Params(Vec<(String, String)>);

impl<S: Send + Sync> FromRequestParts<S> for Params {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        match Query::from_request_parts(parts, state).await {
            Ok(Query(pairs)) => Ok(Self(pairs)),
            Err(error) => Err(ApiError::bad_request(error.body_text())),
        }
    }
}

impl Params {
    /// Values of the parameters of these names. Others are refused, so that a misspelt one is an
    /// error and not a surprise.
    ///
    /// # Errors
    /// When there are others, or one is given twice.
    pub fn texts<const N: usize>(self, known: [&str; N]) -> Result<[Option<String>; N], ApiError> {
        let mut values = [const { None }; N];
        for (name, value) in self.0 {
            let slot = known
                .iter()
                .position(|k| *k == name)
                .and_then(|index| values.get_mut(index));
            match slot {
                Some(slot @ None) => *slot = Some(value),
                Some(Some(_)) => {
                    return Err(ApiError::bad_request(format!(
                        "the query parameter '{name}' is given twice"
                    )));
                }
                None => return Err(unknown_parameter(&name, &known)),
            }
        }
        Ok(values)
    }

    /// Names and values in their order; the caller refuses those that it doesn't know.
    pub fn pairs(self) -> Vec<(String, String)> {
        self.0
    }

    /// The text of the only parameter.
    ///
    /// # Errors
    /// When it is missing, or there are others.
    pub fn text(self, name: &str) -> Result<String, ApiError> {
        let [value] = self.texts([name])?;
        value.ok_or_else(|| missing(name))
    }

    /// The parameters of these names, `true` or `false`.
    ///
    /// # Errors
    /// When one is neither, or there are others.
    pub fn flags<const N: usize>(self, known: [&str; N]) -> Result<[Option<bool>; N], ApiError> {
        let texts = self.texts(known)?;
        let mut flags = [None; N];
        for ((flag, text), name) in flags.iter_mut().zip(texts).zip(known) {
            *flag = text.map(|text| parse_flag(name, &text)).transpose()?;
        }
        Ok(flags)
    }

    /// As [`Params::flags`], where every one must be given.
    ///
    /// # Errors
    /// Also when one is missing.
    pub fn required_flags<const N: usize>(self, known: [&str; N]) -> Result<[bool; N], ApiError> {
        let mut values = [false; N];
        for ((value, flag), name) in values.iter_mut().zip(self.flags(known)?).zip(known) {
            *value = flag.ok_or_else(|| missing(name))?;
        }
        Ok(values)
    }

    /// What the only parameter lists, separated by commas; it may be given several times.
    ///
    /// # Errors
    /// When there are others, or an item is empty.
    pub fn list(self, known: &str) -> Result<Vec<String>, ApiError> {
        let mut items = Vec::new();
        for (name, value) in self.0 {
            if name != known {
                return Err(unknown_parameter(&name, &[known]));
            }
            items.extend(value.split(',').map(str::to_owned));
        }
        match items.iter().any(String::is_empty) {
            true => Err(ApiError::bad_request(format!(
                "the query parameter '{known}' has an empty item"
            ))),
            false => Ok(items),
        }
    }

    /// Checks that there are none.
    ///
    /// # Errors
    /// When there is one.
    pub fn none(self) -> Result<(), ApiError> {
        self.texts([]).map(|[]| ())
    }
}

/// A parameter that is `true` or `false`.
///
/// # Errors
/// When it is neither.
pub fn parse_flag(name: &str, text: &str) -> Result<bool, ApiError> {
    match text {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        other => Err(ApiError::bad_request(format!(
            "the query parameter '{name}' is '{other}': give true or false"
        ))),
    }
}

/// The error about a parameter that must be given.
pub fn missing(name: &str) -> ApiError {
    ApiError::bad_request(format!("the query parameter '{name}' is missing"))
}

/// The error about a parameter that isn't one of those that are known.
pub fn unknown_parameter(name: &str, known: &[&str]) -> ApiError {
    let hint = match did_you_mean(name, known) {
        Some(near) => format!(": did you mean '{near}'?"),
        None if known.is_empty() => ": there are none here".to_owned(),
        None => format!(": there is {}", known.join(", ")),
    };
    ApiError::bad_request(format!("unknown query parameter '{name}'{hint}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use kleene_api::{ContainerConfig, ExecConfig};

    fn params(pairs: &[(&str, &str)]) -> Params {
        let owned = |(a, b): &(&str, &str)| ((*a).to_owned(), (*b).to_owned());
        Params(pairs.iter().map(owned).collect())
    }

    #[tokio::test(start_paused = true)]
    async fn bodies_that_do_not_come_are_not_waited_for() {
        let stuck = Body::from_stream(futures_util::stream::pending::<
            Result<Vec<u8>, std::io::Error>,
        >());
        let error = read(stuck).await.unwrap_err();
        assert_eq!(error.status, StatusCode::REQUEST_TIMEOUT);
    }

    #[test]
    fn json_errors_name_field_and_position() {
        for (text, error) in [
            (
                "{\"env\": [1]}",
                "invalid JSON in field 'env[0]': invalid type: integer `1`, expected a string at \
                 line 1 column 10",
            ),
            (
                "{\"mounts\":[{\"type\":\"volume\",\"source\":1}]}",
                "invalid JSON in field 'mounts[0].source': invalid type: integer `1`, expected a \
                 string at line 1 column 38",
            ),
            (
                "nonsense",
                "invalid JSON: expected ident at line 1 column 2",
            ),
            (
                "{} {}",
                "invalid JSON: trailing characters at line 1 column 4",
            ),
        ] {
            assert_eq!(
                parse_json::<ContainerConfig>(text.as_bytes()).unwrap_err(),
                error
            );
        }
        let unknown = parse_json::<ContainerConfig>(b"{\"nmae\": 1}").unwrap_err();
        assert!(unknown.contains("unknown field `nmae`"), "{unknown}");
        let missing = parse_json::<ExecConfig>(b"{}").unwrap_err();
        assert!(
            missing.contains("missing field `container_id`"),
            "{missing}"
        );
    }

    #[test]
    fn flags() {
        let [all] = params(&[("all", "true")]).flags(["all"]).unwrap();
        assert_eq!(all, Some(true));
        assert_eq!(params(&[]).flags(["all"]).unwrap(), [None]);
        for (pairs, message) in [
            (
                vec![("all", "yes")],
                "the query parameter 'all' is 'yes': give true or false",
            ),
            (
                vec![("al", "true")],
                "unknown query parameter 'al': did you mean 'all'?",
            ),
            (
                vec![("all", "true"), ("all", "false")],
                "the query parameter 'all' is given twice",
            ),
        ] {
            assert_eq!(params(&pairs).flags(["all"]).unwrap_err().message, message);
        }
        let error = params(&[("a", "true")])
            .required_flags(["a", "b"])
            .unwrap_err();
        assert_eq!(error.message, "the query parameter 'b' is missing");
        assert!(params(&[("a", "")]).none().is_err());
    }

    #[test]
    fn lists() {
        let list = |pairs| params(pairs).list("names");
        assert_eq!(list(&[]).unwrap(), Vec::<String>::new());
        let all = list(&[("names", "a,b"), ("names", "c")]).unwrap();
        assert_eq!(all, ["a", "b", "c"]);
        assert!(list(&[("names", "a,")]).is_err());
        let unknown = list(&[("name", "a")]).unwrap_err();
        assert!(
            unknown.message.contains("did you mean 'names'"),
            "{unknown:?}"
        );
    }
}
