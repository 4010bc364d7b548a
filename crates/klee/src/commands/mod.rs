//! The commands: a module a noun, a file a verb.

pub mod completion;
pub mod container;
pub mod image;
pub mod info;
pub mod network;
pub mod reference;
pub mod version;
pub mod volume;

use std::future::Future;

use clap::Subcommand;
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

/// A command.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Manage containers
    #[command(subcommand)]
    Container(container::Command),
    /// Manage images
    #[command(subcommand)]
    Image(image::Command),
    /// Manage networks
    #[command(subcommand)]
    Network(network::Command),
    /// Manage volumes
    #[command(subcommand)]
    Volume(volume::Command),
    /// Show what the daemon is
    Info(info::Options),
    /// Show the versions of client and daemon
    Version(version::Options),

    /// Build an image from a Dockerfile
    #[command(hide = true)]
    Build(image::build::Options),
    /// Create a container
    #[command(hide = true)]
    Create(container::create::Options),
    /// Run a command in a container that exists
    #[command(hide = true)]
    Exec(container::exec::Options),
    /// Start containers
    #[command(hide = true)]
    Start(container::start::Options),
    /// Stop containers
    #[command(hide = true)]
    Stop(container::stop::Options),
    /// Restart containers
    #[command(hide = true)]
    Restart(container::restart::Options),
    /// Run a command in a new container
    #[command(hide = true)]
    Run(container::run::Options),
    /// Show everything about containers
    #[command(hide = true)]
    Isc(container::inspect::Options),
    /// Show everything about images
    #[command(hide = true)]
    Isi(image::inspect::Options),
    /// Show everything about networks
    #[command(hide = true)]
    Isn(network::inspect::Options),
    /// Show everything about volumes
    #[command(hide = true)]
    Isv(volume::inspect::Options),
    /// List containers
    #[command(hide = true)]
    Lsc(container::ls::Options),
    /// List images
    #[command(hide = true)]
    Lsi(image::ls::Options),
    /// List networks
    #[command(hide = true)]
    Lsn(network::ls::Options),
    /// List volumes
    #[command(hide = true)]
    Lsv(volume::ls::Options),
    /// Remove containers
    #[command(hide = true)]
    Rmc(container::rm::Options),
    /// Remove images
    #[command(hide = true)]
    Rmi(image::rm::Options),
    /// Remove networks
    #[command(hide = true)]
    Rmn(network::rm::Options),
    /// Remove volumes
    #[command(hide = true)]
    Rmv(volume::rm::Options),

    /// Print a script that completes command lines
    #[command(hide = true)]
    Completion(completion::Options),
    /// Print the reference of all commands as Markdown
    #[command(hide = true)]
    Reference(reference::Options),
}

impl Command {
    /// Whether the exit code is that of a process in a container, so that failures of the command
    /// itself need one of their own.
    pub fn runs_process(&self) -> bool {
        use container::Command::{Exec, Run, Start};
        match self {
            Self::Run(_) | Self::Exec(_) | Self::Container(Run(_) | Exec(_)) => true,
            Self::Start(options) | Self::Container(Start(options)) => options.attaches(),
            _ => false,
        }
    }
}

/// Runs a command.
///
/// # Errors
/// When it fails.
pub async fn run(session: &Session, command: Command) -> CommandResult {
    match command {
        Command::Container(command) => container::run(session, command).await,
        Command::Image(command) => image::run(session, command).await,
        Command::Network(command) => network::run(session, command).await,
        Command::Volume(command) => volume::run(session, command).await,
        Command::Info(options) => info::run(session, options).await,
        Command::Version(options) => version::run(session, options).await,
        Command::Build(options) => image::build::run(session, options).await,
        Command::Create(options) => container::create::run(session, options).await,
        Command::Exec(options) => container::exec::run(session, options).await,
        Command::Start(options) => container::start::run(session, options).await,
        Command::Stop(options) => container::stop::run(session, options).await,
        Command::Restart(options) => container::restart::run(session, options).await,
        Command::Run(options) => container::run::run(session, options).await,
        Command::Isc(options) => container::inspect::run(session, options).await,
        Command::Isi(options) => image::inspect::run(session, options).await,
        Command::Isn(options) => network::inspect::run(session, options).await,
        Command::Isv(options) => volume::inspect::run(session, options).await,
        Command::Lsc(options) => container::ls::run(session, options).await,
        Command::Lsi(options) => image::ls::run(session, options).await,
        Command::Lsn(options) => network::ls::run(session, options).await,
        Command::Lsv(options) => volume::ls::run(session, options).await,
        Command::Rmc(options) => container::rm::run(session, options).await,
        Command::Rmi(options) => image::rm::run(session, options).await,
        Command::Rmn(options) => network::rm::run(session, options).await,
        Command::Rmv(options) => volume::rm::run(session, options).await,
        Command::Completion(options) => completion::run(session, options),
        Command::Reference(options) => reference::run(session, options),
    }
}
