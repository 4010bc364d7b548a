//! Fills templates in.
//!
//! Functions: `json X`, `len X`, `join LIST SEPARATOR`, `split TEXT SEPARATOR`, `index X KEY…`,
//! `upper X`, `lower X`, `title X`, `truncate X LENGTH`, `eq X Y…`, `ne X Y`, `lt`, `le`, `gt`, `ge`,
//! `and X…`, `or X…`, `not X`.

use std::borrow::Cow;
use std::cmp::Ordering;

use serde_json::Value;

use super::{Block, Call, Node, Operand, Pipeline, TemplateError};

/// The text of the nodes for an object.
pub fn render(
    nodes: &[Node],
    object: &Value,
    main: Option<&Value>,
) -> Result<String, TemplateError> {
    let mut text = String::new();
    let scope = Scope {
        outermost: object,
        main,
        dot: object,
    };
    scope.write(nodes, &mut text)?;
    Ok(text)
}

/// What names mean.
#[derive(Clone, Copy)]
struct Scope<'a> {
    outermost: &'a Value,
    /// Where else fields of the outermost object are looked for.
    main: Option<&'a Value>,
    dot: &'a Value,
}

impl<'a> Scope<'a> {
    fn at(self, dot: &'a Value) -> Self {
        Self { dot, ..self }
    }

    fn write(self, nodes: &[Node], text: &mut String) -> Result<(), TemplateError> {
        for node in nodes {
            match node {
                Node::Text(plain) => text.push_str(plain),
                Node::Print(pipeline) => {
                    let value = self.pipeline(pipeline)?;
                    text.push_str(&shown(&value));
                }
                Node::Block {
                    kind,
                    over,
                    body,
                    otherwise,
                } => self.block(*kind, over, body, otherwise, text)?,
            }
        }
        Ok(())
    }

    fn block(
        self,
        kind: Block,
        over: &Pipeline,
        body: &[Node],
        otherwise: &[Node],
        text: &mut String,
    ) -> Result<(), TemplateError> {
        let value = self.pipeline(over)?;
        if !truth(&value) {
            return self.write(otherwise, text);
        }
        match kind {
            Block::If => self.write(body, text),
            Block::With => self.at_owned(&value, body, text),
            Block::Range => {
                let elements: Vec<&Value> = match value.as_ref() {
                    Value::Array(list) => list.iter().collect(),
                    Value::Object(fields) => fields.values().collect(),
                    other => {
                        let column = over.0.first().map_or(1, |call| call.column);
                        // The keyword stands before what it ranges over.
                        let column = column.saturating_sub("range ".len());
                        return Err(wrong(
                            column,
                            format!("'range' needs a list, not {}", kind_of(other)),
                        ));
                    }
                };
                for element in elements {
                    self.at_owned(element, body, text)?;
                }
                Ok(())
            }
        }
    }

    /// Writes with another dot, which may live shorter than the object.
    fn at_owned(self, dot: &Value, body: &[Node], text: &mut String) -> Result<(), TemplateError> {
        let inner: Scope<'_> = self;
        inner.at(dot).write(body, text)
    }

