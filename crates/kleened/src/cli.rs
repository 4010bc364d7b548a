//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use kleened::config::{Config, Place, SocketConfig};

const EXAMPLES: &str = "\
Examples:
  kleened                                     run with /etc/kleened/config.yaml if there is one,
                                              else with the built-in defaults; on FreeBSD it is
                                              /usr/local/etc/kleened/config.yaml
  kleened init --dry-run                      tell what this machine needs for the daemon
  kleened init                                and do it
  kleened import                              tell what can be taken over of the original Kleene
  kleened import --yes                        and do it
  kleened --config /etc/kleened/test.yaml     run with this configuration
  kleened --root /srv/kleene --socket /run/k.sock
                                              a second, private daemon
  kleened --check-config                      say what is wrong with the configuration, and end
  kleened --openapi > kleened.json            write the description of the HTTP interface

Signals:
  SIGHUP            open the log file and read the configuration again; log_level counts from
                    then on
  SIGTERM, SIGINT   answer the requests that are being worked on, then end; containers live on

Exit codes:
  0  ended by a signal    1  failed; the reason is on standard error    2  wrong usage";

/// The Kleene daemon: containers whose data is kept.
#[derive(Debug, Parser)]
#[command(
    name = "kleened",
    version,
    after_help = EXAMPLES,
    max_term_width = 100,
    args_conflicts_with_subcommands = true,
    disable_help_subcommand = true
)]
pub struct Arguments {
    /// What to do in place of running the daemon
    #[command(subcommand)]
    pub command: Option<Command>,

    /// Configuration file
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Kleene root, in place of the configured one: an absolute directory or a ZFS dataset
    #[arg(long, value_name = "ROOT")]
    pub root: Option<String>,

    /// Listen here, in place of the configured sockets: a path, http:///path/to.sock or
    /// http://IP:PORT; can be given several times
    #[arg(long, value_name = "ADDRESS", value_parser = socket)]
    pub socket: Vec<SocketConfig>,

    /// Log to this file, in place of standard error; SIGHUP has it opened again
    #[arg(long, value_name = "FILE")]
    pub log_file: Option<PathBuf>,

    /// Check the configuration and end
    #[arg(long)]
    pub check_config: bool,

    /// Print the OpenAPI document and end
    #[arg(long)]
    pub openapi: bool,
}

/// What the program does beside running the daemon.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make this machine ready for the daemon
    ///
    /// Writes a default configuration, makes the Kleene root and, on FreeBSD, loads kernel modules,
    /// sets variables of rc.conf and has the log rotated. What is there already stays as it is.
    Init(InitArguments),

    /// Take over what the original Kleene has: images, containers, volumes
    ///
    /// They stay in their datasets; only their records are written anew. Without --yes nothing is
    /// changed: what would be done is told, and what can't be taken over, with the reasons. With --yes
    /// the original's records are kept as metadata.sqlite.original.
    Import(ImportArguments),
}

/// Options of `kleened init`.
#[derive(Debug, Args)]
pub struct InitArguments {
    /// Kleene root: a ZFS dataset or an absolute directory [default: zroot/kleene, or that of the
    /// only pool, or a directory where there is no pool]
    #[arg(long, value_name = "ROOT")]
    pub root: Option<String>,

    /// Configuration file
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Put kern.racct.enable=1 into /boot/loader.conf, which limits of containers need (FreeBSD)
    #[arg(long)]
    pub racct: bool,

    /// Change nothing, only tell what would be done
    #[arg(long)]
    pub dry_run: bool,
}

/// Options of `kleened import`.
#[derive(Debug, Args)]
pub struct ImportArguments {
    /// The original's configuration file
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// The original's Kleene root, a ZFS dataset, in place of the configured one
    #[arg(long, value_name = "DATASET")]
    pub from: Option<String>,

    /// Change nothing, only tell what would be done: that is so without this option, too
    #[arg(long, conflicts_with = "yes")]
    pub dry_run: bool,

    /// Do it
    #[arg(long)]
    pub yes: bool,
}

impl Arguments {
    /// Puts what was given on the command line in the place of what is configured.
    pub fn apply(&self, config: &mut Config) {
        if let Some(root) = &self.root {
            config.kleene_root.clone_from(root);
        }
        if !self.socket.is_empty() {
            config.sockets.clone_from(&self.socket);
        }
    }
}

fn socket(text: &str) -> Result<SocketConfig, String> {
    let address = match text.starts_with('/') {
        true => format!("http://{text}").parse(),
        false => text.parse(),
    };
    let address: kleened::config::Address =
        address.map_err(|e: kleened::config::AddressError| e.to_string())?;
    match (&address.place, address.tls) {
        (_, true) => Err("TLS needs certificates: use a configuration file".to_owned()),
        (Place::Unix(_) | Place::Tcp(_), false) => Ok(SocketConfig { address, tls: None }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn parse(arguments: &[&str]) -> Result<Arguments, clap::Error> {
        Arguments::try_parse_from([&["kleened"], arguments].concat())
    }

    #[test]
    fn the_command_line_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn options_beat_the_configuration() {
        let arguments = [
            "--root",
            "/k",
            "--socket",
            "/a.sock",
            "--socket",
            "http://127.0.0.1:1",
        ];
        let mut config = Config::default();
        parse(&arguments).unwrap().apply(&mut config);
        assert_eq!(config.kleene_root, "/k");
        let addresses: Vec<String> = config
            .sockets
            .iter()
            .map(|socket| socket.address.to_string())
            .collect();
        assert_eq!(addresses, ["http:///a.sock", "http://127.0.0.1:1"]);
        let mut config = Config::default();
        parse(&[]).unwrap().apply(&mut config);
        assert_eq!(config, Config::default());
    }

    #[test]
    fn the_guide_says_what_can_be_typed() {
        let guide = include_str!("../../../docs/guide/freebsd.md");
        let commands = guide.lines().filter_map(|line| {
            let line = line.strip_prefix("# ")?;
            let (program, arguments) = line.split_once(' ')?;
            program.ends_with("kleened").then_some(arguments)
        });
        let mut count = 0;
        for line in commands {
            let words: Vec<&str> = line.split(' ').collect();
            assert!(parse(&words).is_ok(), "{line}");
            count += 1;
        }
        assert!(count >= 4, "{count}");
    }

    #[test]
    fn a_look_and_the_deed_exclude_each_other() {
        assert!(parse(&["import", "--dry-run", "--yes"]).is_err());
        assert!(parse(&["--root", "/k", "init"]).is_err());
        let parsed = parse(&["init", "--root", "/k"]).unwrap();
        assert!(matches!(parsed.command, Some(Command::Init(_))));
    }

    #[test]
    fn bad_sockets_are_refused() {
        for socket in ["x.sock", "https:///x", "ftp://x", "http://host:1"] {
            assert!(parse(&["--socket", socket]).is_err(), "{socket}");
        }
    }
}
