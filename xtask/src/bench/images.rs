//! Images: building, unpacking, moving them.

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};

use super::ROUNDS;
use super::daemon::Daemon;
use super::measure::{Row, paired, sample, time, time_command};
use super::peers::Peers;
use crate::shell;

/// Of a tree of 1 GB: files and bytes a file. Most files of a system are small, most of its bytes are
/// in large ones.
const TREE: [(usize, usize); 3] = [(20_000, 8_000), (1_000, 240_000), (12, 50_000_000)];

/// Of one of the layers of an image of 300 MB.
const LAYER: [(usize, usize); 3] = [(1_000, 8_000), (50, 240_000), (1, 40_000_000)];

/// How many layers it has.
const LAYERS: usize = 5;

/// Runs the benchmarks; `base` is an archive of the small tree.
pub fn run(peers: &Peers, base: &Path, scratch: &Path, rows: &mut Vec<Row>) -> Result<()> {
    let work = scratch.join("images");
    fs::create_dir_all(&work)?;
    let daemon = Daemon::start(&work.join("daemon"), &work.join("root"))?;
    let archive = base.display().to_string();
    daemon.klee(&["image", "import", "-q", "-t", "localhost/base", &archive])?;
    builds(&daemon, peers, base, &work, rows)?;
    unpack(&daemon, &work, rows)?;
    distribute(&daemon, peers, &work, rows)?;
    drop(daemon);
    fs::remove_dir_all(work)?;
    Ok(())
}

/// Writes a Dockerfile; answers its directory.
fn dockerfile(directory: PathBuf, lines: &[String]) -> Result<String> {
    fs::create_dir_all(&directory)?;
    let text = format!("FROM localhost/base\n{}\n", lines.join("\n"));
    fs::write(directory.join("Dockerfile"), text)?;
    Ok(directory.display().to_string())
}

fn builds(
    daemon: &Daemon,
    peers: &Peers,
    base: &Path,
    work: &Path,
    rows: &mut Vec<Row>,
) -> Result<()> {
    peers.buildah_base(base)?;
    let steps = (1..=5).map(|step| format!("RUN echo {step} > /{step}"));
    let five = dockerfile(work.join("five"), &steps.collect::<Vec<_>>())?;
    let ours = || daemon.time(&["build", "-q", "--no-cache", "-t", "five", &five]);
    let theirs = || peers.buildah_build(&five);
    let [ours, theirs] = paired(ROUNDS / 5, [&ours, &theirs])?;
    rows.push(Row::ratio(
        "build of five RUN steps / buildah bud",
        &ours,
        &theirs,
        0.333,
    ));

    let directory = work.join("twenty");
    let mut steps = Vec::new();
    for step in 1..=5 {
        fs::create_dir_all(directory.join(format!("src{step}")))?;
        for file in 0..20 {
            fs::write(
                directory.join(format!("src{step}/{file}")),
                text(10_000, file),
            )?;
        }
        steps.push(format!("ENV STEP{step}={step}"));
        steps.push(format!("COPY src{step} /src{step}/"));
        steps.push(format!("RUN cat /src{step}/* > /all{step}"));
        steps.push(format!("RUN echo {step} >> /all{step}"));
    }
    let twenty = dockerfile(directory, &steps)?;
    let again = sample(ROUNDS, || {
        daemon.time(&["build", "-q", "-t", "twenty", &twenty])
    })?;
    rows.push(Row::absolute(
        "build of 20 unchanged steps",
        again.median(),
        "ms",
        150.0,
    ));
    Ok(())
}

/// An image of 1 GB: from its bare archive, which the daemon reads itself or the client sends, and from
/// one with settings and digests.
fn unpack(daemon: &Daemon, work: &Path, rows: &mut Vec<Row>) -> Result<()> {
    let tree = work.join("tree");
    plant(&tree, &TREE, 0)?;
    let archive = work.join("tree.tar");
    pack(&tree, &archive)?;
    fs::remove_dir_all(&tree)?;
    let archive = archive.display().to_string();
    let url = format!("file://{archive}");
    let saved = work.join("saved.tar").display().to_string();
    let fetch = ["image", "create", "-t", "big", "fetch", &url];
    daemon.klee(&fetch)?;
    daemon.klee(&["image", "save", "-o", &saved, "big"])?;
    daemon.klee(&["rmi", "big"])?;
    let target = work.join("unpacked");
    let theirs = || {
        fs::create_dir(&target)?;
        let mut tar = Command::new("tar");
        let cost = time_command(tar.args(["-xf", &archive, "-C"]).arg(&target))?;
        fs::remove_dir_all(&target)?;
        Ok(cost)
    };
    let import = ["image", "import", "-q", "-t", "big", &archive];
    let load = ["image", "load", "-q", "-i", &saved];
    for (what, command) in [
        ("fetch of 1 GB, 21,000 files / tar -x", &fetch[..]),
        ("import of the same / tar -x", &import),
        ("load of the same / tar -x", &load),
    ] {
        let ours = || {
            let cost = daemon.time(command)?;
            daemon.klee(&["rmi", "big"])?;
            Ok(cost)
        };
        let [ours, tar] = paired(5, [&ours, &theirs])?;
        rows.push(Row::ratio(what, &ours, &tar, 1.0));
    }
    fs::remove_file(saved)?;
    fs::remove_file(archive)?;
    Ok(())
}

