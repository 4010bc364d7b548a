//! YAML as a tree whose nodes know their line, so that every complaint about a configuration can
//! name it.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

use super::{ConfigError, did_you_mean};

/// A node.
#[derive(Debug, Clone)]
pub(super) enum Value {
    Null,
    Bool(bool),
    Number(String),
    Text(String),
    List(Vec<Node>),
    Map(Vec<(String, Node)>),
}

/// A value with its place.
#[derive(Debug, Clone)]
pub(super) struct Node {
    /// The key that leads here, such as `api_listening_sockets[0].address`.
    pub key: String,
    /// Line in the file, from 1; 0 for the empty document.
    pub line: u64,
    pub value: Value,
}

/// What the parser yields: keys are put in afterwards, when the way to a node is known.
enum Raw {
    Null,
    Bool(bool),
    Number(String),
    Text(String),
    List(Vec<Spanned<Raw>>),
    Map(Vec<(Spanned<String>, Spanned<Raw>)>),
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_none<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Raw, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Raw, E> {
        Ok(Raw::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Raw, E> {
        Ok(Raw::Number(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Raw, E> {
        Ok(Raw::Number(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Raw, E> {
        Ok(Raw::Number(value.to_string()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Raw, E> {
        Ok(Raw::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Raw, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Raw::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Raw, A::Error> {
        let mut map = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            map.push(entry);
        }
        Ok(Raw::Map(map))
    }
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

/// Parses a file's text.
pub(super) fn parse(text: &str) -> Result<Node, ConfigError> {
    let options = serde_saphyr::options! { with_snippet: false };
    let raw: Option<Spanned<Raw>> =
        serde_saphyr::from_str_with_options(text, options).map_err(|error| {
            let line = error.location().map_or(0, |location| location.line());
            ConfigError::new(
                line,
                format!("not valid YAML: {}", without_location(&error)),
            )
        })?;
    Ok(match raw {
        Some(raw) => node(String::new(), raw.referenced.line(), raw.value),
        None => node(String::new(), 0, Raw::Null),
    })
}

/// The parser's message without the place at its end, which we print in front.
fn without_location(error: &serde_saphyr::Error) -> String {
    let text = error.without_snippet().to_string();
    match text.rfind(" at line ") {
        Some(end) => text.get(..end).unwrap_or(&text).to_owned(),
        None => text,
    }
}

fn node(key: String, line: u64, raw: Raw) -> Node {
    let value = match raw {
        Raw::Null => Value::Null,
        Raw::Bool(value) => Value::Bool(value),
        Raw::Number(value) => Value::Number(value),
        Raw::Text(value) => Value::Text(value),
        Raw::List(items) => {
            let items = items.into_iter().enumerate();
            Value::List(
                items
                    .map(|(index, item)| {
                        node(
                            format!("{key}[{index}]"),
                            item.referenced.line(),
                            item.value,
                        )
                    })
                    .collect(),
            )
        }
        Raw::Map(entries) => Value::Map(entries.into_iter().map(|e| entry(&key, e)).collect()),
    };
    Node { key, line, value }
}

fn entry(parent: &str, (name, value): (Spanned<String>, Spanned<Raw>)) -> (String, Node) {
    let key = match parent {
        "" => name.value.clone(),
        parent => format!("{parent}.{}", name.value),
    };
    // A key's own line: an empty value has none of its own.
    (name.value, node(key, name.referenced.line(), value.value))
}

impl Node {
    /// A complaint about this node.
    pub(super) fn error(&self, message: impl fmt::Display) -> ConfigError {
        ConfigError::new(self.line, format!("{}: {message}", self.key))
    }

    fn mismatch(&self, wanted: &str) -> ConfigError {
        let found = match &self.value {
            Value::Null => "nothing",
            Value::Bool(_) => "true or false",
            Value::Number(_) => "a number",
            Value::Text(_) => "text",
            Value::List(_) => "a list",
            Value::Map(_) => "keys and values",
        };
        self.error(format_args!("{wanted} is wanted here, not {found}"))
    }

    /// The text.
    pub(super) fn text(&self) -> Result<&str, ConfigError> {
        match &self.value {
            Value::Text(text) => Ok(text),
            _ => Err(self.mismatch("text")),
        }
    }

    /// The truth value.
    pub(super) fn boolean(&self) -> Result<bool, ConfigError> {
        match self.value {
            Value::Bool(value) => Ok(value),
            _ => Err(self.mismatch("true or false")),
        }
    }

    /// The items.
    pub(super) fn list(&self) -> Result<&[Node], ConfigError> {
        match &self.value {
            Value::List(items) => Ok(items),
            _ => Err(self.mismatch("a list")),
        }
    }

    /// The entries; none when there is nothing at all.
    pub(super) fn map(&self) -> Result<&[(String, Node)], ConfigError> {
        match &self.value {
            Value::Map(entries) => Ok(entries),
            Value::Null if self.key.is_empty() => Ok(&[]),
            _ => Err(self.mismatch("a mapping of keys to values")),
        }
    }

    /// A complaint about a key that isn't one of `known`.
    pub(super) fn unknown(&self, name: &str, known: &[&str]) -> ConfigError {
        let hint = match did_you_mean(name, known) {
            Some(near) => format!("did you mean '{near}'?"),
            None => format!("the keys are {}", known.join(", ")),
        };
        ConfigError::new(self.line, format!("unknown key '{}': {hint}", self.key))
    }
}
