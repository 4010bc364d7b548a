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

    /// The cgroups that were found.
    pub fn cgroups(self) -> BTreeSet<String> {
        self.cgroups
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

/// What a Kleene root holds on the machine: its datasets, instances' directories, mounts, and the
/// processes that work in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Traces {
    datasets: BTreeSet<String>,
    instances: BTreeSet<String>,
    mounts: BTreeSet<String>,
    processes: BTreeSet<String>,
}

impl Traces {
    /// Looks at a root of the `dir` room.
    pub fn look(root: &Path) -> Self {
        let mut datasets = BTreeSet::new();
        for kind in ["image", "container", "volumes"] {
            datasets.extend(names(&root.join(kind)).map(|name| format!("{kind}/{name}")));
        }
        Self {
            datasets,
            instances: names(&root.join("metadata/run")).collect(),
            mounts: Leaks::look(root, &[]).mounts,
            processes: processes_in(root),
        }
    }

    /// The datasets: `container/ID`, `volumes/NAME`, `image/ID`.
    pub fn datasets(&self, kind: &str) -> BTreeSet<String> {
        let prefix = format!("{kind}/");
        let named = self.datasets.iter();
        named
            .filter_map(|dataset| dataset.strip_prefix(&prefix))
            .map(str::to_owned)
            .collect()
    }

    /// All but what belongs to images.
    pub fn without_images(mut self) -> Self {
        self.datasets
            .retain(|dataset| !dataset.starts_with("image/"));
        self.mounts.retain(|mount| !mount.contains("/image/"));
        self
    }

    /// Ids of the processes.
    pub fn pids(&self) -> Vec<u32> {
        let first = |line: &String| line.split(' ').next()?.parse().ok();
        self.processes.iter().filter_map(first).collect()
    }

    /// The directories of execution instances.
    pub fn instances(&self) -> &BTreeSet<String> {
        &self.instances
    }
}

fn names(directory: &Path) -> impl Iterator<Item = String> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        // What a room keeps for itself.
        .filter(|name| !name.starts_with('.') && name != "outside")
}

/// Processes whose working directory lies beneath `root`, which monitors' do.
fn processes_in(root: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for pid in names(Path::new("/proc")).filter(|name| name.parse::<u32>().is_ok()) {
        let Ok(directory) = std::fs::read_link(format!("/proc/{pid}/cwd")) else {
            continue;
        };
        if directory.starts_with(root) {
            let command = std::fs::read_to_string(format!("/proc/{pid}/cmdline"));
            let command = command.unwrap_or_default().replace('\0', " ");
            found.insert(format!("{pid} {command} in {}", directory.display()));
        }
    }
    found
}
