//! Volumes: their life over the API, and populating them.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use kleene_storage::testkit::ZfsPool;

use super::ROUNDS;
use super::daemon::{Daemon, request};
use super::measure::{Row, Sample, paired, sample, time, time_command};
use crate::shell;

/// Volumes in the long listing.
const MANY: usize = 10_000;

/// Files and bytes a file of the tree to populate from: 200 MB.
const FILES: usize = 10_000;
const BYTES: usize = 20_000;

/// Runs the benchmarks of both rooms.
pub fn run(scratch: &Path, rows: &mut Vec<Row>) -> Result<()> {
    dir(scratch, rows)?;
    zfs(scratch, rows)?;
    populate(scratch, rows)
}

/// A volume's life on ZFS, beside the two bare commands that it can't do without.
fn zfs(scratch: &Path, rows: &mut Vec<Row>) -> Result<()> {
    let pool = ZfsPool::create();
    let daemon = Daemon::start(&scratch.join("zfs"), Path::new(&pool.kleene_root()))?;
    let ours = || create_and_remove(&daemon, 1).map(|sample| sample.median());
    let bare = || {
        let dataset = format!("{}/bare", pool.name());
        time(|| {
            shell::output(Command::new("zfs").arg("create").arg(&dataset))?;
            // zfs-fuse unmounts asynchronously: the first attempts may find the dataset busy.
            let destroy = || shell::output(Command::new("zfs").arg("destroy").arg(&dataset));
            (0..200)
                .find_map(|_| destroy().ok())
                .context("zfs destroy")
                .map(drop)
        })
    };
    let [ours, bare] = paired(ROUNDS, [&ours, &bare])?;
    rows.push(Row::ratio(
        "zfs: volume create + rm / bare commands",
        &ours,
        &bare,
        1.3,
    ));
    Ok(())
}

fn create_and_remove(daemon: &Daemon, rounds: usize) -> Result<Sample> {
    let mut stream = daemon.connect()?;
    sample(rounds, || {
        time(|| {
            request(
                &mut stream,
                "POST",
                "/volumes/create",
                r#"{"name":"bench"}"#,
            )?;
            request(&mut stream, "DELETE", "/volumes/bench", "").map(drop)
        })
    })
}

fn dir(scratch: &Path, rows: &mut Vec<Row>) -> Result<()> {
    let daemon = Daemon::start(&scratch.join("volumes"), &scratch.join("volumes-root"))?;
    let cost = create_and_remove(&daemon, ROUNDS * 10)?;
    rows.push(Row::absolute(
        "dir: volume create + rm over the API",
        cost.median(),
        "ms",
        3.0,
    ));
    let mut stream = daemon.connect()?;
    for number in 0..MANY {
        let body = format!(r#"{{"name":"volume-{number}"}}"#);
        request(&mut stream, "POST", "/volumes/create", &body)?;
    }
    let listing = sample(ROUNDS, || {
        time(|| request(&mut stream, "GET", "/volumes/list", "").map(drop))
    })?;
    rows.push(Row::absolute(
        "list of 10,000 volumes",
        listing.median(),
        "ms",
        30.0,
    ));
    Ok(())
}

fn populate(scratch: &Path, rows: &mut Vec<Row>) -> Result<()> {
    let daemon = Daemon::start(&scratch.join("populate"), &scratch.join("populate-root"))?;
    let tree = scratch.join("tree/data");
    for number in 0..FILES {
        let directory = tree.join((number / 100).to_string());
        std::fs::create_dir_all(&directory)?;
        std::fs::write(
            directory.join(number.to_string()),
            vec![number as u8; BYTES],
        )?;
    }
    let archive = scratch.join("tree.tar");
    let source = scratch.join("tree");
    shell::output(
        Command::new("tar")
            .arg("-cf")
            .arg(&archive)
            .arg("-C")
            .arg(&source)
            .arg("."),
    )?;
    let url = format!("file://{}", archive.display());
    daemon.klee(&["image", "create", "-t", "tree", "fetch", &url])?;
    let create = || {
        let mut stream = daemon.connect()?;
        let body = r#"{"name":"filled","image":"tree","network_driver":"host","cmd":["x"],"mounts":
            [{"type":"volume","source":"filled","destination":"/data"}]}"#;
        let cost = time(|| request(&mut stream, "POST", "/containers/create", body).map(drop))?;
        request(&mut stream, "DELETE", "/containers/filled", "")?;
        request(&mut stream, "DELETE", "/volumes/filled", "")?;
        Ok(cost)
    };
    let target = scratch.join("copy");
    let copy = || {
        let cost = time_command(Command::new("cp").arg("-a").arg(&tree).arg(&target))?;
        std::fs::remove_dir_all(&target)?;
        Ok(cost)
    };
    let [ours, theirs] = paired(ROUNDS / 5, [&create, &copy])?;
    rows.push(Row::ratio(
        "populate 10,000 files, 200 MB / cp -a",
        &ours,
        &theirs,
        1.0,
    ));
    Ok(())
}
