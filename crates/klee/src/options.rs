//! Options that several commands have.

use std::str::FromStr;

use clap::{Args, ValueEnum};
use kleene_api::{ContainerConfig, EndPointConfig, MountPointConfig, PublishedPortConfig};
use kleene_types::{ByteSize, EnvVar, Init, MountSpec, RestartPolicy, Signal, Span};

use crate::attach::DetachKeys;
use crate::error::CommandError;
use crate::format::Format;
use crate::health::HealthOptions;
use crate::limits::LimitOptions;
use crate::registries;

/// Options of containers and of the containers that images are built in.
#[derive(Debug, Clone, Args)]
pub struct ContainerOptions {
    /// User that runs the command: name or number, with an optional `:group`
    #[arg(short, long)]
    pub user: Option<String>,

    /// Set an environment variable; NAME alone takes klee's own value
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    pub env: Vec<String>,

    /// Mount a volume, or a directory or file of the host, into the container
    #[arg(short, long, value_name = "SOURCE:DESTINATION[:OPTION[,OPTION]]")]
    pub mount: Vec<String>,

    /// Set a jail parameter, in place of the default one
    #[arg(short = 'J', long, value_name = "PARAMETER")]
    pub jailparam: Vec<String>,

    /// Network driver [default: host, or ipnet with --network]
    #[arg(short = 'l', long, value_parser = ["ipnet", "host", "vnet", "disabled"])]
    pub driver: Option<String>,

    /// Connect the container to a network
    #[arg(short, long)]
    pub network: Option<String>,

    /// IPv4 address in that network [default: a free one]
    #[arg(long, value_name = "ADDRESS")]
    pub ip: Option<String>,

    /// IPv6 address in that network [default: a free one]
    #[arg(long, value_name = "ADDRESS")]
    pub ip6: Option<String>,
}

/// Options of new containers.
#[derive(Debug, Clone, Args)]
pub struct CreateOptions {
    /// Name of the container [default: a random one]
    #[arg(long)]
    pub name: Option<String>,

    #[command(flatten)]
    pub container: ContainerOptions,

    /// Publish a port: HOST[:CONTAINER][/PROTOCOL] or INTERFACE:HOST:CONTAINER[/PROTOCOL]
    #[arg(short, long, value_name = "PORT")]
    pub publish: Vec<String>,

    /// Leave the container alone when pruning
    #[arg(short = 'P', long)]
    pub persist: bool,

    /// When the container is started without being asked for: no, on-startup (when the daemon
    /// starts), on-failure[:TIMES], always or unless-stopped
    #[arg(long, default_value = "no", value_name = "POLICY", value_parser = RestartPolicy::from_str)]
    pub restart: RestartPolicy,

    /// What stands before the command, in place of the image's: a program, or a JSON array; '' for
    /// nothing
    #[arg(long, value_name = "COMMAND", value_parser = Entrypoint::from_str)]
    pub entrypoint: Option<Entrypoint>,

    #[command(flatten)]
    pub pull: PullOptions,

    #[command(flatten)]
    pub runtime: RuntimeOptions,

    #[command(flatten)]
    pub limits: LimitOptions,

    #[command(flatten)]
    pub health: HealthOptions,
}

/// What stands before a container's command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entrypoint(pub Vec<String>);

impl FromStr for Entrypoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "" => Ok(Self(Vec::new())),
            _ if text.starts_with('[') => serde_json::from_str(text)
                .map(Self)
                .map_err(|_| "this is no JSON array of texts".to_owned()),
            _ => Ok(Self(vec![text.to_owned()])),
        }
    }
}

/// How images get here that aren't.
#[derive(Debug, Clone, Args)]
pub struct PullOptions {
    /// Pull the image if it is missing, always or never [default: if it is missing and its name
    /// begins with a registry]
    #[arg(long, value_name = "missing|always|never", hide_possible_values = true)]
    pub pull: Option<PullPolicy>,

    /// Platform to pull the image for, OS[/ARCHITECTURE[/VARIANT]] [default: the daemon's host's]
    #[arg(long)]
    pub platform: Option<String>,
}

