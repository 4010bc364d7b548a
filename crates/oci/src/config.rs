//! The room's settings.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use kleene_types::{Registry, Repository};

/// How registries are reached.
#[derive(Debug, Clone)]
pub struct Config {
    /// The registry that references without one mean.
    pub default_registry: Registry,
    /// What differs for some of them.
    pub registries: BTreeMap<Registry, RegistryConfig>,
    /// Certificates (PEM) of authorities that every registry may be vouched for by, beside those
    /// that this host trusts.
    pub ca_file: Option<PathBuf>,
    /// How many blobs are transferred at once; at least 1.
    pub transfers: usize,
    /// Pauses before the further tries, as many as there are, when a registry doesn't answer as it
    /// should.
    pub pauses: Vec<Duration>,
}

/// What is different for one registry.
#[derive(Debug, Clone, Default)]
pub struct RegistryConfig {
    /// Where to look first, in this order, when something is to be pulled.
    pub mirrors: Vec<Mirror>,
    /// Whether the registry may do without a certificate that can be trusted, and without
    /// encryption. Those on this host always may.
    pub insecure: bool,
    /// Certificates (PEM) of authorities that this registry may be vouched for by, too.
    pub ca_file: Option<PathBuf>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            default_registry: Registry::docker_hub(),
            registries: BTreeMap::new(),
            ca_file: None,
            transfers: 4,
            pauses: [500, 2_000, 5_000].map(Duration::from_millis).to_vec(),
        }
    }
}

/// A registry that has the same images as another one: `[http[s]://]HOST[:PORT][/PREFIX]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirror {
    /// The mirror itself. Its own entry in [`Config::registries`] says whether it may be insecure.
    pub registry: Registry,
    /// What its repositories' names begin with.
    pub prefix: Option<Repository>,
    /// Whether it is reached without encryption, because its URL says `http`.
    pub plain: bool,
}

impl FromStr for Mirror {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let plain = text.starts_with("http://");
        let rest = text
            .strip_prefix("http://")
            .or_else(|| text.strip_prefix("https://"))
            .unwrap_or(text);
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (host, prefix) = match rest.split_once('/') {
            Some((host, prefix)) => (host, Some(prefix)),
            None => (rest, None),
        };
        let invalid = |why: &dyn std::fmt::Display| {
            format!("invalid mirror '{text}': the form is [http[s]://]HOST[:PORT][/PREFIX] ({why})")
        };
        Ok(Self {
            registry: host.parse().map_err(|error| invalid(&error))?,
            prefix: prefix
                .map(str::parse)
                .transpose()
                .map_err(|error| invalid(&error))?,
            plain,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mirrors() {
        let mirror = |text: &str| text.parse::<Mirror>();
        let plain = mirror("http://10.0.0.1:5000/").unwrap();
        assert_eq!(
            (plain.registry.as_str(), plain.plain),
            ("10.0.0.1:5000", true)
        );
        let proxy = mirror("https://harbor.example/docker/hub").unwrap();
        assert_eq!(proxy.prefix.unwrap().as_str(), "docker/hub");
        assert!(!proxy.plain);
        assert_eq!(mirror("mirror.example").unwrap().prefix, None);
        for text in ["", "ftp://x", "https://", "http://a b", "x/Y"] {
            assert!(mirror(text).unwrap_err().contains("the form is"), "{text}");
        }
    }
}
