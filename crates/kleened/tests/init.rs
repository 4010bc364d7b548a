//! `kleened init` on a FreeBSD that is made of the answers of its tools.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_types,
    reason = "tests may panic, and one starts the program"
)]

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use kleene_command::{Answer, Scripted};
use kleene_doors::storage::StorageError;
use kleened::config;
use kleened::init::{self, InitError, Machine, Options};
use serde::Deserialize;

#[derive(Deserialize)]
struct Sample {
    argv: Vec<String>,
    exit: i32,
    stdout: String,
    stderr: String,
}

/// What a FreeBSD 14.2 answered to this command.
fn sample(line: &str) -> Answer {
    let samples: Vec<Sample> =
        serde_json::from_str(include_str!("fixtures/freebsd-tools.json")).unwrap();
    let found = samples
        .into_iter()
        .find(|it| it.argv.join(" ") == line)
        .expect(line);
    match found.exit {
        0 => Answer::ok(found.stdout),
        status => Answer::fail(status, found.stderr),
    }
}

/// What uname(1) prints with `-rms`: system, release, machine.
fn system(line: &str) -> (String, String) {
    let mut words = line.split_whitespace().map(str::to_owned);
    (words.next().unwrap(), words.next().unwrap())
}

/// A machine: its files, what its tools answer, and which roots were opened.
struct Stage {
    directory: tempfile::TempDir,
    system: (String, String),
    script: Scripted,
    opened: RefCell<Vec<String>>,
    is_root: bool,
}

impl Stage {
    /// A machine that says this of itself.
    fn new(uname: &str) -> Self {
        Self {
            system: system(uname),
            directory: tempfile::tempdir().unwrap(),
            script: Scripted::new(),
            opened: RefCell::default(),
            is_root: true,
        }
    }

    fn freebsd() -> Self {
        Self::new("FreeBSD 14.2-BETA1 amd64")
    }

    fn linux() -> Self {
        Self::new("Linux 6.1.0 x86_64")
    }

    fn answers(self, line: &str, answer: Answer) -> Self {
        let words: Vec<&str> = line.split(' ').collect();
        self.script.then(&words, answer);
        self
    }

    /// A module that is there.
    fn module(self, name: &str) -> Self {
        self.answers(
            &format!("kldstat -q -m {name}"),
            sample("kldstat -q -m zfs"),
        )
    }

    /// A module that isn't there, and what loading it gives.
    fn loads(self, name: &str, answer: Answer) -> Self {
        self.answers(&format!("kldstat -q -m {name}"), Answer::fail(1, ""))
            .answers(&format!("kldload {name}"), answer)
    }

    /// Modules that a kernel has all of.
    fn static_kernel(self) -> Self {
        ["nullfs", "if_bridge", "if_epair", "pf"]
            .into_iter()
            .fold(self, Stage::module)
    }

    /// A variable that has its value.
    fn has_variable(self, assignment: &str) -> Self {
        self.answers(&format!("sysrc -c {assignment}"), Answer::ok(""))
    }

    /// A variable that is set.
    fn sets_variable(self, assignment: &str) -> Self {
        self.answers(&format!("sysrc -c {assignment}"), Answer::fail(1, ""))
            .answers(&format!("sysrc {assignment}"), Answer::ok(""))
    }

    fn racct(self, answer: &str) -> Self {
        let answer = Answer::ok(format!("{answer}\n"));
        self.answers("sysctl -n kern.racct.enable", answer)
    }

    fn path(&self, absolute: &str) -> PathBuf {
        self.directory.path().join(absolute.trim_start_matches('/'))
    }

