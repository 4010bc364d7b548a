//! From the text to stages and instructions.

mod arguments;
mod cursor;
mod directives;
#[cfg(test)]
mod error_tests;
mod files;
mod flags;
mod instructions;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};

use crate::MAX_SIZE;
use crate::ast::{Dockerfile, Spanned, Stage, Warning};
use crate::error::{ParseError, ParseErrorKind, Place, Problem, closest};
use crate::heredoc::{Heredoc, markers};
use crate::source::{LineRange, Logical, Source, is_space};
use cursor::{Context, Fault};

/// Every keyword.
const KEYWORDS: [&str; 18] = [
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

/// Parses a Dockerfile. Keywords are in upper case.
///
/// # Errors
/// The first thing that is wrong with it.
pub fn parse(text: &str) -> Result<Dockerfile, ParseError> {
    let whole = |kind| ParseError { kind, place: None };
    if text.len() > MAX_SIZE {
        return Err(whole(ParseErrorKind::TooLarge(text.len())));
    }
    if text.contains('\0') {
        return Err(whole(ParseErrorKind::Nul));
    }
    let mut source = Source::new(text.strip_prefix('\u{feff}').unwrap_or(text));
    let directives = directives::read(&mut source)?;
    let escape = directives.escape;
    let mut dockerfile = Dockerfile {
        directives,
        global_args: Vec::new(),
        stages: Vec::new(),
        warnings: Vec::new(),
    };
    let mut names = Names::new();
    while let Some(line) = source.next_logical(escape) {
        let step = Step::read(&line, &mut source, escape)?;
        step.add_to(&mut dockerfile, &mut names, &source)?;
    }
    if !dockerfile.stages.is_empty() {
        return Ok(dockerfile);
    }
    Err(whole(match dockerfile.global_args.is_empty() {
        true => ParseErrorKind::Empty,
        false => ParseErrorKind::NoFrom,
    }))
}

/// The names of the stages, and the lines that they begin in.
type Names = BTreeMap<String, usize>;

/// An instruction's logical line, with its heredocs read.
struct Step<'a> {
    line: &'a Logical,
    keyword: &'static str,
    context: Context<'a>,
    span: LineRange,
}

fn error_at(line: &Logical, source: &Source<'_>, at: usize, kind: ParseErrorKind) -> ParseError {
    let position = line.position(source, at);
    ParseError {
        kind,
        place: Some(Place {
            position,
            line: source.line(position.line).to_owned(),
        }),
    }
}

fn malformed(line: &Logical, source: &Source<'_>, fault: Fault) -> ParseError {
    let kind = ParseErrorKind::Malformed {
        line: line.text.clone(),
        problem: Box::new(fault.problem),
    };
    error_at(line, source, fault.at, kind)
}

fn keyword(line: &Logical, source: &Source<'_>) -> Result<(&'static str, usize), ParseError> {
    let end = line.text.find(is_space).unwrap_or(line.text.len());
    let word = line.slice(0..end);
    if let Some(keyword) = KEYWORDS.iter().find(|keyword| **keyword == word) {
        return Ok((keyword, end));
    }
    let kind = ParseErrorKind::InvalidInstruction {
        line: line.text.clone(),
        suggestion: closest(&word.to_ascii_uppercase(), KEYWORDS),
    };
    Err(error_at(line, source, 0, kind))
}

impl<'a> Step<'a> {
    fn read(line: &'a Logical, source: &mut Source<'_>, escape: char) -> Result<Self, ParseError> {
        let (keyword, end) = keyword(line, source)?;
        let mut context = Context {
            instruction: keyword,
            text: &line.text,
            at: end,
            escape,
            heredocs: VecDeque::new(),
        };
        context.skip_space();
        if matches!(keyword, "RUN" | "COPY" | "ADD") && context.json().is_none() {
            let begin = context.at;
            for mut marker in markers(context.rest(), escape, keyword == "RUN") {
                marker.range = marker.range.start + begin..marker.range.end + begin;
                let Some(heredoc) = Heredoc::read(&marker, source) else {
                    let problem = Problem::UnterminatedHeredoc(marker.name);
                    let at = marker.range.start;
                    return Err(malformed(line, source, Fault { at, problem }));
                };
                context.heredocs.push_back((marker, heredoc));
            }
        }
        let span = LineRange {
            first: line.first,
            last: source.read(),
        };
        Ok(Self {
            line,
            keyword,
            context,
            span,
        })
    }

    fn spanned<T>(&self, source: &Source<'_>, kind: T) -> Spanned<T> {
        Spanned {
            span: self.span,
            source: source.text(self.span),
            text: self.line.text.clone(),
            kind,
        }
    }

    fn add_to(
        mut self,
        dockerfile: &mut Dockerfile,
        names: &mut Names,
        source: &Source<'_>,
    ) -> Result<(), ParseError> {
        let malformed = |fault| malformed(self.line, source, fault);
        if self.keyword == "FROM" {
            let (from, name, at) = self.context.from().map_err(malformed)?;
            if let Some(name) = name.clone()
                && let Some(line) = names.insert(name.clone(), self.span.first)
            {
                let problem = Problem::DuplicateStage { name, line };
                return Err(malformed(Fault { at, problem }));
            }
            dockerfile.stages.push(Stage {
                name,
                from: self.spanned(source, from),
                instructions: Vec::new(),
            });
            return Ok(());
        }
        let Some(stage) = dockerfile.stages.last_mut() else {
            if self.keyword != "ARG" {
                let kind = ParseErrorKind::BeforeFrom {
                    line: self.line.text.clone(),
                };
                return Err(error_at(self.line, source, 0, kind));
            }
            let arguments = self.context.args().map_err(malformed)?;
            dockerfile.global_args.push(self.spanned(source, arguments));
            return Ok(());
        };
        let kind = self.context.kind().map_err(malformed)?;
        let warning = instructions::warning(&kind, self.keyword);
        stage.instructions.push(self.spanned(source, kind));
        dockerfile.warnings.extend(warning.map(|text| Warning {
            line: self.span.first,
            text,
        }));
        Ok(())
    }
}
