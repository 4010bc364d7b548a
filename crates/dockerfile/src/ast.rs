//! What a Dockerfile says (Dockerfile reference).

use std::borrow::Cow;

use kleene_types::Span;

use crate::heredoc::Heredoc;
use crate::mount::MountFlag;
use crate::source::LineRange;
use crate::word::Word;

/// A whole Dockerfile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dockerfile {
    /// What its first comments say to the parser.
    pub directives: Directives,
    /// The ARG instructions before the first FROM.
    pub global_args: Vec<Spanned<Vec<Arg>>>,
    /// The stages; there is at least one.
    pub stages: Vec<Stage>,
    /// What is permitted but probably not meant.
    pub warnings: Vec<Warning>,
}

/// Parser directives (Dockerfile reference, "parser directives").
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directives {
    /// `# syntax=…`: remembered, without a meaning here.
    pub syntax: Option<String>,
    /// `# escape=…`: `\` or `` ` ``.
    pub escape: char,
    /// `# check=…`: remembered, without a meaning here.
    pub check: Option<String>,
}

/// Something that the author should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// The line it is about, counted from 1.
    pub line: usize,
    /// One sentence.
    pub text: String,
}

/// From one FROM to the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stage {
    /// `AS name`, in lower case; no two stages have the same.
    pub name: Option<String>,
    /// What it begins with.
    pub from: Spanned<From>,
    /// The instructions behind FROM.
    pub instructions: Vec<Instruction>,
}

/// An instruction other than FROM and the ARGs before it.
pub type Instruction = Spanned<Kind>;

/// An instruction with its place and text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spanned<T> {
    /// Its lines.
    pub span: LineRange,
    /// Those lines as they stand in the file, joined by LF.
    pub source: String,
    /// The logical line: continuations joined, comments and heredocs' bodies dropped. For messages like
    /// `Step 3/7 : RUN echo hi`.
    pub text: String,
    /// What it says.
    pub kind: T,
}

/// FROM.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct From {
    /// `--platform=…`.
    pub platform: Option<Word>,
    /// An image, an earlier stage, or `scratch`; see [`Dockerfile::base`].
    pub image: Word,
}

/// `NAME[=default]` of an ARG.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Arg {
    /// The variable.
    pub name: String,
    /// Its value where the user gives none.
    pub default: Option<Word>,
}

/// `name=value` of an ENV or LABEL.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Pair {
    /// The part before the first `=`.
    pub name: Word,
    /// The part behind it.
    pub value: Word,
}

/// An instruction's kind and arguments. MAINTAINER is the label `maintainer`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Kind {
    /// RUN.
    Run(Run),
    /// CMD. An empty list takes the image's away.
    Cmd(Command),
    /// ENTRYPOINT. An empty list takes the image's away.
    Entrypoint(Command),
    /// ENV, one pair at least.
    Env(Vec<Pair>),
    /// ARG, one at least.
    Arg(Vec<Arg>),
    /// COPY.
    Copy(Copy),
    /// ADD.
    Add(Add),
    /// USER: `user[:group]`.
    User(Word),
    /// WORKDIR.
    Workdir(Word),
    /// LABEL, one pair at least.
    Label(Vec<Pair>),
    /// EXPOSE: `port[-port][/protocol]`, one at least; a word may expand to several.
    Expose(Vec<Word>),
    /// VOLUME: paths in the container, one at least.
    Volume(Vec<Word>),
    /// SHELL: what shell forms are appended to; never empty.
    Shell(Vec<String>),
    /// STOPSIGNAL.
    StopSignal(Word),
    /// HEALTHCHECK.
    HealthCheck(HealthCheck),
}

/// The two forms of RUN, CMD, ENTRYPOINT and HEALTHCHECK CMD.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Command {
    /// A text for the shell of SHELL. It isn't expanded: the shell finds the variables in its
    /// environment ([`crate::Scope::environment`]), so that its own variables work as well.
    Shell(String),
    /// A program and its arguments; see [`crate::expand_known`].
    Exec(Vec<String>),
}

/// RUN.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Run {
    /// `--mount=…`, as often as given.
    pub mounts: Vec<MountFlag>,
    /// `--network=…`.
    pub network: RunNetwork,
    /// What runs.
    pub command: RunCommand,
}

