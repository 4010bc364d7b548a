//! `cargo xtask`: demo, tests, benchmarks, installation.

#![allow(
    clippy::disallowed_types,
    reason = "this is a build tool: it starts cargo and others"
)]

mod bench;
mod demo;
mod freebsd;
mod install;
mod packages;
mod shell;
mod test;
mod tidy;

use std::process::ExitCode;

use anyhow::{Context, Result, bail};

const HELP: &str = "\
Usage: cargo xtask COMMAND

Commands:
  demo [--keep]      build, start a private daemon, play the volumes walk-through, clean up
  test [--no-install] all tests, as root: installs the Debian packages that they need first
  install [--prefix DIR] [--destdir DIR]
                     release binaries, a default configuration, a systemd unit
  bench [containers|volumes|images]...
                     what things cost, beside crun, podman and buildah in the same run
  freebsd [--no-install]
                     check, lint and link for FreeBSD, on a machine that isn't
  freebsd-selftest [--output FILE] [--no-install]
                     a tar with the programs for FreeBSD and a script that tests them there
  openapi            write openapi/kleened.json and docs/reference anew
  tidy               checks of the sources that neither rustfmt nor clippy does
  packages           install the Debian packages that building and testing need

Examples:
  cargo xtask demo
  sudo -E cargo xtask test
  cargo xtask install --prefix /usr/local
";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    std::env::set_current_dir(root()?).context("the workspace can't be entered")?;
    match words.as_slice() {
        ["demo"] => demo::run(false),
        ["demo", "--keep"] => demo::run(true),
        ["test"] => test::run(true),
        ["test", "--no-install"] => test::run(false),
        ["install", options @ ..] => install::run(options),
        ["bench", parts @ ..] => bench::run(parts),
        ["freebsd"] => freebsd::run(true),
        ["freebsd", "--no-install"] => freebsd::run(false),
        ["freebsd-selftest", options @ ..] => freebsd::selftest::run(options),
        ["openapi"] => test::write_references(),
        ["tidy"] => tidy::run(),
        ["packages"] => packages::ensure(),
        [] | ["help" | "--help" | "-h"] => {
            print!("{HELP}");
            Ok(())
        }
        other => bail!("unknown command or options: {}\n\n{HELP}", other.join(" ")),
    }
}

/// The workspace's directory.
fn root() -> Result<std::path::PathBuf> {
    let manifest = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest
        .parent()
        .map(std::path::Path::to_owned)
        .context("xtask lies outside of a workspace")
}
