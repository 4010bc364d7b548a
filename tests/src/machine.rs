//! Seeing that nothing is left on the machine.

use std::collections::BTreeSet;
use std::path::Path;

/// What of the machine a test could leave behind: mounts, cgroups, processes of containers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaks {
    mounts: BTreeSet<String>,
    cgroups: BTreeSet<String>,
}

impl Leaks {
    /// Looks at the machine: the mounts beneath `root`, and the cgroups of the containers `ids`.
    pub fn look(root: &Path, ids: &[String]) -> Self {
        let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let beneath = |line: &&str| {
            line.split(' ')
                .nth(4)
                .is_some_and(|point| Path::new(point).starts_with(root))
        };
        let mounts = table.lines().filter(beneath).map(str::to_owned).collect();
        let mut cgroups = BTreeSet::new();
        find_cgroups(Path::new("/sys/fs/cgroup"), 4, ids, &mut cgroups);
        Self { mounts, cgroups }
    }

    /// Whether nothing was found.
    pub fn is_empty(&self) -> bool {
        self.mounts.is_empty() && self.cgroups.is_empty()
    }
}

fn find_cgroups(directory: &Path, depth: u32, ids: &[String], found: &mut BTreeSet<String>) {
    let Ok(entries) = std::fs::read_dir(directory) else {
        return;
    };
    for entry in entries
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|t| t.is_dir()))
    {
        let name = entry.file_name().to_string_lossy().into_owned();
        if ids.iter().any(|id| name.contains(id.as_str())) {
            found.insert(entry.path().display().to_string());
        }
        if depth > 0 {
            find_cgroups(&entry.path(), depth - 1, ids, found);
        }
    }
}
