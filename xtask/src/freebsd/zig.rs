//! zig, as a C compiler and linker that knows FreeBSD's C library. PyPI has it as a package.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::{publish, stage};
use crate::{packages, shell};

/// The package on PyPI, of the version that is known to work.
const PACKAGE: &str = "ziglang";
const VERSION: &str = "0.17.1";

/// Names a zig to be used instead.
const VARIABLE: &str = "KLEENE_ZIG";

/// Programs by the names that builds expect.
pub struct Tools {
    pub cc: PathBuf,
    pub cxx: PathBuf,
    pub ar: PathBuf,
}

/// Installs zig where it is missing, and writes the programs that call it.
pub fn ensure(cache: &Path, install: bool) -> Result<Tools> {
    let zig = match std::env::var_os(VARIABLE) {
        Some(given) => std::path::absolute(given)?,
        None => installed(cache, install)?,
    };
    if !zig.is_file() {
        bail!("there is no zig at {}", zig.display());
    }
    let tools = Tools {
        cc: cache.join("cc"),
        cxx: cache.join("c++"),
        ar: cache.join("ar"),
    };
    write_program(&tools.cc, &compiler(&zig, "cc"))?;
    write_program(&tools.cxx, &compiler(&zig, "c++"))?;
    write_program(
        &tools.ar,
        &format!("#!/bin/sh\nexec {} ar \"$@\"\n", quoted(&zig)),
    )?;
    Ok(tools)
}

fn installed(cache: &Path, install: bool) -> Result<PathBuf> {
    let place = cache.join(format!("{PACKAGE}-{VERSION}"));
    if !place.is_dir() {
        if !install {
            bail!(
                "zig isn't there, and nothing is downloaded with --no-install: \
                 set {VARIABLE} to a zig {VERSION}, or run without --no-install"
            );
        }
        download(cache, &place).with_context(|| {
            format!("{PACKAGE} {VERSION} can't be had from PyPI: set {VARIABLE} to a zig {VERSION}")
        })?;
    }
    Ok(place.join("zig"))
}

/// Installs the package into a private environment, of which only the package itself is kept.
fn download(cache: &Path, place: &Path) -> Result<()> {
    packages::ensure_python()?;
    let scratch = stage(cache)?;
    let environment = scratch.path().join("venv");
    let python = environment.join("bin/python");
    shell::output(
        Command::new("python3")
            .args(["-m", "venv"])
            .arg(&environment),
    )?;
    let wanted = format!("{PACKAGE}=={VERSION}");
    shell::status(Command::new(&python).args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        &wanted,
    ]))?;
    let program = format!("import {PACKAGE}; print({PACKAGE}.__path__[0])");
    let package = shell::output(Command::new(&python).args(["-c", &program]))?;
    publish(Path::new(package.trim()), place)
}

/// A compiler's arguments as rustc and build scripts give them for this target, as zig takes them:
/// zig has its own name for the target, its own unwinder in place of gcc's, and lacks libraries of
/// the base system that the standard library's bindings name without using them.
fn compiler(zig: &Path, name: &str) -> String {
    format!(
        r#"#!/bin/sh
left=$#
while [ "$left" -gt 0 ]; do
  word=$1
  shift
  left=$((left - 1))
  case $word in
  --target=*) ;;
  -lgcc_s) set -- "$@" -lunwind ;;
  -lkvm | -lmemstat | -lprocstat | -ldevstat) ;;
  *) set -- "$@" "$word" ;;
  esac
done
exec {} {name} -target x86_64-freebsd -fno-sanitize=all "$@"
"#,
        quoted(zig)
    )
}

/// A path as one word of a shell.
fn quoted(path: &Path) -> String {
    format!("'{}'", path.to_string_lossy().replace('\'', r"'\''"))
}

/// Writes a program if it isn't there as it should be: build scripts run again when their compiler is
/// newer than what they made.
fn write_program(path: &Path, text: &str) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    if std::fs::read_to_string(path).is_ok_and(|present| present == text) {
        return Ok(());
    }
    let scratch = stage(path.parent().context("a program has no directory")?)?;
    let ready = scratch.path().join("program");
    std::fs::write(&ready, text)?;
    std::fs::set_permissions(&ready, std::fs::Permissions::from_mode(0o755))?;
    std::fs::rename(&ready, path).with_context(|| format!("{} can't be written", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The program with `echo` in zig's place.
    fn arguments(given: &[&str]) -> String {
        let scratch = tempfile::tempdir().unwrap();
        let program = scratch.path().join("cc");
        write_program(&program, &compiler(Path::new("/bin/echo"), "cc")).unwrap();
        let words = Command::new("sh").arg(&program).args(given).output();
        String::from_utf8(words.unwrap().stdout).unwrap()
    }

    #[test]
    fn the_compiler_translates() {
        assert_eq!(
            arguments(&[
                "--target=x86_64-unknown-freebsd",
                "a b.o",
                "-lgcc_s",
                "-lkvm",
                "-lc"
            ]),
            "cc -target x86_64-freebsd -fno-sanitize=all a b.o -lunwind -lc\n"
        );
        assert_eq!(
            arguments(&[]),
            "cc -target x86_64-freebsd -fno-sanitize=all\n"
        );
    }

    #[test]
    fn paths_are_one_word() {
        assert_eq!(quoted(Path::new("/a b/it's")), r"'/a b/it'\''s'");
    }
}
