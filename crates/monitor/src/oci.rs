//! A container as the Open Container Initiative's runtime specification has it: pure functions.
//!
//! They describe, for an outside runtime, the container that the monitor makes by itself otherwise;
//! a test compares what both come to. See the specification's `config.md` and `config-linux.md`.

use kleene_doors::host::{Network, Process};
use kleene_types::{ContainerId, ContainerPath};
use serde_json::{Value, json};

use crate::cgroup::DEVICES;
use crate::child::host_name;
use crate::confine::CAPABILITIES;
use crate::dev::TTY_GROUP;
use crate::exec::{PATH, environment};
use crate::mounts::{MASKED_IN_PROC, MASKED_IN_SYS, READ_ONLY_IN_PROC};
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
    /// Soft and hard limit of open files that the container is to have.
    pub open_files: (Option<u64>, Option<u64>),
}

/// A mount whose source is a directory or file of the host.
pub(crate) struct BindMount<'a> {
    /// An absolute path, or one relative to the bundle.
    pub source: String,
    pub destination: &'a ContainerPath,
    pub read_only: bool,
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
        open_files,
    } = description;
    let mut namespaces = vec!["pid", "mount", "uts", "ipc", "cgroup"];
    if *network == Network::Disabled {
        namespaces.push("network");
    }
    let namespaces: Vec<Value> = namespaces
        .iter()
        .map(|kind| json!({"type": kind}))
        .collect();
    let mut mounts = system_mounts();
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
        "process": self::process(process, identity, *open_files),
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
pub(crate) fn process(
    process: &Process,
    identity: &Identity,
    (soft, hard): (Option<u64>, Option<u64>),
) -> Value {
    let capabilities: Vec<String> = CAPABILITIES
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
        "cwd": "/",
        "capabilities": {
            "bounding": capabilities,
            "effective": capabilities,
            "permitted": capabilities,
            "inheritable": [],
            "ambient": [],
        },
        "noNewPrivileges": true,
        // What the container would inherit: runtimes raise their own limit, and pass that on.
        "rlimits": [{
            "type": "RLIMIT_NOFILE",
            "soft": soft.unwrap_or(u64::MAX),
            "hard": hard.unwrap_or(u64::MAX),
        }],
    });
    if let (Some(window), Some(fields)) = (process.window, value.as_object_mut()) {
        let size = json!({"height": window.rows, "width": window.columns});
        fields.insert("consoleSize".to_owned(), size);
    }
    value
}

fn system_mounts() -> Vec<Value> {
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
    vec![
        json!({"destination": "/proc", "type": "proc", "source": "proc", "options": harmless}),
        json!({"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": with(&["ro"])}),
        json!({"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": dev}),
        json!({"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": pts}),
        json!({
            "destination": "/dev/shm", "type": "tmpfs", "source": "shm",
            "options": with(&["mode=1777", "size=65536k"]),
        }),
        json!({
            "destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue",
            "options": harmless,
        }),
    ]
}

fn bind(mount: &BindMount<'_>) -> Value {
    // `rro` makes what is mounted further down read-only, too.
    let options: &[&str] = if mount.read_only {
        &["rbind", "nodev", "ro", "rro"]
    } else {
        &["rbind", "nodev"]
    };
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
    use kleene_doors::host::{Stdin, WindowSize};

    fn describe(network: Network, tty: bool) -> Value {
        let process = Process {
            argv: vec!["sh".into(), "-c".into(), "true".into()],
            env: vec!["A=b".parse().unwrap()],
            user: "www".into(),
            cwd: None,
            ulimits: Vec::new(),
            tty,
            window: tty.then_some(WindowSize {
                rows: 7,
                columns: 9,
            }),
            stdin: Stdin::Null,
        };
        let identity = Identity {
            uid: 80,
            gid: 81,
            groups: vec![81, 90],
            home: Some("/srv".into()),
        };
        let destination: ContainerPath = "/data".parse().unwrap();
        let binds = [("one", true), ("two", false)].map(|(source, read_only)| BindMount {
            source: source.into(),
            destination: &destination,
            read_only,
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
            open_files: (Some(1024), None),
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
        assert_eq!(process["rlimits"][0]["hard"], json!(u64::MAX));
        assert_eq!(config["hostname"], "n".repeat(64));
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
        assert_eq!(mounts[7]["options"], json!(["rbind", "nodev"]));
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
