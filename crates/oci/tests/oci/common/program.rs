//! Other people's programs: Debian's registry, skopeo, buildah.

#![allow(
    clippy::disallowed_types,
    reason = "a registry that goes on beside the test is no program with a time limit"
)]

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use kleene_command::{Argv, Runner, System};
use kleene_types::RegistryRef;
use tempfile::TempDir;

/// The hash of the password `secret` of the user `kim`, as htpasswd(1) makes it.
const PASSWORDS: &str = "kim:$2b$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n";

/// Runs a program and answers what it writes.
pub fn run(program: &str, words: &[&str]) -> String {
    let command = Argv::new(program).args(words.iter().copied());
    match System.run(&command) {
        Ok(output) => output.text(),
        Err(error) => panic!("{error}"),
    }
}

/// A docker-registry of its own, which ends with the test.
pub struct Registry {
    child: Child,
    pub address: String,
    _dir: TempDir,
}

impl Registry {
    pub fn start() -> Self {
        Self::with("")
    }

    /// Only `kim` may do anything.
    pub fn with_login() -> Self {
        Self::with("auth: {htpasswd: {realm: test, path: DIR/passwords}}\n")
    }

    fn with(more: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().display().to_string();
        let config = format!(
            "version: 0.1\n\
             log: {{level: info}}\n\
             storage: {{filesystem: {{rootdirectory: {path}/data}}}}\n\
             http: {{addr: '127.0.0.1:0', secret: test}}\n{}",
            more.replace("DIR", &path)
        );
        fs::write(dir.path().join("config.yml"), config).unwrap();
        fs::write(dir.path().join("passwords"), PASSWORDS).unwrap();
        let mut child = Command::new("docker-registry")
            .arg("serve")
            .arg(dir.path().join("config.yml"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("docker-registry isn't installed");
        let log = child.stderr.take().unwrap();
        let mut registry = Self {
            child,
            address: String::new(),
            _dir: dir,
        };
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || {
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

    pub fn image(&self, name: &str) -> RegistryRef {
        format!("{}/{name}", self.address).parse().unwrap()
    }

    /// The same for skopeo.
    pub fn docker(&self, name: &str) -> String {
        format!("docker://{}/{name}", self.address)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
