//! Taking up a changed configuration while the daemon runs, which SIGHUP asks for.
//!
//! What is logged changes at once. The rest is what containers, clients and registries were promised
//! when the daemon started: it is checked, named, and counts from the next start on.

use std::fs::File;
use std::io::IsTerminal;
use std::os::unix::fs::OpenOptionsExt;

use anyhow::{Context, Result};
use kleened::config::{self, Config};
use tracing::level_filters::LevelFilter;
use tracing::{error, info, warn};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload::Handle;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Registry, fmt, reload};

use crate::cli::Arguments;

/// Reads the configuration again.
pub struct Reload {
    arguments: Arguments,
    running: Config,
    level: Handle<LevelFilter, Registry>,
}

impl Reload {
    /// Begins to log, as a daemon does that was started with these arguments and this configuration.
    ///
    /// # Errors
    /// When the log file can't be opened.
    pub fn start(arguments: Arguments, running: Config) -> Result<Self> {
        open_log(&arguments)?;
        let (filter, level) = reload::Layer::new(running.log_level);
        let lines = fmt::layer()
            .with_writer(std::io::stderr)
            .with_ansi(std::io::stderr().is_terminal())
            .with_target(false);
        tracing_subscriber::registry()
            .with(filter)
            .with(lines)
            .init();
        Ok(Self {
            arguments,
            running,
            level,
        })
    }

    /// The configuration that the daemon runs with.
    pub fn running(&self) -> &Config {
        &self.running
    }

    /// Opens the log file and reads the configuration again. One that is wrong changes nothing.
    pub fn again(&self) {
        if let Err(problem) = open_log(&self.arguments) {
            error!("{problem:#}; the log goes on where it was");
        }
        let mut config = match config::load(self.arguments.config.as_deref()) {
            Ok((config, _)) => config,
            Err(problem) => {
                error!("{problem}; the daemon goes on as it was");
                return;
            }
        };
        self.arguments.apply(&mut config);
        if let Err(problem) = self.level.modify(|level| *level = config.log_level) {
            error!(%problem, "the log level can't be changed");
        }
        info!(level = %config.log_level, "the configuration was read again");
        for key in differences(&self.running, &config) {
            warn!("{key} has changed: the new value counts when kleened is restarted");
        }
    }
}

/// Has standard error go to the log file, if there is to be one. Monitors inherit it: a pipe, in place
/// of it, would be held open by each of them.
fn open_log(arguments: &Arguments) -> Result<()> {
    let Some(path) = &arguments.log_file else {
        return Ok(());
    };
    // It names containers, images and paths of the host.
    let opened = File::options()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path);
    let redirected = opened.and_then(|file| Ok(rustix::stdio::dup2_stderr(file)?));
    redirected.with_context(|| format!("the log file '{}' can't be opened", path.display()))
}

/// The keys that differ and can't be taken up.
fn differences(running: &Config, new: &Config) -> Vec<&'static str> {
    let keys = [
        ("kleene_root", running.kleene_root == new.kleene_root),
        (
            "storage_driver",
            running.storage_driver == new.storage_driver,
        ),
        ("api_listening_sockets", running.sockets == new.sockets),
        ("socket_group", running.socket_group == new.socket_group),
        ("oci_runtime", running.oci_runtime == new.oci_runtime),
        (
            "allow_host_commands",
            running.allow_host_commands == new.allow_host_commands,
        ),
        (
            "default_registry",
            running.registries.default == new.registries.default,
        ),
        ("registries", running.registries.each == new.registries.each),
    ];
    keys.into_iter()
        .filter(|(_, same)| !same)
        .map(|(key, _)| key)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_needs_a_restart_is_named() {
        let old = Config::default();
        let new = Config {
            kleene_root: "/k".to_owned(),
            log_level: LevelFilter::DEBUG,
            allow_host_commands: true,
            ..Config::default()
        };
        assert_eq!(
            differences(&old, &new),
            ["kleene_root", "allow_host_commands"]
        );
        assert!(differences(&old, &old).is_empty());
    }
}
