//! Every parameter of jail(8), and what becomes of it on Linux.

/// What becomes of a parameter.
#[derive(Debug, PartialEq, Eq)]
pub enum Rule {
    /// A boolean that changes something.
    Switch(Switch),
    /// A boolean that asks for what every container has when it has this value; otherwise it is
    /// refused for this reason.
    Always(bool, &'static str),
    /// The same for another value.
    Only(&'static str, &'static str),
    /// A value that is used.
    Text(Text),
    /// A command on the host.
    Hook(Hook),
    /// A kind of System V IPC.
    Ipc(IpcKind),
    /// Refused for this reason, whatever its value is.
    Refused(&'static str),
}

/// Booleans that change something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Switch {
    /// `exec.clean`
    Clean,
    /// `mount.devfs`
    Devfs,
    /// `allow.raw_sockets`
    RawSockets,
}

/// Values that are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Text {
    /// `host.hostname`
    Hostname,
    /// `exec.jail_user`
    User,
    /// `exec.stop`
    Stop,
    /// `exec.timeout`
    HookTimeout,
    /// `stop.timeout`
    StopTimeout,
}

/// When a host command is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    /// `exec.prestart`
    Prestart,
    /// `exec.poststart`
    Poststart,
    /// `exec.prestop`
    Prestop,
    /// `exec.poststop`
    Poststop,
}

/// Kinds of System V IPC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IpcKind {
    /// `sysvmsg`
    Messages,
    /// `sysvsem`
    Semaphores,
    /// `sysvshm`
    Memory,
    /// `allow.sysvipc`
    All,
}

/// Whose System V IPC a container uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ipc {
    /// Its own.
    New,
    /// The host's.
    Inherit,
}

const MOUNT: &str = "processes in a container may not mount anything on Linux (CAP_SYS_ADMIN, which \
                     would give them the host): let the daemon do it, with --mount";
const NETWORK: &str = "a container's network on Linux is chosen with --driver and --network";
const DRIVER: &str = "a container's network on Linux is chosen with --driver";
const LINUX: &str = "containers on Linux are Linux; their kernel is the host's";
const KERNEL: &str = "a container on Linux has the host's kernel, which says itself what it is";
const ADMIN: &str = "the capability that this needs isn't given to containers on Linux";
const CLOCK: &str = "the clock is the host's; containers on Linux may not change it (CAP_SYS_TIME)";
const SIBLING: &str = "on Linux, control groups and namespaces of containers aren't nested";
const LIFE: &str = "containers start with their command on Linux: give that as the container's cmd";
const PHASE: &str = "there is no such phase in the life of a container: use exec.prestart, \
                     exec.poststart, exec.prestop or exec.poststop";
const HOST_ID: &str = "Linux has no such number of a container's own";
const KEPT: &str = "this can't be taken from root in a container on Linux: give the container \
                    another user with --user";

