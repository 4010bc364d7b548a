//! `klee container port`.

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use kleene_api::PublishedPort;

use crate::commands::Session;
use crate::error::{CommandError, CommandResult, Exit};
use crate::suggest::Noun;

/// Show the published ports of a container
#[derive(Debug, Args)]
#[command(
    after_help = "Each line is a port of the container and where it is published, as
[INTERFACE:]PORT of the host.

Examples:
  klee port web
  klee port web 80/tcp"
)]
pub struct Options {
    /// The container
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    container: String,

    /// One port of the container: print only where it is published
    #[arg(value_name = "PORT[/PROTOCOL]")]
    port: Option<String>,
}

/// Prints the ports.
///
/// # Errors
/// When the request fails, or the port isn't published.
pub async fn run(session: &Session, options: Options) -> CommandResult {
    let client = session.client().await?;
    let inspected = match client.container_inspect(&options.container).await {
        Ok(inspected) => inspected,
        Err(error) => {
            return Err(Noun::Container
                .failed(&client, &options.container, error)
                .await);
        }
    };
    let ports = &inspected.container.public_ports;
    let Some(wanted) = &options.port else {
        let lines = ports.iter().flat_map(|port| {
            let inside = format!("{}/{}", port.container_port, port.protocol);
            let line = move |outside| format!("{inside} -> {outside}\n");
            outside(port).into_iter().map(line)
        });
        session.ui.raw(lines.collect::<String>().as_bytes())?;
        return Ok(Exit::Success);
    };
    let (number, protocol) = wanted.split_once('/').unwrap_or((wanted, "tcp"));
    let lines: Vec<String> = ports
        .iter()
        .filter(|port| port.container_port == number && port.protocol == protocol)
        .flat_map(outside)
        .collect();
    if lines.is_empty() {
        let name = &options.container;
        return Err(CommandError::failure(format!(
            "port {number}/{protocol} of container '{name}' is not published"
        )));
    }
    session
        .ui
        .raw(format!("{}\n", lines.join("\n")).as_bytes())?;
    Ok(Exit::Success)
}

/// Where a port is published.
fn outside(port: &PublishedPort) -> Vec<String> {
    if port.interfaces.is_empty() {
        return vec![port.host_port.clone()];
    }
    let interfaces = port.interfaces.iter();
    interfaces
        .map(|interface| format!("{interface}:{}", port.host_port))
        .collect()
}