    fn write(&self, absolute: &str, text: &str) {
        let path = self.path(absolute);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn read(&self, absolute: &str) -> String {
        std::fs::read_to_string(self.path(absolute)).unwrap()
    }

    /// The report, and how it ended; the machine's directory is left out of it.
    fn run(&self, options: &Options) -> (String, Result<(), InitError>) {
        let machine = Machine {
            system: self.system.clone(),
            runner: &self.script,
            directory: self.directory.path(),
            is_root: self.is_root,
            open: &|root| self.open(root),
        };
        let mut report = Vec::new();
        let result = init::run(&machine, options, &mut report);
        self.script.finish().unwrap();
        let here = self.directory.path().to_str().unwrap();
        let text = String::from_utf8(report).unwrap().replace(here, "");
        (text, result)
    }

    fn report(&self, options: &Options) -> String {
        let (report, result) = self.run(options);
        result.unwrap();
        report
    }

    fn refusal(&self, options: &Options) -> String {
        let mut error: &dyn std::error::Error = &self.run(options).1.unwrap_err();
        let mut text = error.to_string();
        while let Some(cause) = error.source() {
            text = format!("{text}: {cause}");
            error = cause;
        }
        text
    }

    fn open(&self, root: &str) -> Result<(), StorageError> {
        self.opened.borrow_mut().push(root.to_owned());
        match root {
            "bad" => Err(StorageError::Invalid(
                "kleene_root: 'bad' is bad".to_owned(),
            )),
            _ => Ok(()),
        }
    }
}

/// The datasets of a root that is there.
const DATASETS: &str = "zroot/kleene\nzroot/kleene/container\nzroot/kleene/image\n\
                        zroot/kleene/volumes\n";
const LIST: &str = "zfs list -H -o name -r -d 1 zroot/kleene";
const CONFIG: &str = "/usr/local/etc/kleened/config.yaml";
const NEWSYSLOG: &str = "/usr/local/etc/newsyslog.conf.d/kleened.conf";

fn absent() -> Answer {
    Answer::fail(1, "cannot open 'zroot/kleene': dataset does not exist")
}

#[test]
fn a_fresh_machine_with_a_pool() {
    let stage = Stage::freebsd()
        .answers("zpool list -H -o name", Answer::ok("zdata\nzroot\n"))
        .module("zfs")
        .loads("nullfs", Answer::ok(""))
        .loads("if_bridge", sample("kldload if_bridge"))
        .loads("if_epair", Answer::ok(""))
        .loads("pf", sample("kldload nosuchmodule"))
        .sets_variable("zfs_enable=YES")
        .answers("sysrc kld_list+=nullfs", Answer::ok(""))
        .answers("sysrc kld_list+=if_epair", Answer::ok(""))
        .sets_variable("kleened_enable=YES")
        .racct("0")
        .answers(LIST, absent());
    let report = stage.report(&Options::default());
    let wanted = "\
there    FreeBSD 14.2-BETA1
done     configuration /usr/local/etc/kleened/config.yaml, with the Kleene root zroot/kleene
there    kernel module zfs, for a dataset as the Kleene root
done     kernel module nullfs, for mounts
there    kernel module if_bridge, for networks of containers
done     kernel module if_epair, for networks of containers
warning  kernel module pf, for networks of containers: loading kernel module pf failed: `kldload pf` \
failed with exit status 1: kldload: can't load nosuchmodule: No such file or directory
done     rc.conf: zfs_enable=YES
done     rc.conf: kld_list+=nullfs
done     rc.conf: kld_list+=if_epair
done     rc.conf: kleened_enable=YES
done     rotation of the log: /usr/local/etc/newsyslog.conf.d/kleened.conf
note     limits of containers (--memory, --cpus, …) need kern.racct.enable=1 in /boot/loader.conf: \
`kleened init --racct` puts it there
done     Kleene root: the ZFS dataset zroot/kleene
note     rules for devices: none are needed, the daemon loads its own
note     start the daemon with `service kleened start`
";
    assert_eq!(report, wanted);
    assert_eq!(*stage.opened.borrow(), ["zroot/kleene"]);
    assert!(stage.read(CONFIG).contains("\nkleene_root: zroot/kleene\n"));
    assert!(stage.read(NEWSYSLOG).contains("/var/log/kleened.log"));
    assert!(!stage.path("/boot").exists());
}

#[test]
fn the_second_time_everything_is_there() {
    let stage = Stage::freebsd()
        .module("zfs")
        .static_kernel()
        .has_variable("zfs_enable=YES")
        .has_variable("kleened_enable=YES")
        .racct("1")
        .answers(LIST, Answer::ok(DATASETS));
    stage.write(CONFIG, "kleene_root: zroot/kleene\n");
    stage.write(NEWSYSLOG, "# mine\n");
    let report = stage.report(&Options::default());
    for line in report.lines() {
        assert!(
            line.starts_with("there") || line.starts_with("note"),
            "{line}"
        );
    }
    assert_eq!(stage.read(CONFIG), "kleene_root: zroot/kleene\n");
    assert_eq!(stage.read(NEWSYSLOG), "# mine\n");
    assert!(stage.opened.borrow().is_empty());
}

#[test]
fn a_dry_run_changes_nothing() {
    let mut stage = Stage::freebsd()
        .answers("zpool list -H -o name", Answer::ok("zroot\n"))
        .module("zfs")
        .answers("kldstat -q -m nullfs", Answer::fail(1, ""))
        .module("if_bridge")
        .module("if_epair")
        .module("pf")
        .answers("sysrc -c zfs_enable=YES", Answer::fail(1, ""))
        .answers("sysrc -c kleened_enable=YES", Answer::fail(1, ""))
        .racct("0")
        .answers(LIST, absent());
    stage.is_root = false;
    let options = Options {
        dry_run: true,
        racct: true,
        ..Options::default()
    };
    let report = stage.report(&options);
    assert!(!report.contains("done"), "{report}");
    for would in [
        "would    configuration /usr/local/etc/kleened/config.yaml",
        "would    kernel module nullfs",
        "would    rc.conf: kld_list+=nullfs",
        "would    rc.conf: kleened_enable=YES",
        "would    rotation of the log",
        "would    /boot/loader.conf: kern.racct.enable=1",
        "would    Kleene root: the ZFS dataset zroot/kleene",
    ] {
        assert!(report.contains(would), "{would}\n{report}");
    }
    assert!(stage.opened.borrow().is_empty());
    let left = std::fs::read_dir(stage.directory.path()).unwrap().count();
    assert_eq!(left, 0);
}

#[test]
fn without_zfs_or_a_working_sysrc() {
    let broken = || sample("sysrc -n kleened_enable");
    let stage = Stage::freebsd()
        .answers(
            "zpool list -H -o name",
            Answer::fail(1, "internal error: failed to initialize ZFS library"),
        )
        .module("nullfs")
        .loads("if_bridge", Answer::ok(""))
        .loads("if_epair", Answer::ok(""))
        .module("pf")
        .answers("sysrc kld_list+=if_bridge", broken())
        .answers("sysrc kld_list+=if_epair", broken())
        .answers("sysrc -c kleened_enable=YES", broken())
        .answers(
            "sysctl -n kern.racct.enable",
            Answer::fail(1, "sysctl: unknown oid 'kern.racct.enable'"),
        );
    stage.write("/boot/loader.conf", "autoboot_delay=\"3\"\n");
    stage.write("/etc/rc.conf", "hostname=\"vm\"\nkld_list=\"if_bridge\"\n");
    let options = Options {
        racct: true,
        ..Options::default()
    };
    let report = stage.report(&options);
    let root = config::Defaults::FREEBSD.root;
    assert!(
        report.contains(&format!("done     Kleene root: the directory {root}\n")),
        "{report}"
    );
    for line in [
        "there    rc.conf: kld_list=if_bridge, without sysrc\n",
        "done     rc.conf: kld_list=if_bridge if_epair, without sysrc\n",
        "done     rc.conf: kleened_enable=YES, without sysrc\n",
    ] {
        assert!(report.contains(line), "{line}\n{report}");
    }
    assert_eq!(
        stage.read("/etc/rc.conf"),
        "hostname=\"vm\"\nkld_list=\"if_bridge if_epair\"\nkleened_enable=\"YES\"\n"
    );
    assert!(!report.contains("zfs"), "{report}");
    assert_eq!(*stage.opened.borrow(), [root]);
    assert_eq!(
        stage.read("/boot/loader.conf"),
        "autoboot_delay=\"3\"\nkern.racct.enable=\"1\"\n"
    );
    assert!(report.contains("once the machine is restarted"), "{report}");
}

#[test]
fn several_pools_are_a_question() {
    let stage = Stage::linux().answers("zpool list -H -o name", Answer::ok("tank\ndata\n"));
    let refusal = stage.refusal(&Options::default());
    assert!(
        refusal.contains("(tank, data)") && refusal.contains("--root"),
        "{refusal}"
    );
}

#[test]
fn linux_has_the_parts_that_apply() {
    let stage = Stage::linux().answers("zpool list -H -o name", Answer::fail(127, ""));
    let wanted = "\
there    Linux 6.1.0
done     configuration /etc/kleened/config.yaml, with the Kleene root /var/lib/kleene
skipped  kernel modules, rc.conf, newsyslog and racct: those are FreeBSD's, not on Linux
done     Kleene root: the directory /var/lib/kleene
";
    assert_eq!(stage.report(&Options::default()), wanted);
    let stage = Stage::linux();
    let options = Options {
        racct: true,
        ..Options::default()
    };
    assert_eq!(
        stage.refusal(&options),
        "--racct is not on Linux: leave it out"
    );
}

#[test]
fn an_only_pool_is_taken() {
    let stage = Stage::linux()
        .answers("zpool list -H -o name", Answer::ok("tank\n"))
        .answers(
            "zfs list -H -o name -r -d 1 tank/kleene",
            Answer::fail(1, "cannot open 'tank/kleene': dataset does not exist"),
        );
    let report = stage.report(&Options::default());
    assert!(report.contains("the ZFS dataset tank/kleene"), "{report}");
}

#[test]
fn the_configuration_counts() {
    let stage = Stage::linux();
    stage.write("/etc/kleened/config.yaml", "kleene_root: /k\n");
    let options = Options {
        root: Some("zroot/kleene".to_owned()),
        ..Options::default()
    };
    let refusal = stage.refusal(&options);
    assert!(
        refusal.contains("kleene_root is '/k', not 'zroot/kleene'"),
        "{refusal}"
    );
    let stage = Stage::linux();
    stage.write("/etc/kleened/config.yaml", "kleene_rot: /k\n");
    let refusal = stage.refusal(&Options::default());
    assert!(refusal.contains("config.yaml:1: unknown key"), "{refusal}");
}

#[test]
fn what_is_needed_is_not_left_out() {
    let root = || Options {
        root: Some("zroot/kleene".to_owned()),
        ..Options::default()
    };
    let stage = Stage::freebsd().loads("zfs", sample("kldload nosuchmodule"));
    let refusal = stage.refusal(&root());
    assert!(
        refusal.starts_with("the kernel module zfs is needed for a dataset as the Kleene root: "),
        "{refusal}"
    );
    assert!(refusal.ends_with("No such file or directory"), "{refusal}");

    let stage = Stage::linux().answers("zfs list -H -o name -r -d 1 bad", absent());
    let options = Options {
        root: Some("bad".to_owned()),
        ..Options::default()
    };
    assert_eq!(stage.refusal(&options), "kleene_root: 'bad' is bad");

    let mut stage = Stage::freebsd();
    stage.is_root = false;
    assert!(stage.refusal(&root()).contains("must be run by root"));
    let old = Stage::new("FreeBSD 13.2-RELEASE-p1 amd64");
    assert!(old.refusal(&root()).contains("13.2-RELEASE-p1 is too old"));
    let other = Stage::new("Darwin 23.0 arm64");
    assert!(other.refusal(&root()).contains("'Darwin' is not a system"));
}

#[test]
fn roots_that_the_configuration_cannot_name() {
    for root in ["", "a: b", "../x", "/k # x", "a\nb"] {
        let stage = Stage::linux();
        let options = Options {
            root: Some(root.to_owned()),
            ..Options::default()
        };
        let refusal = stage.refusal(&options);
        assert!(refusal.starts_with("--root: "), "{refusal}");
        assert!(!stage.path("/etc").exists(), "{root}");
    }
}

#[test]
fn the_default_configuration_says_what_it_seems_to() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("config.yaml");
    std::fs::write(&file, init::CONFIG).unwrap();
    let (config, _) = config::load(Some(&file)).unwrap();
    let wanted = config::Config {
        kleene_root: "zroot/kleene".to_owned(),
        ..config::Config::default()
    };
    assert_eq!(config, wanted);
    assert!(Path::new(config::DEFAULT_PATH).is_absolute());
}

/// With the machine's own tools: nothing but a configuration and a directory is wanted here.
#[test]
fn the_program_itself() {
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("config.yaml");
    let root = directory.path().join("root");
    let run = || {
        std::process::Command::new(env!("CARGO_BIN_EXE_kleened"))
            .args(["init", "--dry-run", "--root"])
            .arg(&root)
            .arg("--config")
            .arg(&config)
            .output()
            .unwrap()
    };
    let output = run();
    let report = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{report}");
    let wanted = format!("would    Kleene root: the directory {}", root.display());
    assert!(report.contains(&wanted), "{report}");
    assert!(!config.exists() && !root.exists());
}