    fn pipeline(self, pipeline: &Pipeline) -> Result<Cow<'a, Value>, TemplateError> {
        let mut result = None;
        for call in &pipeline.0 {
            result = Some(self.call(call, result)?);
        }
        Ok(result.unwrap_or(Cow::Owned(Value::Null)))
    }

    fn call(
        self,
        call: &Call,
        piped: Option<Cow<'a, Value>>,
    ) -> Result<Cow<'a, Value>, TemplateError> {
        let mut arguments = Vec::with_capacity(call.operands.len() + 1);
        for operand in &call.operands {
            arguments.push(self.operand(operand)?);
        }
        arguments.extend(piped);
        match &call.function {
            Some(name) => apply(name, &arguments)
                .map(Cow::Owned)
                .map_err(|message| wrong(call.column, message)),
            None => match <[_; 1]>::try_from(arguments) {
                Ok([value]) => Ok(value),
                Err(_) => Err(wrong(call.column, "only a function takes arguments")),
            },
        }
    }

    fn operand(self, operand: &Operand) -> Result<Cow<'a, Value>, TemplateError> {
        match operand {
            Operand::Literal(value) => Ok(Cow::Owned(value.clone())),
            Operand::Nested(pipeline) => self.pipeline(pipeline),
            Operand::Field {
                column,
                outermost,
                path,
            } => {
                let start = if *outermost { self.outermost } else { self.dot };
                let field = self.field(start, path);
                field
                    .map(Cow::Borrowed)
                    .map_err(|message| wrong(*column, message))
            }
        }
    }

    fn field(self, start: &'a Value, path: &[String]) -> Result<&'a Value, String> {
        let mut value = start;
        let mut before = "this";
        for name in path {
            let found = match value {
                // What isn't there has no fields either.
                Value::Null => Some(value),
                Value::Object(_) => lookup(value, name).or_else(|| {
                    let main = self.main.filter(|_| std::ptr::eq(value, self.outermost));
                    main.and_then(|main| lookup(main, name))
                }),
                other => {
                    let kind = kind_of(other);
                    return Err(format!("'{before}' has no fields: it is {kind}"));
                }
            };
            value = found.ok_or_else(|| self.unknown(value, name))?;
            before = name;
        }
        Ok(value)
    }

    fn unknown(self, object: &Value, name: &str) -> String {
        let mut names = names_of(object);
        if std::ptr::eq(object, self.outermost) {
            names.extend(self.main.map(names_of).unwrap_or_default());
        }
        no_field(name, names)
    }
}

/// Says that there is no such field, and which there are.
fn no_field(name: &str, mut names: Vec<&str>) -> String {
    names.sort_unstable();
    names.dedup();
    let closest = names
        .iter()
        .map(|known| (strsim::jaro_winkler(name, known), known))
        .filter(|(similarity, _)| *similarity >= 0.8)
        .max_by(|(a, _), (b, _)| a.total_cmp(b));
    let all = match names.is_empty() {
        true => "none".to_owned(),
        false => names.join(", "),
    };
    match closest {
        Some((_, known)) => {
            format!("there is no field '{name}': did you mean '{known}'? There are {all}")
        }
        None => format!("there is no field '{name}': there are {all}"),
    }
}

fn names_of(object: &Value) -> Vec<&str> {
    let fields = object.as_object();
    fields.map_or_else(Vec::new, |fields| {
        fields.keys().map(String::as_str).collect()
    })
}

/// The field of this name, or the one that differs only by case and underscores.
fn lookup<'v>(object: &'v Value, name: &str) -> Option<&'v Value> {
    let fields = object.as_object()?;
    fields.get(name).or_else(|| {
        let bare = |name: &str| name.replace('_', "").to_lowercase();
        let wanted = bare(name);
        let found = fields.iter().find(|(known, _)| bare(known) == wanted);
        found.map(|(_, value)| value)
    })
}

fn wrong(column: usize, message: impl Into<String>) -> TemplateError {
    TemplateError {
        column,
        message: message.into(),
    }
}

/// Values as they are printed: texts without quotes, nothing for what isn't there.
fn shown(value: &Value) -> Cow<'_, str> {
    match value {
        Value::Null => Cow::Borrowed(""),
        Value::String(text) => Cow::Borrowed(text),
        other => Cow::Owned(other.to_string()),
    }
}

