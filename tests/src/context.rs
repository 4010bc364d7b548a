//! Build contexts: a directory with a Dockerfile and what it copies.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::daemon::scratch;
use crate::{Daemon, Outcome};

/// A directory with a Dockerfile. It goes with this value.
pub struct Context(TempDir);

impl Context {
    /// A context with this Dockerfile alone.
    pub fn new(dockerfile: &str) -> Self {
        let context = Self(scratch());
        context.file("Dockerfile", dockerfile);
        context
    }

    /// Writes a file, and the directories above it.
    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) -> &Self {
        let path = self.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
        self
    }

    /// Makes a symbolic link.
    pub fn link(&self, name: &str, target: impl AsRef<Path>) -> &Self {
        symlink(target, self.join(name)).unwrap();
        self
    }

    /// Replaces the Dockerfile.
    pub fn dockerfile(&self, text: &str) -> &Self {
        self.file("Dockerfile", text)
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// A path in it.
    pub fn join(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }
}

impl Daemon {
    /// Builds an image with these options of `klee build`.
    pub fn build(&self, context: &Context, options: &[&str]) -> Outcome {
        let path = context.path().display().to_string();
        self.klee(&[&["build"], options, &[&path]].concat())
    }

    /// What a command prints in a container of an image, which goes after it.
    pub fn runs(&self, image: &str, command: &[&str]) -> String {
        let words = [&["run", "-q", "--rm", image], command].concat();
        self.klee(&words).ok()
    }

    /// What a shell script prints in a container of an image, which goes after it.
    pub fn sh(&self, image: &str, script: &str) -> String {
        let words = ["run", "-q", "--rm", "--entrypoint", "sh", image, "-c"];
        self.klee(&[&words[..], &[script]].concat()).ok()
    }

    /// The id of an image.
    pub fn image_id(&self, name: &str) -> String {
        self.inspect("image", name)["id"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    /// Ids of all images, also of those that only keep steps of builds.
    pub fn images(&self) -> Vec<String> {
        let text = self
            .klee(&["image", "ls", "-a", "--format", "{{.id}}"])
            .ok();
        text.lines().map(str::to_owned).collect()
    }
}
