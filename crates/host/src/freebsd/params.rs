//! Jail parameters on FreeBSD: what jail(8) is told, and what is our own affair.
//!
//! Parameters go to jail(8) as they are, but for those that Kleene itself decides (name, root, mounts),
//! and the commands around a jail's life, which the engine runs at their moments.

use kleene_doors::host::{Hooks, HostError, Network, StartRequest};
use kleene_types::{EnvVar, Span, merge_env};

use crate::shared::words;

/// Parameters that are refused, and what to do instead.
const REFUSED: &[(&str, &str)] = &[
    ("children.cur", "it can only be read"),
    ("command", "give the command as the container's own"),
    (
        "depend",
        "Kleene starts containers one by one: start what is needed first",
    ),
    ("dying", "it can only be read"),
    (
        "exec.consolelog",
        "the output is kept anyway: see klee logs",
    ),
    ("exec.created", PHASE),
    ("exec.fib", OF_COMMANDS),
    ("exec.prepare", PHASE),
    ("exec.release", PHASE),
    (
        "exec.start",
        "a container starts with its command: give that as the container's cmd",
    ),
    ("exec.system_jail_user", OF_COMMANDS),
    ("exec.system_user", OF_COMMANDS),
    (
        "interface",
        "the address would stay on the host's interface when the container has gone: put it there \
         yourself, and give the container ip4.addr or ip6.addr",
    ),
    (
        "jid",
        "jails are found by their containers' ids: leave the number to the system",
    ),
    ("mount", "mounts are given with --mount"),
    ("mount.fstab", "mounts are given with --mount"),
    ("name", "the name is given with --name"),
    ("parent", "it can only be read"),
    (
        "path",
        "the root is the container's own, made from its image",
    ),
];

const PHASE: &str = "use exec.prestart, exec.poststart, exec.prestop or exec.poststop, which Kleene runs \
                     without a shell";

const OF_COMMANDS: &str = "it is about commands that jail(8) starts, and Kleene has it start none";

/// Parameters that jail(8) itself understands, beside those of the kernel.
const OF_JAIL: &[&str] = &[
    "allow.dying",
    "exec.clean",
    "exec.jail_user",
    "exec.poststart",
    "exec.poststop",
    "exec.prestart",
    "exec.prestop",
    "exec.stop",
    "exec.timeout",
    "ip_hostname",
    "mount.devfs",
    "mount.fdescfs",
    "mount.procfs",
    "persist",
    "stop.timeout",
    "vnet.interface",
    "zfs.dataset",
];

/// Those of them that are booleans.
const BOOLEANS: &[&str] = &[
    "allow.dying",
    "exec.clean",
    "ip_hostname",
    "mount.devfs",
    "mount.fdescfs",
    "mount.procfs",
    "persist",
];

/// A hundred years.
const NO_LIMIT: Span = Span::from_millis(100 * 365 * 24 * 3600 * 1000);

/// The devfs ruleset of containers that ask for no other.
pub const RULESET: u16 = 48_879;

/// What a container's jail parameters come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Params {
    /// What the user gave, for jail(8), in this order.
    given: Vec<String>,
    /// What is run beside the container's own processes.
    pub hooks: Hooks,
    /// Whether the jail has a `/dev`.
    pub devfs: bool,
    /// Whether its `/dev` is to show what our own ruleset shows.
    pub own_ruleset: bool,
    /// Whether the jail is to live on without processes.
    pub persists: bool,
    /// Whether processes get the container's environment only.
    pub clean: bool,
    /// `exec.jail_user`
    pub user: Option<String>,
}

impl Default for Params {
    fn default() -> Self {
        Self {
            given: Vec::new(),
            hooks: Hooks::default(),
            devfs: true,
            own_ruleset: true,
            persists: false,
            clean: true,
            user: None,
        }
    }
}

/// One parameter: its name as jail(8) lists it, and its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Param<'p> {
    /// Before the `=`, without the `+` of a repetition.
    name: &'p str,
    value: Option<&'p str>,
}

