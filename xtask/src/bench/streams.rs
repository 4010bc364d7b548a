//! Output: kept, attached to, and of many containers at once.

use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result, ensure};

use super::ROUNDS;
use super::daemon::Daemon;
use super::measure::{Row, paired, sample, time};
use super::peers::Peers;
use crate::shell;

/// Bytes of the log that is read back.
const LOG: u64 = 1 << 30;

/// Lines that a busy process prints: about 22 MB.
const LINES: &str = "3000000";

/// Containers that are started by sixteen clients at once.
const MANY: usize = 200;

/// The same for podman, which takes long.
const FEW: usize = 32;

/// Runs the benchmarks against a daemon with the image `base`.
pub fn run(daemon: &Daemon, peers: &Peers, scratch: &Path, rows: &mut Vec<Row>) -> Result<()> {
    logs(daemon, rows)?;
    attached(daemon, peers, rows)?;
    many(daemon, peers, scratch, rows)
}

/// Reading a large log back.
fn logs(daemon: &Daemon, rows: &mut Vec<Row>) -> Result<()> {
    // A log's limit is that of two files.
    let limit = (2 * LOG + (64 << 20)).to_string();
    let script = format!("yes 0123456789abcde | head -c {LOG}");
    let run = [
        "run",
        "-q",
        "-d",
        "--name",
        "talker",
        "--log-limit",
        &limit,
        "base",
        "sh",
        "-c",
    ];
    daemon.klee(&[&run[..], &[&script]].concat())?;
    daemon.klee(&["wait", "talker"])?;
    let read = sample(3, || {
        time(|| {
            let bytes = drain(daemon.command(&["logs", "talker"]))?;
            ensure!(bytes == LOG, "{bytes} bytes of {LOG}");
            Ok(())
        })
    })?;
    daemon.klee(&["rmc", "-f", "talker"])?;
    let megabytes = LOG as f64 / 1e6;
    rows.push(Row::at_least(
        "logs of 1 GiB",
        megabytes / (read.median() / 1e3),
        "MB/s",
        500.0,
    ));
    Ok(())
}

/// A process that prints a lot, by us and by crun, each into a pipe.
fn attached(daemon: &Daemon, peers: &Peers, rows: &mut Vec<Row>) -> Result<()> {
    let ours = || {
        let command = daemon.command(&["run", "-q", "--rm", "base", "seq", LINES]);
        time(|| drain(command).map(drop))
    };
    let theirs = || {
        let command = peers.crun_print(LINES)?;
        time(|| drain(command).map(drop))
    };
    let [ours, theirs] = paired(ROUNDS / 3, [&ours, &theirs])?;
    rows.push(Row::ratio(
        "run printing 22 MB / crun into a pipe",
        &ours,
        &theirs,
        1.2,
    ));
    Ok(())
}

/// Reads what a command prints to its end.
fn drain(mut command: Command) -> Result<u64> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .with_context(|| shell::show(&command))?;
    let mut stdout = child.stdout.take().context("no standard output")?;
    let (mut buffer, mut total) = (vec![0; 1 << 20], 0);
    loop {
        match stdout.read(&mut buffer)? {
            0 => break,
            count => total += count as u64,
        }
    }
    let status = child.wait()?;
    ensure!(status.success(), "{}: {status}", shell::show(&command));
    Ok(total)
}

/// Many containers started and removed by sixteen clients at once.
fn many(daemon: &Daemon, peers: &Peers, scratch: &Path, rows: &mut Vec<Row>) -> Result<()> {
    let start = time(|| {
        by_sixteen(MANY, |number| {
            let name = format!("many-{number}");
            let run = ["run", "-q", "-d", "--name", &name, "base", "sleep", "3600"];
            daemon.klee(&run).map(drop)
        })
    })?;
    let mut stats = Vec::new();
    for _ in 0..10 {
        stats.push(time(|| {
            daemon.request("GET", "/containers/stats", "").map(drop)
        })?);
    }
    let stats = super::measure::Sample::new(stats);
    rows.push(Row::absolute(
        "stats of 200 containers over the API",
        stats.median(),
        "ms",
        100.0,
    ));
    rows.push(Row::absolute(
        "daemon with 200 containers, resident",
        daemon.resident()? as f64 / 1024.0,
        "MiB",
        64.0,
    ));
    let remove = time(|| {
        by_sixteen(MANY, |number| {
            daemon
                .klee(&["rmc", "-f", &format!("many-{number}")])
                .map(drop)
        })
    })?;
    let ours = MANY as f64 / ((start + remove) / 1e3);
    let podman = time(|| {
        by_sixteen(FEW, |number| peers.podman_start(number))?;
        by_sixteen(FEW, |number| peers.podman_remove(number))
    })?;
    let theirs = FEW as f64 / (podman / 1e3);
    rows.push(Row::at_least(
        &format!("containers a second by 16 clients (podman: {theirs:.1})"),
        ours / theirs,
        "x podman",
        4.0,
    ));
    // What podman keeps of its containers isn't wanted any more.
    let _ = std::fs::remove_dir_all(scratch.join("podman-run"));
    Ok(())
}

/// Has sixteen clients do `work` with each number below `count`.
fn by_sixteen(count: usize, work: impl Fn(usize) -> Result<()> + Sync) -> Result<()> {
    let next = AtomicUsize::new(0);
    let client = || -> Result<()> {
        loop {
            match next.fetch_add(1, Ordering::SeqCst) {
                number if number < count => work(number)?,
                _ => return Ok(()),
            }
        }
    };
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..16).map(|_| scope.spawn(client)).collect();
        clients.into_iter().try_for_each(|client| {
            let joined = client.join();
            joined.map_err(|_| anyhow::anyhow!("a client panicked"))?
        })
    })
}
