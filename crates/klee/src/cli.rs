//! The command line: parsing it, running its command, reporting.

use std::ffi::OsString;

use clap::error::ErrorKind;
use clap::{ColorChoice, CommandFactory, FromArgMatches, Parser};

use crate::commands::{self, Command, Session};
use crate::config::{self, GlobalOptions};
use crate::error::{CommandError, CommandResult, Exit};
use crate::ui::{Theme, Ui};

const AFTER_HELP: &str = "\
The options above may also stand behind the name of a command.

Shortcuts:
  attach, cp, create, diff, events, exec, kill, logs, pause, port, rename, restart,
  run, start, stats, stop, top, unpause, update, wait
          The same as `klee container …`
  build, login, logout, pull, push
          The same as `klee image …`
  isc (inspect), isi, isn, isv
          Inspect a container, image, network or volume
  lsc (ls, ps), lsi, lsn, lsv
          List containers, images, networks or volumes
  rmc (rm), rmi, rmn, rmv
          Remove containers, images, networks or volumes

Configuration file:
  The first of ./klee_config.yaml, ~/.klee/klee_config.yaml and
  /etc/klee/klee_config.yaml (BSD: /usr/local/etc/klee/klee_config.yaml), with
  the keys host, theme, tlsverify, tlscert, tlskey and tlscacert. Flags beat
  environment variables, and those beat the file.

Exit codes:
  0         Everything was done
  1         Something could not be done
  2         The command line is wrong
  125       run, exec, start or attach failed by itself (not the process in the
            container)
  126, 127  The command is not executable, or was not found in the container
  128 + N   Signal N ended the process in the container
  Otherwise run, exec, start and attach return what the process in the container returned.

Examples:
  klee image create -t base host           Make a base image of the host's programs
  klee run -it base sh                     Run a shell in a new container
  klee run -m my-vol:/data base ls /data   Run a command with a volume
  klee logs -f --since 10m web             Follow the output of a container
  klee lsv                                 List volumes";

/// Containers, images, networks and volumes of a Kleene daemon.
#[derive(Debug, Parser)]
#[command(
    name = "klee",
    version,
    after_help = AFTER_HELP,
    max_term_width = 100
)]
pub struct Cli {
    #[command(flatten)]
    options: GlobalOptions,

    #[command(subcommand)]
    command: Command,
}

/// Does what a command line says and reports what went wrong.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> Exit {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let cli = match parse(&arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // Help to a closed pipe is nobody's loss.
            let _ = error.print();
            return exit_of(&error, &arguments);
        }
    };
    let settings = match config::load(&cli.options) {
        Ok(settings) => settings,
        Err(error) => {
            return report(
                Ui::new(Theme::Simple),
                own_if(cli.command.runs_process(), error),
            );
        }
    };
    let ui = Ui::new(settings.theme);
    let session = Session { ui, settings };
    match run(&session, cli.command) {
        Ok(exit) => exit,
        Err(error) => report(ui, error),
    }
}

fn own_if(runs_process: bool, error: CommandError) -> CommandError {
    if runs_process { error.own() } else { error }
}

fn report(ui: Ui, error: CommandError) -> Exit {
    ui.error(&error);
    error.exit
}

fn run(session: &Session, command: Command) -> CommandResult {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()
        .map_err(|error| CommandError::failure(format!("can't start: {error}")))?;
    let runs_process = command.runs_process();
    let result = runtime.block_on(commands::run(session, command));
    result.map_err(|error| own_if(runs_process, error))
}

/// Parses a command line. Help and version are errors too.
fn parse(arguments: &[OsString]) -> Result<Cli, clap::Error> {
    let colours = if plain_theme_wanted(arguments) {
        ColorChoice::Never
    } else {
        ColorChoice::Auto
    };
    let matches = Cli::command()
        .color(colours)
        .try_get_matches_from(arguments)?;
    Cli::from_arg_matches(&matches)
}

/// The exit code of a command line that says nothing to be done.
fn exit_of(error: &clap::Error, arguments: &[OsString]) -> Exit {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Exit::Success,
        _ if names_process_command(arguments) => Exit::OwnFailure,
        _ => Exit::Usage,
    }
}

/// Whether help and errors of the command line shall go without colours. The configuration file is
/// not read for that: it may be what the command line is wrong about.
fn plain_theme_wanted(arguments: &[OsString]) -> bool {
    let simple = |value: &OsString| value == "simple";
    arguments
        .iter()
        .any(|argument| argument == "--theme=simple")
        || arguments
            .iter()
            .zip(arguments.iter().skip(1))
            .any(|(flag, value)| flag == "--theme" && simple(value))
        || std::env::var_os("KLEE_THEME").is_some_and(|theme| simple(&theme))
}

/// Whether a wrong command line was meant for a command whose exit code could be taken for that of
/// a process.
fn names_process_command(arguments: &[OsString]) -> bool {
    let matches = Cli::command()
        .ignore_errors(true)
        .try_get_matches_from(arguments);
    let Ok(matches) = matches else {
        return false;
    };
    match matches.subcommand() {
        Some(("container", matches)) => matches.subcommand_name().is_some_and(runs_process),
        Some((name, _)) => runs_process(name),
        None => false,
    }
}

fn runs_process(name: &str) -> bool {
    matches!(name, "run" | "exec" | "start" | "attach")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn wrong_command_lines_of_processes_are_told_apart() {
        let exit = |line: &str| {
            let arguments: Vec<OsString> = line.split(' ').map(OsString::from).collect();
            exit_of(&parse(&arguments).unwrap_err(), &arguments)
        };
        assert_eq!(exit("klee run --nonsense x"), Exit::OwnFailure);
        assert_eq!(
            exit("klee --theme simple container exec --nonsense x"),
            Exit::OwnFailure
        );
        assert_eq!(exit("klee volume ls --nonsense"), Exit::Usage);
        assert_eq!(exit("klee nonsense"), Exit::Usage);
        assert_eq!(exit("klee --host run volume --nonsense"), Exit::Usage);
        assert_eq!(exit("klee run --help"), Exit::Success);
        assert_eq!(exit("klee attach"), Exit::OwnFailure);
    }

    #[test]
    fn options_of_klee_stand_anywhere_before_a_containers_command() {
        let host = |line: &str| {
            let arguments: Vec<OsString> = line.split(' ').map(OsString::from).collect();
            parse(&arguments).unwrap().options.host
        };
        for line in [
            "klee --host h volume ls",
            "klee volume --host h ls",
            "klee volume ls --host h",
            "klee run --host h base sh",
        ] {
            assert_eq!(host(line).as_deref(), Some("h"), "{line}");
        }
        assert_eq!(host("klee run base sh --host h"), None);
    }
}
