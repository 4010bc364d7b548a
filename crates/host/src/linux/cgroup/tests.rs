//! Tests of finding, planning and limiting, on hierarchies made of plain files.

use tempfile::TempDir;

use super::*;

/// A host whose hierarchies are directories.
struct Mock {
    dir: TempDir,
    groups: Hierarchies,
}

impl Mock {
    /// With these hierarchies of version 1 (their options), and controllers of version 2.
    fn new(legacy: &[&str], unified: Option<&str>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut table = String::new();
        for options in legacy {
            let path = dir.path().join(options);
            fs::create_dir_all(path.join(PARENT)).unwrap();
            let path = path.display();
            table += &format!("1 2 0:3 / {path} rw - cgroup cgroup rw,{options}\n");
        }
        if let Some(controllers) = unified {
            let path = dir.path().join("unified");
            fs::create_dir_all(path.join(PARENT)).unwrap();
            for group in [path.clone(), path.join(PARENT)] {
                fs::write(group.join("cgroup.subtree_control"), controllers).unwrap();
            }
            let path = path.display();
            table += &format!("1 2 0:3 / {path} rw - cgroup2 cgroup2 rw\n");
        }
        let mut groups = Hierarchies::parse(&table);
        if let (Some(found), Some(controllers)) = (&mut groups.unified, unified) {
            found.controllers = parse_controllers(controllers);
        }
        Self { dir, groups }
    }

    /// As on a host with nothing but version 1, with all of these mounts.
    fn legacy() -> Self {
        let mock = Self::new(
            &[
                "cpu,cpuacct",
                "cpuset",
                "memory",
                "devices",
                "freezer",
                "blkio",
                "pids",
            ],
            None,
        );
        mock.with_legacy_files();
        mock
    }

    fn unified() -> Self {
        let mock = Self::new(&[], Some("cpuset cpu io memory hugetlb pids"));
        for file in ["memory.swap.max", "io.weight"] {
            mock.write(&format!("unified/kleene/{file}"), "");
        }
        mock
    }

    /// Version 1 controls, version 2 is there.
    fn hybrid() -> Self {
        let mock = Self::new(
            &[
                "cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "blkio", "pids",
            ],
            Some("hugetlb"),
        );
        mock.with_legacy_files();
        mock
    }

    fn with_legacy_files(&self) {
        self.write("memory/kleene/memory.memsw.limit_in_bytes", "");
        self.write("blkio/kleene/blkio.bfq.weight", "100");
        for (file, text) in [("cpuset.cpus", "0-3\n"), ("cpuset.mems", "0\n")] {
            self.write(&format!("cpuset/{file}"), text);
            self.write(&format!("cpuset/kleene/{file}"), "\n");
        }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap()
    }

    fn plan(&self, limits: &Limits) -> CgroupPlan {
        self.groups.plan(&container(), limits).unwrap()
    }

    /// The groups of a plan, without what all have in common.
    fn named(&self, plan: &CgroupPlan) -> Vec<String> {
        let tail = format!("/kleene/{}", container());
        let name = |group: &PathBuf| {
            let group = group.strip_prefix(self.dir.path()).unwrap();
            group
                .to_str()
                .unwrap()
                .strip_suffix(&tail)
                .map(str::to_owned)
        };
        plan.directories()
            .map(|group| name(group).unwrap())
            .collect()
    }

    /// Files and values of a plan.
    fn settings(&self, limits: &Limits) -> Vec<(String, String)> {
        let group = format!("kleene/{}/", container());
        let plan = self.plan(limits);
        let short = |file: &Path| {
            let file = file.strip_prefix(self.dir.path()).unwrap();
            file.to_str().unwrap().replace(&group, "")
        };
        plan.settings
            .iter()
            .map(|setting| (short(&setting.file), setting.value.clone()))
            .collect()
    }

    /// Makes a running container's group with its files.
    fn group(&self, hierarchy: &str, files: &[(&str, &str)]) {
        let group = format!("{hierarchy}/kleene/{}", container());
        fs::create_dir_all(self.path(&group)).unwrap();
        for (file, text) in files {
            self.write(&format!("{group}/{file}"), text);
        }
    }

    fn value(&self, hierarchy: &str, file: &str) -> String {
        let text = self.read(&format!("{hierarchy}/kleene/{}/{file}", container()));
        text.trim().to_owned()
    }
}

fn container() -> ContainerId {
    "4f0c5d1e2a3b".parse().unwrap()
}

/// Every limit at once.
fn everything() -> Limits {
    Limits {
        memory: Some("64m".parse().unwrap()),
        memory_swap: None,
        cpus: Some("1.5".parse().unwrap()),
        cpuset: Some("0,2-3".parse().unwrap()),
        pids: Some(50),
        io_weight: Some(200.try_into().unwrap()),
    }
}

