//! crun and podman, running the same small tree.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::measure::time_command;
use crate::shell;

/// Programs that busybox plays in the tree.
const APPLETS: &[&str] = &["true", "sh", "sleep", "ls", "cat", "yes", "head", "seq"];

/// Hides cgroup2 of a hybrid host, which crun refuses to run on.
const HYBRID: &str = "umount /sys/fs/cgroup/unified 2>/dev/null; exec \"$@\"";

/// Writes the tree as an archive and answers its path; the tree itself lies in `bundle/rootfs`.
pub fn archive(scratch: &Path) -> Result<PathBuf> {
    let tree = scratch.join("bundle/rootfs");
    for directory in ["bin", "etc", "proc", "sys", "dev", "tmp"] {
        std::fs::create_dir_all(tree.join(directory))?;
    }
    let busybox = shell::find("busybox").context("busybox is missing")?;
    std::fs::copy(busybox, tree.join("bin/busybox"))?;
    for applet in APPLETS {
        std::os::unix::fs::symlink("busybox", tree.join("bin").join(applet))?;
    }
    std::fs::write(tree.join("etc/passwd"), "root:x:0:0:root:/:/bin/sh\n")?;
    std::fs::write(tree.join("etc/group"), "root:x:0:\n")?;
    let archive = scratch.join("base.tar");
    shell::output(
        Command::new("tar")
            .arg("-cf")
            .arg(&archive)
            .arg("-C")
            .arg(&tree)
            .arg("."),
    )?;
    Ok(archive)
}

/// The peers, ready to be timed.
pub struct Peers {
    bundle: PathBuf,
    scratch: PathBuf,
}

impl Peers {
    /// Writes an OCI bundle for crun and a configuration for podman.
    pub fn prepare(scratch: &Path) -> Result<Self> {
        let peers = Self {
            bundle: scratch.join("bundle"),
            scratch: scratch.to_owned(),
        };
        shell::output(Command::new("crun").arg("spec").current_dir(&peers.bundle))?;
        peers.configure("run", "true")?;
        std::fs::write(
            scratch.join("containers.conf"),
            "[engine]\ncgroup_manager=\"cgroupfs\"\nevents_logger=\"file\"\nruntime=\"runc\"\n\
             [containers]\ndefault_ulimits=[\"nofile=20000:20000\",\"nproc=32768:32768\"]\n",
        )?;
        Ok(peers)
    }

    /// Makes a bundle whose process is `program` (with one argument at most) and has no terminal.
    fn configure(&self, name: &str, program: &str) -> Result<PathBuf> {
        let text = std::fs::read_to_string(self.bundle.join("config.json"))?;
        let bundle = self.scratch.join(format!("bundle-{name}"));
        std::fs::create_dir_all(&bundle)?;
        let arguments: Vec<String> = program
            .split(' ')
            .map(|word| format!("\"{word}\""))
            .collect();
        let rootfs = self.bundle.join("rootfs").display().to_string();
        let text = text
            .replace("\"terminal\": true", "\"terminal\": false")
            .replace("\"path\": \"rootfs\"", &format!("\"path\": \"{rootfs}\""))
            .replace("\"sh\"", &arguments.join(", "));
        std::fs::write(bundle.join("config.json"), text)?;
        Ok(bundle)
    }

    fn crun(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("unshare");
        command.args(["-m", "sh", "-c", HYBRID, "_", "crun"]);
        command
            .arg("--root")
            .arg(self.scratch.join("crun"))
            .args(arguments);
        command
    }

    /// Milliseconds of `crun run` of `true`; without the shell that hides cgroup2.
    pub fn crun_run(&self) -> Result<f64> {
        let bundle = self.scratch.join("bundle-run").display().to_string();
        let whole = time_command(&mut self.crun(&["run", "--bundle", &bundle, "bench-run"]))?;
        Ok(whole - self.wrapper()?)
    }

    /// Milliseconds of the wrapper alone.
    fn wrapper(&self) -> Result<f64> {
        time_command(Command::new("unshare").args(["-m", "sh", "-c", HYBRID, "_", "true"]))
    }

