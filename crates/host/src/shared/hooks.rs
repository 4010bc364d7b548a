//! Commands that are run on the host.

use kleene_command::{Argv, CommandError, Runner};
use kleene_doors::host::HostError;
use kleene_types::{ContainerId, Span};

/// Bytes that a command may write to its standard output.
const OUTPUT: usize = 1 << 20;

/// Runs a command for a container, whose id it finds in `KLEENE_CONTAINER`.
///
/// # Errors
/// It can't be run, takes too long, or fails.
pub fn run_host_command(
    runner: &dyn Runner,
    container: &ContainerId,
    argv: &[String],
    limit: Span,
) -> Result<(), HostError> {
    let Some((program, arguments)) = argv.split_first() else {
        return Err(HostError::Unsupported(
            "a host command without a program can't be run".to_owned(),
        ));
    };
    let command = Argv::new(program)
        .args(arguments)
        .env("KLEENE_CONTAINER", container.as_str())
        .time_limit(limit.duration())
        .output_limit(OUTPUT);
    let failed = |source: CommandError| HostError::Failed {
        action: format!("running a host command for container {container}"),
        source: Box::new(source),
    };
    runner.run(&command).map(drop).map_err(failed)
}
