//! Who asks: Basic authentication, and tokens of a service (distribution's token authentication and
//! OAuth2 specifications).

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kleene_doors::distribution::Credentials;
use serde::Deserialize;
use ureq::http::{Method, StatusCode, header};

use super::challenge::{Bearer, Challenge};
use super::endpoint::Endpoint;
use super::reply::{refusal, small_body};
use super::session::{Ask, Payload, Session};
use super::url;
use crate::error::{Refusal, Trouble};

/// What a token is good for when its service doesn't say (token specification, `expires_in`).
const LIFETIME: Duration = Duration::from_secs(60);
/// So long before its end a token isn't used any more.
const MARGIN: Duration = Duration::from_secs(10);
const MAX_ANSWER: u64 = 1 << 20;
const CLIENT: &str = "kleened";

/// What registries have let us in with.
#[derive(Debug, Default)]
pub(crate) struct Tokens(Mutex<HashMap<Key, Pass>>);

/// Tokens are of use for one registry, what they were asked for, and whom they were given.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub authority: String,
    pub scopes: Vec<String>,
    pub who: Option<Credentials>,
}

/// An `Authorization` header.
#[derive(Clone)]
struct Pass {
    header: String,
    until: Instant,
}

impl std::fmt::Debug for Pass {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pass")
    }
}

/// What a token service answers.
#[derive(Deserialize)]
struct Answer {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<u64>,
    refresh_token: Option<String>,
}

/// What was let in with, and what the service gave on top.
pub(crate) struct Granted {
    pub header: String,
    pub refresh_token: Option<String>,
}

impl Tokens {
    /// What was good before, and is still.
    pub fn known(&self, key: &Key) -> Option<String> {
        let passes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let pass = passes.get(key).filter(|pass| pass.until > Instant::now());
        pass.map(|pass| pass.header.clone())
    }

    /// Gets what a server has asked for.
    pub fn obtain(
        &self,
        session: &Session<'_>,
        endpoint: &Endpoint,
        key: &Key,
        challenge: &Challenge,
        offline: bool,
    ) -> Result<Granted, Trouble> {
        let (granted, lifetime) = match challenge {
            Challenge::Basic => (basic(key.who.as_ref())?, Duration::from_secs(3600)),
            Challenge::Bearer(bearer) => match &key.who {
                Some(Credentials::RegistryToken(token)) => (
                    granted(format!("Bearer {token}")),
                    Duration::from_secs(3600),
                ),
                _ => ask(session, endpoint, key, bearer, offline)?,
            },
        };
        let pass = Pass {
            header: granted.header.clone(),
            until: Instant::now() + lifetime.saturating_sub(MARGIN),
        };
        let mut passes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        passes.retain(|_, pass| pass.until > Instant::now());
        passes.insert(key.clone(), pass);
        Ok(granted)
    }
}

fn granted(header: String) -> Granted {
    Granted {
        header,
        refresh_token: None,
    }
}

fn basic(who: Option<&Credentials>) -> Result<Granted, Trouble> {
    match who {
        Some(Credentials::Password { username, password }) => {
            let text = STANDARD.encode(format!("{username}:{password}"));
            Ok(granted(format!("Basic {text}")))
        }
        Some(_) => Err(Trouble::Login(
            "it wants a user name and a password, not a token".to_owned(),
        )),
        None => Err(nobody()),
    }
}

/// A registry that lets in nobody unknown doesn't tell whether the image is there.
fn nobody() -> Trouble {
    Trouble::Refused(Refusal {
        status: StatusCode::UNAUTHORIZED,
        message: None,
        retry_after: None,
    })
}

/// Asks the token service.
fn ask(
    session: &Session<'_>,
    endpoint: &Endpoint,
    key: &Key,
    bearer: &Bearer,
    offline: bool,
) -> Result<(Granted, Duration), Trouble> {
    let realm = url::absolute(&bearer.realm)?;
    if realm.scheme_str() != Some("https") && !endpoint.may_be_plain() {
        return Err(Trouble::content(format!(
            "its token service '{}' is unencrypted",
            bearer.realm
        )));
    }
    let mut scopes = key.scopes.clone();
    // A registry may want more than we think we need.
    let wanted = bearer.scope.iter().flat_map(|scope| scope.split(' '));
    for scope in wanted.filter(|scope| !scope.is_empty()) {
        if !scopes.iter().any(|known| known == scope) {
            scopes.push(scope.to_owned());
        }
    }
    let service = bearer.service.as_deref().unwrap_or_default();
    let joined = scopes.join(" ");
    let response = match &key.who {
        Some(Credentials::IdentityToken(token)) => {
            let form = url::form(&[
                ("grant_type", "refresh_token"),
                ("service", service),
                ("client_id", CLIENT),
                ("scope", &joined),
                ("refresh_token", token),
            ]);
            let ask = Ask::new(Method::POST, &bearer.realm)
                .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
                .payload(Payload::Bytes(form.as_bytes()));
            session.persist(|| session.exchange(endpoint.trust(), &ask, None))?
        }
        who => {
            let mut parameters = vec![("service", service)];
            parameters.extend(scopes.iter().map(|scope| ("scope", scope.as_str())));
            let mut header = None;
            if let Some(Credentials::Password { username, .. }) = who {
                parameters.push(("account", username));
                if offline {
                    parameters.extend([("offline_token", "true"), ("client_id", CLIENT)]);
                }
                header = Some(basic(who.as_ref())?.header);
            }
            let ask = Ask::get(url::query(&bearer.realm, &parameters));
            session.persist(|| session.exchange(endpoint.trust(), &ask, header.as_deref()))?
        }
    };
    read(response, key.who.is_some())
}

fn read(
    response: ureq::http::Response<ureq::Body>,
    known: bool,
) -> Result<(Granted, Duration), Trouble> {
    match response.status() {
        StatusCode::OK => {}
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::BAD_REQUEST if known => {
            let why = match refusal(response) {
                Trouble::Refused(Refusal {
                    message: Some(message),
                    ..
                }) => message,
                _ => "user name or password is wrong".to_owned(),
            };
            return Err(Trouble::Login(why));
        }
        _ => return Err(refusal(response)),
    }
    let text = small_body(response, MAX_ANSWER, "token")?;
    let answer: Answer = serde_json::from_slice(&text)
        .map_err(|error| Trouble::content(format!("its token can't be understood: {error}")))?;
    let token = answer.token.filter(|token| !token.is_empty());
    let token = token
        .or(answer.access_token)
        .filter(|token| token.bytes().all(|b| b.is_ascii_graphic()))
        .ok_or_else(|| Trouble::content("its token service gives no token"))?;
    let granted = Granted {
        header: format!("Bearer {token}"),
        refresh_token: answer.refresh_token,
    };
    // The specification's least, which some services undercut.
    let lifetime = answer.expires_in.map_or(LIFETIME, Duration::from_secs);
    Ok((
        granted,
        lifetime.clamp(Duration::from_secs(1), Duration::from_secs(3600)),
    ))
}