    /// Starts a container to execute things in.
    pub fn crun_start(&self) -> Result<()> {
        let bundle = self.configure("box", "sleep 3600")?.display().to_string();
        let arguments = ["run", "--detach", "--bundle", &bundle, "bench-box"];
        let mut command = self.crun(&arguments);
        // A detached process keeps its streams; nobody may wait for their end.
        command
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null());
        anyhow::ensure!(command.status()?.success(), "crun run --detach failed");
        Ok(())
    }

    /// Milliseconds of `crun exec` of `true`.
    pub fn crun_exec(&self) -> Result<f64> {
        let whole = time_command(&mut self.crun(&["exec", "bench-box", "true"]))?;
        Ok(whole - self.wrapper()?)
    }

    /// Ends the container.
    pub fn crun_stop(&self) -> Result<()> {
        shell::output(&mut self.crun(&["delete", "--force", "bench-box"])).map(drop)
    }

    /// `crun run` of `seq`, with cgroup2 hidden.
    pub fn crun_print(&self, lines: &str) -> Result<Command> {
        let bundle = self.configure("print", &format!("seq {lines}"))?;
        let bundle = bundle.display().to_string();
        Ok(self.crun(&["run", "--bundle", &bundle, "bench-print"]))
    }

    fn podman(&self) -> Command {
        let mut command = Command::new("podman");
        command
            .env("CONTAINERS_CONF", self.scratch.join("containers.conf"))
            .arg("--root")
            .arg(self.scratch.join("podman"))
            .arg("--runroot")
            .arg(self.scratch.join("podman-run"));
        command
    }

    /// Milliseconds of `podman run --rm` of `true`.
    pub fn podman_run(&self) -> Result<f64> {
        let rootfs = self.bundle.join("rootfs");
        let mut command = self.podman();
        command.args(["run", "--rm", "--network", "none", "--rootfs"]);
        time_command(command.arg(rootfs).arg("true"))
    }

    /// Starts a numbered container with podman.
    pub fn podman_start(&self, number: usize) -> Result<()> {
        let rootfs = self.bundle.join("rootfs");
        let name = format!("many-{number}");
        let mut command = self.podman();
        command.args([
            "run",
            "-d",
            "--name",
            &name,
            "--network",
            "none",
            "--rootfs",
        ]);
        shell::output(command.arg(rootfs).args(["sleep", "3600"])).map(drop)
    }

    /// Removes it.
    pub fn podman_remove(&self, number: usize) -> Result<()> {
        let name = format!("many-{number}");
        shell::output(self.podman().args(["rm", "-f", "-t", "0", &name])).map(drop)
    }

    /// Milliseconds of pulling an image.
    pub fn podman_pull(&self, name: &str) -> Result<f64> {
        time_command(
            self.podman()
                .args(["pull", "-q", "--tls-verify=false", name]),
        )
    }

    /// Removes an image.
    pub fn podman_forget(&self, name: &str) -> Result<()> {
        shell::output(self.podman().args(["rmi", "-f", name])).map(drop)
    }

    /// Milliseconds of writing an image to an archive that isn't compressed, as ours isn't.
    pub fn podman_save(&self, name: &str, archive: &Path) -> Result<f64> {
        // It never writes over a file.
        let _ = std::fs::remove_file(archive);
        let mut command = self.podman();
        command.args(["save", "-q", "--format", "docker-archive", "-o"]);
        time_command(command.arg(archive).arg(name))
    }

    /// Milliseconds of taking in an archive.
    pub fn podman_load(&self, archive: &str) -> Result<f64> {
        time_command(self.podman().args(["load", "-q", "-i", archive]))
    }

    fn buildah(&self) -> Command {
        let mut command = Command::new("buildah");
        command
            .env("CONTAINERS_CONF", self.scratch.join("containers.conf"))
            .arg("--root")
            .arg(self.scratch.join("buildah"))
            .arg("--runroot")
            .arg(self.scratch.join("buildah-run"));
        command
    }

    /// Gives buildah an image `localhost/base` of an archive.
    pub fn buildah_base(&self, archive: &Path) -> Result<()> {
        let container = shell::output(self.buildah().args(["from", "scratch"]))?;
        let container = container.trim();
        shell::output(
            self.buildah()
                .args(["add", "-q", container])
                .arg(archive)
                .arg("/"),
        )?;
        shell::output(
            self.buildah()
                .args(["commit", "-q", "--rm", container, "localhost/base"]),
        )
        .map(drop)
    }

    /// Milliseconds of building an image without a cache: with the host's network as we do, and with
    /// one layer for all steps, which is buildah's fastest way.
    pub fn buildah_build(&self, directory: &str) -> Result<f64> {
        time_command(self.buildah().args([
            "bud",
            "-q",
            "--no-cache",
            "--network",
            "host",
            "--isolation",
            "oci",
            "--runtime",
            "runc",
            "-t",
            "five",
            directory,
        ]))
    }
}
