//! `cargo xtask test`: everything that must hold, in the order in which it fails fastest.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::{freebsd, packages, shell, tidy};

/// Runs all tests. As root, since the suites start containers.
pub fn run(install: bool) -> Result<()> {
    if !shell::is_root() {
        bail!("the tests start containers: run `cargo xtask test` as root");
    }
    if install {
        packages::ensure()?;
    }
    let mut steps = Steps::default();
    steps.run("format", || cargo(&["fmt", "--all", "--check"]))?;
    steps.run("tidy", tidy::run)?;
    steps.run("clippy", || {
        cargo(&[
            "clippy",
            "--workspace",
            "--all-targets",
            "--all-features",
            "--",
            "-D",
            "warnings",
        ])
    })?;
    steps.run("build", || cargo(&["build", "--workspace", "--bins"]))?;
    steps.run("documentation", || {
        let mut command = shell::cargo();
        command
            .args(["doc", "--workspace", "--no-deps", "--quiet"])
            .env("RUSTDOCFLAGS", "-D warnings");
        shell::status(&mut command)
    })?;
    steps.run("references", check_references)?;
    steps.run("doctests", || {
        cargo(&["test", "--workspace", "--doc", "--quiet"])
    })?;
    steps.run("freebsd", || freebsd::run(install))?;
    steps.run("tests", tests)?;
    steps.run("simulated FreeBSD", engine_on_freebsd)?;
    steps.run("demo", || crate::demo::run(false))?;
    steps.summary();
    Ok(())
}

fn cargo(arguments: &[&str]) -> Result<()> {
    shell::status(shell::cargo().args(arguments))
}

/// Unit, engine, conformance and whole-system tests. Suites that share the machine's one zfs-fuse or
/// count what is on it say so in `.config/nextest.toml`.
fn tests() -> Result<()> {
    if shell::find("cargo-nextest").is_some() {
        return cargo(&[
            "nextest",
            "run",
            "--workspace",
            "--all-features",
            "--no-fail-fast",
        ]);
    }
    eprintln!("cargo-nextest is not installed: using cargo test, which is slower");
    cargo(&[
        "test",
        "--workspace",
        "--all-features",
        "--no-fail-fast",
        "--lib",
        "--bins",
        "--tests",
    ])
}

/// The engine's suite once more, over the FreeBSD room and a simulated FreeBSD.
fn engine_on_freebsd() -> Result<()> {
    let nextest: &[&str] = match shell::find("cargo-nextest") {
        Some(_) => &["nextest", "run"],
        None => &["test"],
    };
    let mut command = shell::cargo();
    command
        .args(nextest)
        .args(["--package", "kleene-engine", "--no-fail-fast", "--tests"])
        .env("KLEENE_TEST_ROOM", "freebsd");
    shell::status(&mut command)
}

/// Files that programs write about themselves.
fn references() -> [(&'static str, &'static str, &'static [&'static str]); 2] {
    [
        ("openapi/kleened.json", "kleened", &["--openapi"]),
        ("docs/reference/klee.md", "klee", &["reference"]),
    ]
}

/// Writes the OpenAPI document and the command line's reference anew.
pub fn write_references() -> Result<()> {
    cargo(&["build", "--workspace", "--bins"])?;
    for (file, program, arguments) in references() {
        if let Some(parent) = std::path::Path::new(file).parent() {
            std::fs::create_dir_all(parent)?;
        }
        std::fs::write(file, generated(program, arguments)?)?;
        eprintln!("  {file}");
    }
    Ok(())
}

fn check_references() -> Result<()> {
    for (file, program, arguments) in references() {
        let committed = std::fs::read_to_string(file)
            .with_context(|| format!("{file} can't be read: run `cargo xtask openapi`"))?;
        if committed != generated(program, arguments)? {
            bail!("{file} is stale: run `cargo xtask openapi` and commit it");
        }
    }
    Ok(())
}

fn generated(program: &str, arguments: &[&str]) -> Result<String> {
    let path = shell::target_dir("debug").join(program);
    let mut text = shell::output(Command::new(path).args(arguments))?;
    if !text.ends_with('\n') {
        text.push('\n');
    }
    Ok(text)
}

/// The steps that were run, with their durations.
#[derive(Default)]
struct Steps(Vec<(&'static str, Duration)>);

impl Steps {
    fn run(&mut self, name: &'static str, step: impl FnOnce() -> Result<()>) -> Result<()> {
        eprintln!("== {name}");
        let start = Instant::now();
        step().with_context(|| format!("{name} failed"))?;
        self.0.push((name, start.elapsed()));
        Ok(())
    }

    fn summary(&self) {
        eprintln!("== all steps passed");
        for (name, duration) in &self.0 {
            eprintln!("{name:>17}  {:>6.1} s", duration.as_secs_f64());
        }
    }
}
