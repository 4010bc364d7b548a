//! `cargo xtask install`: release binaries, a default configuration, a systemd unit.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::{packages, shell};

const CONFIG: &str = include_str!("../files/config.yaml");
const UNIT: &str = include_str!("../files/kleened.service");

/// Builds and installs. `--prefix` is where programs go (default `/usr/local`), `--destdir` is put
/// before every path (for packagers).
pub fn run(options: &[&str]) -> Result<()> {
    let (mut prefix, mut destdir) = ("/usr/local", "");
    let mut words = options.iter();
    while let Some(word) = words.next() {
        let value = words
            .next()
            .with_context(|| format!("{word} needs a value"))?;
        match *word {
            "--prefix" => prefix = value,
            "--destdir" => destdir = value,
            other => bail!("unknown option {other}: --prefix DIR and --destdir DIR are known"),
        }
    }
    if destdir.is_empty() {
        packages::ensure_build()?;
    }
    shell::status(shell::cargo().args(["build", "--release", "--workspace", "--bins"]))?;
    let built = shell::target_dir("release");
    let place = |path: &str| PathBuf::from(format!("{destdir}{path}"));
    eprintln!("installed:");
    shell::copy(
        &built.join("klee"),
        &place(&format!("{prefix}/bin/klee")),
        0o755,
    )?;
    shell::copy(
        &built.join("kleened"),
        &place(&format!("{prefix}/sbin/kleened")),
        0o755,
    )?;
    let monitor = place(&format!("{prefix}/libexec/kleene/kleene-monitor"));
    shell::copy(&built.join("kleene-monitor"), &monitor, 0o755)?;
    write_new(&place("/etc/kleened/config.yaml"), CONFIG)?;
    let unit = UNIT.replace("@PREFIX@", prefix);
    write_new(&place("/etc/systemd/system/kleened.service"), &unit)?;
    println!("start the daemon:  systemctl enable --now kleened   (or: {prefix}/sbin/kleened)");
    println!("first steps:       klee image create -t base host && klee run base ls /");
    Ok(())
}

/// Writes a file that isn't there yet; one that is keeps its owner's changes.
fn write_new(path: &std::path::Path, text: &str) -> Result<()> {
    if path.exists() {
        eprintln!("  {} (kept as it is)", path.display());
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    std::fs::write(path, text).with_context(|| format!("{} can't be written", path.display()))?;
    eprintln!("  {}", path.display());
    Ok(())
}
