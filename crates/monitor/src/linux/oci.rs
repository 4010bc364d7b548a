//! A container as the Open Container Initiative's runtime specification has it: pure functions.
//!
//! They describe, for an outside runtime, the container that the monitor makes by itself otherwise;
//! a test compares what both come to. See the specification's `config.md` and `config-linux.md`.

use kleene_doors::host::{Network, Process};
use kleene_types::{ByteSize, ContainerId, ContainerPath, Resource};
use rustix::process::getrlimit;
use serde_json::{Value, json};

use crate::exec::{PATH, environment};
use crate::linux::cgroup::DEVICES;
use crate::linux::child::host_name;
use crate::linux::confine::capabilities;
use crate::linux::dev::{TTY_GROUP, shm_bytes};
use crate::linux::mounts::{MASKED_IN_PROC, MASKED_IN_SYS, READ_ONLY_IN_PROC};
use crate::proto::Jail;
use crate::ulimits::Permitted;
use crate::user::Identity;

/// The version of the specification that is kept to.
const VERSION: &str = "1.0.2";
const UMASK: u32 = 0o022;

/// A container to be described.
pub(crate) struct Description<'a> {
    pub container: &'a ContainerId,
    pub hostname: &'a str,
    pub network: Network,
    /// The root directory, relative to the bundle.
    pub root: &'a str,
    pub binds: Vec<BindMount<'a>>,
    pub process: &'a Process,
    pub identity: &'a Identity,
    /// `linux.seccomp`.
    pub seccomp: &'a Value,
    pub shm_size: ByteSize,
    pub rights: Rights<'a>,
}

/// What a process may do and use.
pub(crate) struct Rights<'a> {
    pub limits: &'a Permitted,
    pub jail: Jail,
}

/// A mount whose source is a directory or file of the host.
pub(crate) struct BindMount<'a> {
    /// An absolute path, or one relative to the bundle.
    pub source: String,
    pub destination: &'a ContainerPath,
    pub read_only: bool,
    pub nosuid: bool,
}

/// The contents of `config.json`.
pub(crate) fn container(description: &Description<'_>) -> Value {
    let Description {
        container,
        hostname,
        network,
        root,
        binds,
        process,
        identity,
        seccomp,
        shm_size,
        rights,
    } = description;
    let mut namespaces = vec!["pid", "mount", "uts", "cgroup"];
    if !rights.jail.host_ipc {
        namespaces.push("ipc");
    }
    if *network == Network::Disabled {
        namespaces.push("network");
    }
    let namespaces: Vec<Value> = namespaces
        .iter()
        .map(|kind| json!({"type": kind}))
        .collect();
    let mut mounts = system_mounts(*shm_size);
    mounts.extend(binds.iter().map(bind));
    let masked = beneath("/proc", &MASKED_IN_PROC)
        .chain(beneath("/sys", &MASKED_IN_SYS))
        .collect::<Vec<_>>();
    let read_only = beneath("/proc", &READ_ONLY_IN_PROC).collect::<Vec<_>>();
    json!({
        "ociVersion": VERSION,
        "root": {"path": root, "readonly": false},
        "hostname": host_name(hostname),
        "mounts": mounts,
        "process": self::process(process, identity, rights),
        "linux": {
            "namespaces": namespaces,
            "cgroupsPath": format!("/kleene/{container}"),
            "resources": {"devices": devices()},
            "maskedPaths": masked,
            "readonlyPaths": read_only,
            "seccomp": seccomp,
        },
    })
}

/// A process: of `config.json`, or for `exec --process`.
pub(crate) fn process(process: &Process, identity: &Identity, rights: &Rights<'_>) -> Value {
    // The runtime restricts devices itself.
    let capabilities: Vec<String> = capabilities(true, rights.jail)
        .iter_names()
        .map(|(name, _)| format!("CAP_{name}"))
        .collect();
    let mut env = environment(process, identity);
    // Outside runtimes know no other place where to look for programs.
    if !env.iter().any(|variable| variable.starts_with("PATH=")) {
        env.push(format!("PATH={PATH}"));
    }
    let mut value = json!({
        "terminal": process.tty,
        "user": {
            "uid": identity.uid,
            "gid": identity.gid,
            "additionalGids": identity.groups,
            "umask": UMASK,
        },
        "args": process.argv,
        "env": env,
        "cwd": process.cwd.as_ref().map_or("/", ContainerPath::as_str),
        "capabilities": {
            "bounding": capabilities,
            "effective": capabilities,
            "permitted": capabilities,
            "inheritable": [],
            "ambient": [],
        },
        "noNewPrivileges": true,
        "rlimits": rlimits(rights.limits),
    });
    if let (Some(window), Some(fields)) = (process.window, value.as_object_mut()) {
        let size = json!({"height": window.rows, "width": window.columns});
        fields.insert("consoleSize".to_owned(), size);
    }
    value
}

