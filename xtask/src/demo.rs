//! `cargo xtask demo`: a private daemon on a temporary root, and the volumes walk-through played on
//! it, each command shown with its real output.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::{packages, shell};

/// One step: what is said before it, and the words of a `klee` command.
type Step = (&'static str, &'static [&'static str]);

const STEPS: &[Step] = &[
    (
        "A base image, assembled from this machine's own programs. No network is needed.",
        &["image", "create", "--tag", "base", "host"],
    ),
    (
        "Volumes are managed by Kleene and outlive containers.",
        &["volume", "create", "my-vol"],
    ),
    ("", &["lsv"]),
    ("Nothing mounts it yet.", &["volume", "inspect", "my-vol"]),
    ("", &["volume", "rm", "my-vol"]),
    (
        "A volume that doesn't exist is created by the first container that mounts it.",
        &[
            "run",
            "-d",
            "--name",
            "devtest",
            "--mount",
            "myvol2:/app",
            "base",
            "sleep",
            "600",
        ],
    ),
    ("", &["volume", "inspect", "myvol2"]),
    (
        "The container writes; what it writes is in the volume.",
        &[
            "exec",
            "devtest",
            "sh",
            "-c",
            "echo 'kept for good' > /app/note; ls -l /app",
        ],
    ),
    (
        "A second container shares it at the same time, read-only.",
        &[
            "run",
            "--rm",
            "--mount",
            "myvol2:/data:ro",
            "base",
            "cat",
            "/data/note",
        ],
    ),
    (
        "Writing is refused there.",
        &[
            "run",
            "--rm",
            "--mount",
            "myvol2:/data:ro",
            "base",
            "touch",
            "/data/other",
        ],
    ),
    (
        "A volume in use is not removed.",
        &["volume", "rm", "myvol2"],
    ),
    ("", &["container", "stop", "devtest"]),
    ("", &["container", "rm", "devtest"]),
    (
        "The container is gone, the data is not.",
        &[
            "run",
            "--rm",
            "--mount",
            "myvol2:/data",
            "base",
            "cat",
            "/data/note",
        ],
    ),
    (
        "A new volume over a directory with files is populated with them.",
        &[
            "run",
            "--name",
            "filled",
            "--mount",
            "etc-vol:/etc",
            "base",
            "ls",
            "/etc",
        ],
    ),
    (
        "The host's own directories can be mounted as well, here read-only.",
        &[
            "run",
            "--rm",
            "--mount",
            "@SCRATCH@:/host:ro",
            "base",
            "ls",
            "/host",
        ],
    ),
    ("", &["container", "ls", "-a"]),
    ("", &["rmc", "filled"]),
    ("", &["volume", "prune", "-f"]),
];

/// Commands of the walk-through that are meant to fail.
const REFUSED: &[&[&str]] = &[
    &[
        "run",
        "--rm",
        "--mount",
        "myvol2:/data:ro",
        "base",
        "touch",
        "/data/other",
    ],
    &["volume", "rm", "myvol2"],
];

/// Plays the walk-through. With `keep` the daemon stays.
pub fn run(keep: bool) -> Result<()> {
    if !shell::is_root() {
        bail!("the demo starts containers: run `cargo xtask demo` as root");
    }
    packages::ensure_build()?;
    shell::status(shell::cargo().args(["build", "--quiet", "--workspace", "--bins"]))?;
    let directory = tempfile::Builder::new().prefix("kleene-demo-").tempdir()?;
    let mut daemon = Daemon::start(directory.path())?;
    for (text, words) in STEPS {
        if !text.is_empty() {
            println!("\n# {text}");
        }
        daemon.klee(words)?;
    }
    if keep {
        return daemon.keep(directory);
    }
    daemon.stop()?;
    println!("\nThat was all; the daemon has stopped and its directory is removed.");
    Ok(())
}

struct Daemon {
    child: Child,
    directory: PathBuf,
}

impl Daemon {
    fn start(directory: &Path) -> Result<Self> {
        let root = directory.join("root");
        let socket = directory.join("kleened.sock");
        let mut child = Command::new(shell::target_dir("debug").join("kleened"))
            .args(["--root".as_ref(), root.as_os_str()])
            .args(["--socket".as_ref(), socket.as_os_str()])
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("kleened can't be started")?;
        let stderr = child
            .stderr
            .take()
            .context("kleened has no standard error")?;
        let mut log = std::fs::File::create(directory.join("kleened.log"))?;
        let (ready, is_ready) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let _ = writeln!(log, "{line}");
                if line.contains("listening") {
                    let _ = ready.send(());
                }
            }
        });
        let daemon = Self {
            child,
            directory: directory.to_owned(),
        };
        if is_ready.recv().is_err() {
            let log = std::fs::read_to_string(directory.join("kleened.log")).unwrap_or_default();
            bail!("kleened did not start:\n{log}");
        }
        println!("# A private daemon with its root in {}", root.display());
        Ok(daemon)
    }

    fn host(&self) -> String {
        format!("http://{}", self.directory.join("kleened.sock").display())
    }

    /// Shows and runs a command; only those that are meant to may fail.
    fn klee(&self, words: &[&str]) -> Result<()> {
        let scratch = self.directory.display().to_string();
        let replaced: Vec<String> = words
            .iter()
            .map(|word| word.replace("@SCRATCH@", &scratch))
            .collect();
        println!(
            "$ klee {}",
            replaced
                .iter()
                .map(|word| quoted(word))
                .collect::<Vec<_>>()
                .join(" ")
        );
        std::io::stdout().flush()?;
        let status = Command::new(shell::target_dir("debug").join("klee"))
            .env("KLEE_HOST", self.host())
            .args(&replaced)
            .status()
            .context("klee can't be started")?;
        if status.success() == REFUSED.contains(&words) {
            bail!(
                "klee {} ended with {status}, which is not what it should do",
                words.join(" ")
            );
        }
        Ok(())
    }

    fn stop(&mut self) -> Result<()> {
        shell::output(Command::new("kill").arg(self.child.id().to_string()))?;
        let status = self.child.wait()?;
        if !status.success() {
            bail!("kleened ended with {status}");
        }
        Ok(())
    }

    /// Leaves the daemon running and says how to go on.
    fn keep(self, directory: tempfile::TempDir) -> Result<()> {
        let directory = directory.keep();
        println!(
            "\nThe daemon goes on (process {}). Use it with",
            self.child.id()
        );
        println!("  export KLEE_HOST={}", self.host());
        println!(
            "  export PATH=$PATH:{}",
            shell::target_dir("debug").display()
        );
        println!("  klee run -it base");
        println!("and end it with");
        let pid = self.child.id();
        println!("  klee rmc -f $(klee lsc -a -q)");
        println!(
            "  kill {pid}; tail --pid={pid} -f /dev/null; rm -r {}",
            directory.display()
        );
        std::mem::forget(self);
        Ok(())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // After a failure in the middle; a daemon that was stopped has no process any more.
        if let Ok(None) = self.child.try_wait() {
            let _ = self.stop();
        }
    }
}

/// A word as a person would type it in a shell.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@,".contains(c);
    if word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("\"{word}\"")
    }
}
