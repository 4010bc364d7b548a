//! Addresses of daemons.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::path::PathBuf;
use std::str::FromStr;

/// Where a daemon listens: `http:///path.sock`, `https:///path.sock`, `http://HOST[:PORT]` or
/// `https://HOST[:PORT]`. IPv6 addresses stand in brackets; ports are 80 and 443 unless given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostAddress {
    tls: bool,
    place: Place,
}

/// The part of an address that a socket is opened to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// A Unix socket.
    Unix(PathBuf),
    /// A TCP port. The host has no brackets.
    Tcp { host: String, port: u16 },
}

/// Why a text is not the address of a daemon.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "invalid address '{text}': {reason}; write http:///path/to.sock, https:///path/to.sock, \
     http://IP[:PORT] or https://IP[:PORT]"
)]
pub struct AddressError {
    text: String,
    reason: &'static str,
}

impl HostAddress {
    /// Where a daemon without configuration listens: `http:///var/run/kleened.sock`.
    pub fn default_socket() -> Self {
        Self::unix("/var/run/kleened.sock")
    }

    /// The address of a Unix socket without TLS.
    pub fn unix(path: impl Into<PathBuf>) -> Self {
        Self {
            tls: false,
            place: Place::Unix(path.into()),
        }
    }

    /// Whether the connection is encrypted.
    pub fn is_tls(&self) -> bool {
        self.tls
    }

    /// Path of the Unix socket, if it is one.
    pub fn socket_path(&self) -> Option<&std::path::Path> {
        match &self.place {
            Place::Unix(path) => Some(path),
            Place::Tcp { .. } => None,
        }
    }

    /// Whether the daemon is on another host, as far as the address tells.
    pub fn is_remote(&self) -> bool {
        match &self.place {
            Place::Unix(_) => false,
            Place::Tcp { host, .. } => match host.parse::<IpAddr>() {
                Ok(address) => !address.to_canonical().is_loopback(),
                Err(_) => host != "localhost",
            },
        }
    }

    pub(crate) fn place(&self) -> &Place {
        &self.place
    }

    /// What the HTTP header `Host` says.
    pub(crate) fn authority(&self) -> String {
        match &self.place {
            Place::Unix(_) => "localhost".to_owned(),
            Place::Tcp { host, port } if host.contains(':') => format!("[{host}]:{port}"),
            Place::Tcp { host, port } => format!("{host}:{port}"),
        }
    }
}

/// Host and port of an authority; IPv6 addresses lose their brackets.
fn split_authority(text: &str, default_port: u16) -> Result<(String, u16), &'static str> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']').ok_or("a bracket isn't closed")?;
            host.parse::<Ipv6Addr>()
                .map_err(|_| "only IPv6 addresses stand in brackets")?;
            (host, port)
        }
        None => match text.find(':') {
            Some(colon) => text.split_at(colon),
            None => (text, ""),
        },
    };
    let port = match port.strip_prefix(':') {
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => digits
            .parse()
            .map_err(|_| "a port is a number from 0 to 65535")?,
        None if port.is_empty() => default_port,
        _ => return Err("a port is a number from 0 to 65535 (IPv6 addresses stand in brackets)"),
    };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:".contains(&byte);
    if host.is_empty() || !host.bytes().all(plain) {
        return Err("the host is neither an IP address nor a name");
    }
    Ok((host.to_owned(), port))
}

impl FromStr for HostAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let error = |reason| AddressError {
            text: text.to_owned(),
            reason,
        };
        let (tls, rest) = if let Some(rest) = text.strip_prefix("http://") {
            (false, rest)
        } else if let Some(rest) = text.strip_prefix("https://") {
            (true, rest)
        } else {
            return Err(error("it begins with neither http:// nor https://"));
        };
        let place = if rest.starts_with('/') {
            if rest.ends_with('/') || rest.contains('\0') {
                return Err(error("the path names no socket"));
            }
            Place::Unix(PathBuf::from(rest))
        } else {
            let authority = rest.strip_suffix('/').unwrap_or(rest);
            let (host, port) =
                split_authority(authority, if tls { 443 } else { 80 }).map_err(error)?;
            Place::Tcp { host, port }
        };
        Ok(Self { tls, place })
    }
}

impl fmt::Display for HostAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        match &self.place {
            Place::Unix(path) => write!(f, "{scheme}://{}", path.display()),
            Place::Tcp { .. } => write!(f, "{scheme}://{}", self.authority()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        for (text, printed) in [
            ("http:///run/k.sock", "http:///run/k.sock"),
            ("https:///run/k.sock", "https:///run/k.sock"),
            ("http://127.0.0.1", "http://127.0.0.1:80"),
            ("https://127.0.0.1/", "https://127.0.0.1:443"),
            ("http://[::1]:8085", "http://[::1]:8085"),
            ("https://[fe80::1]", "https://[fe80::1]:443"),
            ("http://kleene.example:8080", "http://kleene.example:8080"),
        ] {
            let address: HostAddress = text.parse().unwrap();
            assert_eq!(address.to_string(), printed);
            assert_eq!(printed.parse::<HostAddress>().unwrap(), address);
        }
    }

    #[test]
    fn other_hosts() {
        let remote = |text: &str| text.parse::<HostAddress>().unwrap().is_remote();
        for text in [
            "http:///run/k.sock",
            "http://127.0.0.1",
            "https://127.9.9.9:1",
            "http://[::1]:8085",
            "https://localhost",
        ] {
            assert!(!remote(text), "{text}");
        }
        for text in [
            "http://10.0.0.1",
            "https://[fe80::1]",
            "http://kleene.example",
        ] {
            assert!(remote(text), "{text}");
        }
    }

    #[test]
    fn bad_forms() {
        for text in [
            "",
            "/run/k.sock",
            "unix:///run/k.sock",
            "http://",
            "http:///",
            "http:///dir/",
            "http://host:port",
            "http://host:99999",
            "http://host:",
            "http://::1",
            "http://[::1",
            "http://[host]:1",
            "http://host:1/path",
            "http://ho st",
            "http://host?x",
        ] {
            let parsed = text.parse::<HostAddress>();
            assert!(parsed.is_err(), "{text}: {parsed:?}");
        }
    }
}