impl<'p> Param<'p> {
    fn parse(text: &'p str) -> Result<Self, String> {
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (text, None),
        };
        let name = name.trim();
        let name = name.strip_suffix('+').map_or(name, str::trim);
        let part = |part: &str| {
            let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
            part.starts_with(|c: char| c.is_ascii_alphabetic()) && part.chars().all(plain)
        };
        if !name.split('.').all(part) {
            return Err("this is no parameter's name: give NAME or NAME=VALUE, see jail(8)".into());
        }
        if text.contains('\0') {
            return Err("it has a NUL character".to_owned());
        }
        Ok(Self { name, value })
    }

    /// The name of the boolean that it switches off, if it may be one: `a.nob` for `a.b`.
    fn negated(&self) -> Option<String> {
        let (path, last) = match self.name.rsplit_once('.') {
            Some((path, last)) => (format!("{path}."), last),
            None => (String::new(), self.name),
        };
        Some(format!("{path}{}", last.strip_prefix("no")?))
    }

    /// The names of which jail(8) may take this one for the opposite: it looks for `no` before any part,
    /// and doesn't ask whether the parameter is a boolean. `exec.noprestart=COMMAND` runs the command.
    fn opposites(&self) -> Vec<String> {
        let starts = std::iter::once(0).chain(self.name.match_indices('.').map(|(dot, _)| dot + 1));
        let without = starts.filter_map(|start| {
            let (before, part) = self.name.split_at_checked(start)?;
            Some(format!("{before}{}", part.strip_prefix("no")?))
        });
        without.collect()
    }

    /// Refuses what is the opposite of something that has none.
    fn check_opposites(&self) -> Result<(), String> {
        let refused = |name: &str| REFUSED.iter().any(|(refused, _)| *refused == name);
        let has_none = |name: &str| OF_JAIL.contains(&name) && !BOOLEANS.contains(&name);
        for name in self.opposites() {
            if refused(&name) || has_none(&name) {
                return Err(format!(
                    "'{name}' is no boolean, so there is no opposite of it"
                ));
            }
            if BOOLEANS.contains(&name.as_str()) && self.value.is_some() {
                return Err(format!("give {name}=true or {name}=false"));
            }
        }
        Ok(())
    }

    /// Its value as a boolean called `name`; `None` when it isn't that one.
    fn switches(&self, name: &str) -> Option<Result<bool, String>> {
        if self.name == name {
            return Some(match self.value.map(str::trim) {
                None | Some("true" | "1") => Ok(true),
                Some("false" | "0") => Ok(false),
                Some(other) => Err(format!("'{other}' is neither true nor false (nor 1 or 0)")),
            });
        }
        (self.negated().as_deref() == Some(name) && self.value.is_none()).then_some(Ok(false))
    }

    fn text(&self) -> Result<&'p str, String> {
        let value = self.value.map(str::trim).filter(|value| !value.is_empty());
        value.ok_or_else(|| format!("it needs a value: {}=VALUE", self.name))
    }
}

impl Params {
    /// Understands parameters. `host_commands`: whether commands that are run on the host are allowed.
    ///
    /// # Errors
    /// [`HostError::Unsupported`] naming the parameter and the reason.
    pub fn parse(params: &[String], host_commands: bool) -> Result<Self, HostError> {
        let mut parsed = Self::default();
        for text in params {
            let taken =
                Param::parse(text.trim()).and_then(|param| parsed.take(param, host_commands));
            taken.map_err(|reason| {
                HostError::Unsupported(format!("jail parameter '{}': {reason}", text.trim()))
            })?;
        }
        Ok(parsed)
    }