fn memory(bytes: u64, swap: Option<kleene_types::SwapLimit>) -> Limits {
    Limits {
        memory: Some(kleene_types::ByteSize::new(bytes)),
        memory_swap: swap,
        ..Limits::default()
    }
}

fn pairs(settings: &[(&str, &str)]) -> Vec<(String, String)> {
    let owned = |(file, value): &(&str, &str)| ((*file).to_owned(), (*value).to_owned());
    settings.iter().map(owned).collect()
}

#[test]
fn hierarchies_are_found_in_the_mount_table() {
    let table = "\
35 31 0:32 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
36 31 0:33 / /sys/fs/cgroup/dev\\040ices rw,relatime shared:3 - cgroup cgroup rw,devices
37 31 0:34 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd
38 31 0:33 / /elsewhere rw,relatime - cgroup cgroup rw,devices
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
42 31 0:38 / /another rw,relatime - cgroup2 cgroup2 rw
nonsense
";
    let found = Hierarchies::parse(table);
    let legacy = |mount: &str, controllers: &[Controller]| Legacy {
        mount: mount.into(),
        controllers: controllers.to_vec(),
    };
    assert_eq!(
        found.legacy,
        [
            legacy(
                "/sys/fs/cgroup/cpu,cpuacct",
                &[Controller::Cpu, Controller::Cpuacct]
            ),
            legacy("/sys/fs/cgroup/dev ices", &[Controller::Devices]),
        ]
    );
    let unified = found.unified.unwrap();
    assert_eq!(unified.mount, Path::new("/sys/fs/cgroup/unified"));
    assert_eq!(Hierarchies::parse("nonsense\n"), Hierarchies::default());
}

#[test]
fn this_host_is_understood() {
    let found = Hierarchies::discover().unwrap();
    for legacy in &found.legacy {
        assert!(legacy.mount.join("cgroup.procs").exists(), "{legacy:?}");
    }
}

#[test]
fn controllers_are_used_where_they_are() {
    let of = |mock: &Mock, controller| mock.groups.home(controller).map(|home| home.version);
    let hybrid = Mock::new(&["memory"], Some("cpu pids"));
    assert_eq!(of(&hybrid, Controller::Memory), Some(Version::Legacy));
    assert_eq!(of(&hybrid, Controller::Cpu), Some(Version::Unified));
    assert_eq!(of(&hybrid, Controller::Io), None);
    assert_eq!(of(&Mock::unified(), Controller::Io), Some(Version::Unified));
    assert_eq!(of(&Mock::legacy(), Controller::Io), Some(Version::Legacy));
}

#[test]
fn unlimited_containers_are_where_they_can_be_observed() {
    let limits = Limits::default();
    let mock = Mock::legacy();
    let plan = mock.plan(&limits);
    // Without version 2 nothing else counts time.
    assert_eq!(
        mock.named(&plan),
        [
            "cpu,cpuacct",
            "memory",
            "devices",
            "freezer",
            "blkio",
            "pids"
        ]
    );
    assert_eq!(plan.settings, []);
    assert!(plan.out_of_memory.unwrap().ends_with("memory.oom_control"));

    let mock = Mock::hybrid();
    let plan = mock.plan(&limits);
    assert_eq!(
        mock.named(&plan),
        ["unified", "memory", "devices", "freezer", "blkio", "pids"]
    );
    let devices = plan.devices.unwrap();
    assert!(plan.legacy.contains(&devices));
    assert!(devices.starts_with(mock.path("devices/kleene")));

    let mock = Mock::unified();
    let plan = mock.plan(&limits);
    assert_eq!(mock.named(&plan), ["unified"]);
    assert_eq!(plan.devices, None);
    assert!(plan.out_of_memory.unwrap().ends_with("memory.events"));

    let nothing = Mock::new(&[], None).plan(&limits);
    assert_eq!(nothing, CgroupPlan::default());
}

#[test]
fn limited_containers_are_in_the_groups_that_limit_them() {
    let mock = Mock::hybrid();
    let all = [
        "unified", "cpu", "cpuset", "memory", "devices", "freezer", "blkio", "pids",
    ];
    assert_eq!(mock.named(&mock.plan(&everything())), all);
}

