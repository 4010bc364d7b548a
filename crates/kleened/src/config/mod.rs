//! The daemon's configuration: one YAML file, or built-in defaults when there is none.

mod address;
mod registries;
mod sockets;
mod yaml;

use std::fmt;
use std::path::{Path, PathBuf};

use kleene_storage::Driver;
use tracing::level_filters::LevelFilter;

pub use address::{Address, AddressError, Place};
pub use registries::{RegistriesConfig, RegistryConfig};
pub use sockets::{SocketConfig, Tls};
use yaml::{Node, Value};

/// Where things are on a system when nothing else is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Defaults {
    /// The configuration file.
    pub file: &'static str,
    /// The Kleene root, a directory: hier(7) says where such are.
    pub root: &'static str,
}

impl Defaults {
    /// On FreeBSD.
    pub const FREEBSD: Self = Self {
        file: "/usr/local/etc/kleened/config.yaml",
        root: "/var/db/kleene",
    };

    /// On Linux.
    pub const LINUX: Self = Self {
        file: "/etc/kleened/config.yaml",
        root: "/var/lib/kleene",
    };

    /// On the system that this is compiled for.
    pub const HERE: Self = if cfg!(target_os = "freebsd") {
        Self::FREEBSD
    } else {
        Self::LINUX
    };
}

/// Where the configuration is looked for when no file is named.
pub const DEFAULT_PATH: &str = Defaults::HERE.file;

/// The Kleene root when nothing else is said.
const DEFAULT_ROOT: &str = Defaults::HERE.root;

/// The socket when nothing else is said.
const DEFAULT_SOCKET: &str = "/var/run/kleened.sock";

/// Keys of the file; those that begin with [`PF_PREFIX`] are known beside them.
const KEYS: [&str; 12] = [
    "allow_host_commands",
    "api_listening_sockets",
    "default_registry",
    "enable_logging",
    "kleene_root",
    "log_level",
    "oci_runtime",
    "pf_config_path",
    "pf_config_template_path",
    "registries",
    "socket_group",
    "storage_driver",
];

/// Keys that configure FreeBSD's firewall.
const PF_PREFIX: &str = "pf_config_";

/// Log levels and their names, those of syslog included.
const LOG_LEVELS: [(&str, LevelFilter); 12] = [
    ("trace", LevelFilter::TRACE),
    ("debug", LevelFilter::DEBUG),
    ("info", LevelFilter::INFO),
    ("notice", LevelFilter::INFO),
    ("warning", LevelFilter::WARN),
    ("warn", LevelFilter::WARN),
    ("error", LevelFilter::ERROR),
    ("critical", LevelFilter::ERROR),
    ("alert", LevelFilter::ERROR),
    ("emergency", LevelFilter::ERROR),
    ("none", LevelFilter::OFF),
    ("off", LevelFilter::OFF),
];

/// The configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// A ZFS dataset (`zroot/kleene`) or an absolute directory.
    pub kleene_root: String,
    /// Where datasets are kept.
    pub storage_driver: Driver,
    /// Where clients are listened for; at least one.
    pub sockets: Vec<SocketConfig>,
    /// How much is logged.
    pub log_level: LevelFilter,
    /// Group whose members may use the Unix sockets: name or number.
    pub socket_group: Option<String>,
    /// An OCI runtime to start containers with, in place of the built-in one.
    pub oci_runtime: Option<PathBuf>,
    /// Whether jail parameters may name commands of the host, which it runs as root.
    pub allow_host_commands: bool,
    /// How registries are reached.
    pub registries: RegistriesConfig,
    /// What the user should know about the configuration, for the log.
    pub notes: Vec<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            kleene_root: DEFAULT_ROOT.to_owned(),
            storage_driver: Driver::Auto,
            sockets: vec![SocketConfig {
                address: Address {
                    tls: false,
                    place: Place::Unix(PathBuf::from(DEFAULT_SOCKET)),
                },
                tls: None,
            }],
            log_level: LevelFilter::INFO,
            socket_group: None,
            oci_runtime: None,
            allow_host_commands: false,
            registries: RegistriesConfig::default(),
            notes: Vec::new(),
        }
    }
}

/// What is wrong with a configuration. The message names the file, the line and the key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ConfigError {
    file: PathBuf,
    line: u64,
    message: String,
}

impl ConfigError {
    fn new(line: u64, message: String) -> Self {
        Self {
            file: PathBuf::new(),
            line,
            message,
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.file.display(), self.message),
            line => write!(f, "{}:{line}: {}", self.file.display(), self.message),
        }
    }
}

