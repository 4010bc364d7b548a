//! Templates for output, such as `{{.name}} {{join .cmd " "}}`: a small part of Go's text/template,
//! which people know from other container tools.
//!
//! - `{{.a.b}}` prints a field; `.` is the object itself, `$` the outermost one.
//! - `{{if X}}…{{else if Y}}…{{else}}…{{end}}`, `{{range X}}…{{else}}…{{end}}`, `{{with X}}…{{end}}`.
//! - `{{FUNCTION X…}}` and `{{X | FUNCTION}}`: see [`eval`] for the functions.
//! - `{{/* a comment */}}`; a `-` inside the braces takes the white space on that side away.
//! - `\t` and `\n` outside of the braces are a tab and a line's end.
//!
//! Names are compared without regard to case and underscores if there is none exactly like it, so
//! that `.ImageName` finds `image_name`.

mod eval;
mod parse;

use serde_json::Value;

/// A template that is known to be well-formed.
#[derive(Debug, Clone, PartialEq)]
pub struct Template(Vec<Node>);

/// Why a template is wrong, or can't be filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TemplateError {
    /// Number of the character, from 1.
    pub column: usize,
    /// What is wrong there.
    pub message: String,
}

impl std::fmt::Display for TemplateError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} (at character {} of the template)",
            self.message, self.column
        )
    }
}

impl std::error::Error for TemplateError {}

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// When it is malformed.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        parse::parse(text).map(Self)
    }

    /// Fills the template in. Fields that the object doesn't have are looked for in its field
    /// `main`, so that `{{.name}}` is the container's name in what `inspect` shows.
    ///
    /// # Errors
    /// When there is no such field, or a function can't use what it got.
    pub fn render(&self, object: &Value, main: Option<&str>) -> Result<String, TemplateError> {
        let main = main.and_then(|main| object.get(main));
        eval::render(&self.0, object, main)
    }
}

