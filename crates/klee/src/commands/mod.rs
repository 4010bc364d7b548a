//! The commands: a module a noun, a file a verb.

/// Makes an enum of commands from their modules: `args` names a module with `Options` and `run`,
/// `shortcut` one that is left out of the help, `noun` one with a `Command` and `run`.
///
/// It does what clap's derive does, except that options are only defined for the command that is
/// called: defining all of them takes longer than anything else that klee does.
macro_rules! commands {
    ($($(#[doc = $about:literal])+ $kind:ident $name:literal $variant:ident($($module:ident)::+);)+) => {
        /// A command.
        #[derive(Debug)]
        #[allow(clippy::large_enum_variant, reason = "there is one in the whole process")]
        pub enum Command {
            $($(#[doc = $about])+ $variant(commands!(@type $kind $($module)::+)),)+
        }

        impl clap::FromArgMatches for Command {
            fn from_arg_matches(matches: &clap::ArgMatches) -> Result<Self, clap::Error> {
                match matches.subcommand() {
                    $(Some(($name, matches)) => {
                        clap::FromArgMatches::from_arg_matches(matches).map(Self::$variant)
                    })+
                    _ => Err(clap::Error::new(clap::error::ErrorKind::MissingSubcommand)),
                }
            }

            fn update_from_arg_matches(&mut self, matches: &clap::ArgMatches) -> Result<(), clap::Error> {
                *self = Self::from_arg_matches(matches)?;
                Ok(())
            }
        }

        impl clap::Subcommand for Command {
            fn augment_subcommands(command: clap::Command) -> clap::Command {
                command
                    .subcommand_required(true)
                    .arg_required_else_help(true)
                    $(.subcommand({
                        const ABOUT: &str = concat!($($about),+).trim_ascii();
                        clap::Command::new($name)
                            .about(ABOUT)
                            .hide(commands!(@hidden $kind))
                            .defer(|command| {
                                commands!(@define $kind command, $($module)::+)
                                    .about(ABOUT)
                                    .mut_args(crate::commands::hide_global)
                            })
                    }))+
            }

            fn augment_subcommands_for_update(command: clap::Command) -> clap::Command {
                Self::augment_subcommands(command)
            }

            fn has_subcommand(name: &str) -> bool {
                [$($name),+].contains(&name)
            }
        }

        /// Runs a command.
        ///
        /// # Errors
        /// When it fails.
        pub async fn run(session: &crate::commands::Session, command: Command) -> crate::error::CommandResult {
            match command {
                $(Command::$variant(options) => $($module)::+::run(session, options).await,)+
            }
        }
    };
    (@type noun $($module:ident)::+) => { $($module)::+::Command };
    (@type $kind:ident $($module:ident)::+) => { $($module)::+::Options };
    (@hidden shortcut) => { true };
    (@hidden $kind:ident) => { false };
    (@define noun $command:expr, $($module:ident)::+) => {
        <$($module)::+::Command as clap::Subcommand>::augment_subcommands($command)
    };
    (@define $kind:ident $command:expr, $($module:ident)::+) => {
        <$($module)::+::Options as clap::Args>::augment_args($command)
    };
}

/// Keeps the options of klee itself out of the help of each command.
fn hide_global(argument: clap::Arg) -> clap::Arg {
    match argument.is_global_set() {
        true => argument.hide(true),
        false => argument,
    }
}

mod completion;
mod container;
mod image;
mod info;
mod network;
mod reference;
mod version;
mod volume;

use std::future::Future;

use kleene_client::Client;

use crate::config::Settings;
use crate::error::{CommandError, CommandResult, Exit};
use crate::ui::Ui;

/// What every command gets.
#[derive(Debug)]
pub struct Session {
    /// Prints.
    pub ui: Ui,
    /// Where the daemon is.
    pub settings: Settings,
}

impl Session {
    /// Connects to the daemon.
    ///
    /// # Errors
    /// When it can't be reached.
    pub async fn client(&self) -> CommandResult<Client> {
        Ok(Client::connect(self.settings.host.clone(), &self.settings.tls).await?)
    }

    /// Does something with each of several objects. A failure is told and doesn't keep the others
    /// from their turn.
    pub async fn for_each<F>(&self, names: &[String], mut action: impl FnMut(String) -> F) -> Exit
    where
        F: Future<Output = CommandResult<()>>,
    {
        let mut exit = Exit::Success;
        for name in names {
            if let Err(error) = action(name.clone()).await {
                if error.exit == Exit::BrokenPipe {
                    return error.exit;
                }
                self.ui.error(&error);
                exit = Exit::Failure;
            }
        }
        exit
    }

    /// Prints ids, one a line. (None at all are an empty line, as they always were.)
    ///
    /// # Errors
    /// When the output can't be written.
    pub fn print_ids(&self, ids: &[String]) -> Result<(), CommandError> {
        self.ui.line(&ids.join("\n"))
    }
}

commands! {
    /// Manage containers
    noun "container" Container(container);
    /// Manage images
    noun "image" Image(image);
    /// Manage networks
    noun "network" Network(network);
    /// Manage volumes
    noun "volume" Volume(volume);
    /// Show what the daemon is
    args "info" Info(info);
    /// Show the versions of client and daemon
    args "version" Version(version);

    /// Build an image from a Dockerfile
    shortcut "build" Build(image::build);
    /// Pull an image from a registry
    shortcut "pull" Pull(image::pull);
    /// Push an image to a registry
    shortcut "push" Push(image::push);
    /// Log in to a registry
    shortcut "login" Login(image::login);
    /// Forget the credentials for a registry
    shortcut "logout" Logout(image::logout);
    /// Create a container
    shortcut "create" Create(container::create);
    /// Run a command in a container that exists
    shortcut "exec" Exec(container::exec);
    /// Start containers
    shortcut "start" Start(container::start);
    /// Stop containers
    shortcut "stop" Stop(container::stop);
    /// Restart containers
    shortcut "restart" Restart(container::restart);
    /// Run a command in a new container
    shortcut "run" Run(container::run);
    /// Change settings of a container
    shortcut "update" Update(container::update);
    /// Rename a container
    shortcut "rename" Rename(container::rename);
    /// Show the output of a container
    shortcut "logs" Logs(container::logs);
    /// Attach to a running container
    shortcut "attach" Attach(container::attach);
    /// Wait until containers have ended
    shortcut "wait" Wait(container::wait);
    /// Show the processes of a container
    shortcut "top" Top(container::top);
    /// Show what containers use
    shortcut "stats" Stats(container::stats);
    /// Show what happens
    shortcut "events" Events(container::events);
    /// Copy files out of a container or into it
    shortcut "cp" Cp(container::cp);
    /// Show what differs between a container and its image
    shortcut "diff" Diff(container::diff);
    /// Show the published ports of a container
    shortcut "port" Port(container::port);
    /// Stop the processes of containers in their tracks
    shortcut "pause" Pause(container::pause);
    /// Let paused containers go on
    shortcut "unpause" Unpause(container::unpause);
    /// Send containers a signal
    shortcut "kill" Kill(container::kill);
    /// Show everything about containers
    shortcut "inspect" Inspect(container::inspect);
    /// Show everything about containers
    shortcut "isc" Isc(container::inspect);
    /// Show everything about images
    shortcut "isi" Isi(image::inspect);
    /// Show everything about networks
    shortcut "isn" Isn(network::inspect);
    /// Show everything about volumes
    shortcut "isv" Isv(volume::inspect);
    /// List containers
    shortcut "lsc" Lsc(container::ls);
    /// List containers
    shortcut "ls" Ls(container::ls);
    /// List containers
    shortcut "ps" Ps(container::ls);
    /// List images
    shortcut "lsi" Lsi(image::ls);
    /// List networks
    shortcut "lsn" Lsn(network::ls);
    /// List volumes
    shortcut "lsv" Lsv(volume::ls);
    /// Remove containers
    shortcut "rmc" Rmc(container::rm);
    /// Remove containers
    shortcut "rm" Rm(container::rm);
    /// Remove images
    shortcut "rmi" Rmi(image::rm);
    /// Remove networks
    shortcut "rmn" Rmn(network::rm);
    /// Remove volumes
    shortcut "rmv" Rmv(volume::rm);

    /// Print a script that completes command lines
    shortcut "completion" Completion(completion);
    /// Print the reference of all commands as Markdown
    shortcut "reference" Reference(reference);
}

impl Command {
    /// Whether the exit code is that of a process in a container, so that failures of the command
    /// itself need one of their own.
    pub fn runs_process(&self) -> bool {
        use container::Command::{Attach, Exec, Run, Start};
        match self {
            Self::Run(_)
            | Self::Exec(_)
            | Self::Attach(_)
            | Self::Container(Run(_) | Exec(_) | Attach(_)) => true,
            Self::Start(options) | Self::Container(Start(options)) => options.attaches(),
            _ => false,
        }
    }
}
