//! A registry's or mirror's address, and how safe the way to it is.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use kleene_types::{Registry, Repository};

use super::agent::Trust;
use super::session::{Ask, Session};
use crate::config::{Config, Mirror};
use crate::error::Trouble;

/// Which servers that needn't encrypt do.
#[derive(Debug, Default)]
pub(crate) struct Schemes(Mutex<HashMap<String, &'static str>>);

impl Schemes {
    /// It doesn't answer any more in the way that it did.
    pub fn forget(&self, endpoint: &Endpoint) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.remove(&endpoint.authority);
    }
}

/// A registry or a mirror.
#[derive(Debug)]
pub(crate) struct Endpoint {
    authority: String,
    safety: Safety,
    trust: Trust,
    prefix: Option<Repository>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Safety {
    /// Encrypted, by somebody who can be trusted.
    Verified,
    /// Encrypted by anybody, or else not.
    Whatever,
    /// Not encrypted.
    Plain,
}

impl Endpoint {
    /// The registry itself.
    pub fn registry(config: &Config, registry: &Registry) -> Self {
        Self::new(config, registry, false, None)
    }

    /// A mirror of it.
    pub fn mirror(config: &Config, mirror: &Mirror) -> Self {
        Self::new(
            config,
            &mirror.registry,
            mirror.plain,
            mirror.prefix.clone(),
        )
    }

    fn new(config: &Config, registry: &Registry, plain: bool, prefix: Option<Repository>) -> Self {
        let own = config.registries.get(registry);
        let here = registry.is_loopback();
        let insecure = here || own.is_some_and(|own| own.insecure);
        let safety = match (plain, insecure) {
            (true, _) => Safety::Plain,
            (false, true) => Safety::Whatever,
            (false, false) => Safety::Verified,
        };
        let files = [
            own.and_then(|own| own.ca_file.clone()),
            config.ca_file.clone(),
        ];
        Self {
            authority: if registry.is_docker_hub() {
                "registry-1.docker.io".to_owned()
            } else {
                registry.to_string()
            },
            safety,
            trust: Trust {
                anybody: safety != Safety::Verified,
                ca_files: files.into_iter().flatten().collect(),
                here,
            },
            prefix,
        }
    }

    /// Docker Hub's search is at another host than its images.
    pub fn of_search(config: &Config, registry: &Registry) -> Self {
        let mut endpoint = Self::registry(config, registry);
        if registry.is_docker_hub() {
            endpoint.authority = "index.docker.io".to_owned();
        }
        endpoint
    }

    /// Whom to trust there.
    pub fn trust(&self) -> &Trust {
        &self.trust
    }

    /// Host and port.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// Whether it may lead to places without encryption.
    pub fn may_be_plain(&self) -> bool {
        self.safety != Safety::Verified
    }

    /// A repository's name there.
    pub fn repository(&self, repository: &Repository) -> String {
        match &self.prefix {
            Some(prefix) => format!("{prefix}/{repository}"),
            None => repository.to_string(),
        }
    }

    /// Scheme and authority.
    pub fn base(&self, session: &Session<'_>, schemes: &Schemes) -> Result<String, Trouble> {
        let scheme = match self.safety {
            Safety::Verified => "https",
            Safety::Plain => "http",
            Safety::Whatever => self.find_out(session, schemes)?,
        };
        Ok(format!("{scheme}://{}", self.authority))
    }

    /// Encryption is tried first, so that nobody's password is sent without need.
    fn find_out(&self, session: &Session<'_>, schemes: &Schemes) -> Result<&'static str, Trouble> {
        let known = || schemes.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(scheme) = known().get(&self.authority).copied() {
            return Ok(scheme);
        }
        let mut last = Trouble::Cancelled;
        for scheme in ["https", "http"] {
            let ask = Ask::get(format!("{scheme}://{}/v2/", self.authority));
            match session.exchange(&self.trust, &ask, None) {
                Ok(_) => {
                    known().insert(self.authority.clone(), scheme);
                    return Ok(scheme);
                }
                Err(trouble) if trouble.is_the_servers() => last = trouble,
                Err(trouble) => return Err(trouble),
            }
        }
        Err(last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::RegistryConfig;

    fn endpoint(config: &Config, registry: &str) -> Endpoint {
        Endpoint::registry(config, &registry.parse().unwrap())
    }

    #[test]
    fn only_those_who_may_are_unsafe() {
        let mut config = Config::default();
        config.registries.insert(
            "old.example".parse().unwrap(),
            RegistryConfig {
                insecure: true,
                ca_file: Some("/ca.pem".into()),
                ..RegistryConfig::default()
            },
        );
        for (registry, safety) in [
            ("docker.io", Safety::Verified),
            ("old.example", Safety::Whatever),
            ("old.example:5000", Safety::Verified),
            ("localhost:5000", Safety::Whatever),
            ("127.0.0.1", Safety::Whatever),
        ] {
            let endpoint = endpoint(&config, registry);
            assert_eq!(endpoint.safety, safety, "{registry}");
            assert_eq!(endpoint.trust.anybody, safety != Safety::Verified);
        }
        assert_eq!(endpoint(&config, "old.example").trust.ca_files.len(), 1);
        assert_eq!(
            endpoint(&config, "docker.io").authority(),
            "registry-1.docker.io"
        );
        let mirror = Endpoint::mirror(&config, &"http://m.example/p".parse().unwrap());
        assert_eq!(mirror.safety, Safety::Plain);
        assert_eq!(mirror.repository(&"a/b".parse().unwrap()), "p/a/b");
    }
}