/// All parameters by name.
#[rustfmt::skip] // A line each: it is a table.
pub const TABLE: &[(&str, Rule)] = &[
    ("allow.adjtime", Rule::Always(false, CLOCK)),
    ("allow.chflags", Rule::Always(false, "file flags need CAP_LINUX_IMMUTABLE on Linux, which isn't given to containers")),
    ("allow.dying", Rule::Always(false, "there are no dying jails on Linux")),
    ("allow.extattr", Rule::Always(false, ADMIN)),
    ("allow.mlock", Rule::Always(true, "use --ulimit memlock=0 to keep processes from locking memory")),
    ("allow.mount", Rule::Always(false, MOUNT)),
    ("allow.mount.devfs", Rule::Always(false, MOUNT)),
    ("allow.mount.fdescfs", Rule::Always(false, MOUNT)),
    ("allow.mount.fusefs", Rule::Always(false, MOUNT)),
    ("allow.mount.linprocfs", Rule::Always(false, MOUNT)),
    ("allow.mount.linsysfs", Rule::Always(false, MOUNT)),
    ("allow.mount.nullfs", Rule::Always(false, MOUNT)),
    ("allow.mount.procfs", Rule::Always(false, MOUNT)),
    ("allow.mount.tmpfs", Rule::Always(false, MOUNT)),
    ("allow.mount.zfs", Rule::Always(false, MOUNT)),
    ("allow.nfsd", Rule::Always(false, "an NFS server is part of the kernel, and the host's affair, on Linux")),
    ("allow.quotas", Rule::Always(false, ADMIN)),
    ("allow.raw_sockets", Rule::Switch(Switch::RawSockets)),
    ("allow.read_msgbuf", Rule::Always(false, "the kernel's messages are the host's affair (CAP_SYSLOG)")),
    ("allow.reserved_ports", Rule::Always(true, "root in a container may always use ports below 1024 on Linux: give the container another user with --user")),
    ("allow.routing", Rule::Always(false, ADMIN)),
    ("allow.set_hostname", Rule::Always(false, "processes can't change the host name on Linux (CAP_SYS_ADMIN): set it with host.hostname")),
    ("allow.setaudit", Rule::Always(false, ADMIN)),
    ("allow.settime", Rule::Always(false, CLOCK)),
    ("allow.socket_af", Rule::Always(true, "address families aren't taken from containers on Linux, but for AF_ALG and AF_VSOCK, which none has")),
    ("allow.suser", Rule::Always(true, KEPT)),
    ("allow.sysvipc", Rule::Ipc(IpcKind::All)),
    ("allow.unprivileged_parent_tampering", Rule::Always(false, "processes of the host are out of reach for containers on Linux")),
    ("allow.unprivileged_proc_debug", Rule::Always(true, "processes in a container may always trace others of their user on Linux")),
    ("allow.vmm", Rule::Always(false, "the devices of virtual machines aren't given to containers")),
    ("children.cur", Rule::Refused("it can only be read")),
    ("children.max", Rule::Only("0", "containers can't make containers on Linux: use 0, or leave it out")),
    ("command", Rule::Refused(LIFE)),
    ("cpuset.id", Rule::Refused("use --cpuset to choose processors")),
    ("depend", Rule::Refused("Kleene starts containers one by one: start what is needed first")),
    ("devfs_ruleset", Rule::Only("4", "rule sets don't exist on Linux; containers have the devices of rule set 4 (devfsrules_jail)")),
    ("dying", Rule::Refused("it can only be read")),
    ("enforce_statfs", Rule::Only("1", "a container on Linux always sees the mounts beneath its root, and no others, as with 1")),
    ("exec.clean", Rule::Switch(Switch::Clean)),
    ("exec.consolelog", Rule::Refused("the output is kept anyway: see klee logs")),
    ("exec.created", Rule::Refused(PHASE)),
    ("exec.fib", Rule::Refused(NETWORK)),
    ("exec.jail_user", Rule::Text(Text::User)),
    ("exec.poststart", Rule::Hook(Hook::Poststart)),
    ("exec.poststop", Rule::Hook(Hook::Poststop)),
    ("exec.prepare", Rule::Refused(PHASE)),
    ("exec.prestart", Rule::Hook(Hook::Prestart)),
    ("exec.prestop", Rule::Hook(Hook::Prestop)),
    ("exec.release", Rule::Refused(PHASE)),
    ("exec.start", Rule::Refused(LIFE)),
    ("exec.stop", Rule::Text(Text::Stop)),
    ("exec.system_jail_user", Rule::Always(false, "users are looked up in the container's own files only")),
    ("exec.system_user", Rule::Only("root", "host commands run as the daemon's user, root: use su or setpriv in them")),
    ("exec.timeout", Rule::Text(Text::HookTimeout)),
    ("host", Rule::Only("new", "a container on Linux always has a host name of its own")),
    ("host.domainname", Rule::Refused("there is no NIS domain in containers on Linux")),
    ("host.hostid", Rule::Refused(HOST_ID)),
    ("host.hostname", Rule::Text(Text::Hostname)),
    ("host.hostuuid", Rule::Refused(HOST_ID)),
    ("interface", Rule::Refused(NETWORK)),
    ("ip4", Rule::Refused(DRIVER)),
    ("ip4.addr", Rule::Refused("addresses are given with --ip, in a network")),
    ("ip4.saddrsel", Rule::Refused(NETWORK)),
    ("ip6", Rule::Refused(DRIVER)),
    ("ip6.addr", Rule::Refused("addresses are given with --ip6, in a network")),
    ("ip6.saddrsel", Rule::Refused(NETWORK)),
    ("ip_hostname", Rule::Refused(NETWORK)),
    ("jid", Rule::Refused("containers have ids that Kleene gives them, and no jail number on Linux")),
    ("linux", Rule::Refused(LINUX)),
    ("linux.osname", Rule::Refused(LINUX)),
    ("linux.osrelease", Rule::Refused(LINUX)),
    ("linux.oss_version", Rule::Refused(LINUX)),
    ("mount", Rule::Refused("mounts are given with --mount")),
    ("mount.devfs", Rule::Switch(Switch::Devfs)),
    ("mount.fdescfs", Rule::Always(true, "/dev/fd is part of /dev and /proc on Linux: it is always there")),
    ("mount.fstab", Rule::Refused("mounts are given with --mount")),
    ("mount.procfs", Rule::Always(true, "programs on Linux need /proc: it is always there")),
    ("name", Rule::Refused("the name is given with --name")),
    ("osreldate", Rule::Refused(KERNEL)),
    ("osrelease", Rule::Refused(KERNEL)),
    ("parent", Rule::Refused(SIBLING)),
    ("path", Rule::Refused("the root is the container's own, made from its image")),
    ("persist", Rule::Always(false, "a container on Linux can't live without a process: let its command stay (sleep infinity), or use --init all")),
    ("securelevel", Rule::Only("-1", "Linux has no secure levels")),
    ("stop.timeout", Rule::Text(Text::StopTimeout)),
    ("sysvmsg", Rule::Ipc(IpcKind::Messages)),
    ("sysvsem", Rule::Ipc(IpcKind::Semaphores)),
    ("sysvshm", Rule::Ipc(IpcKind::Memory)),
    ("vnet", Rule::Refused(DRIVER)),
    ("vnet.interface", Rule::Refused(NETWORK)),
    ("zfs.dataset", Rule::Refused("datasets can't be handed to containers on Linux: use a volume")),
    ("zfs.mount_snapshot", Rule::Only("0", MOUNT)),
];