/// The limits that are set, and that of open files in any case: runtimes raise their own one, and
/// would pass that on.
fn rlimits(limits: &Permitted) -> Vec<Value> {
    let open_files = getrlimit(rustix::process::Resource::Nofile);
    let mut all: Vec<_> = limits.iter().collect();
    if !all.iter().any(|(name, ..)| *name == Resource::Nofile) {
        all.push((Resource::Nofile, open_files.current, open_files.maximum));
    }
    let value = |(name, soft, hard): (Resource, Option<u64>, Option<u64>)| {
        json!({
            "type": format!("RLIMIT_{}", name.name().to_uppercase()),
            "soft": soft.unwrap_or(u64::MAX),
            "hard": hard.unwrap_or(u64::MAX),
        })
    };
    all.into_iter().map(value).collect()
}

fn system_mounts(shm_size: ByteSize) -> Vec<Value> {
    let harmless = ["nosuid", "nodev", "noexec"];
    let with = |more: &[&str]| -> Vec<String> {
        let all = harmless.iter().chain(more);
        all.map(|option| (*option).to_owned()).collect()
    };
    let gid = format!("gid={TTY_GROUP}");
    let pts = [
        "nosuid",
        "noexec",
        "newinstance",
        "ptmxmode=0666",
        "mode=0620",
        &gid,
    ];
    let dev = ["nosuid", "strictatime", "mode=755", "size=65536k"];
    let shm = format!("size={}", shm_bytes(shm_size));
    vec![
        json!({"destination": "/proc", "type": "proc", "source": "proc", "options": harmless}),
        json!({"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": with(&["ro"])}),
        json!({"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": dev}),
        json!({"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": pts}),
        json!({
            "destination": "/dev/shm", "type": "tmpfs", "source": "shm",
            "options": with(&["mode=1777", &shm]),
        }),
        json!({
            "destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue",
            "options": harmless,
        }),
    ]
}

fn bind(mount: &BindMount<'_>) -> Value {
    let mut options = vec!["rbind", "nodev"];
    if mount.read_only {
        // `rro` makes what is mounted further down read-only, too.
        options.extend(["ro", "rro"]);
    }
    if mount.nosuid {
        options.push("nosuid");
    }
    json!({
        "destination": mount.destination.to_string(),
        "type": "bind",
        "source": mount.source,
        "options": options,
    })
}

fn beneath(directory: &str, names: &[&str]) -> impl Iterator<Item = String> {
    names.iter().map(move |name| format!("{directory}/{name}"))
}