/// What counts as true: everything but false, 0, and what is empty or isn't there.
fn truth(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
    }
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// Calls a function.
fn apply(name: &str, arguments: &[Cow<'_, Value>]) -> Result<Value, String> {
    let arguments: Vec<&Value> = arguments.iter().map(Cow::as_ref).collect();
    let needs = |count: usize, what: &str| Err(format!("'{name}' needs {count} {what}"));
    match (name, arguments.as_slice()) {
        ("json", [value]) => Ok(Value::String(value.to_string())),
        ("len", [value]) => length(value),
        ("upper", [value]) => Ok(text_of(name, value)?.to_uppercase().into()),
        ("lower", [value]) => Ok(text_of(name, value)?.to_lowercase().into()),
        ("title", [value]) => Ok(title(text_of(name, value)?).into()),
        ("not", [value]) => Ok((!truth(value)).into()),
        ("json" | "len" | "upper" | "lower" | "title" | "not", _) => needs(1, "argument"),
        ("join", [list, separator]) => join(list, text_of(name, separator)?),
        ("split", [text, separator]) => {
            let parts = text_of(name, text)?.split(text_of(name, separator)?);
            Ok(parts.map(Value::from).collect())
        }
        ("truncate", [text, length]) => {
            let length = length.as_u64().ok_or("'truncate' needs a number")?;
            let length = usize::try_from(length).unwrap_or(usize::MAX);
            let text: String = text_of(name, text)?.chars().take(length).collect();
            Ok(text.into())
        }
        ("ne", [a, b]) => Ok((!equal(a, b)).into()),
        ("lt" | "le" | "gt" | "ge", [a, b]) => {
            let order = order(a, b)?;
            Ok(match name {
                "lt" => order == Ordering::Less,
                "le" => order != Ordering::Greater,
                "gt" => order == Ordering::Greater,
                _ => order != Ordering::Less,
            }
            .into())
        }
        ("join" | "split" | "truncate" | "ne" | "lt" | "le" | "gt" | "ge", _) => {
            needs(2, "arguments")
        }
        ("eq", [first, others @ ..]) if !others.is_empty() => {
            Ok(others.iter().any(|other| equal(first, other)).into())
        }
        ("eq", _) => needs(2, "arguments"),
        ("index", [value, keys @ ..]) => index(value, keys),
        ("and" | "or", [.., last]) => {
            let decides = |value: &&&Value| truth(value) == (name == "or");
            Ok(arguments
                .iter()
                .find(decides)
                .map_or_else(|| (*last).clone(), |value| (*value).clone()))
        }
        ("index" | "and" | "or", []) => needs(1, "argument"),
        _ => Err(format!(
            "unknown function '{name}': there are json, len, join, split, index, upper, lower, \
             title, truncate, eq, ne, lt, le, gt, ge, and, or, not"
        )),
    }
}

fn text_of<'v>(function: &str, value: &'v Value) -> Result<&'v str, String> {
    match value {
        Value::String(text) => Ok(text),
        Value::Null => Ok(""),
        other => Err(format!("'{function}' needs a text, not {}", kind_of(other))),
    }
}

fn title(text: &str) -> String {
    let mut characters = text.chars();
    let first = characters.next().into_iter().flat_map(char::to_uppercase);
    first.chain(characters.as_str().chars()).collect()
}

fn length(value: &Value) -> Result<Value, String> {
    Ok(match value {
        Value::Null => 0,
        Value::String(text) => text.chars().count(),
        Value::Array(list) => list.len(),
        Value::Object(fields) => fields.len(),
        other => return Err(format!("{} has no length", kind_of(other))),
    }
    .into())
}

fn join(list: &Value, separator: &str) -> Result<Value, String> {
    match list {
        Value::Array(list) => {
            let parts: Vec<Cow<'_, str>> = list.iter().map(shown).collect();
            Ok(parts.join(separator).into())
        }
        Value::Null => Ok("".into()),
        other => Err(format!("'join' needs a list, not {}", kind_of(other))),
    }
}

fn index(value: &Value, keys: &[&Value]) -> Result<Value, String> {
    let mut value = value;
    for key in keys {
        value = match (value, key) {
            (Value::Null, _) => value,
            (Value::Array(list), Value::Number(number)) => {
                let place = number.as_u64().and_then(|n| usize::try_from(n).ok());
                place.and_then(|place| list.get(place)).ok_or_else(|| {
                    let count = list.len();
                    format!("there are {count} elements, none with the number {number}")
                })?
            }
            (Value::Object(_), Value::String(name)) => {
                lookup(value, name).ok_or_else(|| no_field(name, names_of(value)))?
            }
            (value, key) => {
                let (value, key) = (kind_of(value), kind_of(key));
                return Err(format!("{value} has no element that {key} names"));
            }
        };
    }
    Ok(value.clone())
}

fn equal(a: &Value, b: &Value) -> bool {
    match (a.as_f64(), b.as_f64()) {
        (Some(a), Some(b)) => a == b,
        _ => a == b,
    }
}

fn order(a: &Value, b: &Value) -> Result<Ordering, String> {
    let order = match (a, b) {
        (Value::Number(a), Value::Number(b)) => a
            .as_f64()
            .zip(b.as_f64())
            .and_then(|(a, b)| a.partial_cmp(&b)),
        (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
        _ => None,
    };
    order.ok_or_else(|| format!("{} and {} can't be compared", kind_of(a), kind_of(b)))
}
