//! One text for all ways to write the same instruction: what a cache's key is made of.
//!
//! The text doesn't depend on white space, comments or continuations. Different instructions have
//! different texts: strings are quoted, and nothing is left out that has a meaning. Variables aren't
//! expanded; a key needs their values as well ([`crate::Scope::cache_environment`]).

use crate::ast::{
    Add, Arg, Command, Copy, FileSource, Files, From, HealthCheck, Kind, Pair, Run, RunCommand,
    RunNetwork, Spanned,
};
use crate::heredoc::Heredoc;
use crate::mount::MountFlag;
use crate::source::is_space;
use crate::word::Word;

/// The language of shell forms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ShellSyntax {
    /// A POSIX shell's: blanks between words are all one.
    #[default]
    Posix,
    /// Any other (after `SHELL ["python3", "-c"]`): every blank may have a meaning.
    Other,
}

impl Spanned<Kind> {
    /// The canonical text; shell forms are a POSIX shell's.
    pub fn canonical(&self) -> String {
        self.kind.canonical(ShellSyntax::Posix)
    }

    /// The canonical text where SHELL names another kind of shell.
    pub fn canonical_for(&self, syntax: ShellSyntax) -> String {
        self.kind.canonical(syntax)
    }
}

impl Spanned<From> {
    /// The canonical text. The stage's name is no part of it.
    pub fn canonical(&self) -> String {
        let mut text = Text::new("FROM");
        text.flag("platform", self.kind.platform.as_ref());
        text.word(&self.kind.image);
        text.0
    }
}

impl Spanned<Vec<Arg>> {
    /// The canonical text.
    pub fn canonical(&self) -> String {
        let mut text = Text::new("ARG");
        text.args(&self.kind);
        text.0
    }
}

impl Kind {
    fn canonical(&self, syntax: ShellSyntax) -> String {
        let mut text = Text::new(self.name());
        match self {
            Self::Run(run) => text.run(run, syntax),
            Self::Cmd(command) | Self::Entrypoint(command) => text.command(command, syntax),
            Self::Env(pairs) | Self::Label(pairs) => text.pairs(pairs),
            Self::Arg(args) => text.args(args),
            Self::Copy(copy) => text.copy(copy),
            Self::Add(add) => text.add(add),
            Self::User(word) | Self::Workdir(word) | Self::StopSignal(word) => text.word(word),
            Self::Expose(words) | Self::Volume(words) => {
                words.iter().for_each(|word| text.word(word));
            }
            Self::Shell(list) => text.list(list),
            Self::HealthCheck(check) => text.health_check(check, syntax),
        }
        text.0
    }
}

/// A canonical text that is being written.
struct Text(String);

impl Text {
    fn new(name: &str) -> Self {
        Self(name.to_owned())
    }

    fn bare(&mut self, text: &str) {
        self.0.push(' ');
        self.0.push_str(text);
    }

    fn quote(&mut self, text: &str) {
        self.0.push('"');
        for c in text.chars() {
            match c {
                '\n' => self.0.push_str("\\n"),
                '"' | '\\' => self.0.extend(['\\', c]),
                c => self.0.push(c),
            }
        }
        self.0.push('"');
    }

    fn quoted(&mut self, text: &str) {
        self.0.push(' ');
        self.quote(text);
    }

    /// A word, which means something else with another escape character.
    fn raw(&mut self, word: &Word) {
        if word.escape() != '\\' && word.raw().contains(['\\', word.escape()]) {
            self.0.push(word.escape());
        }
        self.quote(word.raw());
    }

    fn word(&mut self, word: &Word) {
        self.0.push(' ');
        self.raw(word);
    }

    fn flag(&mut self, name: &str, value: Option<&Word>) {
        if let Some(value) = value {
            self.bare("--");
            self.0.push_str(name);
            self.0.push('=');
            self.raw(value);
        }
    }

    fn list(&mut self, list: &[String]) {
        self.bare("[");
        list.iter().for_each(|item| self.quoted(item));
        self.bare("]");
    }

    fn pairs(&mut self, pairs: &[Pair]) {
        for pair in pairs {
            self.word(&pair.name);
            self.0.push('=');
            self.raw(&pair.value);
        }
    }

    fn args(&mut self, args: &[Arg]) {
        for arg in args {
            self.bare(&arg.name);
            if let Some(default) = &arg.default {
                self.0.push('=');
                self.raw(default);
            }
        }
    }

    fn command(&mut self, command: &Command, syntax: ShellSyntax) {
        match command {
            Command::Shell(text) => self.shell(text, syntax),
            Command::Exec(list) => self.list(list),
        }
    }

    fn shell(&mut self, text: &str, syntax: ShellSyntax) {
        match syntax {
            ShellSyntax::Posix => self.quoted(&squeeze(text)),
            ShellSyntax::Other => self.quoted(text),
        }
    }