/// None but [`DEVICES`]. `*` stands for all, which the specification says by silence.
fn devices() -> Vec<Value> {
    let mut rules = vec![json!({"allow": false, "access": "rwm"})];
    for device in DEVICES {
        let mut words = device.split([' ', ':']);
        let (kind, major) = (words.next(), words.next());
        let (minor, access) = (words.next(), words.next());
        let mut rule = serde_json::Map::new();
        rule.insert("allow".to_owned(), json!(true));
        rule.insert("type".to_owned(), json!(kind));
        rule.insert("access".to_owned(), json!(access));
        for (key, number) in [("major", major), ("minor", minor)] {
            if let Some(number) = number.and_then(|number| number.parse::<i64>().ok()) {
                rule.insert(key.to_owned(), json!(number));
            }
        }
        rules.push(Value::Object(rule));
    }
    rules
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ulimits;
    use kleene_doors::host::{Stdin, WindowSize};

    fn describe(network: Network, tty: bool) -> Value {
        describe_jailed(network, tty, Jail::default())
    }

    fn describe_jailed(network: Network, tty: bool, jail: Jail) -> Value {
        let process = Process {
            argv: vec!["sh".into(), "-c".into(), "true".into()],
            env: vec!["A=b".parse().unwrap()],
            user: "www".into(),
            cwd: Some("/srv/work".parse().unwrap()),
            ulimits: vec!["core=0:4096".parse().unwrap()],
            tty,
            window: tty.then_some(WindowSize {
                rows: 7,
                columns: 9,
            }),
            stdin: Stdin::Null,
        };
        let identity = Identity {
            name: None,
            uid: 80,
            gid: 81,
            groups: vec![81, 90],
            home: Some("/srv".into()),
        };
        let destination: ContainerPath = "/data".parse().unwrap();
        let binds = [("one", true), ("two", false)].map(|(source, only)| BindMount {
            source: source.into(),
            destination: &destination,
            read_only: only,
            nosuid: !only,
        });
        container(&Description {
            container: &ContainerId::random(),
            hostname: &"n".repeat(100),
            network,
            root: "rootfs",
            binds: binds.into(),
            process: &process,
            identity: &identity,
            seccomp: &json!({"defaultAction": "SCMP_ACT_ERRNO"}),
            shm_size: ByteSize::new(4096),
            rights: Rights {
                limits: &ulimits::permit(&process.ulimits).unwrap(),
                jail,
            },
        })
    }

    #[test]
    fn users_environment_and_limits_are_what_ours_are() {
        let config = describe(Network::Host, true);
        let process = &config["process"];
        assert_eq!(process["user"]["additionalGids"], json!([81, 90]));
        let env = ["A=b", "HOME=/srv", "TERM=xterm", &format!("PATH={PATH}")];
        assert_eq!(process["env"], json!(env));
        assert_eq!(process["consoleSize"], json!({"height": 7, "width": 9}));
        let capabilities = &process["capabilities"];
        assert_eq!(capabilities["bounding"].as_array().unwrap().len(), 14);
        assert!(
            capabilities["effective"]
                .to_string()
                .contains("\"CAP_NET_BIND_SERVICE\"")
        );
        let core = json!({"type": "RLIMIT_CORE", "soft": 0, "hard": 4096});
        assert_eq!(process["rlimits"][0], core);
        assert_eq!(process["rlimits"][1]["type"], "RLIMIT_NOFILE");
        assert_eq!(process["cwd"], "/srv/work");
        assert_eq!(config["hostname"], "n".repeat(64));
    }

    #[test]
    fn jail_parameters_change_capabilities_and_namespaces() {
        let jail = Jail {
            raw_sockets: false,
            host_ipc: true,
            devfs: true,
        };
        let config = describe_jailed(Network::Host, false, jail);
        let capabilities = config["process"]["capabilities"].to_string();
        assert!(!capabilities.contains("NET_RAW"), "{capabilities}");
        let namespaces = config["linux"]["namespaces"].to_string();
        assert!(!namespaces.contains("ipc"), "{namespaces}");
        let usual = describe(Network::Host, false)["linux"]["namespaces"].to_string();
        assert!(usual.contains("ipc"), "{usual}");
        let shm = config["mounts"][4]["options"].to_string();
        assert!(shm.contains("size=4096"), "{shm}");
    }

    #[test]
    fn only_a_network_of_its_own_has_a_namespace() {
        let of = |network| describe(network, false)["linux"]["namespaces"].to_string();
        assert!(of(Network::Disabled).contains("network"));
        assert!(!of(Network::Host).contains("network"));
    }

    #[test]
    fn mounts_come_in_order_and_read_only_ones_are_so_throughout() {
        let config = describe(Network::Host, false);
        let mounts = config["mounts"].as_array().unwrap();
        let of = |mount: &Value| mount["destination"].as_str().unwrap().to_owned();
        let order: Vec<String> = mounts.iter().map(of).collect();
        assert_eq!(&order[..4], ["/proc", "/sys", "/dev", "/dev/pts"]);
        assert_eq!(order.len(), 8);
        assert_eq!(mounts[6]["options"], json!(["rbind", "nodev", "ro", "rro"]));
        assert_eq!(mounts[7]["options"], json!(["rbind", "nodev", "nosuid"]));
    }

    #[test]
    fn devices_are_forbidden_but_for_a_few() {
        let rules = devices();
        assert_eq!(rules[0], json!({"allow": false, "access": "rwm"}));
        assert_eq!(rules[1], json!({"allow": true, "type": "c", "access": "m"}));
        let null = json!({"allow": true, "type": "c", "access": "rwm", "major": 1, "minor": 3});
        assert!(rules.contains(&null));
        let pts = json!({"allow": true, "type": "c", "access": "rwm", "major": 136});
        assert!(rules.contains(&pts));
    }
}