    fn take(&mut self, param: Param<'_>, host_commands: bool) -> Result<(), String> {
        let refused = REFUSED.iter().find(|(name, _)| *name == param.name);
        if let Some((_, reason)) = refused {
            return Err((*reason).to_owned());
        }
        param.check_opposites()?;
        if let Some(persists) = param.switches("persist") {
            self.persists = persists?;
            return Ok(());
        }
        let hooks = match param.name {
            "exec.prestart" => &mut self.hooks.prestart,
            "exec.poststart" => &mut self.hooks.poststart,
            "exec.prestop" => &mut self.hooks.prestop,
            "exec.poststop" => &mut self.hooks.poststop,
            _ => return self.take_value(param),
        };
        if !host_commands {
            return Err(
                "it runs a command on the host, which this daemon's configuration doesn't allow: set \
                 allow_host_commands there, or leave it out"
                    .to_owned(),
            );
        }
        let argv = words::split(param.text()?)?;
        let program = argv.first().map(String::as_str).unwrap_or_default();
        if program.contains('/') && !program.starts_with('/') {
            return Err(format!(
                "'{program}' is a relative path: give the full one, or a name to be found in PATH"
            ));
        }
        hooks.push(argv);
        Ok(())
    }

    fn take_value(&mut self, param: Param<'_>) -> Result<(), String> {
        if let Some(clean) = param.switches("exec.clean") {
            self.clean = clean?;
        }
        if let Some(devfs) = param.switches("mount.devfs") {
            self.devfs = devfs?;
        }
        match param.name {
            "devfs_ruleset" => self.own_ruleset = false,
            "ip4.addr" | "ip6.addr" => check_addresses(param.text()?)?,
            "exec.jail_user" => self.user = Some(param.text()?.to_owned()),
            "exec.stop" => {
                let argv = ["/bin/sh", "-c", param.text()?].map(str::to_owned);
                self.hooks.stop = Some(argv.to_vec());
                return Ok(());
            }
            "exec.timeout" => {
                let limit = span(param.text()?)?;
                // There, 0 means no limit.
                self.hooks.timeout = Some(match limit == Span::from_millis(0) {
                    true => NO_LIMIT,
                    false => limit,
                });
            }
            "stop.timeout" => {
                self.hooks.stop_timeout = Some(span(param.text()?)?);
                return Ok(());
            }
            _ => {}
        }
        // On its command line, jail(8) adds to a list without being told so, and takes blanks for a part
        // of the name.
        self.given.push(match param.value {
            Some(value) => format!("{}={}", param.name, value.trim_start()),
            None => param.name.to_owned(),
        });
        Ok(())
    }

    /// What jail(8) is told: Kleene's defaults, but for those that the user decides, and the user's.
    pub fn for_jail(&self, path: &str, hostname: &str, network: Network) -> Vec<String> {
        let ip = match network {
            Network::Host => "inherit",
            Network::Disabled => "disable",
        };
        let mut all = vec![format!("path={path}")];
        let defaults = [
            ("host.hostname", format!("host.hostname={hostname}")),
            ("ip4", format!("ip4={ip}")),
            ("ip6", format!("ip6={ip}")),
            ("exec.clean", "exec.clean".to_owned()),
            ("mount.devfs", "mount.devfs".to_owned()),
            ("devfs_ruleset", format!("devfs_ruleset={RULESET}")),
        ];
        for (name, text) in defaults {
            if name == "devfs_ruleset" && !self.devfs {
                continue;
            }
            if !self.decides(name) {
                all.push(text);
            }
        }
        all.extend(self.given.iter().cloned());
        all
    }

    /// Changes a request to what the parameters ask for.
    pub fn apply_to(&self, request: &mut StartRequest) {
        let process = &mut request.process;
        if let (true, Some(user)) = (process.user.is_empty(), &self.user) {
            process.user.clone_from(user);
        }
        if !self.clean {
            let own = std::env::vars_os().filter_map(|(name, value)| {
                let text = format!("{}={}", name.to_str()?, value.to_str()?);
                text.parse().ok()
            });
            let own: Vec<EnvVar> = own.collect();
            process.env = merge_env(&own, &process.env);
        }
    }

