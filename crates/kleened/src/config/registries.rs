//! How registries are reached.

use std::path::PathBuf;

use kleene_oci::Mirror;
use kleene_types::Registry;

use super::yaml::Node;
use super::{ConfigError, absolute_path};

const KEYS: [&str; 4] = ["name", "mirrors", "insecure", "ca_file"];

/// How registries are reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistriesConfig {
    /// The registry that references without one mean.
    pub default: Registry,
    /// Those that something is said about.
    pub each: Vec<RegistryConfig>,
}

impl Default for RegistriesConfig {
    fn default() -> Self {
        Self {
            default: Registry::docker_hub(),
            each: Vec::new(),
        }
    }
}

/// What is said about one registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistryConfig {
    /// Which.
    pub name: Registry,
    /// Where to look first when something is to be pulled.
    pub mirrors: Vec<Mirror>,
    /// Whether it may do without a certificate that can be trusted, and without encryption.
    pub insecure: bool,
    /// Certificates of further authorities, as a PEM file.
    pub ca_file: Option<PathBuf>,
}

impl From<&RegistriesConfig> for kleene_oci::Config {
    fn from(config: &RegistriesConfig) -> Self {
        let each = config.each.iter().map(|it| {
            let registry = kleene_oci::RegistryConfig {
                mirrors: it.mirrors.clone(),
                insecure: it.insecure,
                ca_file: it.ca_file.clone(),
            };
            (it.name.clone(), registry)
        });
        Self {
            default_registry: config.default.clone(),
            registries: each.collect(),
            ..Self::default()
        }
    }
}

/// The registry that a node names.
pub(super) fn registry(node: &Node) -> Result<Registry, ConfigError> {
    node.text()?.parse().map_err(|error| node.error(error))
}

/// The registries of a configuration file.
pub(super) fn parse(node: &Node) -> Result<Vec<RegistryConfig>, ConfigError> {
    let mut each: Vec<RegistryConfig> = Vec::new();
    for item in node.list()? {
        let config = one(item)?;
        if each.iter().any(|other| other.name == config.name) {
            return Err(item.error(format_args!("'{}' is there twice", config.name)));
        }
        each.push(config);
    }
    Ok(each)
}

fn one(node: &Node) -> Result<RegistryConfig, ConfigError> {
    let (mut name, mut mirrors, mut insecure, mut ca_file) = (None, Vec::new(), false, None);
    for (key, value) in node.map()? {
        match key.as_str() {
            "name" => name = Some(registry(value)?),
            "mirrors" => mirrors = value.list()?.iter().map(mirror).collect::<Result<_, _>>()?,
            "insecure" => insecure = value.boolean()?,
            "ca_file" => ca_file = Some(absolute_path(value)?),
            key => return Err(value.unknown(key, &KEYS)),
        }
    }
    match name {
        Some(name) => Ok(RegistryConfig {
            name,
            mirrors,
            insecure,
            ca_file,
        }),
        None => Err(node.error("the key 'name' is missing")),
    }
}

fn mirror(node: &Node) -> Result<Mirror, ConfigError> {
    node.text()?
        .parse()
        .map_err(|error: String| node.error(error))
}
