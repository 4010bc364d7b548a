//! Other people's programs: Debian's registry, skopeo, buildah.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use tempfile::TempDir;

use crate::daemon::scratch;

/// The hash of the password `secret` of the user `kim`, as htpasswd(1) makes it.
const PASSWORDS: &str = "kim:$2b$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n";

/// Runs a program that must succeed, and answers what it prints, without the newline at its end.
pub fn run(program: &str, words: &[&str]) -> String {
    let output = Command::new(program)
        .args(words)
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{program} can't be started: {error}"));
    assert!(
        output.status.success(),
        "{program} {words:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout)
        .trim_end()
        .to_owned()
}

/// A docker-registry of its own on the loopback interface, which ends with this value.
pub struct Registry {
    child: Child,
    address: String,
    directory: TempDir,
}

impl Registry {
    /// Lets everybody in.
    pub fn start() -> Self {
        Self::with("")
    }

    /// Lets in nobody but `kim`, whose password is `secret`.
    pub fn with_login() -> Self {
        Self::with("auth: {htpasswd: {realm: test, path: DIR/passwords}}\n")
    }

    fn with(more: &str) -> Self {
        let directory = scratch();
        let path = directory.path().display().to_string();
        let config = format!(
            "version: 0.1\n\
             log: {{level: info}}\n\
             storage: {{filesystem: {{rootdirectory: {path}/data}}}}\n\
             http: {{addr: '127.0.0.1:0', secret: test}}\n{}",
            more.replace("DIR", &path)
        );
        fs::write(directory.path().join("config.yml"), config).unwrap();
        fs::write(directory.path().join("passwords"), PASSWORDS).unwrap();
        let mut child = Command::new("docker-registry")
            .arg("serve")
            .arg(directory.path().join("config.yml"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("docker-registry isn't installed");
        let log = child.stderr.take().unwrap();
        let mut registry = Self {
            child,
            address: String::new(),
            directory,
        };
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || {
            // Read to its end, so that the registry never waits for us.
            for line in BufReader::new(log).lines().map_while(Result::ok) {
                if let Some((_, rest)) = line.split_once("listening on ") {
                    let _ = sender.send(rest.split('"').next().unwrap().to_owned());
                }
            }
        });
        registry.address = receiver
            .recv_timeout(Duration::from_secs(30))
            .expect("docker-registry doesn't start");
        registry
    }

    /// Its address, `127.0.0.1:PORT`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The reference of an image in it.
    pub fn image(&self, name: &str) -> String {
        format!("{}/{name}", self.address)
    }

    /// The same for skopeo.
    pub fn docker(&self, name: &str) -> String {
        format!("docker://{}", self.image(name))
    }

    /// The file of a blob or manifest.
    pub fn blob(&self, digest: &str) -> PathBuf {
        let hex = digest.strip_prefix("sha256:").unwrap();
        let blobs = "data/docker/registry/v2/blobs/sha256";
        let path = self.directory.path().join(blobs);
        path.join(&hex[..2]).join(hex).join("data")
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// buildah with storage of its own, which goes with this value.
pub struct Buildah(TempDir);

impl Buildah {
    /// Storage without images.
    #[expect(clippy::new_without_default, reason = "it makes a directory")]
    pub fn new() -> Self {
        Self(scratch())
    }

    /// Runs a command of buildah.
    pub fn run(&self, words: &[&str]) -> String {
        let place = |name: &str| self.0.path().join(name).display().to_string();
        let (root, runroot) = (place("root"), place("run"));
        let own = [
            "--storage-driver",
            "vfs",
            "--root",
            &root,
            "--runroot",
            &runroot,
        ];
        run("buildah", &[&own[..], words].concat())
    }

    /// Makes an image of a tar archive: `settings` are options of `buildah config`.
    pub fn image(&self, name: &str, archive: Option<&Path>, settings: &[&str]) {
        self.image_on("scratch", name, archive, settings);
    }

    /// Makes an image of another one and of a tar archive.
    pub fn image_on(&self, base: &str, name: &str, archive: Option<&Path>, settings: &[&str]) {
        let container = self.run(&["from", "--pull=never", base]);
        if let Some(archive) = archive {
            let archive = archive.display().to_string();
            self.run(&["add", "-q", &container, &archive, "/"]);
        }
        self.run(&[&["config"], settings, &[&container]].concat());
        self.run(&["commit", "-q", "--rm", &container, name]);
    }

    /// Pushes an image.
    pub fn push(&self, image: &str, to: &str, more: &[&str]) {
        let words = [&["push", "-q", "--tls-verify=false"], more, &[image, to]];
        self.run(&words.concat());
    }
}