    /// Whether the user said something of what this default is about.
    fn decides(&self, default: &str) -> bool {
        self.given.iter().any(|text| {
            let Ok(param) = Param::parse(text) else {
                return false;
            };
            let is_it = param.name == default || param.negated().as_deref() == Some(default);
            // An own network stack has its own addresses.
            let addresses =
                default.starts_with("ip") && matches!(param.name, "vnet" | "ip_hostname");
            let given = matches!(default, "ip4" | "ip6") && param.name == format!("{default}.addr");
            let interface = default.starts_with("ip") && param.name == "interface";
            is_it || addresses || given || interface
        })
    }

    /// The parameter that neither jail(8) nor the kernel knows, if there is one. `kernels` are the
    /// kernel's, as sysctl(8) lists them beneath `security.jail.param`.
    pub fn unknown(&self, kernels: &[String]) -> Option<&str> {
        let known = |name: &str| OF_JAIL.contains(&name) || kernels.iter().any(|it| it == name);
        let unknown = |text: &&String| {
            Param::parse(text).is_ok_and(|param| {
                !known(param.name) && !param.negated().is_some_and(|name| known(&name))
            })
        };
        self.given.iter().find(unknown).map(String::as_str)
    }
}

/// With an interface before it, or more behind it, jail(8) would give an address to the host's interface,
/// where it would stay when the container has gone.
fn check_addresses(value: &str) -> Result<(), String> {
    match value.contains(|c: char| c == '|' || c.is_whitespace()) {
        true => Err(
            "give addresses alone, with commas between, that the host's interfaces have already"
                .to_owned(),
        ),
        false => Ok(()),
    }
}

