//! Parser directives (Dockerfile reference, "parser directives").

use crate::ast::Directives;
use crate::error::{ParseError, ParseErrorKind, Place, Problem};
use crate::source::{Position, Source, is_space};

/// Reads the directives at the top of the file. The first line that is none ends them.
pub(super) fn read(source: &mut Source<'_>) -> Result<Directives, ParseError> {
    let mut escape = None;
    let mut syntax = None;
    let mut check = None;
    while let Some(line) = source.peek_line()
        && let Some((key, value)) = directive(line)
    {
        let twice = match key.as_str() {
            "syntax" => syntax.replace(value.to_owned()).is_some(),
            "check" => check.replace(value.to_owned()).is_some(),
            "escape" => {
                let character = match value {
                    "\\" => '\\',
                    "`" => '`',
                    _ => return Err(error(source, line, "escape is \\ or `")),
                };
                escape.replace(character).is_some()
            }
            _ => break,
        };
        if twice {
            return Err(error(source, line, "it is given twice"));
        }
        source.next_line();
    }
    Ok(Directives {
        syntax,
        escape: escape.unwrap_or('\\'),
        check,
    })
}

/// The name in lower case and the value of `# name=value`.
fn directive(line: &str) -> Option<(String, &str)> {
    let (key, value) = line.strip_prefix('#')?.split_once('=')?;
    let key = key.trim_matches(is_space);
    let value = value.trim_matches(is_space);
    let named = key.starts_with(|c: char| c.is_ascii_alphabetic())
        && key.chars().all(|c| c.is_ascii_alphanumeric());
    (named && !value.is_empty()).then(|| (key.to_ascii_lowercase(), value))
}

fn error(source: &Source<'_>, line: &str, why: &'static str) -> ParseError {
    ParseError {
        kind: ParseErrorKind::Malformed {
            line: line.to_owned(),
            problem: Box::new(Problem::Directive(why)),
        },
        place: Some(Place {
            position: Position {
                line: source.read() + 1,
                column: 1,
            },
            line: line.to_owned(),
        }),
    }
}
