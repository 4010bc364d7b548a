//! Asks a registry about one repository, as somebody.

use kleene_doors::distribution::Credentials;
use kleene_types::Repository;
use ureq::Body;
use ureq::http::{HeaderMap, Method, Response, StatusCode, header as names};

use super::challenge;
use super::endpoint::{Endpoint, Schemes};
use super::reply::header;
use super::session::{Ask, Session};
use super::token::{Key, Tokens};
use super::url;
use crate::error::Trouble;

const MAX_REDIRECTS: usize = 5;

/// A way to ask a registry (or mirror) about one repository.
pub(crate) struct Access<'a> {
    session: &'a Session<'a>,
    endpoint: Endpoint,
    schemes: &'a Schemes,
    tokens: &'a Tokens,
    key: Key,
    /// The repository's name there.
    repository: String,
}

impl<'a> Access<'a> {
    /// `actions`: `pull` or `pull,push`. Without a repository, the registry itself is meant.
    pub fn new(
        session: &'a Session<'a>,
        (schemes, tokens): (&'a Schemes, &'a Tokens),
        endpoint: Endpoint,
        repository: Option<(&Repository, &str)>,
        credentials: Option<&Credentials>,
    ) -> Self {
        let scope = repository.map(|(repository, actions)| {
            format!("repository:{}:{actions}", endpoint.repository(repository))
        });
        Self {
            session,
            schemes,
            tokens,
            key: Key {
                authority: endpoint.authority().to_owned(),
                scopes: scope.into_iter().collect(),
                who: credentials.cloned(),
            },
            repository: repository
                .map(|(repository, _)| endpoint.repository(repository))
                .unwrap_or_default(),
            endpoint,
        }
    }

    /// The same, with the right to something more.
    pub fn with_scope(mut self, scope: String) -> Self {
        if !self.key.scopes.contains(&scope) {
            self.key.scopes.push(scope);
        }
        self
    }

    /// The operation that this is a part of.
    pub fn session(&self) -> &'a Session<'a> {
        self.session
    }

    /// `/v2/REPOSITORY/REST`.
    pub fn path(&self, rest: &str) -> String {
        format!("/v2/{}/{rest}", self.repository)
    }

    /// Sends a request, follows redirections of what is only read, and logs in when that is wanted.
    /// The answer may have any status.
    pub fn send(&self, ask: &Ask<'_>) -> Result<Response<Body>, Trouble> {
        let base = self.base()?;
        let known = self.tokens.known(&self.key);
        let response = self.follow(&base, ask, known.as_deref());
        if matches!(response, Err(Trouble::Network { .. })) {
            self.schemes.forget(&self.endpoint);
        }
        let response = response?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return Ok(response);
        }
        let Some(challenge) = wanted(response.headers()) else {
            return Ok(response);
        };
        drop(response);
        let granted =
            self.tokens
                .obtain(self.session, &self.endpoint, &self.key, &challenge, false)?;
        self.follow(&base, ask, Some(&granted.header))
    }

    /// The URL that a `Location` header of an answer to `asked` means.
    pub fn locate(&self, asked: &str, location: &str) -> Result<String, Trouble> {
        let asked = url::absolute(&self.absolute(&self.base()?, asked))?;
        Ok(url::join(&asked, location)?.to_string())
    }

    /// Asks the registry itself, and logs in, whether it wants that or not. The answer is what its
    /// token service gave to keep.
    pub fn log_in(&self) -> Result<Option<String>, Trouble> {
        let base = self.base()?;
        let ask = Ask::get("/v2/");
        let response = self.follow(&base, &ask, None)?;
        let challenge = match response.status() {
            StatusCode::OK => return Ok(None),
            StatusCode::UNAUTHORIZED => wanted(response.headers()),
            _ => return Err(super::refusal(response)),
        };
        let challenge = challenge.ok_or_else(|| {
            Trouble::content("it wants a login, but of a kind that isn't known here")
        })?;
        drop(response);
        let granted =
            self.tokens
                .obtain(self.session, &self.endpoint, &self.key, &challenge, true)?;
        let response = self.follow(&base, &ask, Some(&granted.header))?;
        match response.status() {
            StatusCode::OK => Ok(granted.refresh_token),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                Err(Trouble::Login("user name or password is wrong".to_owned()))
            }
            _ => Err(super::refusal(response)),
        }
    }

    fn base(&self) -> Result<String, Trouble> {
        self.endpoint.base(self.session, self.schemes)
    }

    fn absolute(&self, base: &str, url: &str) -> String {
        if url.starts_with('/') {
            format!("{base}{url}")
        } else {
            url.to_owned()
        }
    }

    /// Sends a request and follows redirections. `authorization` goes to the registry's own origin
    /// only.
    fn follow(
        &self,
        base: &str,
        ask: &Ask<'_>,
        authorization: Option<&str>,
    ) -> Result<Response<Body>, Trouble> {
        let home = url::origin(&url::absolute(base)?);
        let mut step = Ask::new(ask.method.clone(), self.absolute(base, &ask.url));
        step.headers.clone_from(&ask.headers);
        let reads = matches!(ask.method, Method::GET | Method::HEAD);
        for _ in 0..=MAX_REDIRECTS {
            let here = url::absolute(&step.url)?;
            if here.scheme_str() == Some("http") && !self.endpoint.may_be_plain() {
                return Err(Trouble::content("it leads to an unencrypted address"));
            }
            let pass = authorization.filter(|_| url::origin(&here) == home);
            let trust = self.endpoint.trust();
            if !reads {
                let whole = Ask {
                    method: ask.method.clone(),
                    url: step.url,
                    headers: step.headers,
                    payload: ask.payload.copy(),
                };
                return self.session.exchange(trust, &whole, pass);
            }
            let response = self.session.exchange(trust, &step, pass)?;
            let location = match response.status().as_u16() {
                301 | 302 | 303 | 307 | 308 => header(&response, names::LOCATION),
                _ => return Ok(response),
            };
            let location = location.ok_or_else(|| Trouble::content("it leads nowhere"))?;
            step.url = url::join(&here, location)?.to_string();
        }
        Err(Trouble::content(format!(
            "it leads from one address to the next more than {MAX_REDIRECTS} times"
        )))
    }
}

fn wanted(headers: &HeaderMap) -> Option<challenge::Challenge> {
    let values = headers.get_all(names::WWW_AUTHENTICATE).iter();
    challenge::parse(values.filter_map(|value| value.to_str().ok()))
}
