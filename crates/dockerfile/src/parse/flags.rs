//! Flags between an instruction's keyword and its arguments.

use super::cursor::{Context, Fault, RawWord};
use crate::error::{Problem, closest};
use crate::word::Word;

/// A flag that an instruction takes.
pub(super) struct Known {
    pub(super) name: &'static str,
    /// What its value is, for errors; `None` for flags that need none.
    pub(super) value: Option<&'static str>,
    pub(super) repeatable: bool,
}

/// A flag with a value.
pub(super) const fn with_value(name: &'static str, value: &'static str) -> Known {
    Known {
        name,
        value: Some(value),
        repeatable: false,
    }
}

/// A flag with a value that may be given several times.
pub(super) const fn repeatable(name: &'static str, value: &'static str) -> Known {
    Known {
        name,
        value: Some(value),
        repeatable: true,
    }
}

/// A flag that is true or false.
pub(super) const fn boolean(name: &'static str) -> Known {
    Known {
        name,
        value: None,
        repeatable: false,
    }
}

/// The flags of one instruction.
#[derive(Default)]
pub(super) struct Flags<'a>(Vec<(&'static str, RawWord<'a>, Option<RawWord<'a>>)>);

impl<'a> Context<'a> {
    /// Takes the flags; the first word that doesn't begin with `--`, or `--` alone, ends them.
    pub(super) fn flags(&mut self, known: &[Known]) -> Result<Flags<'a>, Fault> {
        let mut flags = Flags::default();
        loop {
            self.skip_space();
            if !self.rest().starts_with("--") {
                return Ok(flags);
            }
            let Some(word) = self.next_word() else {
                return Ok(flags);
            };
            if word.text == "--" {
                self.skip_space();
                return Ok(flags);
            }
            let (name, value) = match word.split_once('=') {
                Some((name, value)) => (name.from(2), Some(value)),
                None => (word.from(2), None),
            };
            let Some(flag) = known.iter().find(|flag| flag.name == name.text) else {
                return Err(name.fault(Problem::UnknownFlag {
                    instruction: self.instruction,
                    flag: name.text.to_owned(),
                    suggestion: closest(name.text, known.iter().map(|flag| flag.name))
                        .map(str::to_owned),
                }));
            };
            if !flag.repeatable && flags.value(flag.name).is_some() {
                return Err(name.fault(Problem::FlagTwice(name.text.to_owned())));
            }
            if let (Some(expected), None) = (flag.value, value) {
                return Err(name.fault(Problem::FlagWithoutValue {
                    flag: name.text.to_owned(),
                    expected,
                }));
            }
            flags.0.push((flag.name, name, value));
        }
    }
}

impl<'a> Flags<'a> {
    fn value(&self, name: &str) -> Option<(RawWord<'a>, Option<RawWord<'a>>)> {
        let found = self.0.iter().find(|(flag, ..)| *flag == name);
        found.map(|(_, name, value)| (*name, *value))
    }

    /// The value as written.
    pub(super) fn raw(&self, name: &str) -> Option<RawWord<'a>> {
        self.value(name).and_then(|(_, value)| value)
    }

    /// All values as written.
    pub(super) fn all(&self, name: &'static str) -> impl Iterator<Item = RawWord<'a>> + '_ {
        self.0
            .iter()
            .filter(move |(flag, ..)| *flag == name)
            .filter_map(|(_, _, value)| *value)
    }

    /// The value for expansion.
    pub(super) fn word(&self, context: &Context<'_>, name: &str) -> Result<Option<Word>, Fault> {
        self.raw(name).map(|raw| context.word(raw)).transpose()
    }

    /// The value of a flag that is true or false; a bare one is true.
    pub(super) fn boolean(&self, name: &'static str) -> Result<Option<bool>, Fault> {
        match self.value(name) {
            None => Ok(None),
            Some((_, None)) => Ok(Some(true)),
            Some((_, Some(value))) => match value.text {
                "true" | "1" => Ok(Some(true)),
                "false" | "0" => Ok(Some(false)),
                _ => Err(bad_value(name, value, "it is true or false")),
            },
        }
    }

    /// The value as something that parses.
    pub(super) fn parsed<T: std::str::FromStr>(
        &self,
        name: &'static str,
        expected: &'static str,
    ) -> Result<Option<T>, Fault> {
        let parse = |raw: RawWord<'a>| {
            let value = raw.text.parse();
            value.map_err(|_| bad_value(name, raw, expected))
        };
        self.raw(name).map(parse).transpose()
    }

    /// Refuses a flag that Docker has.
    pub(super) fn refuse(
        &self,
        name: &str,
        what: &'static str,
        why: &'static str,
    ) -> Result<(), Fault> {
        match self.value(name) {
            None => Ok(()),
            Some((flag, _)) => Err(flag.fault(Problem::Refused { what, why })),
        }
    }
}

/// The error about a flag's value.
pub(super) fn bad_value(flag: &str, value: RawWord<'_>, expected: &'static str) -> Fault {
    value.fault(Problem::FlagValue {
        flag: flag.to_owned(),
        value: value.text.to_owned(),
        expected,
    })
}
