//! `cargo xtask freebsd`: checks everything that runs on FreeBSD, and links it, on a machine that
//! isn't FreeBSD.
//!
//! A check alone lets calls through that the target's C library doesn't have: only a linker misses
//! them. The standard library for the target is built once from its sources ([`library`]); zig is the
//! C compiler and linker, as it knows FreeBSD's C library ([`zig`]). Both are kept in the user's cache
//! directory. What comes out is looked at ([`binary`]), but not run.

mod binary;
mod library;
pub mod selftest;
mod zig;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::shell;

/// What is compiled for.
const TARGET: &str = "x86_64-unknown-freebsd";

/// What is linked: everything that is installed.
const PROGRAMS: &[&str] = &["kleened", "klee", "kleene-monitor"];

/// Crates that are about Linux machines, and nothing else: this one, and the whole-system tests.
const LINUX_ONLY: &[&str] = &["xtask", "kleene-tests"];

/// Checks and links. With `install`, what is needed for it and isn't there is downloaded.
pub fn run(install: bool) -> Result<()> {
    let compiler = Compiler::ensure(install)?;
    let mut clippy = compiler.cargo("clippy");
    clippy.args(["--workspace", "--all-targets", "--all-features"]);
    for name in LINUX_ONLY {
        clippy.args(["--exclude", name]);
    }
    clippy.args(["--", "-D", "warnings"]);
    shell::status(&mut clippy)?;

    let mut build = compiler.cargo("build");
    for name in PROGRAMS {
        build.args(["--package", name, "--bin", name]);
    }
    shell::status(&mut build)?;
    for name in PROGRAMS {
        let path = target_dir().join(TARGET).join("debug").join(name);
        let found = binary::describe(&path)?;
        eprintln!("  {}: {found}", path.display());
    }
    Ok(())
}

/// All that cargo must be told to compile for FreeBSD.
struct Compiler {
    /// The directory with the target's standard library, where it isn't the toolchain's own.
    sysroot: Option<PathBuf>,
    tools: zig::Tools,
    cache: PathBuf,
}

impl Compiler {
    /// With `install`, what isn't there is downloaded.
    fn ensure(install: bool) -> Result<Self> {
        let cache = cache()?;
        Ok(Self {
            sysroot: library::ensure(&cache, install)?,
            tools: zig::ensure(&cache, install)?,
            cache,
        })
    }

    fn cargo(&self, subcommand: &str) -> Command {
        let mut command = shell::cargo();
        command.args([subcommand, "--target", TARGET]);
        command.env("CARGO_TARGET_DIR", target_dir());
        // Each of these would be used instead of the target's own flags.
        for name in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS"] {
            command.env_remove(name);
        }
        if let Some(sysroot) = &self.sysroot {
            let flags = ["--sysroot".as_ref(), sysroot.as_os_str()];
            command.env(
                "CARGO_TARGET_X86_64_UNKNOWN_FREEBSD_RUSTFLAGS",
                flags.join(std::ffi::OsStr::new(" ")),
            );
        }
        let linker = "CARGO_TARGET_X86_64_UNKNOWN_FREEBSD_LINKER";
        command.env(linker, &self.tools.cc);
        command.env("CC_x86_64_unknown_freebsd", &self.tools.cc);
        command.env("CXX_x86_64_unknown_freebsd", &self.tools.cxx);
        command.env("AR_x86_64_unknown_freebsd", &self.tools.ar);
        command.env("ZIG_GLOBAL_CACHE_DIR", self.cache.join("zig-cache"));
        command.env("ZIG_LOCAL_CACHE_DIR", self.cache.join("zig-cache"));
        command
    }
}

/// Build output has a directory of its own: objects of two C compilers don't belong in one.
fn target_dir() -> PathBuf {
    shell::target_dir("freebsd")
}

/// Where what was downloaded and built is kept.
fn cache() -> Result<PathBuf> {
    let base = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
        .or_else(|| std::env::home_dir().map(|home| home.join(".cache")))
        .context("there is no cache directory: set HOME or XDG_CACHE_HOME")?;
    let cache = base.join("kleene-freebsd");
    if cache.to_string_lossy().contains(char::is_whitespace) {
        bail!(
            "'{}' has a space in it, which cargo's flags can't: set XDG_CACHE_HOME to another directory",
            cache.display()
        );
    }
    std::fs::create_dir_all(&cache)
        .with_context(|| format!("{} can't be made", cache.display()))?;
    Ok(cache)
}

/// A directory beside its final place, in which something is made ready.
fn stage(cache: &Path) -> Result<tempfile::TempDir> {
    tempfile::Builder::new()
        .prefix("new-")
        .tempdir_in(cache)
        .with_context(|| format!("{} can't be written to", cache.display()))
}

/// Puts what is ready in its place. Another process may have done so in the meantime: what is there
/// is as good.
fn publish(ready: &Path, place: &Path) -> Result<()> {
    match std::fs::rename(ready, place) {
        Err(_) if place.is_dir() => Ok(()),
        result => result.with_context(|| format!("{} can't be made", place.display())),
    }
}
