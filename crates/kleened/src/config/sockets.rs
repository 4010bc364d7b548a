//! The list of sockets to listen on.

use std::path::PathBuf;

use super::yaml::{Node, Value};
use super::{Address, ConfigError, absolute_path};

/// Keys of a socket; `tlsdh` is the original Kleene's.
const KEYS: [&str; 6] = [
    "address",
    "tlscert",
    "tlskey",
    "tlsverify",
    "tlscacert",
    "tlsdh",
];

/// A socket to listen on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SocketConfig {
    /// Where.
    pub address: Address,
    /// Certificates; `Some` exactly when the address says `https`.
    pub tls: Option<Tls>,
}

/// Certificates of a TLS socket, as PEM files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// The daemon's certificate chain.
    pub cert: PathBuf,
    /// Its private key; `None`: it is in `cert`.
    pub key: Option<PathBuf>,
    /// Authorities whose clients are let in; `None`: any client is.
    pub client_ca: Option<PathBuf>,
}

/// The sockets of a configuration file, with what the user should know about them.
pub(super) fn parse(
    node: &Node,
    notes: &mut Vec<String>,
) -> Result<Vec<SocketConfig>, ConfigError> {
    let items = node.list()?;
    if items.is_empty() {
        return Err(node.error("give at least one socket, such as 'http:///var/run/kleened.sock'"));
    }
    items.iter().map(|item| socket(item, notes)).collect()
}

fn socket(node: &Node, notes: &mut Vec<String>) -> Result<SocketConfig, ConfigError> {
    if let Value::Text(text) = &node.value {
        return finish(node, parse_address(node, text)?, &Parts::default());
    }
    let mut parts = Parts::default();
    let mut address = None;
    for (key, value) in node.map()? {
        match key.as_str() {
            "address" => address = Some(parse_address(value, value.text()?)?),
            "tlscert" => parts.cert = Some(file(value)?),
            "tlskey" => parts.key = Some(file(value)?),
            "tlscacert" => parts.ca = Some(file(value)?),
            "tlsverify" => parts.verify = value.boolean()?,
            "tlsdh" => {
                value.text()?;
                notes.push(format!(
                    "'{}' is ignored: keys are agreed on by elliptic curves",
                    value.key
                ));
            }
            key => return Err(value.unknown(key, &KEYS)),
        }
    }
    match address {
        Some(address) => finish(node, address, &parts),
        None => Err(node.error("the key 'address' is missing")),
    }
}

#[derive(Default)]
struct Parts {
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
    ca: Option<PathBuf>,
    verify: bool,
}

fn parse_address(node: &Node, text: &str) -> Result<Address, ConfigError> {
    text.parse().map_err(|error| node.error(error))
}

fn file(node: &Node) -> Result<PathBuf, ConfigError> {
    let path = absolute_path(node)?;
    match std::fs::File::open(&path) {
        Ok(_) => Ok(path),
        Err(error) => Err(node.error(format_args!("'{}': {error}", path.display()))),
    }
}

fn finish(node: &Node, address: Address, parts: &Parts) -> Result<SocketConfig, ConfigError> {
    let given = parts.cert.is_some() || parts.key.is_some() || parts.ca.is_some() || parts.verify;
    if !address.tls {
        return match given {
            true => Err(node.error(format_args!(
                "certificates are given, but '{address}' doesn't use them: say https:// or leave \
                 them out"
            ))),
            false => Ok(SocketConfig { address, tls: None }),
        };
    }
    let Some(cert) = parts.cert.clone() else {
        return Err(node.error(format_args!("'{address}' needs the key 'tlscert'")));
    };
    let client_ca = match (parts.verify, &parts.ca) {
        (true, None) => {
            return Err(node.error("'tlsverify' needs 'tlscacert' to know whose clients to let in"));
        }
        (true, Some(ca)) => Some(ca.clone()),
        (false, _) => None,
    };
    let key = parts.key.clone();
    let tls = Some(Tls {
        cert,
        key,
        client_ca,
    });
    Ok(SocketConfig { address, tls })
}
