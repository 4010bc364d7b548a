//! One operation's connections, which end with it, also when it is called off.

use std::collections::HashMap;
use std::io::Read;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use ureq::http::{Method, Request, Response, header};
use ureq::{Agent, Body, SendBody};

use super::agent::{self, Trust};
use super::reply;
use crate::config::Config;
use crate::error::Trouble;

/// A server that wants us to wait longer is told to the user instead.
const LONGEST_PAUSE: Duration = Duration::from_secs(20);

/// A registry may have to put a blob in its place before it answers.
const STORE_LIMIT: Duration = Duration::from_secs(600);

/// One operation's connections.
pub(crate) struct Session<'r> {
    pub config: &'r Config,
    agents: Mutex<HashMap<Trust, Agent>>,
    stopped: AtomicBool,
    /// Rung when it is stopped.
    bell: (Mutex<()>, Condvar),
}

/// A request's body.
pub(crate) enum Payload<'b> {
    None,
    Bytes(&'b [u8]),
    /// So many bytes, opened anew for each attempt.
    Stream(&'b Opener<'b>, u64),
}

impl<'b> Payload<'b> {
    /// The same bytes once more.
    pub fn copy(&self) -> Self {
        match *self {
            Self::None => Self::None,
            Self::Bytes(bytes) => Self::Bytes(bytes),
            Self::Stream(open, length) => Self::Stream(open, length),
        }
    }
}

/// Opens what is to be sent.
pub(crate) type Opener<'b> = dyn Fn() -> Result<Box<dyn Read + 'b>, Trouble> + 'b;

/// A request.
pub(crate) struct Ask<'b> {
    pub method: Method,
    /// An absolute URL, or a path at the registry.
    pub url: String,
    pub headers: Vec<(header::HeaderName, String)>,
    pub payload: Payload<'b>,
}

impl<'b> Ask<'b> {
    pub fn new(method: Method, url: impl Into<String>) -> Self {
        Self {
            method,
            url: url.into(),
            headers: Vec::new(),
            payload: Payload::None,
        }
    }

    pub fn get(url: impl Into<String>) -> Self {
        Self::new(Method::GET, url)
    }

    pub fn header(mut self, name: header::HeaderName, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub fn payload(mut self, payload: Payload<'b>) -> Self {
        self.payload = payload;
        self
    }
}

impl<'r> Session<'r> {
    pub fn new(config: &'r Config) -> Self {
        Self {
            config,
            agents: Mutex::default(),
            stopped: AtomicBool::new(false),
            bell: (Mutex::new(()), Condvar::new()),
        }
    }

    /// Calls the operation off: requests under way fail at once.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
        let mut agents = self.agents.lock().unwrap_or_else(PoisonError::into_inner);
        for (_, agent) in agents.drain() {
            agent.shutdown();
        }
        drop(agents);
        let _bell = self.bell.0.lock().unwrap_or_else(PoisonError::into_inner);
        self.bell.1.notify_all();
    }

    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst)
    }

    /// # Errors
    /// [`Trouble::Cancelled`] when the operation was called off.
    pub fn check(&self) -> Result<(), Trouble> {
        if self.is_stopped() {
            Err(Trouble::Cancelled)
        } else {
            Ok(())
        }
    }

    /// Waits, or until the operation is called off.
    pub fn wait(&self, pause: Duration) -> Result<(), Trouble> {
        let guard = self.bell.0.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self
            .bell
            .1
            .wait_timeout_while(guard, pause, |()| !self.is_stopped());
        drop(waited);
        self.check()
    }

    /// Tries until it works, the trouble is of the lasting kind, or patience is at its end.
    pub fn persist<T>(
        &self,
        mut attempt: impl FnMut() -> Result<T, Trouble>,
    ) -> Result<T, Trouble> {
        let mut pauses = self.config.pauses.iter();
        loop {
            let trouble = match attempt() {
                Ok(done) => return Ok(done),
                Err(trouble) => trouble,
            };
            self.pause(&trouble, pauses.next()).ok_or(trouble)??;
        }
    }

    /// Waits before the next try; `None` when there shouldn't be one.
    pub fn pause(
        &self,
        trouble: &Trouble,
        pause: Option<&Duration>,
    ) -> Option<Result<(), Trouble>> {
        let wanted = trouble.retry_after().unwrap_or_default();
        if !trouble.may_pass() || wanted > LONGEST_PAUSE {
            return None;
        }
        Some(self.wait((*pause?).max(wanted)))
    }

    /// Sends one request to an absolute URL, and follows no redirection.
    pub fn exchange(
        &self,
        trust: &Trust,
        ask: &Ask<'_>,
        authorization: Option<&str>,
    ) -> Result<Response<Body>, Trouble> {
        self.check()?;
        let agent = self.agent(trust)?;
        let mut request = Request::builder().method(&ask.method).uri(&ask.url);
        for (name, value) in &ask.headers {
            request = request.header(name, value);
        }
        if let Some(authorization) = authorization {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        let answer = match &ask.payload {
            Payload::None => agent.run(build(request, ())?),
            Payload::Bytes(bytes) => agent.run(build(request, *bytes)?),
            Payload::Stream(open, length) => {
                let mut stream = open()?;
                let request = request.header(header::CONTENT_LENGTH, *length);
                let request = build(request, SendBody::from_reader(&mut stream))?;
                let patient = agent.configure_request(request);
                let patient = patient.timeout_recv_response(Some(STORE_LIMIT));
                agent.run(patient.build())
            }
        };
        // An error after that is a consequence.
        self.check()?;
        answer.map_err(|error| reply::no_answer(&error))
    }

    fn agent(&self, trust: &Trust) -> Result<Agent, Trouble> {
        let mut agents = self.agents.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(agent) = agents.get(trust) {
            return Ok(agent.clone());
        }
        let agent = agent::build(trust)?;
        agents.insert(trust.clone(), agent.clone());
        // Between the two, somebody may have stopped it.
        self.check()?;
        Ok(agent)
    }
}

fn build<B>(request: ureq::http::request::Builder, body: B) -> Result<Request<B>, Trouble> {
    let request = request.body(body);
    request.map_err(|error| Trouble::content(format!("it can't be asked for: {error}")))
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn patience_ends() {
        let config = Config {
            pauses: vec![Duration::ZERO; 2],
            ..Config::default()
        };
        let session = Session::new(&config);
        let mut attempts = 0;
        let result: Result<(), _> = session.persist(|| {
            attempts += 1;
            Err(Trouble::passing("x"))
        });
        assert!(matches!(result, Err(Trouble::Network { .. })));
        assert_eq!(attempts, 3);
        attempts = 0;
        let result: Result<(), _> = session.persist(|| {
            attempts += 1;
            Err(Trouble::lasting("x"))
        });
        assert!(result.is_err());
        assert_eq!(attempts, 1);
    }

    #[test]
    fn stopping_ends_a_pause() {
        let config = Config::default();
        let session = Session::new(&config);
        let start = Instant::now();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| session.wait(Duration::from_secs(60)));
            session.stop();
            assert!(matches!(waiting.join().unwrap(), Err(Trouble::Cancelled)));
        });
        assert!(start.elapsed() < Duration::from_secs(30));
        assert!(matches!(session.check(), Err(Trouble::Cancelled)));
    }
}
