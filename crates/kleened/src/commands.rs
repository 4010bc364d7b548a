//! The commands of the program that aren't the daemon.

use std::path::Path;

use anyhow::Result;
use kleene_command::System;
use kleene_storage::Driver;
use kleened::init::{self, Machine, Options};

use crate::cli::InitArguments;

/// `kleened init`.
///
/// # Errors
/// See [`init::run`].
pub fn init(arguments: &InitArguments) -> Result<()> {
    let machine = Machine {
        runner: &System,
        directory: Path::new("/"),
        is_root: rustix::process::geteuid().is_root(),
        open: &|root| kleene_storage::open(Driver::Auto, root).map(drop),
    };
    let options = Options {
        root: arguments.root.clone(),
        config: arguments.config.clone(),
        racct: arguments.racct,
        dry_run: arguments.dry_run,
    };
    init::run(&machine, &options, &mut std::io::stdout().lock())?;
    Ok(())
}
