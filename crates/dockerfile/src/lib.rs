//! Dockerfiles and `.dockerignore` files: parsing, expansion of variables, patterns. No input or
//! output happens here, and nothing is ever executed.
//!
//! [`parse`] gives a [`Dockerfile`]: its stages with their instructions. Their words are kept as
//! written; a [`Scope`] has the variables' values while the instructions are carried out in turn.
//! [`Instruction::canonical`] is what a cache's key is made of.

mod ast;
mod canonical;
mod error;
mod expand;
mod heredoc;
mod ignore;
mod mount;
mod parse;
mod pattern;
mod reference;
mod remote;
mod scope;
mod source;
mod stages;
mod word;

pub use ast::{
    Add, Arg, Command, Copy, Directives, Dockerfile, FileSource, Files, From, HealthCheck,
    Instruction, Invocation, Kind, Pair, Run, RunCommand, RunNetwork, Spanned, Stage, Warning,
};
pub use canonical::ShellSyntax;
pub use error::{ParseError, ParseErrorKind, Place, Problem};
pub use expand::{
    ExpandError, MAX_EXPANSION, SyntaxError, SyntaxErrorKind, expand, expand_heredoc, expand_known,
    expand_words,
};
pub use heredoc::Heredoc;
pub use ignore::{Ignore, IgnoreError};
pub use mount::{
    BindMount, CacheMount, MountError, MountFlag, RunMount, SecretMount, Sharing, TmpfsMount,
};
pub use parse::parse;
pub use pattern::{Pattern, PatternError, split_pivot};
pub use reference::{ImageReference, Pin, ReferenceError};
pub use remote::{Remote, remote};
pub use scope::{BuildArgs, GlobalScope, Scope};
pub use source::{LineRange, Position};
pub use stages::{Base, Step};
pub use word::Word;

/// Longest Dockerfile in bytes.
pub const MAX_SIZE: usize = 1 << 20;