/// When an image is pulled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PullPolicy {
    /// If it isn't here.
    Missing,
    /// Always.
    Always,
    /// Never.
    Never,
}

impl PullOptions {
    /// Whether an image is pulled that isn't here.
    pub fn wants_missing(&self, image: &str) -> bool {
        match self.pull {
            Some(policy) => policy == PullPolicy::Missing,
            None => registries::named(image).is_some() && !registries::names_snapshot(image),
        }
    }
}

/// How a container's processes are started and stopped.
#[derive(Debug, Clone, Args)]
pub struct RuntimeOptions {
    /// Run a minimal process 1, which reaps orphans and passes signals on. The container ends with
    /// its command (main), or with its last process (all); none: the command is process 1
    #[arg(
        long,
        value_name = "main|all|none",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "main",
        value_parser = Init::from_str
    )]
    pub init: Option<Init>,

    /// Working directory of the container's commands
    #[arg(short, long, value_name = "DIRECTORY", value_parser = absolute)]
    pub workdir: Option<String>,

    /// The signal that asks the container to end [default: TERM]
    #[arg(long, value_name = "SIGNAL", value_parser = checked::<Signal>)]
    pub stop_signal: Option<String>,

    /// Time between that and SIGKILL, as in 30s [default: 10s]
    #[arg(long, value_name = "TIME", value_parser = checked::<Span>)]
    pub stop_timeout: Option<String>,
}

impl RuntimeOptions {
    /// Writes what is given into a configuration.
    pub fn apply(&self, config: &mut ContainerConfig) {
        config.init = self.init.map(|init| init.as_str().to_owned());
        config.working_dir.clone_from(&self.workdir);
        config.stop_signal.clone_from(&self.stop_signal);
        config.stop_timeout.clone_from(&self.stop_timeout);
    }
}

