//! `cargo xtask freebsd-selftest`: one tar with the programs for FreeBSD and a shell script that plays on a
//! real one what they promise.
//!
//! The script needs nothing but a base system. Its common part runs on Linux as well, where
//! `tests/tests/selftest.rs` plays it, so that it can't rot unseen.

use std::path::Path;

use anyhow::{Context, Result, bail};

use super::{Compiler, PROGRAMS, TARGET, binary, target_dir};
use crate::shell;

/// The directory in the tar.
const NAME: &str = "kleene-selftest";

/// Where the tar is written unless something else is said.
const OUTPUT: &str = "target/kleene-selftest.tar";

/// The script and its parts, by their places beside the programs.
const SCRIPTS: &[(&str, &str)] = &[
    ("selftest.sh", include_str!("selftest/selftest.sh")),
    ("lib/tap.sh", include_str!("selftest/lib/tap.sh")),
    ("lib/world.sh", include_str!("selftest/lib/world.sh")),
    ("lib/daemon.sh", include_str!("selftest/lib/daemon.sh")),
    ("lib/volumes.sh", include_str!("selftest/lib/volumes.sh")),
    (
        "lib/processes.sh",
        include_str!("selftest/lib/processes.sh"),
    ),
    ("lib/jails.sh", include_str!("selftest/lib/jails.sh")),
    ("lib/limits.sh", include_str!("selftest/lib/limits.sh")),
    ("lib/images.sh", include_str!("selftest/lib/images.sh")),
    ("lib/survival.sh", include_str!("selftest/lib/survival.sh")),
    ("README", include_str!("selftest/README")),
];

/// Builds the programs and packs them.
pub fn run(options: &[&str]) -> Result<()> {
    let mut install = true;
    let mut output = OUTPUT;
    let mut words = options.iter();
    while let Some(word) = words.next() {
        match *word {
            "--no-install" => install = false,
            "--output" => output = words.next().context("--output needs the name of a file")?,
            other => bail!("unknown option {other}: there are --output FILE and --no-install"),
        }
    }
    let compiler = Compiler::ensure(install)?;
    let mut build = compiler.cargo("build");
    build.arg("--release");
    for name in PROGRAMS {
        build.args(["--package", name, "--bin", name]);
    }
    // Names of functions in a backtrace are all that is lost.
    build.env("CARGO_PROFILE_RELEASE_STRIP", "symbols");
    // The standard library that was built here has nothing that could be optimised at link time.
    build.env("CARGO_PROFILE_RELEASE_LTO", "off");
    shell::status(&mut build)?;
    pack(
        &target_dir().join(TARGET).join("release"),
        Path::new(output),
    )
}

/// Writes the tar, of the programs in `built`.
fn pack(built: &Path, output: &Path) -> Result<()> {
    let staged = output.with_extension("new");
    if let Some(parent) = output.parent() {
        std::fs::create_dir_all(parent)?;
    }
    let file = std::fs::File::create(&staged)
        .with_context(|| format!("{} can't be written", staged.display()))?;
    let mut tar = tar::Builder::new(file);
    for directory in ["", "lib/"] {
        append(&mut tar, directory, tar::EntryType::Directory, 0o755, b"")?;
    }
    for name in PROGRAMS {
        let path = built.join(name);
        eprintln!("  {}: {}", path.display(), binary::describe(&path)?);
        append(
            &mut tar,
            name,
            tar::EntryType::Regular,
            0o755,
            &std::fs::read(&path)?,
        )?;
    }
    for (name, text) in SCRIPTS {
        append(
            &mut tar,
            name,
            tar::EntryType::Regular,
            0o644,
            text.as_bytes(),
        )?;
    }
    tar.into_inner()?.sync_all()?;
    std::fs::rename(&staged, output)
        .with_context(|| format!("{} can't be written", output.display()))?;
    let size = std::fs::metadata(output)?.len() >> 20;
    eprintln!("  {}: {size} MiB", output.display());
    eprintln!("as root on FreeBSD: tar xf FILE && sh {NAME}/selftest.sh");
    Ok(())
}

/// Adds an entry in the oldest format that every tar knows; the same input makes the same tar.
fn append(
    tar: &mut tar::Builder<std::fs::File>,
    name: &str,
    kind: tar::EntryType,
    mode: u32,
    data: &[u8],
) -> Result<()> {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(u64::try_from(data.len())?);
    tar.append_data(&mut header, format!("{NAME}/{name}"), data)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn sources() -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("src/freebsd/selftest")
    }

    /// Shells that are strict about what POSIX has.
    #[test]
    fn the_scripts_are_posix() {
        for (name, _) in SCRIPTS.iter().filter(|(name, _)| *name != "README") {
            for shell in [&["sh", "-n"][..], &["bash", "--posix", "-n"]] {
                let [program, arguments @ ..] = shell else {
                    unreachable!();
                };
                let output = Command::new(program)
                    .args(arguments)
                    .arg(sources().join(name))
                    .output()
                    .unwrap();
                let said = String::from_utf8_lossy(&output.stderr).into_owned();
                assert!(output.status.success() && said.is_empty(), "{name}: {said}");
            }
        }
    }

    /// Words that only some shells and systems know.
    #[test]
    fn the_scripts_use_what_every_base_system_has() {
        for (name, text) in SCRIPTS.iter().filter(|(name, _)| *name != "README") {
            for (number, line) in text.lines().enumerate() {
                for word in [
                    "[[",
                    "function ",
                    "local ",
                    "<<<",
                    "<(",
                    " $'",
                    "&>",
                    "declare ",
                    "echo -e",
                    "echo -n",
                    "sed -i",
                    "sed -r",
                    "grep -P",
                    "readlink -f",
                    "stat -c",
                    "stat -f",
                    "python",
                    "curl",
                    "jq ",
                    "perl",
                    "seq ",
                    "mktemp",
                ] {
                    let code = line.split("# ").next().unwrap();
                    assert!(!code.contains(word), "{name}:{}: {word}", number + 1);
                }
            }
        }
    }

    #[test]
    fn every_part_is_packed_and_read() {
        for directory in [sources(), sources().join("lib")] {
            for entry in std::fs::read_dir(directory).unwrap().flatten() {
                let path = entry.path();
                let name = path.strip_prefix(sources()).unwrap().to_str().unwrap();
                let packed = SCRIPTS.iter().any(|(packed, _)| *packed == name);
                assert!(packed || path.is_dir(), "{name} isn't packed");
            }
        }
        let (_, script) = SCRIPTS[0];
        let parts = script
            .lines()
            .find(|line| line.starts_with("for part in"))
            .unwrap();
        for (name, text) in &SCRIPTS[1..] {
            let Some(part) = name
                .strip_prefix("lib/")
                .and_then(|name| name.strip_suffix(".sh"))
            else {
                continue;
            };
            assert!(parts.contains(&format!(" {part}")), "{part} isn't read");
            // Every point is played somewhere.
            let points = text.lines().filter_map(|line| line.strip_suffix("() {"));
            for point in points.filter(|point| point.starts_with("p_") && *point != "p_many") {
                assert!(script.contains(point), "{point} is never played");
            }
        }
    }
}
