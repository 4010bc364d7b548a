//! jail(8) and jls(8).

use std::path::{Path, PathBuf};

use kleene_tree::memory::Node;
use kleene_types::{ContainerId, ExecId, Init};

use super::State;
use super::words::Reply;
use crate::fake::FakeHost;

/// Parameters that jail(8) takes beside those of the kernel.
const OF_JAIL: &[&str] = &[
    "allow.dying",
    "depend",
    "exec.clean",
    "exec.consolelog",
    "exec.fib",
    "exec.jail_user",
    "exec.poststart",
    "exec.poststop",
    "exec.prestart",
    "exec.prestop",
    "exec.start",
    "exec.stop",
    "exec.system_jail_user",
    "exec.system_user",
    "exec.timeout",
    "interface",
    "ip_hostname",
    "mount",
    "mount.devfs",
    "mount.fdescfs",
    "mount.fstab",
    "mount.procfs",
    "stop.timeout",
    "vnet.interface",
];

/// Those of the kernel, as sysctl(8) lists them: nodes, and parameters that have others beneath with a dot
/// behind.
pub const OF_KERNEL: &[&str] = &[
    "sysvshm",
    "sysvshm.",
    "sysvsem",
    "sysvsem.",
    "sysvmsg",
    "sysvmsg.",
    "allow",
    "allow.mount",
    "allow.mount.tmpfs",
    "allow.mount.procfs",
    "allow.mount.nullfs",
    "allow.mount.fdescfs",
    "allow.mount.devfs",
    "allow.mount.zfs",
    "allow.mount.",
    "allow.nfsd",
    "allow.suser",
    "allow.unprivileged_proc_debug",
    "allow.read_msgbuf",
    "allow.reserved_ports",
    "allow.mlock",
    "allow.socket_af",
    "allow.quotas",
    "allow.chflags",
    "allow.raw_sockets",
    "allow.sysvipc",
    "allow.set_hostname",
    "ip6",
    "ip6.saddrsel",
    "ip6.addr",
    "ip6.",
    "ip4",
    "ip4.saddrsel",
    "ip4.addr",
    "ip4.",
    "cpuset",
    "cpuset.id",
    "host",
    "host.hostid",
    "host.hostuuid",
    "host.domainname",
    "host.hostname",
    "host.",
    "children",
    "children.max",
    "children.cur",
    "dying",
    "vnet",
    "persist",
    "devfs_ruleset",
    "enforce_statfs",
    "osrelease",
    "osreldate",
    "securelevel",
    "path",
    "name",
    "parent",
    "jid",
    "zfs",
    "zfs.mount_snapshot",
    "zfs.",
];

/// A jail.
#[derive(Debug, Clone)]
pub struct Jail {
    pub jid: i32,
    pub name: String,
    pub path: PathBuf,
    hostname: String,
    persist: bool,
    /// What its `/dev` shows, if it has one.
    pub devices: Option<Vec<String>>,
    pub cpuset: Option<String>,
    /// The instance whose end is the jail's end, if there is one.
    first: Option<ExecId>,
}

impl Jail {
    /// Kleene's jails have their containers' ids.
    pub fn container(&self) -> Option<ContainerId> {
        self.name.parse().ok()
    }
}

/// All jails.
#[derive(Debug, Default)]
pub struct Jails {
    all: Vec<Jail>,
    made: i32,
}

impl Jails {
    pub fn all(&self) -> &[Jail] {
        &self.all
    }

    /// The jail of this name or number.
    pub fn find(&mut self, name: &str) -> Option<&mut Jail> {
        let is_it = |jail: &&mut Jail| jail.name == name || jail.jid.to_string() == name;
        self.all.iter_mut().find(is_it)
    }

    /// The machine has been restarted.
    pub fn clear(&mut self) {
        self.all.clear();
    }

    /// Removes jails whose time is over: those that don't persist go with their last process, and the
    /// monitor of a jail's first process removes it with that one.
    pub fn settle(&mut self, processes: &FakeHost) {
        let over = |jail: &Jail| {
            let Some(container) = jail.container() else {
                return false;
            };
            let removed = jail.first.as_ref();
            let removed = removed.is_some_and(|first| processes.has_exited(first));
            removed || (!jail.persist && processes.jailed(&container).is_empty())
        };
        let over: Vec<i32> = self
            .all
            .iter()
            .filter(|it| over(it))
            .map(|it| it.jid)
            .collect();
        for jid in over {
            self.remove(jid, processes);
        }
    }

    /// What a monitor does to a jail once its first process runs.
    pub fn is_entered(&mut self, jid: i32, exec: &ExecId, init: Init, persists: bool) {
        if let Some(jail) = self.all.iter_mut().find(|jail| jail.jid == jid) {
            jail.persist = persists;
            jail.first = (init != Init::All).then(|| exec.clone());
        }
    }

    /// Removes a jail; its processes are killed.
    fn remove(&mut self, jid: i32, processes: &FakeHost) {
        let gone = self.all.iter().position(|jail| jail.jid == jid);
        let container = gone.and_then(|gone| self.all.remove(gone).container());
        if let Some(container) = container {
            processes.signal_jailed(&container, None, "KILL");
            processes.keep(&container, false);
        }
    }
}

/// Whether there is a parameter of this name, `no` before a boolean's last part included.
fn is_known(name: &str) -> bool {
    let known = |name: &str| {
        let mut kernels = OF_KERNEL.iter().map(|it| it.trim_end_matches('.'));
        OF_JAIL.contains(&name) || kernels.any(|it| it == name)
    };
    let (path, last) = name.rsplit_once('.').map_or(("", name), |(path, last)| {
        (name.get(..=path.len()).unwrap_or_default(), last)
    });
    let negated = last.strip_prefix("no").map(|last| format!("{path}{last}"));
    known(name) || negated.is_some_and(|name| known(&name))
}