/// `RUN --network=…`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub enum RunNetwork {
    /// The build's networks.
    #[default]
    Default,
    /// None but loopback.
    None,
    /// The host's.
    Host,
}

/// What RUN runs.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum RunCommand {
    /// A command without heredocs; never an empty list.
    Plain(Command),
    /// A heredoc and nothing else: the script itself.
    Script(Heredoc),
    /// A shell's line that heredocs belong to.
    WithHeredocs {
        /// The line, the heredocs' markers included.
        line: String,
        /// The heredocs in the order of their markers.
        heredocs: Vec<Heredoc>,
    },
}

/// How a RUN is started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Invocation<'a> {
    /// As the last argument of the shell of SHELL.
    Shell(Cow<'a, str>),
    /// As program and arguments.
    Exec(&'a [String]),
    /// As an executable file, whose first line (`#!`) names its interpreter.
    File(String),
}

impl RunCommand {
    /// How it is started. Nothing is expanded.
    pub fn invocation(&self) -> Invocation<'_> {
        match self {
            Self::Plain(Command::Shell(text)) => Invocation::Shell(Cow::Borrowed(text)),
            Self::Plain(Command::Exec(arguments)) => Invocation::Exec(arguments),
            Self::Script(heredoc) => match heredoc.content() {
                content if content.starts_with("#!") => Invocation::File(content),
                content => Invocation::Shell(Cow::Owned(content)),
            },
            // The shell reads them as they stood in the file.
            Self::WithHeredocs { line, heredocs } => {
                let mut text = line.clone();
                for heredoc in heredocs {
                    text.push('\n');
                    text.push_str(&heredoc.body);
                    text.push_str(&heredoc.name);
                }
                text.push('\n');
                Invocation::Shell(Cow::Owned(text))
            }
        }
    }
}

/// What COPY and ADD have in common.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Files {
    /// What is copied; one at least.
    pub sources: Vec<FileSource>,
    /// Where to.
    pub destination: Word,
    /// `--chown=user[:group]`.
    pub chown: Option<Word>,
    /// `--chmod=…`.
    pub chmod: Option<Word>,
    /// `--exclude=…`, as often as given: patterns of what isn't copied.
    pub exclude: Vec<Word>,
}

/// A source of COPY or ADD.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum FileSource {
    /// A path or pattern (see [`crate::Pattern`]); for ADD also an address (see [`crate::remote`]).
    Path(Word),
    /// A file in the Dockerfile. In a directory its name is the heredoc's.
    Inline(Heredoc),
}

/// COPY.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Copy {
    /// Sources, destination, owners.
    pub files: Files,
    /// `--from=…`: a stage's name or number, or an image. Without it, the build context.
    pub from: Option<Word>,
    /// `--parents`: the sources' directories are made, too.
    pub parents: bool,
}

/// ADD.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Add {
    /// Sources, destination, owners.
    pub files: Files,
    /// `--checksum=sha256:…` of what is downloaded.
    pub checksum: Option<Word>,
    /// `--unpack=…`; without it local archives are unpacked, downloads aren't.
    pub unpack: Option<bool>,
}

/// HEALTHCHECK.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum HealthCheck {
    /// `NONE`: the base image's is taken away.
    None,
    /// A command that is run at intervals. What isn't given has the daemon's default.
    Check {
        /// `--interval`.
        interval: Option<Span>,
        /// `--timeout`.
        timeout: Option<Span>,
        /// `--start-period`.
        start_period: Option<Span>,
        /// `--start-interval`.
        start_interval: Option<Span>,
        /// `--retries`.
        retries: Option<u32>,
        /// The command; never an empty list.
        command: Command,
    },
}

impl Kind {
    /// The keyword.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Run(_) => "RUN",
            Self::Cmd(_) => "CMD",
            Self::Entrypoint(_) => "ENTRYPOINT",
            Self::Env(_) => "ENV",
            Self::Arg(_) => "ARG",
            Self::Copy(_) => "COPY",
            Self::Add(_) => "ADD",
            Self::User(_) => "USER",
            Self::Workdir(_) => "WORKDIR",
            Self::Label(_) => "LABEL",
            Self::Expose(_) => "EXPOSE",
            Self::Volume(_) => "VOLUME",
            Self::Shell(_) => "SHELL",
            Self::StopSignal(_) => "STOPSIGNAL",
            Self::HealthCheck(_) => "HEALTHCHECK",
        }
    }
}
