//! A context, a root, and what no link may lead to.

use std::fs::{self};

use crate::common::{Dir, facts, kind_of, scratch};
use kleene_tree::{Copied, CopyFrom, CopyInto, Filter, TreeError, copy_in, digest_sources};
use rustix::fs::FileType;
use tempfile::TempDir;

pub struct World {
    pub scratch: TempDir,
    pub context: Dir,
    pub root: Dir,
}

impl World {
    pub fn new() -> Self {
        let scratch = scratch();
        let context = Dir::new(&scratch, "context");
        let root = Dir::new(&scratch, "root");
        let outside = Dir::new(&scratch, "outside");
        fs::write(outside.join("secret"), "secret").unwrap();
        for (name, text) in [
            ("a.txt", "a"),
            ("b.txt", "b"),
            (".hidden", "h"),
            ("dir/one", "1"),
            ("dir/sub/two", "2"),
            ("other/one", "other"),
        ] {
            fs::create_dir_all(context.join(name).parent().unwrap()).unwrap();
            fs::write(context.join(name), text).unwrap();
        }
        Self {
            scratch,
            context,
            root,
        }
    }

    pub fn to<'a>(&'a self, destination: &'a str) -> CopyInto<'a> {
        CopyInto {
            root: self.root.fd(),
            destination,
            filter: None,
            owner: Some((0, 0)),
            mode: None,
            parents: false,
            archives: None,
            progress: None,
        }
    }

    pub fn copy_with(&self, sources: &[&str], to: &CopyInto<'_>) -> Result<Copied, TreeError> {
        let sources: Vec<String> = sources.iter().map(|source| (*source).to_owned()).collect();
        let from = CopyFrom::Tree {
            root: self.context.fd(),
            sources: &sources,
        };
        copy_in(&from, to)
    }

    pub fn copy(&self, sources: &[&str], destination: &str) -> Result<Copied, TreeError> {
        self.copy_with(sources, &self.to(destination))
    }

    /// Paths in the root, with the contents of files, the texts of links, or `/` for directories.
    pub fn listing(&self) -> Vec<String> {
        let lines = facts(&self.root.path).into_iter().skip(1);
        let line = |(path, facts): (std::path::PathBuf, crate::common::Facts)| {
            let what = match kind_of(facts.mode) {
                FileType::Directory => "/".to_owned(),
                FileType::Symlink => format!(" -> {}", String::from_utf8_lossy(&facts.content)),
                _ => format!("={}", String::from_utf8_lossy(&facts.content)),
            };
            format!("{}{what}", path.display())
        };
        lines.map(line).collect()
    }

    pub fn digest(&self, sources: &[&str], filter: Option<Filter<'_>>) -> [u8; 32] {
        let sources: Vec<String> = sources.iter().map(|source| (*source).to_owned()).collect();
        let from = CopyFrom::Tree {
            root: self.context.fd(),
            sources: &sources,
        };
        digest_sources(&from, filter, false).unwrap()
    }

    pub fn assert_outside_untouched(&self) {
        let outside = self.scratch.path().join("outside");
        assert_eq!(
            fs::read_to_string(outside.join("secret")).unwrap(),
            "secret"
        );
        assert_eq!(fs::read_dir(outside).unwrap().count(), 1);
    }
}
