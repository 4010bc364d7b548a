//! What happens, as a stream.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use kleene_api::{ErrorResponse, Event};
use kleene_engine::Event as EngineEvent;
use kleene_types::Timestamp;
use tokio::sync::watch;
use tokio::time::Instant;

use super::error::ApiError;
use super::extract::{Params, parse_flag, unknown_parameter};
use super::time;
use crate::app::{ActivityGuard, App};
use crate::config::did_you_mean;

const CONTENT: &str = "application/x-ndjson";

/// The parameters.
const KNOWN: [&str; 7] = ["since", "until", "follow", "kind", "action", "id", "name"];

/// Kinds of objects that something can happen to.
const KINDS: [&str; 5] = ["container", "exec", "image", "volume", "daemon"];

/// What happens to containers, images, volumes and the daemon.
///
/// One JSON object a line. The last few thousand events are remembered, also across restarts of the
/// daemon; a client that falls further behind finds a gap in their numbers.
#[utoipa::path(
    get, path = "/events", tag = "system",
    params(
        ("since" = Option<String>, Query, description =
            "Begin with events of this time (RFC 3339, or seconds since 1970) or later; absent: with \
             the next one, or, where nothing is to follow, with the oldest that is remembered"),
        ("until" = Option<String>, Query, description =
            "Only events before this time, at which the answer ends"),
        ("follow" = Option<bool>, Query, description =
            "Go on with what happens from now on (the default)"),
        ("kind" = Option<Vec<String>>, Query, description =
            "Only events of this kind: `container`, `exec`, `image`, `volume` or `daemon`. This and \
             the following may be given several times: then one of the values must fit"),
        ("action" = Option<Vec<String>>, Query, description = "Only events of this action"),
        ("id" = Option<Vec<String>>, Query, description =
            "Only events of the object with this id or beginning of an id"),
        ("name" = Option<Vec<String>>, Query, description =
            "Only events of objects of this name"),
    ),
    responses(
        (status = 200, body = Event, content_type = "application/x-ndjson"),
        (status = 400, body = ErrorResponse, description = "A parameter is bad"),
    )
)]
pub async fn events(State(app): State<Arc<App>>, params: Params) -> Result<Response, ApiError> {
    let wanted = Wanted::parse(params)?;
    // Before anything is looked at: what happens in between is news then.
    let news = app.news();
    let now = Timestamp::now().microseconds();
    let follow = wanted.follow && wanted.until.is_none_or(|until| until > now);
    let last = match (wanted.since, follow) {
        (None, true) => app.last_event(),
        _ => 0,
    };
    let left = wanted.until.map(|until| until.saturating_sub(now));
    let happening = Happening {
        _open: app.sessions.enter(),
        last,
        news: follow.then_some(news),
        // A moment that no clock will show is never reached.
        deadline: left.and_then(|left| Instant::now().checked_add(Duration::from_micros(left))),
        wanted,
        app,
    };
    let body = Body::from_stream(stream::unfold(happening, Happening::next));
    Ok(([(CONTENT_TYPE, CONTENT)], body).into_response())
}

/// What the client wants.
#[derive(Debug, Default)]
struct Wanted {
    since: Option<u64>,
    until: Option<u64>,
    follow: bool,
    kinds: Vec<String>,
    actions: Vec<String>,
    ids: Vec<String>,
    names: Vec<String>,
}

impl Wanted {
    fn parse(params: Params) -> Result<Self, ApiError> {
        let mut wanted = Self::default();
        let mut follow = None;
        for (name, value) in params.pairs() {
            let twice = match name.as_str() {
                "since" => wanted.since.replace(time::parse(&name, &value)?).is_some(),
                "until" => wanted.until.replace(time::parse(&name, &value)?).is_some(),
                "follow" => follow.replace(parse_flag(&name, &value)?).is_some(),
                filter => {
                    let values = match filter {
                        "kind" => {
                            check_kind(&value)?;
                            &mut wanted.kinds
                        }
                        "action" => &mut wanted.actions,
                        "id" => &mut wanted.ids,
                        "name" => &mut wanted.names,
                        _ => return Err(unknown_parameter(filter, &KNOWN)),
                    };
                    values.push(value);
                    false
                }
            };
            if twice {
                return Err(ApiError::bad_request(format!(
                    "the query parameter '{name}' is given twice"
                )));
            }
        }
        wanted.follow = follow.unwrap_or(true);
        Ok(wanted)
    }

    fn takes(&self, event: &EngineEvent) -> bool {
        let time = event.time.microseconds();
        let one_of = |wanted: &[String], fits: &dyn Fn(&str) -> bool| {
            wanted.is_empty() || wanted.iter().any(|wanted| fits(wanted))
        };
        // Volumes have no ids but their names, whose beginnings name nothing.
        let id = |id: &str| match event.kind.as_str() {
            "volume" => event.id == id,
            _ => event.id.starts_with(id),
        };
        self.since.is_none_or(|since| time >= since)
            && self.until.is_none_or(|until| time < until)
            && one_of(&self.kinds, &|kind| event.kind == kind)
            && one_of(&self.actions, &|action| event.action == action)
            && one_of(&self.ids, &id)
            && one_of(&self.names, &|name| event.name == name)
    }
}

fn check_kind(kind: &str) -> Result<(), ApiError> {
    if KINDS.contains(&kind) {
        return Ok(());
    }
    let hint = match did_you_mean(kind, &KINDS) {
        Some(near) => format!("did you mean '{near}'?"),
        None => format!("there is {}", KINDS.join(", ")),
    };
    Err(ApiError::bad_request(format!(
        "nothing happens to a '{kind}': {hint}"
    )))
}

/// Events on their way to a client.
struct Happening {
    app: Arc<App>,
    wanted: Wanted,
    /// The number of the last event that was looked at.
    last: u64,
    /// Tells of new ones; `None` when they aren't wanted any more.
    news: Option<watch::Receiver<u64>>,
    deadline: Option<Instant>,
    _open: ActivityGuard,
}

impl Happening {
    /// The next lines. A failure is none of them: events are in memory.
    async fn next(mut self) -> Option<(Result<Bytes, std::convert::Infallible>, Self)> {
        loop {
            let lines = self.lines();
            if !lines.is_empty() {
                return Some((Ok(lines.into()), self));
            }
            let news = self.news.as_mut()?;
            let over = async {
                match self.deadline {
                    Some(deadline) => tokio::time::sleep_until(deadline).await,
                    None => std::future::pending().await,
                }
            };
            let more = tokio::select! {
                changed = news.changed() => changed.is_ok(),
                () = over => false,
                () = self.app.stop.wait() => false,
            };
            if !more {
                // What happened last is still to be told.
                self.news = None;
            }
        }
    }

    /// The wanted ones of the events that weren't looked at yet.
    fn lines(&mut self) -> Vec<u8> {
        let mut lines = Vec::new();
        for event in self.app.events_after(self.last) {
            self.last = event.sequence;
            if self.wanted.takes(&event)
                && let Ok(json) = serde_json::to_vec(&convert(event))
            {
                lines.extend(json);
                lines.push(b'\n');
            }
        }
        lines
    }
}

fn convert(event: EngineEvent) -> Event {
    let EngineEvent {
        sequence,
        time,
        kind,
        action,
        id,
        name,
        attributes,
    } = event;
    Event {
        sequence,
        time: time.to_string(),
        kind,
        action,
        id,
        name,
        attributes,
    }
}