/// A text that parses as `T`. The daemon gets it as it was typed.
///
/// # Errors
/// When it doesn't.
pub fn checked<T: FromStr<Err: std::fmt::Display>>(text: &str) -> Result<String, String> {
    match text.parse::<T>() {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// An absolute path in a container.
///
/// # Errors
/// When it is relative.
pub fn absolute(text: &str) -> Result<String, String> {
    match text.starts_with('/') {
        true => Ok(text.to_owned()),
        false => Err("it must be absolute, as in /usr/src".to_owned()),
    }
}

/// Options of commands that start a process.
#[derive(Debug, Clone, Args)]
pub struct StartOptions {
    /// Don't wait for the process, nor show its output
    #[arg(short, long)]
    pub detach: bool,

    /// Send klee's standard input to the process; overrules --detach
    #[arg(short, long)]
    pub interactive: bool,

    /// Give the process a terminal
    #[arg(short, long)]
    pub tty: bool,

    /// Print nothing but what the process prints; with --detach, only an id: the execution
    /// instance's (exec), or the container's (run, start)
    #[arg(short, long)]
    pub quiet: bool,

    #[command(flatten)]
    pub keys: KeyOptions,
}

/// Keys for klee itself.
#[derive(Debug, Clone, Args)]
pub struct KeyOptions {
    /// Keys that leave the process to itself when its terminal is this one: characters and
    /// ctrl-CHARACTER, separated by commas; '' for none
    #[arg(long, value_name = "KEYS", default_value = "ctrl-p,ctrl-q", value_parser = DetachKeys::from_str)]
    pub detach_keys: DetachKeys,
}

/// Options of listings.
#[derive(Debug, Clone, Args)]
pub struct ListOptions {
    /// How to print the listing: table, json (the API's objects), or a template for each line such
    /// as '{{.id}} {{.name}}'
    #[arg(long, default_value = "table", value_name = "FORMAT", value_parser = Format::parse)]
    pub format: Format,

    /// Print only what other commands take as arguments, one a line
    #[arg(short, long, conflicts_with = "format")]
    pub quiet: bool,
}

impl ContainerOptions {
    /// The configuration of a container with these options.
    ///
    /// # Errors
    /// When a mount or environment variable is malformed.
    pub fn config(&self) -> Result<ContainerConfig, CommandError> {
        self.check_network()?;
        let driver = match (&self.driver, &self.network) {
            (Some(driver), _) => driver,
            (None, Some(_)) => "ipnet",
            (None, None) => "host",
        };
        Ok(ContainerConfig {
            user: self.user.clone(),
            env: Some(environment(&self.env)?),
            mounts: Some(
                self.mount
                    .iter()
                    .map(|text| mount(text))
                    .collect::<Result<_, _>>()?,
            ),
            jail_param: Some(self.jailparam.clone()),
            network_driver: Some(driver.to_owned()),
            ..ContainerConfig::default()
        })
    }

    /// Refuses drivers where a network is expected, which other tools take there.
    fn check_network(&self) -> Result<(), CommandError> {
        let driver = match (&self.driver, self.network.as_deref()) {
            (None, Some("host")) => "host",
            (None, Some("none" | "disabled")) => "disabled",
            _ => return Ok(()),
        };
        let network = self.network.as_deref().unwrap_or_default();
        let message = format!("--network {network}: this is no network but a driver");
        Err(CommandError::usage(message)
            .hint(format!("use --driver {driver}"))
            .own())
    }

    /// The connection that `--network` asks for.
    pub fn connection(&self, container: &str) -> Option<EndPointConfig> {
        let network = self.network.as_deref()?;
        Some(connection(
            network,
            container,
            self.ip.as_deref(),
            self.ip6.as_deref(),
        ))
    }
}

impl CreateOptions {
    /// The configuration of a container with these options, an image and a command.
    ///
    /// # Errors
    /// When a mount, environment variable or port is malformed.
    pub fn config(&self, image: &str, command: &[String]) -> Result<ContainerConfig, CommandError> {
        let mut config = ContainerConfig {
            name: self.name.clone(),
            image: Some(image.to_owned()),
            cmd: Some(command.to_vec()),
            public_ports: Some(
                self.publish
                    .iter()
                    .map(|text| port(text))
                    .collect::<Result<_, _>>()?,
            ),
            restart_policy: Some(self.restart.to_string()),
            persist: Some(self.persist),
            entrypoint: self.entrypoint.clone().map(|entrypoint| entrypoint.0),
            health_check: self.health.of_new()?,
            ..self.container.config()?
        };
        self.runtime.apply(&mut config);
        self.limits.apply_to_new(&mut config);
        Ok(config)
    }
}

/// A connection of a container to a network; addresses that aren't given are chosen by the daemon.
pub fn connection(
    network: &str,
    container: &str,
    ip: Option<&str>,
    ip6: Option<&str>,
) -> EndPointConfig {
    EndPointConfig {
        container: container.to_owned(),
        network: network.to_owned(),
        ip_address: ip.unwrap_or("<auto>").to_owned(),
        ip_address6: ip6.unwrap_or("<auto>").to_owned(),
    }
}

/// The variables as `NAME=VALUE`. A name alone stands for klee's own variable, if it is set.
///
/// # Errors
/// When one is malformed.
pub fn environment(texts: &[String]) -> Result<Vec<String>, CommandError> {
    let mut variables = Vec::with_capacity(texts.len());
    for text in texts {
        let variable = if text.contains('=') || text.is_empty() {
            text.clone()
        } else {
            match std::env::var(text) {
                Ok(value) => format!("{text}={value}"),
                Err(_) => continue,
            }
        };
        let checked: EnvVar = variable
            .parse()
            .map_err(|error| CommandError::usage(format!("{error}")).own())?;
        variables.push(checked.into());
    }
    Ok(variables)
}

/// `SOURCE:DESTINATION[:OPTION[,OPTION]]`. Scripts tell a malformed one by exit code 125.
fn mount(text: &str) -> Result<MountPointConfig, CommandError> {
    let spec: MountSpec = text.parse().map_err(|error| {
        let error = CommandError::usage(format!("{error}")).own();
        // Other tools have -m for a limit.
        match text.parse::<ByteSize>() {
            Ok(_) => error.hint(format!("to limit the memory use --memory {text}")),
            Err(_) => error,
        }
    })?;
    Ok(MountPointConfig {
        kind: spec.kind.name().to_owned(),
        source: spec.kind.source().to_owned(),
        destination: spec.destination.as_str().to_owned(),
        read_only: spec.read_only,
        nosuid: spec.nosuid,
    })
}

/// `HOST[:CONTAINER][/PROTOCOL]` or `INTERFACE:HOST:CONTAINER[/PROTOCOL]`.
fn port(text: &str) -> Result<PublishedPortConfig, CommandError> {
    let malformed = || {
        CommandError::usage(format!(
            "invalid port '{text}': the form is HOST[:CONTAINER][/PROTOCOL] or \
             INTERFACE:HOST:CONTAINER[/PROTOCOL]"
        ))
        .own()
    };
    let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let parts: Vec<&str> = ports.split(':').collect();
    let (interface, host, container) = match parts.as_slice() {
        [port] => (None, *port, *port),
        [host, container] => (None, *host, *container),
        [interface, host, container] => (Some(*interface), *host, *container),
        _ => return Err(malformed()),
    };
    let number = |text: &str| text.parse::<u16>().is_ok_and(|number| number > 0);
    let proper = number(host) && number(container) && interface != Some("");
    if !proper || !matches!(protocol, "tcp" | "udp") {
        return Err(malformed());
    }
    Ok(PublishedPortConfig {
        interfaces: interface.map(str::to_owned).into_iter().collect(),
        host_port: host.to_owned(),
        container_port: container.to_owned(),
        protocol: protocol.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Exit;

    #[test]
    fn ports() {
        let parts = |text: &str| {
            let port = port(text).unwrap();
            (
                port.interfaces.join(","),
                port.host_port,
                port.container_port,
                port.protocol,
            )
        };
        let expected = |interface: &str, host: &str, container: &str, protocol: &str| {
            (
                interface.to_owned(),
                host.to_owned(),
                container.to_owned(),
                protocol.to_owned(),
            )
        };
        assert_eq!(parts("80"), expected("", "80", "80", "tcp"));
        assert_eq!(parts("8080:80/udp"), expected("", "8080", "80", "udp"));
        assert_eq!(parts("em0:8080:80"), expected("em0", "8080", "80", "tcp"));
        for text in [
            "", "x", "0", "70000", "1:2:3:4", ":80:80", "80/", "80/icmp", "80:",
        ] {
            assert_eq!(port(text).unwrap_err().exit, Exit::OwnFailure, "{text}");
        }
    }

    #[test]
    fn entrypoints() {
        let parts = |text: &str| text.parse().map(|Entrypoint(parts)| parts.join("|"));
        assert_eq!(parts("").as_deref(), Ok(""));
        assert_eq!(parts("/bin/sh -c").as_deref(), Ok("/bin/sh -c"));
        assert_eq!(parts(r#"["/bin/sh","-c"]"#).as_deref(), Ok("/bin/sh|-c"));
        assert!(parts("[x").is_err());
    }

    #[test]
    fn names_alone_take_the_own_value() {
        let path = std::env::var("PATH").unwrap();
        let texts = ["PATH", "A=b", "KLEE_NO_SUCH_VARIABLE"].map(str::to_owned);
        let variables = environment(&texts).unwrap();
        assert_eq!(variables, [format!("PATH={path}"), "A=b".to_owned()]);
        assert!(environment(&["=x".to_owned()]).is_err());
        assert!(environment(&[String::new()]).is_err());
    }

    #[test]
    fn mounts() {
        let volume = mount("v:/a:ro").unwrap();
        assert_eq!((volume.kind.as_str(), volume.read_only), ("volume", true));
        let directory = mount("/h:/a:nosuid").unwrap();
        assert_eq!(
            (directory.kind.as_str(), directory.nosuid),
            ("nullfs", true)
        );
        let error = mount("a:/b:ro:x").unwrap_err();
        assert!(error.message.contains("Max 3 elements"));
        assert_eq!(error.exit, Exit::OwnFailure);
        assert!(error.hints.is_empty());
        let error = mount("512m").unwrap_err();
        assert_eq!(error.hints, ["to limit the memory use --memory 512m"]);
    }
}
