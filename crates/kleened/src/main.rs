//! The daemon's program.

mod cli;
mod commands;
mod daemon;
mod reload;
mod rooms;

use std::io::Write;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use kleened::config::{self, Config};
use kleened::{http, listen, tls};

use crate::cli::{Arguments, Command};
use crate::reload::Reload;

fn main() -> ExitCode {
    kleene_host::allocator::keep_small();
    match run(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("kleened: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<()> {
    let mut out = std::io::stdout().lock();
    if arguments.openapi {
        let document = http::openapi::generate().context("writing the document failed")?;
        return out
            .write_all(document.as_bytes())
            .context("writing to standard output failed");
    }
    match &arguments.command {
        Some(Command::Init(options)) => {
            drop(out);
            return commands::init(options);
        }
        Some(Command::Import(options)) => {
            drop(out);
            return commands::import(options);
        }
        None => {}
    }
    let (mut config, file) = config::load(arguments.config.as_deref())?;
    let check = arguments.check_config;
    arguments.apply(&mut config);
    if check {
        check_sense(&config)?;
        let source = match &file {
            Some(file) => format!("{}: the configuration is good", file.display()),
            None => format!(
                "{} doesn't exist: the defaults are used",
                config::DEFAULT_PATH
            ),
        };
        return writeln!(out, "{source}").context("writing to standard output failed");
    }
    drop(out);
    daemon::run(&Reload::start(arguments, config)?)
}

/// Checks what can be checked without starting: the storage driver against the root, the group, the
/// outside runtime, the certificates of all sockets.
fn check_sense(config: &Config) -> Result<()> {
    kleene_storage::select::check(config.storage_driver, &config.kleene_root)?;
    if let Some(group) = &config.socket_group {
        listen::group_id(group)?;
    }
    if let Some(runtime) = config.oci_runtime.as_ref().filter(|path| !path.is_file()) {
        anyhow::bail!("oci_runtime: '{}' is not there", runtime.display());
    }
    for socket in &config.sockets {
        if let Some(files) = &socket.tls {
            tls::server_config(files).with_context(|| socket.address.to_string())?;
        }
    }
    Ok(())
}
