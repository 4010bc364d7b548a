//! Pairs, variables' names and FROM.

use super::cursor::{Context, Fault, RawWord};
use super::flags::with_value;
use crate::ast::{Arg, From, Pair};
use crate::error::Problem;
use crate::reference::ImageReference;

fn is_variable_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c))
}

impl<'a> Context<'a> {
    /// `NAME[=default]…` of ARG.
    pub(super) fn args(&mut self) -> Result<Vec<Arg>, Fault> {
        let words = self.words();
        if words.is_empty() {
            return Err(self.missing("at least one NAME or NAME=DEFAULT"));
        }
        words.into_iter().map(|word| self.arg(word)).collect()
    }

    fn arg(&self, word: RawWord<'a>) -> Result<Arg, Fault> {
        let (name, default) = match word.split_once('=') {
            Some((name, default)) => (name, Some(self.word(default)?)),
            None => (word, None),
        };
        match is_variable_name(name.text) {
            true => Ok(Arg {
                name: name.text.to_owned(),
                default,
            }),
            false => Err(name.fault(Problem::VariableName(name.text.to_owned()))),
        }
    }

    /// `NAME=VALUE…`, or `NAME VALUE` with everything behind the name as value.
    pub(super) fn pairs(&mut self) -> Result<Vec<Pair>, Fault> {
        let begin = self.at;
        let Some(first) = self.next_word() else {
            return Err(self.missing("at least one NAME=VALUE"));
        };
        if !first.text.contains('=') {
            let value = self.all("a value behind the name: NAME=VALUE")?;
            return Ok(vec![self.pair(first, value)?]);
        }
        self.at = begin;
        self.words()
            .into_iter()
            .map(|word| match word.split_once('=') {
                Some((name, value)) => self.pair(name, value),
                None => Err(word.fault(Problem::NotAPair(word.text.to_owned()))),
            })
            .collect()
    }

    fn pair(&self, name: RawWord<'_>, value: RawWord<'_>) -> Result<Pair, Fault> {
        let pair = Pair {
            name: self.word(name)?,
            value: self.word(value)?,
        };
        match pair.name.constant().is_some_and(|name| name.is_empty()) {
            true => Err(name.fault(Problem::NotAPair(format!("={}", value.text)))),
            false => Ok(pair),
        }
    }

    /// FROM: what it says, the stage's name, and where the name stands.
    pub(super) fn from(&mut self) -> Result<(From, Option<String>, usize), Fault> {
        let flags = self.flags(&[with_value("platform", "os[/architecture[/variant]]")])?;
        let platform = flags.word(self, "platform")?;
        let Some(raw) = self.next_word() else {
            return Err(self.missing("an image or a stage"));
        };
        let image = self.word(raw)?;
        let (name, at) = self.stage_name()?;
        if let Some(text) = image.constant() {
            // Stages' names are references, too.
            text.parse::<ImageReference>()
                .map_err(|error| raw.fault(error.into()))?;
        }
        Ok((From { platform, image }, name, at))
    }

    fn stage_name(&mut self) -> Result<(Option<String>, usize), Fault> {
        let Some(word) = self.next_word() else {
            return Ok((None, self.at));
        };
        if !word.text.eq_ignore_ascii_case("AS") {
            return Err(word.fault(Problem::Unexpected(word.text.to_owned())));
        }
        let Some(name) = self.next_word() else {
            return Err(self.missing("a name behind AS"));
        };
        if let Some(more) = self.next_word() {
            return Err(more.fault(Problem::Unexpected(more.text.to_owned())));
        }
        let lower = name.text.to_ascii_lowercase();
        let valid = lower.starts_with(|c: char| c.is_ascii_lowercase())
            && is_variable_name(&lower)
            && lower != "scratch";
        match valid {
            true => Ok((Some(lower), name.at)),
            false => Err(name.fault(Problem::StageName(name.text.to_owned()))),
        }
    }
}
