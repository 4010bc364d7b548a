//! `klee container events`.

use std::str::FromStr;

use clap::Args;
use kleene_api::Event;
use kleene_client::{ClientError, EventOptions};

use crate::commands::Session;
use crate::error::{CommandError, CommandResult, Exit};
use crate::format::Format;
use crate::when;

/// Show what happens to containers, execution instances, images and volumes
#[derive(Debug, Args)]
#[command(
    after_help = "Filters: kind (or type), action (or event), id, name, container. Several values of one key are
alternatives; all keys that are given must fit.
Times are given as how long ago (10m, 2h30m), as seconds since 1970, or as 2024-02-29T14:54:05Z.

Examples:
  klee events
  klee events --since 1h --until 0s
  klee events --filter container=web --filter action=die --filter action=oom
  klee events --format '{{.time}} {{.action}} {{.attributes.exit_code}}' --filter action=die"
)]
pub struct Options {
    /// Begin with what happened at this time; otherwise with what happens from now on
    #[arg(long, value_name = "TIME", value_parser = when::parse)]
    since: Option<String>,

    /// Show only what happens before this time, and end then
    #[arg(long, value_name = "TIME", value_parser = when::parse)]
    until: Option<String>,

    /// Show only what fits
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = Filter::from_str)]
    filter: Vec<Filter>,

    /// How to print each event: table (one line), json (one line), or a template such as
    /// '{{.time}} {{.action}} {{.name}}'
    #[arg(long, default_value = "table", value_name = "FORMAT", value_parser = Format::parse)]
    format: Format,
}

/// A condition.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Filter {
    key: Key,
    value: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Key {
    Kind,
    Action,
    Id,
    Name,
    Container,
}

impl Key {
    /// The daemon's parameter, where it has one.
    fn parameter(self) -> Option<&'static str> {
        match self {
            Self::Kind => Some("kind"),
            Self::Action => Some("action"),
            Self::Id => Some("id"),
            Self::Name => Some("name"),
            Self::Container => None,
        }
    }
}

impl FromStr for Filter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (key, value) = text.split_once('=').ok_or("the form is KEY=VALUE")?;
        let key = match key {
            "kind" | "type" => Key::Kind,
            "action" | "event" => Key::Action,
            "id" => Key::Id,
            "name" => Key::Name,
            "container" => Key::Container,
            _ => {
                return Err(format!(
                    "unknown key '{key}': use one of kind, action, id, name, container"
                ));
            }
        };
        Ok(Self {
            key,
            value: value.to_owned(),
        })
    }
}

/// Prints events until the time is over.
///
/// # Errors
/// When the request fails, the daemon stops before, or the output can't be written.
pub async fn run(session: &Session, options: Options) -> CommandResult {
    let filters = options.filter.iter();
    let wanted = EventOptions {
        since: options.since,
        until: options.until,
        follow: true,
        filters: filters
            .filter_map(|filter| Some((filter.key.parameter()?.to_owned(), filter.value.clone())))
            .collect(),
    };
    let containers: Vec<&str> = options
        .filter
        .iter()
        .filter(|filter| filter.key == Key::Container)
        .map(|filter| filter.value.as_str())
        .collect();
    let endless = wanted.until.is_none();
    let mut events = session.client().await?.events(&wanted).await?;
    while let Some(event) = events.next().await.map_err(lost)? {
        if !containers.is_empty() && !containers.iter().any(|name| concerns(&event, name)) {
            continue;
        }
        let line = match options.format {
            Format::Table => sentence(&event),
            Format::Json | Format::Template(_) => options.format.line(&event)?,
        };
        session.ui.raw(format!("{line}\n").as_bytes())?;
    }
    match endless {
        true => Err(stopped()),
        false => Ok(Exit::Success),
    }
}

/// Why there are no further events.
fn lost(error: ClientError) -> CommandError {
    match error {
        ClientError::Lost { .. } => stopped(),
        error => error.into(),
    }
}

/// The daemon ends its streams when it stops.
fn stopped() -> CommandError {
    CommandError::daemon_stopped("the containers go on")
}

/// Whether an event is about a container, or something in it, that is named by id, the beginning of
/// its id, or name.
fn concerns(event: &Event, container: &str) -> bool {
    let attribute = |name| event.attributes.get(name).map(String::as_str);
    match event.kind.as_str() {
        "container" => event.name == container || event.id.starts_with(container),
        _ => {
            attribute("container").is_some_and(|id| id.starts_with(container))
                || attribute("container_name") == Some(container)
        }
    }
}

/// An event in one line.
fn sentence(event: &Event) -> String {
    let mut details = Vec::new();
    if !event.name.is_empty() && event.name != event.id {
        details.push(format!("name={}", event.name));
    }
    let attributes = event.attributes.iter();
    details.extend(attributes.map(|(name, value)| format!("{name}={value}")));
    let Event {
        time,
        kind,
        action,
        id,
        ..
    } = event;
    let line = match details.is_empty() {
        true => format!("{time} {kind} {action} {id}"),
        false => format!("{time} {kind} {action} {id} ({})", details.join(", ")),
    };
    crate::table::printable(line.trim_end())
}