/// An image of several layers, pulled from a registry on this host, and written to an archive.
fn distribute(daemon: &Daemon, peers: &Peers, work: &Path, rows: &mut Vec<Row>) -> Result<()> {
    let registry = Registry::start(&work.join("registry"))?;
    let directory = work.join("layers");
    let mut steps = Vec::new();
    for layer in 0..LAYERS {
        plant(&directory.join(format!("layer{layer}")), &LAYER, layer)?;
        steps.push(format!("COPY layer{layer} /layer{layer}/"));
    }
    let context = dockerfile(directory.clone(), &steps)?;
    let name = format!("{}/layers", registry.address);
    daemon.klee(&["build", "-q", "-t", &name, &context])?;
    fs::remove_dir_all(directory)?;
    let push = time(|| daemon.klee(&["push", "-q", &name]).map(drop))?;
    println!("pushed 300 MB in {push:.0} ms");

    let saved = work.join("layers.tar").display().to_string();
    let save = || daemon.time(&["image", "save", "-o", &saved, &name]);
    peers.podman_pull(&name)?;
    let podman_saved = work.join("podman.tar");
    let theirs = || peers.podman_save(&name, &podman_saved);
    let [ours, podman] = paired(3, [&save, &theirs])?;
    let what = "save of 300 MB in 5 layers / podman save";
    rows.push(Row::ratio(what, &ours, &podman, 1.0));
    fs::remove_file(podman_saved)?;

    daemon.klee(&["rmi", &name])?;
    daemon.klee(&["image", "prune", "-f", "--build-cache"])?;
    let ours = || {
        let cost = daemon.time(&["pull", "-q", &name])?;
        daemon.klee(&["rmi", &name])?;
        Ok(cost)
    };
    let theirs = || {
        peers.podman_forget(&name)?;
        peers.podman_pull(&name)
    };
    let [ours, podman] = paired(5, [&ours, &theirs])?;
    let what = "pull of 300 MB in 5 layers / podman pull";
    rows.push(Row::ratio(what, &ours, &podman, 1.0));

    let load = || {
        let cost = daemon.time(&["image", "load", "-q", "-i", &saved])?;
        daemon.klee(&["rmi", &name])?;
        Ok(cost)
    };
    let theirs = || {
        peers.podman_forget(&name)?;
        peers.podman_load(&saved)
    };
    let [ours, podman] = paired(3, [&load, &theirs])?;
    let what = "load of 300 MB in 5 layers / podman load";
    rows.push(Row::ratio(what, &ours, &podman, 1.0));
    Ok(())
}

/// Makes files, in directories of a hundred.
fn plant(tree: &Path, files: &[(usize, usize)], seed: usize) -> Result<()> {
    for (kind, (count, size)) in files.iter().enumerate() {
        for number in 0..*count {
            let directory = tree.join(format!("{kind}/{}", number / 100));
            fs::create_dir_all(&directory)?;
            let content = text(*size, seed << 24 | kind << 20 | number);
            fs::write(directory.join(number.to_string()), content)?;
        }
    }
    Ok(())
}

/// Numbers in hexadecimal digits, which shrink to about half as programs do; with another seed others.
fn text(length: usize, seed: usize) -> String {
    let mut text = String::with_capacity(length + 16);
    let mut state = seed as u64;
    while text.len() < length {
        // SplitMix64.
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let _ = write!(text, "{:016x}", mixed ^ (mixed >> 31));
    }
    text.truncate(length);
    text
}

fn pack(tree: &Path, archive: &Path) -> Result<()> {
    let mut tar = Command::new("tar");
    tar.arg("-cf").arg(archive).arg("-C").arg(tree).arg(".");
    shell::output(&mut tar).map(drop)
}

/// A registry on this host; ended when dropped.
struct Registry {
    child: Child,
    address: String,
}

impl Registry {
    /// Starts one that keeps things in `directory`, and waits until it listens.
    fn start(directory: &Path) -> Result<Self> {
        fs::create_dir_all(directory)?;
        let config = directory.join("config.yml");
        let mut file = BufWriter::new(fs::File::create(&config)?);
        writeln!(file, "version: 0.1\nlog: {{level: info}}")?;
        writeln!(file, "http: {{addr: '127.0.0.1:0', secret: bench}}")?;
        let data = directory.join("data");
        writeln!(
            file,
            "storage: {{filesystem: {{rootdirectory: {}}}}}",
            data.display()
        )?;
        file.flush()?;
        let mut child = Command::new("docker-registry")
            .arg("serve")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("docker-registry")?;
        let stderr = child.stderr.take().context("no standard error")?;
        let mut registry = Self {
            child,
            address: String::new(),
        };
        let mut log = BufReader::new(stderr).lines();
        let address = log.by_ref().map_while(Result::ok).find_map(|line| {
            let (_, rest) = line.split_once("listening on ")?;
            rest.split('"').next().map(str::to_owned)
        });
        registry.address = address.context("docker-registry doesn't start")?;
        // Read to its end, so that the registry never waits for us.
        std::thread::spawn(move || log.for_each(drop));
        Ok(registry)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
