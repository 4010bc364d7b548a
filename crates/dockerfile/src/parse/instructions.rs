//! The arguments of the other instructions.

use super::cursor::{Context, Fault, RawWord};
use super::flags::{Flags, bad_value, repeatable, with_value};
use crate::ast::{Command, HealthCheck, Kind, Pair, Run, RunCommand, RunNetwork};
use crate::error::Problem;
use crate::mount::MountFlag;
use crate::word::Word;

const TIME: &str = "a time, as in 30s or 1m30s";
const RUN: &str = "a command";

impl<'a> Context<'a> {
    /// Any instruction but FROM.
    pub(super) fn kind(&mut self) -> Result<Kind, Fault> {
        Ok(match self.instruction {
            "RUN" => Kind::Run(self.run()?),
            "CMD" => Kind::Cmd(self.command("a command")?),
            "ENTRYPOINT" => Kind::Entrypoint(self.command("a command")?),
            "ENV" => Kind::Env(self.pairs()?),
            "LABEL" => Kind::Label(self.pairs()?),
            "ARG" => Kind::Arg(self.args()?),
            "COPY" => Kind::Copy(self.copy()?),
            "ADD" => Kind::Add(self.add()?),
            "USER" => Kind::User(self.rest_word("a user or user:group")?),
            "WORKDIR" => Kind::Workdir(self.rest_word("a path")?),
            "STOPSIGNAL" => Kind::StopSignal(self.rest_word("a signal")?),
            "EXPOSE" => Kind::Expose(self.list("at least one port")?),
            "VOLUME" => Kind::Volume(self.list_or_json("at least one path")?),
            "SHELL" => Kind::Shell(self.shell()?),
            "HEALTHCHECK" => Kind::HealthCheck(self.health_check()?),
            "MAINTAINER" => Kind::Label(vec![Pair {
                name: Word::literal("maintainer"),
                value: Word::literal(self.all("a name")?.text),
            }]),
            _ => {
                return Err(Fault {
                    at: 0,
                    problem: Problem::Refused {
                        what: "ONBUILD",
                        why: "write its instruction into the Dockerfiles that use the image",
                    },
                });
            }
        })
    }

    fn rest_word(&mut self, what: &'static str) -> Result<Word, Fault> {
        let raw = self.all(what)?;
        self.word(raw)
    }

    fn list(&mut self, what: &'static str) -> Result<Vec<Word>, Fault> {
        let words = self.words();
        match words.is_empty() {
            true => Err(self.missing(what)),
            false => words.into_iter().map(|raw| self.word(raw)).collect(),
        }
    }

    fn list_or_json(&mut self, what: &'static str) -> Result<Vec<Word>, Fault> {
        match self.json() {
            None => self.list(what),
            Some(list) if list.is_empty() => Err(self.missing(what)),
            Some(list) => list.iter().map(|text| self.json_word(text)).collect(),
        }
    }

    fn shell(&mut self) -> Result<Vec<String>, Fault> {
        let list = self.json().filter(|list| !list.is_empty());
        list.ok_or(Fault {
            at: self.at,
            problem: Problem::ShellForm,
        })
    }

    fn run(&mut self) -> Result<Run, Fault> {
        let flags = self.flags(&[
            repeatable("mount", "type=TYPE,target=PATH"),
            with_value("network", "default, none or host"),
            with_value("security", "sandbox or insecure"),
        ])?;
        let why = "every RUN is confined like a container";
        flags.refuse("security", "flag '--security'", why)?;
        let mounts: Result<Vec<_>, Fault> = flags.all("mount").map(|raw| self.mount(raw)).collect();
        Ok(Run {
            mounts: mounts?,
            network: network(&flags)?,
            command: self.run_command()?,
        })
    }

    fn run_command(&mut self) -> Result<RunCommand, Fault> {
        let begin = self.at;
        let command = self.nonempty_command(RUN)?;
        let Command::Shell(line) = command else {
            return Ok(RunCommand::Plain(command));
        };
        let mut heredocs = std::mem::take(&mut self.heredocs);
        let whole = begin..begin + line.len();
        match heredocs.pop_back() {
            None => Ok(RunCommand::Plain(Command::Shell(line))),
            Some((marker, heredoc)) if marker.range == whole && !marker.numbered => {
                Ok(RunCommand::Script(heredoc))
            }
            Some(last) => {
                heredocs.push_back(last);
                let heredocs = heredocs.into_iter().map(|(_, heredoc)| heredoc).collect();
                Ok(RunCommand::WithHeredocs { line, heredocs })
            }
        }
    }