fn not_found(name: &str) -> Reply {
    Reply::fail(1, format!("jail: \"{name}\" not found\n"))
}

pub fn jail(
    state: &mut State,
    processes: &FakeHost,
    words: &[&str],
    input: Option<&[u8]>,
) -> Reply {
    match words {
        ["-c", params @ ..] => create(state, processes, params),
        ["-m", name, params @ ..] => {
            let name = name.strip_prefix("name=").unwrap_or(name);
            let Some(jail) = state.jails.find(name) else {
                return not_found(name);
            };
            for param in params {
                match *param {
                    "persist" => jail.persist = true,
                    "nopersist" => jail.persist = false,
                    other => return Reply::fail(1, format!("jail: {other} is not modelled\n")),
                }
            }
            let (container, persist) = (jail.container(), jail.persist);
            state.jails.settle(processes);
            if let Some(container) = container.filter(|_| !persist) {
                processes.keep(&container, false);
            }
            Reply::ok("")
        }
        // It takes ten seconds otherwise.
        ["-f", "-", "-r", name] => {
            let config = String::from_utf8_lossy(input.unwrap_or_default()).into_owned();
            if config.trim() != format!("{name} {{ stop.timeout = 0; }}") {
                return Reply::fail(1, "jail: such a configuration is not modelled\n");
            }
            match remove(state, processes, name) {
                true => Reply::ok(format!("{name}: removed\n")),
                false => not_found(name),
            }
        }
        ["-R", name] => match remove(state, processes, name) {
            true => Reply::ok(""),
            false => not_found(name),
        },
        _ => Reply::usage("jail"),
    }
}

/// Removes a jail, if it is there. What it has mounted stays.
fn remove(state: &mut State, processes: &FakeHost, name: &str) -> bool {
    let jid = state.jails.find(name).map(|jail| jail.jid);
    if let Some(jid) = jid {
        state.jails.remove(jid, processes);
    }
    jid.is_some()
}

fn create(state: &mut State, processes: &FakeHost, params: &[&str]) -> Reply {
    let split = |param: &str| {
        let (name, value) = param.split_once('=').unwrap_or((param, ""));
        (name.trim_end_matches('+').to_owned(), value.to_owned())
    };
    let params: Vec<(String, String)> = params.iter().map(|param| split(param)).collect();
    let value = |name: &str| {
        let mut found = params.iter().rev().filter(|(param, _)| param == name);
        found.next().map(|(_, value)| value.as_str())
    };
    if let Some((unknown, _)) = params.iter().find(|(name, _)| !is_known(name)) {
        return Reply::fail(1, format!("jail: unknown parameter: {unknown}\n"));
    }
    let name = value("name").unwrap_or_default();
    let path = Path::new(value("path").unwrap_or("/"));
    if state.jails.find(name).is_some() {
        return Reply::fail(1, format!("jail: \"{name}\" already exists\n"));
    }
    if !state.table.is_dir(processes.fs(), path) {
        let path = path.display();
        return Reply::fail(1, format!("jail: path {path}: No such file or directory\n"));
    }
    if value("persist").is_none() {
        return Reply::fail(
            1,
            "jail: jails without persist are not modelled\n".to_owned(),
        );
    }
    let ruleset = value("devfs_ruleset").unwrap_or("4");
    let mut devices = None;
    let wants_dev = params
        .iter()
        .rev()
        .find_map(|(name, value)| match name.as_str() {
            "mount.devfs" => Some(value != "false"),
            "mount.nodevfs" => Some(false),
            _ => None,
        });
    if wants_dev == Some(true) {
        let dev = path.join("dev");
        if matches!(
            state.table.node(processes.fs(), &dev),
            Some(Node::Symlink { .. })
        ) {
            let dev = dev.display();
            return Reply::fail(1, format!("jail: mount.devfs: {dev} is a symbolic link\n"));
        }
        if !state.table.is_dir(processes.fs(), &dev) {
            let dev = dev.display();
            let complaint = format!("jail: mount.devfs: {dev}: No such file or directory\n");
            return Reply::fail(1, complaint);
        }
        state.table.mount_kernels("devfs", &dev);
        devices = Some(state.rules.of_devices(ruleset));
    }
    state.jails.made += 1;
    state.jails.all.push(Jail {
        jid: state.jails.made,
        name: name.to_owned(),
        path: path.to_owned(),
        hostname: value("host.hostname").unwrap_or_default().to_owned(),
        persist: true,
        devices,
        cpuset: None,
        first: None,
    });
    Reply::ok("")
}

pub fn jls(state: &State, words: &[&str]) -> Reply {
    if words != ["-v", "--libxo", "json"] {
        return Reply::usage("jls");
    }
    let jails = state.jails.all().iter().map(|jail| {
        serde_json::json!({
            "jid": jail.jid,
            "hostname": jail.hostname,
            "path": jail.path,
            "name": jail.name,
            "state": "ACTIVE",
            "cpusetid": jail.jid,
            "ipv4_addrs": [],
            "ipv6_addrs": [],
        })
    });
    let jails: Vec<serde_json::Value> = jails.collect();
    let answer = serde_json::json!({"__version": "2", "jail-information": {"jail": jails}});
    Reply::ok(format!("{answer}\n"))
}