/// Reads the configuration: `file` if one is named, else the one at [`DEFAULT_PATH`] if there is
/// one, else the built-in defaults. Answers with the file that was read.
///
/// # Errors
/// When the file can't be read or isn't a configuration.
pub fn load(file: Option<&Path>) -> Result<(Config, Option<PathBuf>), ConfigError> {
    let path = file.unwrap_or(Path::new(DEFAULT_PATH));
    let in_file = |error: ConfigError| ConfigError {
        file: path.to_owned(),
        ..error
    };
    match std::fs::read(path) {
        Ok(bytes) => match String::from_utf8(bytes) {
            Ok(text) => Ok((parse(&text).map_err(in_file)?, Some(path.to_owned()))),
            Err(_) => Err(in_file(ConfigError::new(0, "the file is not UTF-8".into()))),
        },
        Err(error) if file.is_none() && error.kind() == std::io::ErrorKind::NotFound => {
            Ok((Config::default(), None))
        }
        Err(error) => {
            let message = format!("the configuration can't be read: {error}");
            Err(in_file(ConfigError::new(0, message)))
        }
    }
}

/// Parses a configuration file's text.
pub(crate) fn parse(text: &str) -> Result<Config, ConfigError> {
    let document = yaml::parse(text)?;
    let mut config = Config::default();
    let mut logging = true;
    for (key, value) in document.map()? {
        match key.as_str() {
            "kleene_root" => config.kleene_root = kleene_root(value)?,
            "storage_driver" => config.storage_driver = storage_driver(value)?,
            "api_listening_sockets" => config.sockets = sockets::parse(value, &mut config.notes)?,
            "enable_logging" => logging = value.boolean()?,
            "log_level" => config.log_level = log_level(value)?,
            "socket_group" => config.socket_group = Some(group(value)?),
            "allow_host_commands" => config.allow_host_commands = value.boolean()?,
            "default_registry" => config.registries.default = registries::registry(value)?,
            "registries" => config.registries.each = registries::parse(value)?,
            "oci_runtime" => config.oci_runtime = Some(absolute_path(value)?),
            key if key.starts_with(PF_PREFIX) => config.notes.push(pf(value)?),
            key => return Err(value.unknown(key, &KEYS)),
        }
    }
    if !logging {
        config.log_level = LevelFilter::OFF;
    }
    Ok(config)
}

fn kleene_root(node: &Node) -> Result<String, ConfigError> {
    let text = node.text()?;
    let relative = text.split('/').any(|part| matches!(part, "." | ".."));
    if text.is_empty() || text.chars().any(char::is_control) || relative {
        return Err(node.error(format_args!(
            "{text:?} is neither a ZFS dataset (zroot/kleene) nor an absolute directory \
             ({DEFAULT_ROOT})"
        )));
    }
    Ok(text.to_owned())
}

fn storage_driver(node: &Node) -> Result<Driver, ConfigError> {
    match node.text()? {
        "auto" => Ok(Driver::Auto),
        "zfs" => Ok(Driver::Zfs),
        "dir" => Ok(Driver::Dir),
        other => Err(node.error(unknown_word(other, &["auto", "zfs", "dir"]))),
    }
}

fn log_level(node: &Node) -> Result<LevelFilter, ConfigError> {
    let text = node.text()?;
    let level = LOG_LEVELS.iter().find(|(name, _)| *name == text);
    level.map(|(_, level)| *level).ok_or_else(|| {
        let names: Vec<&str> = LOG_LEVELS.iter().map(|(name, _)| *name).collect();
        node.error(unknown_word(text, &names))
    })
}

fn group(node: &Node) -> Result<String, ConfigError> {
    match &node.value {
        Value::Number(number) => Ok(number.clone()),
        _ if node.text()?.is_empty() => Err(node.error("the name is empty")),
        _ => Ok(node.text()?.to_owned()),
    }
}

fn absolute_path(node: &Node) -> Result<PathBuf, ConfigError> {
    let text = node.text()?;
    if !text.starts_with('/') || text.contains('\0') {
        return Err(node.error(format_args!("'{text}' is not an absolute path")));
    }
    Ok(PathBuf::from(text))
}

/// A note: the key does nothing yet. Its value is checked all the same.
fn pf(node: &Node) -> Result<String, ConfigError> {
    absolute_path(node)?;
    let key = &node.key;
    Ok(match cfg!(target_os = "freebsd") {
        true => format!("'{key}' has no effect yet: it configures pf for networks"),
        false => format!("'{key}' is ignored: it configures pf on FreeBSD"),
    })
}

fn unknown_word(word: &str, known: &[&str]) -> String {
    match did_you_mean(word, known) {
        Some(near) => format!("'{word}' is not known: did you mean '{near}'?"),
        None => format!("'{word}' is not known: use one of {}", known.join(", ")),
    }
}

/// The word that was probably meant.
pub(crate) fn did_you_mean<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let near = known
        .iter()
        .map(|candidate| {
            (
                strsim::normalized_damerau_levenshtein(word, candidate),
                *candidate,
            )
        })
        .max_by(|a, b| a.0.total_cmp(&b.0))?;
    (near.0 > 0.6).then_some(near.1)
}

#[cfg(test)]
mod tests;