    /// The value of `--mount`: `key=value` or `key`, separated by commas outside of quotes.
    fn mount(&self, raw: RawWord<'_>) -> Result<MountFlag, Fault> {
        let mut fields = Vec::new();
        for field in split_fields(raw) {
            fields.push(match field.split_once('=') {
                Some((key, value)) => (key.text.to_owned(), Some(self.word(value)?)),
                None => (field.text.to_owned(), None),
            });
        }
        MountFlag::new(fields).map_err(|error| raw.fault(error.into()))
    }

    fn health_check(&mut self) -> Result<HealthCheck, Fault> {
        let flags = self.flags(&[
            with_value("interval", TIME),
            with_value("timeout", TIME),
            with_value("start-period", TIME),
            with_value("start-interval", TIME),
            with_value("retries", "a number"),
        ])?;
        let what = "CMD and a command, or NONE";
        match self.next_word() {
            Some(word) if word.text.eq_ignore_ascii_case("CMD") => {}
            Some(word) if word.text.eq_ignore_ascii_case("NONE") => {
                return match self.next_word() {
                    None => Ok(HealthCheck::None),
                    Some(more) => Err(more.fault(Problem::Unexpected(more.text.to_owned()))),
                };
            }
            Some(word) => return Err(word.fault(Problem::Unexpected(word.text.to_owned()))),
            None => return Err(self.missing(what)),
        }
        Ok(HealthCheck::Check {
            interval: flags.parsed("interval", TIME)?,
            timeout: flags.parsed("timeout", TIME)?,
            start_period: flags.parsed("start-period", TIME)?,
            start_interval: flags.parsed("start-interval", TIME)?,
            retries: flags.parsed("retries", "a number")?,
            command: self.nonempty_command("a command behind CMD")?,
        })
    }
}

fn network(flags: &Flags<'_>) -> Result<RunNetwork, Fault> {
    let Some(raw) = flags.raw("network") else {
        return Ok(RunNetwork::Default);
    };
    match raw.text {
        "default" => Ok(RunNetwork::Default),
        "none" => Ok(RunNetwork::None),
        "host" => Ok(RunNetwork::Host),
        _ => Err(bad_value("network", raw, "it is default, none or host")),
    }
}

/// Splits at commas that aren't quoted.
fn split_fields(raw: RawWord<'_>) -> Vec<RawWord<'_>> {
    let mut fields = Vec::new();
    let mut quote = None;
    let mut begin = 0;
    let mut add = |begin: usize, end: usize| {
        fields.push(RawWord {
            text: raw.text.get(begin..end).unwrap_or_default(),
            at: raw.at + begin,
        });
    };
    for (at, c) in raw.text.char_indices() {
        match quote {
            Some(open) if open == c => quote = None,
            Some(_) => {}
            None if c == '\'' || c == '"' => quote = Some(c),
            None if c == ',' => {
                add(begin, at);
                begin = at + 1;
            }
            None => {}
        }
    }
    add(begin, raw.text.len());
    fields
}

/// What the author of an instruction should know.
pub(super) fn warning(kind: &Kind, keyword: &str) -> Option<String> {
    if keyword == "MAINTAINER" {
        return Some("MAINTAINER is deprecated: use LABEL maintainer=… instead".to_owned());
    }
    let command = match kind {
        Kind::Run(Run {
            command: RunCommand::Plain(command),
            ..
        })
        | Kind::Cmd(command)
        | Kind::Entrypoint(command)
        | Kind::HealthCheck(HealthCheck::Check { command, .. }) => command,
        _ => return None,
    };
    let Command::Shell(text) = command else {
        return None;
    };
    let inner = text.strip_prefix('[')?.strip_suffix(']')?.trim_start();
    inner.starts_with(['"', '\'']).then(|| {
        format!("{keyword} is taken for a shell's text: its list is not a list of strings in JSON")
    })
}
