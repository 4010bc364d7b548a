//! Samples, their medians, and the table.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result};

use crate::shell;

/// Milliseconds of several runs.
#[derive(Debug, Clone)]
pub struct Sample(Vec<f64>);

impl Sample {
    /// A sample of these values; at least one.
    pub fn new(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        Self(values)
    }

    /// The middle value.
    pub fn median(&self) -> f64 {
        self.0.get(self.0.len() / 2).copied().unwrap_or(f64::NAN)
    }
}

/// Runs something that answers its own milliseconds, after one warm-up.
pub fn sample(rounds: usize, mut run: impl FnMut() -> Result<f64>) -> Result<Sample> {
    run()?;
    (0..rounds)
        .map(|_| run())
        .collect::<Result<Vec<f64>>>()
        .map(Sample::new)
}

/// Runs two things in turn, so that a drift of the machine's speed meets both.
pub fn paired(rounds: usize, runs: [&dyn Fn() -> Result<f64>; 2]) -> Result<[Sample; 2]> {
    let [first, second] = runs;
    first()?;
    second()?;
    let (mut a, mut b) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        a.push(first()?);
        b.push(second()?);
    }
    Ok([Sample::new(a), Sample::new(b)])
}

/// Milliseconds that a piece of work takes.
pub fn time(work: impl FnOnce() -> Result<()>) -> Result<f64> {
    let start = Instant::now();
    work()?;
    Ok(start.elapsed().as_secs_f64() * 1e3)
}

/// Milliseconds that a command takes as a whole process; it must succeed.
pub fn time_command(command: &mut Command) -> Result<f64> {
    let start = Instant::now();
    let output = command.output().with_context(|| shell::show(command))?;
    let elapsed = start.elapsed();
    anyhow::ensure!(
        output.status.success(),
        "{}: {}\n{}",
        shell::show(command),
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(elapsed.as_secs_f64() * 1e3)
}

/// One line of the table.
pub struct Row {
    what: String,
    value: String,
    target: String,
    kept: bool,
}

impl Row {
    /// A ratio of two medians; smaller is better.
    pub fn ratio(what: &str, ours: &Sample, theirs: &Sample, target: f64) -> Self {
        let ratio = ours.median() / theirs.median();
        Self {
            what: what.to_owned(),
            value: format!(
                "{ratio:.2}  ({:.1} / {:.1} ms)",
                ours.median(),
                theirs.median()
            ),
            target: format!("≤ {target}"),
            kept: ratio <= target,
        }
    }

    /// A value by itself; larger is better.
    pub fn at_least(what: &str, value: f64, unit: &str, target: f64) -> Self {
        Self {
            what: what.to_owned(),
            value: format!("{value:.1} {unit}"),
            target: format!("≥ {target} {unit}"),
            kept: value >= target,
        }
    }

    /// A value by itself; smaller is better.
    pub fn absolute(what: &str, value: f64, unit: &str, target: f64) -> Self {
        Self {
            what: what.to_owned(),
            value: format!("{value:.2} {unit}"),
            target: format!("≤ {target} {unit}"),
            kept: value <= target,
        }
    }
}

/// All rows, aligned.
pub fn table(rows: &[Row]) -> String {
    let mut text = format!("{:<42} {:<28} {:<12}\n", "what", "median", "target");
    for row in rows {
        let mark = if row.kept { "kept" } else { "MISSED" };
        text.push_str(&format!(
            "{:<42} {:<28} {:<12} {mark}\n",
            row.what, row.value, row.target
        ));
    }
    text
}

/// A scratch directory in memory, so that disks don't count.
pub fn scratch() -> Result<tempfile::TempDir> {
    let memory = Path::new("/dev/shm");
    let base = if memory.is_dir() {
        memory.to_owned()
    } else {
        std::env::temp_dir()
    };
    Ok(tempfile::Builder::new()
        .prefix("kleene-bench-")
        .tempdir_in(base)?)
}

/// Many mounts, gone when dropped.
pub struct Mounts(PathBuf);

impl Mounts {
    /// Makes them beneath `directory`.
    pub fn make(directory: &Path, count: usize) -> Result<Self> {
        std::fs::create_dir_all(directory)?;
        shell::output(
            Command::new("mount")
                .args(["-t", "tmpfs", "none"])
                .arg(directory),
        )?;
        let mounts = Self(directory.to_owned());
        for number in 0..count {
            let point = directory.join(number.to_string());
            std::fs::create_dir(&point)?;
            shell::output(Command::new("mount").arg("--bind").args([&point, &point]))?;
        }
        Ok(mounts)
    }
}

impl Drop for Mounts {
    fn drop(&mut self) {
        let _ = shell::output(Command::new("umount").args(["-R", "-l"]).arg(&self.0));
    }
}