#[test]
fn limits_of_version_1() {
    let mock = Mock::hybrid();
    assert_eq!(
        mock.settings(&everything()),
        pairs(&[
            ("memory/memory.limit_in_bytes", "67108864"),
            ("memory/memory.memsw.limit_in_bytes", "134217728"),
            ("cpu/cpu.cfs_period_us", "100000"),
            ("cpu/cpu.cfs_quota_us", "150000"),
            ("cpuset/cpuset.mems", "0"),
            ("cpuset/cpuset.cpus", "0,2-3"),
            ("pids/pids.max", "50"),
            ("blkio/blkio.bfq.weight", "200"),
        ])
    );
    // The parents have what their children are to be given.
    assert_eq!(mock.read("cpuset/kleene/cpuset.cpus"), "0-3");
    assert_eq!(mock.read("cpuset/kleene/cpuset.mems"), "0");
}

#[test]
fn limits_of_version_2() {
    assert_eq!(
        Mock::unified().settings(&everything()),
        pairs(&[
            ("unified/memory.max", "67108864"),
            ("unified/memory.swap.max", "67108864"),
            ("unified/cpu.max", "150000 100000"),
            ("unified/cpuset.cpus", "0,2-3"),
            ("unified/pids.max", "50"),
            ("unified/io.weight", "200"),
        ])
    );
}

#[test]
fn swap_space_is_the_total_without_the_memory() {
    use kleene_types::SwapLimit::{Total, Unlimited};
    let total = |bytes| Some(Total(kleene_types::ByteSize::new(bytes)));
    let swap = |mock: &Mock, swap| {
        let settings = mock.settings(&memory(1 << 20, swap));
        settings.into_iter().map(|(_, value)| value).nth(1)
    };
    let (legacy, unified) = (Mock::legacy(), Mock::unified());
    assert_eq!(swap(&legacy, total(3 << 20)).unwrap(), "3145728");
    assert_eq!(swap(&unified, total(3 << 20)).unwrap(), "2097152");
    assert_eq!(swap(&legacy, total(1 << 20)).unwrap(), "1048576");
    assert_eq!(swap(&unified, total(1 << 20)).unwrap(), "0");
    assert_eq!(swap(&legacy, Some(Unlimited)), None);
    assert_eq!(swap(&unified, Some(Unlimited)), None);
}

#[test]
fn weights_are_what_they_are_relative_to_everybodys() {
    let weight = |file: &str, version, weight: u64| {
        let mock = match version {
            Version::Legacy => Mock::new(&["blkio"], None),
            Version::Unified => Mock::new(&[], Some("io")),
        };
        let hierarchy = match version {
            Version::Legacy => "blkio",
            Version::Unified => "unified",
        };
        mock.write(&format!("{hierarchy}/kleene/{file}"), "");
        let limits = Limits {
            io_weight: Some(weight.try_into().unwrap()),
            ..Limits::default()
        };
        mock.settings(&limits)[0].1.clone()
    };
    assert_eq!(weight("blkio.weight", Version::Legacy, 100), "500");
    assert_eq!(weight("blkio.weight", Version::Legacy, 1), "10");
    assert_eq!(weight("blkio.weight", Version::Legacy, 10_000), "1000");
    assert_eq!(weight("blkio.bfq.weight", Version::Legacy, 1), "1");
    assert_eq!(weight("io.bfq.weight", Version::Unified, 10_000), "1000");
    assert_eq!(weight("io.weight", Version::Unified, 10_000), "10000");
}

#[test]
fn limits_without_a_controller_are_refused_by_name() {
    let mock = Mock::new(&["devices"], Some("memory"));
    for (limits, name) in [
        (
            Limits {
                cpus: Some("1".parse().unwrap()),
                ..Limits::default()
            },
            "--cpus",
        ),
        (
            Limits {
                pids: Some(5),
                ..Limits::default()
            },
            "--pids-limit",
        ),
    ] {
        let error = mock.groups.wanted(&limits).unwrap_err().to_string();
        assert!(error.starts_with(name), "{error}");
    }
    let weightless = Mock::new(&["blkio"], None);
    let limits = Limits {
        io_weight: Some(5.try_into().unwrap()),
        ..Limits::default()
    };
    let error = weightless.groups.wanted(&limits).unwrap_err().to_string();
    assert!(error.starts_with("--io-weight"), "{error}");
}

#[test]
fn controllers_are_switched_on_on_the_way() {
    let mock = Mock::unified();
    for group in ["unified", "unified/kleene"] {
        mock.write(
            &format!("{group}/cgroup.subtree_control"),
            "cpu io memory cpuset",
        );
    }
    mock.groups.prepare(&Limits::default()).unwrap();
    for group in ["unified", "unified/kleene"] {
        assert_eq!(
            mock.read(&format!("{group}/cgroup.subtree_control")),
            "+pids"
        );
    }
}