    fn heredoc(&mut self, heredoc: &Heredoc) {
        let dash = if heredoc.strips_tabs { "<<-" } else { "<<" };
        self.bare(dash);
        self.0.push(if heredoc.expands { ' ' } else { '\'' });
        self.quote(&heredoc.name);
        self.quoted(&heredoc.content());
    }

    fn run(&mut self, run: &Run, syntax: ShellSyntax) {
        run.mounts.iter().for_each(|mount| self.mount(mount));
        match run.network {
            RunNetwork::Default => {}
            RunNetwork::None => self.bare("--network=none"),
            RunNetwork::Host => self.bare("--network=host"),
        }
        match &run.command {
            RunCommand::Plain(command) => self.command(command, syntax),
            RunCommand::Script(heredoc) => self.heredoc(heredoc),
            RunCommand::WithHeredocs { line, heredocs } => {
                self.shell(line, syntax);
                heredocs.iter().for_each(|heredoc| self.heredoc(heredoc));
            }
        }
    }

    fn mount(&mut self, mount: &MountFlag) {
        self.bare("--mount");
        for (name, value) in mount.options() {
            self.0.push(',');
            self.0.push_str(name);
            if let Some(value) = value {
                self.0.push('=');
                self.raw(value);
            }
        }
    }

    fn files(&mut self, files: &Files) {
        self.flag("chown", files.chown.as_ref());
        self.flag("chmod", files.chmod.as_ref());
        for word in &files.exclude {
            self.flag("exclude", Some(word));
        }
        for source in &files.sources {
            match source {
                FileSource::Path(word) => self.word(word),
                FileSource::Inline(heredoc) => self.heredoc(heredoc),
            }
        }
        self.word(&files.destination);
    }

    fn copy(&mut self, copy: &Copy) {
        self.flag("from", copy.from.as_ref());
        if copy.parents {
            self.bare("--parents");
        }
        self.files(&copy.files);
    }

    fn add(&mut self, add: &Add) {
        self.flag("checksum", add.checksum.as_ref());
        if let Some(unpack) = add.unpack {
            self.bare(&format!("--unpack={unpack}"));
        }
        self.files(&add.files);
    }

    fn health_check(&mut self, check: &HealthCheck, syntax: ShellSyntax) {
        let HealthCheck::Check {
            interval,
            timeout,
            start_period,
            start_interval,
            retries,
            command,
        } = check
        else {
            return self.bare("NONE");
        };
        let times = [
            ("interval", interval),
            ("timeout", timeout),
            ("start-period", start_period),
            ("start-interval", start_interval),
        ];
        for (name, time) in times {
            if let Some(time) = time {
                self.bare(&format!("--{name}={time}"));
            }
        }
        if let Some(retries) = retries {
            self.bare(&format!("--retries={retries}"));
        }
        self.command(command, syntax);
    }
}

/// A POSIX shell's text with one blank between words (POSIX shell 2.2, 2.3). Where the structure isn't
/// obvious (`` ` ``, `$'…'`, `${a  b}`, a backslash before a closing quote), the rest stays as it is:
/// that costs a cache's hit at most, while a wrong blank would make two commands one.
fn squeeze(text: &str) -> String {
    let mut result = String::new();
    let mut quote = None;
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        let next = chars.peek().map(|(_, next)| *next);
        let unclear = match (quote, c) {
            (_, '`') => true,
            (Some('\''), '\\') => next == Some('\''),
            (None, '$') => next == Some('\'') || !is_simple(text.get(at..).unwrap_or_default()),
            (Some('"'), '$') => next == Some('(') || !is_simple(text.get(at..).unwrap_or_default()),
            _ => false,
        };
        if unclear {
            result.push_str(text.get(at..).unwrap_or_default());
            return result;
        }
        match (quote, c) {
            (None, '\'' | '"') => quote = Some(c),
            (Some(open), c) if open == c => quote = None,
            (None | Some('"'), '\\') => {
                result.push(c);
                result.extend(chars.next().map(|(_, c)| c));
                continue;
            }
            (None, c) if is_space(c) => {
                if !next.is_none_or(is_space) {
                    result.push(' ');
                }
                continue;
            }
            _ => {}
        }
        result.push(c);
    }
    result
}

