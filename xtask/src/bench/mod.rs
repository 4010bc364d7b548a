//! `cargo xtask bench`: what things cost, beside peers in the same run. Quote the ratios, not the
//! milliseconds: machines differ and are shared.

mod daemon;
mod images;
mod measure;
mod peers;
mod streams;
mod volumes;

use std::path::Path;

use anyhow::{Result, bail};

use crate::{packages, shell};
use daemon::Daemon;
use measure::{Row, Sample, sample};
use peers::Peers;

/// Rounds of everything that takes milliseconds.
const ROUNDS: usize = 30;

/// Mounts that a busy host has.
const HOST_MOUNTS: usize = 1000;

/// What can be measured by itself.
const PARTS: [&str; 3] = ["containers", "volumes", "images"];

/// Runs the benchmarks, all of them or those of some parts, and prints one table.
pub fn run(parts: &[&str]) -> Result<()> {
    let unknown = parts.iter().find(|part| !PARTS.contains(part));
    if let Some(unknown) = unknown {
        bail!(
            "there is no part '{unknown}': the parts are {}",
            PARTS.join(", ")
        );
    }
    let wanted = |part: &str| parts.is_empty() || parts.contains(&part);
    if !shell::is_root() {
        bail!("the benchmarks start containers: run `cargo xtask bench` as root");
    }
    packages::ensure_bench()?;
    shell::status(shell::cargo().args(["build", "--release", "--workspace", "--bins"]))?;
    let scratch = measure::scratch()?;
    let mut rows = Vec::new();
    let base = peers::archive(scratch.path())?;
    let peers = Peers::prepare(scratch.path())?;
    if wanted("containers") {
        containers(&peers, &base, scratch.path(), &mut rows)?;
    }
    if wanted("volumes") {
        volumes::run(scratch.path(), &mut rows)?;
    }
    if wanted("images") {
        images::run(&peers, &base, scratch.path(), &mut rows)?;
    }
    println!("\n{}", measure::table(&rows));
    Ok(())
}

/// Starting containers and processes in them.
fn containers(peers: &Peers, base: &Path, scratch: &Path, rows: &mut Vec<Row>) -> Result<()> {
    let daemon = Daemon::start(&scratch.join("containers"), &scratch.join("root"))?;
    rows.push(Row::absolute(
        "idle daemon, resident",
        daemon.resident()? as f64 / 1024.0,
        "MiB",
        15.0,
    ));
    daemon.klee(&[
        "image",
        "create",
        "-t",
        "base",
        "fetch",
        &format!("file://{}", base.display()),
    ])?;
    let run = || daemon.time(&["run", "-q", "--rm", "base", "true"]);
    let [klee, crun] = measure::paired(ROUNDS, [&run, &|| peers.crun_run()])?;
    rows.push(Row::ratio("run --rm true / crun run", &klee, &crun, 0.7));
    let podman = sample(ROUNDS / 3, || peers.podman_run())?;
    rows.push(Row::ratio(
        "run --rm true / podman run --rm",
        &klee,
        &podman,
        0.125,
    ));

    daemon.klee(&["run", "-q", "-d", "--name", "box", "base", "sleep", "3600"])?;
    rows.push(Row::absolute(
        "monitor, private",
        daemon.monitor_private()? as f64 / 1024.0,
        "MiB",
        1.0,
    ));
    peers.crun_start()?;
    let exec = || daemon.time(&["exec", "-q", "box", "true"]);
    let [klee_exec, crun_exec] = measure::paired(ROUNDS, [&exec, &|| peers.crun_exec()])?;
    rows.push(Row::ratio(
        "exec true / crun exec",
        &klee_exec,
        &crun_exec,
        0.7,
    ));
    peers.crun_stop()?;
    daemon.klee(&["rmc", "-f", "box"])?;

    let mounts = measure::Mounts::make(&scratch.join("mounts"), HOST_MOUNTS)?;
    let busy = sample(ROUNDS, run)?;
    drop(mounts);
    rows.push(Row::ratio(
        "run with 1,000 host mounts / without",
        &busy,
        &klee,
        1.15,
    ));

    streams::run(&daemon, peers, scratch, rows)?;

    for number in 0..1000 {
        daemon.request("POST", "/containers/create", &format!(
            r#"{{"name":"recorded-{number}","image":"base","network_driver":"host","cmd":["true"]}}"#
        ))?;
    }
    let (directory, root) = daemon.stop()?;
    let mut starts = Vec::new();
    for _ in 0..5 {
        let start = std::time::Instant::now();
        let daemon = Daemon::start(&directory, &root)?;
        starts.push(start.elapsed().as_secs_f64() * 1e3);
        daemon.stop()?;
    }
    let start = Sample::new(starts);
    rows.push(Row::absolute(
        "start-up with 1,000 containers",
        start.median(),
        "ms",
        500.0,
    ));
    Ok(())
}