#[test]
fn a_controller_that_stays_off_matters_to_those_that_need_it_only() {
    let mock = Mock::unified();
    fs::remove_file(mock.path("unified/cgroup.subtree_control")).unwrap();
    mock.write("unified/kleene/cgroup.subtree_control", "");
    mock.groups.prepare(&Limits::default()).unwrap();
    let error = mock.groups.prepare(&memory(1 << 30, None)).unwrap_err();
    assert!(error.to_string().contains("controller 'memory'"), "{error}");
}

#[test]
fn who_joins_is_where_the_others_are() {
    let mock = Mock::hybrid();
    for hierarchy in ["unified", "memory", "cpu"] {
        mock.group(hierarchy, &[]);
    }
    let plan = mock.groups.plan_to_join(&container());
    // Never without the one that keeps it from devices.
    assert_eq!(mock.named(&plan), ["unified", "cpu", "memory", "devices"]);
}

#[test]
fn limits_are_changed_and_lifted() {
    let mock = Mock::legacy();
    let unlimited = "9223372036854771712\n";
    mock.group(
        "memory",
        &[
            ("memory.limit_in_bytes", unlimited),
            ("memory.memsw.limit_in_bytes", unlimited),
        ],
    );
    mock.group("pids", &[("pids.max", "max\n")]);
    mock.group("blkio", &[("blkio.bfq.weight", "100\n")]);
    mock.group(
        "cpu,cpuacct",
        &[
            ("cpu.cfs_period_us", "100000\n"),
            ("cpu.cfs_quota_us", "-1\n"),
        ],
    );
    let limits = Limits {
        cpuset: None,
        ..everything()
    };
    mock.groups.update(&container(), &limits).unwrap();
    assert_eq!(mock.value("memory", "memory.limit_in_bytes"), "67108864");
    assert_eq!(mock.value("cpu,cpuacct", "cpu.cfs_quota_us"), "150000");
    assert_eq!(mock.value("pids", "pids.max"), "50");
    mock.groups
        .update(&container(), &Limits::default())
        .unwrap();
    assert_eq!(mock.value("memory", "memory.limit_in_bytes"), "-1");
    assert_eq!(mock.value("memory", "memory.memsw.limit_in_bytes"), "-1");
    assert_eq!(mock.value("cpu,cpuacct", "cpu.cfs_quota_us"), "-1");
    assert_eq!(mock.value("pids", "pids.max"), "max");
    assert!(!mock.groups.every_group(&container())[1].exists());
}

#[test]
fn a_change_that_fails_half_way_is_taken_back() {
    let mock = Mock::legacy();
    mock.group(
        "memory",
        &[
            ("memory.limit_in_bytes", "1000\n"),
            ("memory.memsw.limit_in_bytes", "2000\n"),
        ],
    );
    mock.group(
        "cpu,cpuacct",
        &[
            ("cpu.cfs_period_us", "100000\n"),
            ("cpu.cfs_quota_us", "-1\n"),
        ],
    );
    // There is no `pids.max`.
    mock.group("pids", &[]);
    let limits = Limits {
        cpuset: None,
        ..everything()
    };
    let error = mock.groups.update(&container(), &limits).unwrap_err();
    let error = error.to_string();
    assert!(error.starts_with("process limit 50"), "{error}");
    assert!(error.contains("Nothing has changed"), "{error}");
    assert_eq!(mock.value("memory", "memory.limit_in_bytes"), "1000");
    assert_eq!(mock.value("memory", "memory.memsw.limit_in_bytes"), "2000");
    assert_eq!(mock.value("cpu,cpuacct", "cpu.cfs_quota_us"), "-1");
}

#[test]
fn files_that_arent_there_matter_to_those_that_need_them_only() {
    let mock = Mock::unified();
    mock.group("unified", &[("pids.max", "max\n")]);
    let pids = Limits {
        pids: Some(7),
        ..Limits::default()
    };
    mock.groups.update(&container(), &pids).unwrap();
    assert_eq!(mock.value("unified", "pids.max"), "7");
    let refused = mock.groups.update(&container(), &everything());
    assert!(refused.is_err());
    assert_eq!(mock.value("unified", "pids.max"), "7");
}

#[test]
fn memory_in_use_stays_in_use_under_version_2() {
    let mock = Mock::unified();
    mock.group(
        "unified",
        &[
            ("memory.max", "max\n"),
            ("memory.swap.max", "max\n"),
            ("memory.current", "2000000\n"),
        ],
    );
    let error = mock
        .groups
        .update(&container(), &memory(1_000_000, None))
        .unwrap_err()
        .to_string();
    assert!(error.contains("uses 2000000 bytes"), "{error}");
    assert_eq!(mock.value("unified", "memory.max"), "max");
    assert_eq!(mock.value("unified", "memory.reclaim"), "1000000");
}