impl Rule {
    /// Whether the name alone, or with `no`, says everything.
    pub const fn is_boolean(&self) -> bool {
        matches!(
            self,
            Self::Switch(_) | Self::Always(..) | Self::Ipc(IpcKind::All)
        )
    }

    /// Whether each one of several counts.
    pub const fn may_repeat(&self) -> bool {
        matches!(self, Self::Hook(_))
    }
}

/// The parameter of this name.
pub fn find(name: &str) -> Option<(&'static str, &'static Rule)> {
    let found = TABLE.iter().find(|(known, _)| *known == name);
    found.map(|(name, rule)| (*name, rule))
}

/// Parameters that may have been meant, the likeliest first; those that are refused whatever their
/// value is would be of no help.
pub fn near(name: &str) -> Vec<&'static str> {
    const SHOWN: usize = 3;
    const CLOSE: usize = 3;
    let last = |name: &'static str| name.rsplit('.').next();
    let distance = |known: &'static str| {
        if last(known) == Some(name) {
            return 1;
        }
        strsim::damerau_levenshtein(known, name)
    };
    let mut near: Vec<(usize, &'static str)> = TABLE
        .iter()
        .filter(|(_, rule)| !matches!(rule, Rule::Refused(_)))
        .map(|(known, _)| (distance(known), *known))
        .filter(|(distance, known)| *distance <= CLOSE.min(known.len() / 2))
        .collect();
    near.sort_unstable();
    near.into_iter()
        .map(|(_, known)| known)
        .take(SHOWN)
        .collect()
}