/// A piece of a template.
#[derive(Debug, Clone, PartialEq)]
enum Node {
    Text(String),
    Print(Pipeline),
    Block {
        kind: Block,
        over: Pipeline,
        body: Vec<Node>,
        otherwise: Vec<Node>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Block {
    If,
    With,
    Range,
}

/// Calls, each of which gets what the one before returned as its last argument.
#[derive(Debug, Clone, PartialEq)]
struct Pipeline(Vec<Call>);

/// A function with its arguments, or a value alone.
#[derive(Debug, Clone, PartialEq)]
struct Call {
    column: usize,
    function: Option<String>,
    operands: Vec<Operand>,
}

#[derive(Debug, Clone, PartialEq)]
enum Operand {
    /// A field of the object, or of the outermost one.
    Field {
        column: usize,
        outermost: bool,
        path: Vec<String>,
    },
    Literal(Value),
    Nested(Pipeline),
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rendered(template: &str) -> Result<String, TemplateError> {
        let object = json!({
            "container": {"name": "web", "exit_code": null, "image_id": "0123", "running": true,
                "cmd": ["sh", "-c", "true"], "limits": {"memory": 1024, "cpus": 1.5}},
            "mounts": [{"source": "v", "read_only": true}, {"source": "/h", "read_only": false}],
            "none": [],
        });
        Template::parse(template)?.render(&object, Some("container"))
    }

    #[test]
    fn fields() {
        for (template, expected) in [
            ("", ""),
            ("plain", "plain"),
            ("{{.container.name}}", "web"),
            ("{{ .name }}!", "web!"),
            ("{{.Name}} {{.ImageID}} {{.Limits.Memory}}", "web 0123 1024"),
            ("{{.Container.Name}} {{.Container.image_id}}", "web 0123"),
            ("{{.limits.cpus}}", "1.5"),
            ("[{{.exit_code}}]", "[]"),
            ("[{{.exit_code.what.ever}}]", "[]"),
            ("{{.limits}}", r#"{"cpus":1.5,"memory":1024}"#),
            (r"a\tb\n\\", "a\tb\n\\"),
            ("a  {{- .name -}}  b", "awebb"),
            ("a  {{- .name -}} \n b", "awebb"),
            ("a{{/* nothing */}}b", "ab"),
        ] {
            assert_eq!(rendered(template).as_deref(), Ok(expected), "{template}");
        }
    }

    #[test]
    fn functions() {
        for (template, expected) in [
            (r#"{{join .cmd " "}}"#, "sh -c true"),
            (r#"{{json .cmd}}"#, r#"["sh","-c","true"]"#),
            ("{{.cmd | json}}", r#"["sh","-c","true"]"#),
            ("{{len .cmd}} {{len .name}} {{len .limits}}", "3 3 2"),
            ("{{upper .name}} {{.name | upper | lower}}", "WEB web"),
            ("{{index .cmd 1}} {{index .mounts 0 \"source\"}}", "-c v"),
            (r#"{{(index .mounts 1).source}}"#, "/h"),
            (r#"{{join (split "a,b" ",") "+"}}"#, "a+b"),
            (
                "{{eq .name \"x\" \"web\"}} {{ne .limits.memory 1024}}",
                "true false",
            ),
            (
                "{{gt .limits.memory 1000.5}} {{le .name \"w\"}}",
                "true false",
            ),
            (
                "{{and .running .exit_code}}|{{or .exit_code .name}}",
                "|web",
            ),
            ("{{not .running}}", "false"),
            ("{{truncate .name 2}}{{title .name}}", "weWeb"),
            ("{{`raw`}} {{\"a\\\"b\\n\"}}{{-3}}", "raw a\"b\n-3"),
        ] {
            assert_eq!(rendered(template).as_deref(), Ok(expected), "{template}");
        }
    }

    #[test]
    fn blocks() {
        for (template, expected) in [
            (
                "{{range .mounts}}{{.source}}{{if .read_only}}:ro{{end}} {{$.name}};{{end}}",
                "v:ro web;/h web;",
            ),
            ("{{range .none}}x{{else}}nothing{{end}}", "nothing"),
            ("{{range .limits}}{{.}} {{end}}", "1.5 1024 "),
            (
                "{{if .exit_code}}a{{else if .running}}b{{else}}c{{end}}",
                "b",
            ),
            (
                "{{if eq .name \"x\"}}a{{else if .none}}b{{else}}c{{end}}",
                "c",
            ),
            ("{{with .limits}}{{.memory}}{{else}}none{{end}}", "1024"),
            ("{{with .exit_code}}{{.}}{{else}}none{{end}}", "none"),
        ] {
            assert_eq!(rendered(template).as_deref(), Ok(expected), "{template}");
        }
    }

    #[test]
    fn errors_say_where() {
        for (template, column, message) in [
            ("ä{{.name", 2, "'{{' without '}}'"),
            (
                "x{{.nmae}}",
                4,
                "there is no field 'nmae': did you mean 'name'? There are cmd, container, exit_code, \
                 image_id, limits, mounts, name, none, running",
            ),
            (
                "{{.limits.pids}}",
                3,
                "there is no field 'pids': there are cpus, memory",
            ),
            (
                "{{index .limits \"x\"}}",
                3,
                "there is no field 'x': there are cpus, memory",
            ),
            ("{{.name.first}}", 3, "'name' has no fields: it is a text"),
            ("{{nonsense .name}}", 3, "unknown function 'nonsense'"),
            ("{{if .name}}x", 3, "'if' without '{{end}}'"),
            ("x{{end}}", 4, "'end' without a block"),
            ("{{else}}", 3, "'else' without a block"),
            (
                "{{range .cmd}}{{else}}{{else}}{{end}}",
                25,
                "a second 'else'",
            ),
            ("{{}}", 3, "nothing between '{{' and '}}'"),
            ("{{.a | }}", 8, "expected a value"),
            ("{{(.name}}", 9, "expected ')'"),
            ("{{\"abc}}", 3, "the text has no end"),
            ("{{.name .name}}", 3, "only a function takes arguments"),
            (
                "{{range .name}}{{end}}",
                3,
                "'range' needs a list, not a text",
            ),
            ("{{len}}", 3, "'len' needs 1 argument"),
            (
                "{{index .cmd 7}}",
                3,
                "there are 3 elements, none with the number 7",
            ),
            ("{{upper .cmd}}", 3, "'upper' needs a text, not a list"),
            ("{{.name %}}", 9, "unexpected '%'"),
            ("{{$x}}", 3, "variables can't be used"),
        ] {
            let error = rendered(template).unwrap_err();
            assert!(error.message.starts_with(message), "{template}: {error}");
            assert_eq!(error.column, column, "{template}: {error}");
        }
    }
}
