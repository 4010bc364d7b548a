//! `klee container start`.

use clap::Args;
use clap::builder::NonEmptyStringValueParser;

use kleene_client::Client;

use crate::attach;
use crate::commands::Session;
use crate::error::{CommandError, CommandResult};
use crate::options::StartOptions;

/// Start containers; klee stays attached to a single one unless told to detach
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  klee start devtest\n  klee start -d web1 web2")]
pub struct Options {
    #[command(flatten)]
    start: StartOptions,

    /// Containers
    #[arg(required = true, value_name = "CONTAINER", value_parser = NonEmptyStringValueParser::new())]
    containers: Vec<String>,
}

impl Options {
    /// Whether the exit code is that of a container's process.
    pub fn attaches(&self) -> bool {
        !attach::detaches(&self.start)
    }
}

/// The id of a container that doesn't run. In one that does the daemon would run the container's
/// command once more beside the first.
async fn stopped(client: &Client, name: &str) -> CommandResult<String> {
    let container = client.container_inspect(name).await;
    let container = container.map_err(|error| CommandError::about("container", name, error))?;
    if container.container.running {
        return Err(
            CommandError::failure(format!("container '{name}' is running already")).hint(
                "run a further process in it with `klee exec`, or begin anew with `klee restart`",
            ),
        );
    }
    Ok(container.container.id)
}

/// Starts the containers with their own commands.
///
/// # Errors
/// When the daemon can't be reached, or a container that klee is attached to can't be started; a
/// failure with one of several containers doesn't stop the others.
pub async fn run(session: &Session, options: Options) -> CommandResult {
    let start = &options.start;
    let process = |name: &str| attach::own_process(name, start.tty);
    if let ([container], true) = (options.containers.as_slice(), options.attaches()) {
        attach::check_input(start)?;
        let client = session.client().await?;
        stopped(&client, container).await?;
        let again = Some(container.as_str());
        return attach::start_attached(session.ui, &client, process(container), start, again).await;
    }
    if options.attaches() {
        return Err(CommandError::usage(
            "only one container can be started when attaching to container I/O.",
        )
        .hint("use --detach to start several"));
    }
    let client = &session.client().await?;
    let start_one = async |name: String| {
        let id = stopped(client, &name).await?;
        attach::start_detached(session.ui, client, process(&name), start.quiet).await?;
        if start.quiet {
            session.ui.line(&id)
        } else {
            Ok(())
        }
    };
    Ok(session.for_each(&options.containers, start_one).await)
}