fn span(value: &str) -> Result<Span, String> {
    value
        .parse()
        .map_err(|error: kleene_types::SpanError| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(params: &[&str], host_commands: bool) -> Result<Params, String> {
        let params: Vec<String> = params.iter().map(ToString::to_string).collect();
        Params::parse(&params, host_commands).map_err(|error| error.to_string())
    }

    fn told(params: &[&str], network: Network) -> Vec<String> {
        parse(params, false).unwrap().for_jail("/r", "web", network)
    }

    #[test]
    fn without_parameters_there_are_defaults() {
        let wanted = [
            "path=/r",
            "host.hostname=web",
            "ip4=inherit",
            "ip6=inherit",
            "exec.clean",
            "mount.devfs",
            "devfs_ruleset=48879",
        ];
        assert_eq!(told(&[], Network::Host), wanted);
        let none = told(&[], Network::Disabled);
        assert!(
            none.contains(&"ip4=disable".to_owned()) && none.contains(&"ip6=disable".to_owned())
        );
    }

    #[test]
    fn what_the_user_decides_is_no_default() {
        let all = told(
            &[
                "host.hostname=x y",
                "allow.raw_sockets",
                "mount.nodevfs",
                "ip4=new",
            ],
            Network::Host,
        );
        let wanted = [
            "path=/r",
            "ip6=inherit",
            "exec.clean",
            "host.hostname=x y",
            "allow.raw_sockets",
            "mount.nodevfs",
            "ip4=new",
        ];
        assert_eq!(all, wanted);
        let all = told(&["devfs_ruleset=4", "exec.noclean", "vnet"], Network::Host);
        assert_eq!(
            all,
            [
                "path=/r",
                "host.hostname=web",
                "mount.devfs",
                "devfs_ruleset=4",
                "exec.noclean",
                "vnet"
            ]
        );
        let all = told(
            &["ip4.addr += 10.0.0.3", "allow.mlock = 1"],
            Network::Disabled,
        );
        assert!(all.ends_with(&["ip4.addr=10.0.0.3".to_owned(), "allow.mlock=1".to_owned()]));
        for bad in ["ip4.addr=lo0|10.0.0.2", "ip6.addr=::1 up", "interface=lo0"] {
            parse(&[bad], true).unwrap_err();
        }
        let all = told(&["ip4.addr=10.0.0.2"], Network::Host);
        assert!(!all.iter().any(|text| text.starts_with("ip4=")), "{all:?}");
    }

    #[test]
    fn what_kleene_decides_is_refused() {
        for name in REFUSED.iter().map(|(name, _)| *name) {
            let said = parse(&[&format!("{name}=x")], true).unwrap_err();
            assert!(
                said.starts_with(&format!("jail parameter '{name}=x': ")),
                "{said}"
            );
        }
        for bad in [
            "",
            "-r",
            "=x",
            "a b",
            "allow.=1",
            "../x",
            "a;b",
            "*",
            "-f/etc/x=1",
        ] {
            parse(&[bad], true).unwrap_err();
        }
    }

    #[test]
    fn commands_of_the_host_need_permission() {
        let said = parse(&["exec.prestart=/bin/x"], false).unwrap_err();
        assert!(said.contains("allow_host_commands"), "{said}");
        let params = [
            "exec.prestart=a 'b c'",
            "exec.prestart+=d",
            "exec.poststop=/e",
        ];
        let parsed = parse(&params, true).unwrap();
        assert_eq!(parsed.hooks.prestart, [vec!["a", "b c"], vec!["d"]]);
        assert_eq!(parsed.hooks.poststop, [vec!["/e"]]);
        assert!(parsed.given.is_empty());
        for bad in [
            "exec.prestart=a | b",
            "exec.prestart=bin/x",
            "exec.prestart",
        ] {
            parse(&[bad], true).unwrap_err();
        }
    }

    /// jail(8) takes each of these for the parameter without `no`, value and all.
    #[test]
    fn no_opposite_is_a_way_around() {
        for bad in [
            "exec.noprestart=touch /x",
            "exec.nopoststart=touch /x",
            "noexec.prestart=touch /x",
            "exec.nocreated=touch /x",
            "exec.noconsolelog=/x",
            "exec.nostart=x",
            "mount.nofstab=/x",
            "nomount=tmpfs /mnt tmpfs rw",
            "nocommand=x",
            "nopath=/",
            "nojid=1",
            "exec.noprestart",
            "mount.nodevfs=0",
            "nopersist=1",
        ] {
            parse(&[bad], false).unwrap_err();
            parse(&[bad], true).unwrap_err();
        }
        parse(
            &["mount.nodevfs", "nopersist", "allow.noraw_sockets"],
            false,
        )
        .unwrap();
    }

    #[test]
    fn life_and_times() {
        let parsed = parse(
            &[
                "persist",
                "exec.stop=/bin/sh /etc/rc.shutdown",
                "stop.timeout=3",
                "exec.timeout=0",
            ],
            false,
        )
        .unwrap();
        assert!(parsed.persists);
        let stop = parsed.hooks.stop.unwrap();
        assert_eq!(stop, ["/bin/sh", "-c", "/bin/sh /etc/rc.shutdown"]);
        assert_eq!(parsed.hooks.stop_timeout, Some(Span::from_millis(3000)));
        assert_eq!(parsed.hooks.timeout, Some(NO_LIMIT));
        assert_eq!(parsed.given, ["exec.timeout=0"]);
        assert!(!parse(&["nopersist"], false).unwrap().persists);
        assert!(parse(&["persist=2"], false).is_err());
        let parsed = parse(&["exec.jail_user=www", "exec.noclean"], false).unwrap();
        assert_eq!((parsed.user.as_deref(), parsed.clean), (Some("www"), false));
    }

    #[test]
    fn unknown_parameters_are_found() {
        let kernels = ["allow.raw_sockets", "children.max", "host.hostname"].map(str::to_owned);
        let unknown = |params: &[&str]| {
            let parsed = parse(params, false).unwrap();
            parsed.unknown(&kernels).map(str::to_owned)
        };
        let good = [
            "allow.noraw_sockets",
            "children.max=2",
            "mount.nodevfs",
            "exec.clean",
        ];
        assert_eq!(unknown(&good), None);
        assert_eq!(
            unknown(&["children.max=2", "allow.nonsense"]).unwrap(),
            "allow.nonsense"
        );
    }
}