/// Whether the text doesn't begin with a `${…}` that holds white space, quotes or the like.
fn is_simple(text: &str) -> bool {
    let Some(inner) = text.strip_prefix("${") else {
        return true;
    };
    let unclear = |c: char| is_space(c) || "'\"\\`${".contains(c);
    let begin = inner.find(unclear).unwrap_or(inner.len());
    inner.find('}').is_some_and(|end| end < begin)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The canonical text of an instruction.
    fn canonical(instruction: &str) -> String {
        let file = crate::parse(&format!("FROM a\n{instruction}\n")).unwrap();
        file.stages[0].instructions[0].canonical()
    }

    #[test]
    fn ways_to_write_the_same() {
        for (one, other) in [
            ("RUN a  b \\\n # c\n\n   c", "RUN a b c"),
            ("RUN a ${b}  $c  d", "RUN a ${b} $c d"),
            ("RUN \"${b}\"   d", "RUN \"${b}\" d"),
            ("RUN\ta\\\n  'x  y'", "RUN a 'x  y'"),
            (
                "CMD [ \"a\",\n\"b\" ]".replace('\n', "\\\n").as_str(),
                "CMD [\"a\",\"b\"]",
            ),
            ("ENV  A=1 \\\n  B=2", "ENV A=1 B=2"),
            ("ENV A b", "ENV A=b"),
            (
                "COPY   --chown=u --from=x a  b",
                "COPY --from=x --chown=u a b",
            ),
            (
                "RUN --mount=type=cache,dst=/x a",
                "RUN --mount=target=/x,type=cache a",
            ),
            ("COPY <<-E /x\n\ta\nE", "COPY <<-E /x\na\n\tE"),
            ("COPY --link a b", "COPY a b"),
            (
                "HEALTHCHECK --interval=60s CMD a",
                "HEALTHCHECK --interval=1m  CMD  a",
            ),
        ] {
            assert_eq!(canonical(one), canonical(other));
        }
    }

    #[test]
    fn different_instructions_differ() {
        let texts = [
            "RUN a b",
            "RUN a  'b'",
            "RUN a 'b '",
            "RUN a 'b  '",
            "RUN a\\  b",
            "RUN a\\ b",
            "RUN a $'x\\'  b'",
            "RUN a $'x\\' b'",
            "RUN a `x  y`",
            "RUN a `x y`",
            "RUN a=${b:-x  y}",
            "RUN a=${b:-x y}",
            "RUN \"$(a \"x  y\")\"",
            "RUN \"$(a \"x y\")\"",
            "RUN \"${a:-\"x  y\"}\"",
            "RUN \"${a:-\"x y\"}\"",
            "RUN ${a  b",
            "RUN ${a b",
            "RUN 'a\\'  b'",
            "RUN 'a\\' b'",
            "RUN [\"a\", \"b\"]",
            "RUN [\"a b\"]",
            "RUN --network=none a b",
            "RUN --mount=target=/x,type=cache a b",
            "RUN <<E\na b\nE",
            "RUN <<'E'\na b\nE",
            "RUN <<E\na  b\nE",
            "RUN sh <<E\na b\nE",
            "CMD a b",
            "ENTRYPOINT a b",
            "ENV A=1 B=2",
            "ENV A=\"1 B=2\"",
            "ENV A '1\" \"B\"=\"2'",
            "ENV B=2 A=1",
            "LABEL A=1 B=2",
            "ARG A",
            "ARG A=",
            "ARG A B",
            "COPY a b",
            "COPY a b c",
            "COPY 'a b' c",
            "COPY --parents a b",
            "COPY --exclude=x a b",
            "COPY --exclude=x --exclude=y a b",
            "COPY --from=x a b",
            "COPY <<b a\nE\nb",
            "ADD a b",
            "ADD --unpack a b",
            "ADD --unpack=false a b",
            "USER a",
            "WORKDIR a",
            "STOPSIGNAL a",
            "EXPOSE 1 2",
            "EXPOSE '1 2'",
            "VOLUME 1 2",
            "SHELL [\"a\", \"b\"]",
            "HEALTHCHECK NONE",
            "HEALTHCHECK CMD NONE",
            "HEALTHCHECK --retries=1 CMD a",
        ];
        let mut seen = std::collections::BTreeMap::new();
        for text in texts {
            if let Some(other) = seen.insert(canonical(text), text) {
                panic!("{text:?} is the same as {other:?}");
            }
        }
    }

    #[test]
    fn other_shells_keep_their_blanks() {
        let file = crate::parse("FROM a\nRUN if x:  y\n").unwrap();
        let run = &file.stages[0].instructions[0];
        assert_eq!(run.canonical(), "RUN \"if x: y\"");
        assert_eq!(run.canonical_for(ShellSyntax::Other), "RUN \"if x:  y\"");
    }

    #[test]
    fn escape_characters_count() {
        let text = "FROM a\nWORKDIR a\\b\n";
        let one = crate::parse(text).unwrap();
        let other = crate::parse(&format!("# escape=`\n{text}")).unwrap();
        let canonical = |file: &crate::Dockerfile| file.stages[0].instructions[0].canonical();
        assert_ne!(canonical(&one), canonical(&other));
        assert_eq!(
            one.stages[0].from.canonical(),
            other.stages[0].from.canonical()
        );
    }
}
