//! What listings and `inspect` print: tables, JSON, or a template filled in.

use serde::Serialize;
use serde_json::Value;

use crate::error::CommandError;
use crate::table::{Cell, Column};
use crate::template::Template;
use crate::ui::Ui;

/// How something is printed.
#[derive(Debug, Clone, PartialEq)]
pub enum Format {
    /// Columns.
    Table,
    /// The API's objects.
    Json,
    /// A template, filled in for each object.
    Template(Template),
}

impl Format {
    /// `table`, `json` or a template.
    ///
    /// # Errors
    /// When it is none of them.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text {
            "table" => Ok(Self::Table),
            // What other tools print with titles.
            _ if text.starts_with("table ") => Err(
                "tables have columns of their own: leave 'table' out, and put \\t between fields"
                    .to_owned(),
            ),
            _ => Self::of_object(text).map_err(|error| match text.contains("{{") {
                true => error,
                false => format!("use table, {}", error.trim_start_matches("use ")),
            }),
        }
    }

    /// `json` or a template.
    ///
    /// # Errors
    /// When it is neither.
    pub fn of_object(text: &str) -> Result<Self, String> {
        match text {
            "json" => Ok(Self::Json),
            _ if text.contains("{{") => match Template::parse(text) {
                Ok(template) => Ok(Self::Template(template)),
                Err(error) => Err(error.to_string()),
            },
            _ => Err("use json, or a template such as '{{.name}}'".to_owned()),
        }
    }

    /// Prints a listing; `row` makes the table's lines.
    ///
    /// # Errors
    /// When a template can't be filled in, or the output can't be written.
    pub fn list<T: Serialize>(
        &self,
        ui: Ui,
        objects: &[T],
        columns: &[Column],
        row: impl FnMut(&T) -> Vec<Cell>,
    ) -> Result<(), CommandError> {
        match self {
            Self::Table => ui.table(columns, objects.iter().map(row).collect()),
            Self::Json => ui.json(&objects),
            Self::Template(template) => {
                let mut text = String::new();
                for object in objects {
                    text.push_str(&filled(template, object, None)?);
                    text.push('\n');
                }
                ui.raw(text.as_bytes())
            }
        }
    }

    /// Prints one object of `inspect`; fields of the part `main` of it need not be named with that.
    ///
    /// # Errors
    /// When a template can't be filled in, or the output can't be written.
    pub fn object(
        &self,
        ui: Ui,
        object: &impl Serialize,
        main: Option<&str>,
    ) -> Result<(), CommandError> {
        match self {
            Self::Template(template) => {
                let text = filled(template, object, main)?;
                ui.raw(format!("{text}\n").as_bytes())
            }
            Self::Table | Self::Json => ui.json(object),
        }
    }

    /// An object in one line: its template filled in, or else JSON.
    ///
    /// # Errors
    /// When a template can't be filled in.
    pub fn line(&self, object: &impl Serialize) -> Result<String, CommandError> {
        match self {
            Self::Template(template) => filled(template, object, None),
            Self::Table | Self::Json => Ok(value(object)?.to_string()),
        }
    }
}

fn filled(
    template: &Template,
    object: &impl Serialize,
    main: Option<&str>,
) -> Result<String, CommandError> {
    template
        .render(&value(object)?, main)
        .map_err(|error| CommandError::failure(format!("--format: {error}")))
}

fn value(object: &impl Serialize) -> Result<Value, CommandError> {
    serde_json::to_value(object)
        .map_err(|error| CommandError::failure(format!("can't print this as JSON: {error}")))
}

/// Options of `inspect`.
#[derive(Debug, Clone, clap::Args)]
pub struct InspectOptions {
    /// What to print: json, or a template such as '{{.name}}'
    #[arg(long, default_value = "json", value_name = "FORMAT", value_parser = Format::of_object)]
    pub format: Format,
}
