//! The commands of the program that aren't the daemon.

use std::ffi::CStr;
use std::path::Path;

use anyhow::Result;
use kleene_command::System;
use kleene_storage::Driver;
use kleened::{import, init};

use crate::cli::{ImportArguments, InitArguments};

/// `kleened init`.
///
/// # Errors
/// See [`init::run`].
pub fn init(arguments: &InitArguments) -> Result<()> {
    let uname = rustix::system::uname();
    let text = |name: &CStr| name.to_string_lossy().into_owned();
    let machine = init::Machine {
        system: (text(uname.sysname()), text(uname.release())),
        runner: &System,
        directory: Path::new("/"),
        is_root: rustix::process::geteuid().is_root(),
        open: &|root| kleene_storage::open(Driver::Auto, root).map(drop),
    };
    let options = init::Options {
        root: arguments.root.clone(),
        config: arguments.config.clone(),
        racct: arguments.racct,
        dry_run: arguments.dry_run,
    };
    init::run(&machine, &options, &mut std::io::stdout().lock())?;
    Ok(())
}

/// `kleened import`.
///
/// # Errors
/// See [`import::run`].
pub fn import(arguments: &ImportArguments) -> Result<()> {
    let machine = import::Machine {
        runner: &System,
        directory: Path::new("/"),
        is_root: rustix::process::geteuid().is_root(),
        has_jails: cfg!(target_os = "freebsd"),
    };
    let options = import::Options {
        config: arguments.config.clone(),
        from: arguments.from.clone(),
        yes: arguments.yes,
    };
    import::run(&machine, &options, &mut std::io::stdout().lock())?;
    Ok(())
}
