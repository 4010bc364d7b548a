//! Addresses to listen on.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

/// Longest path of a Unix socket in bytes, without the terminating zero (`sun_path` on Linux; it is
/// 103 on FreeBSD).
const MAX_SOCKET_PATH: usize = if cfg!(target_os = "freebsd") {
    103
} else {
    107
};

/// Where to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A Unix socket at this absolute path.
    Unix(PathBuf),
    /// A TCP port.
    Tcp(SocketAddr),
}

/// An address: `http:///path/to.sock`, `https:///path/to.sock`, `http://IP[:PORT]` or
/// `https://IP[:PORT]`, with IPv6 in brackets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// Whether TLS is spoken.
    pub tls: bool,
    /// Where.
    pub place: Place,
}

/// Why a text is not an address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{text}' is not an address to listen on: {reason}; the forms are http:///path/to.sock, \
     http://IP[:PORT] and the same with https (IPv6 in brackets)"
)]
pub struct AddressError {
    text: String,
    reason: &'static str,
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        parse(text).map_err(|reason| AddressError {
            text: text.to_owned(),
            reason,
        })
    }
}

fn parse(text: &str) -> Result<Address, &'static str> {
    let (tls, rest) = match text.split_once("://") {
        Some(("http", rest)) => (false, rest),
        Some(("https", rest)) => (true, rest),
        _ => return Err("it begins with neither http:// nor https://"),
    };
    let place = if rest.starts_with('/') {
        if rest.len() > MAX_SOCKET_PATH {
            return Err("the path is too long for a Unix socket");
        }
        if rest.contains('\0') || rest.ends_with('/') {
            return Err("the path names no file");
        }
        Place::Unix(PathBuf::from(rest))
    } else {
        Place::Tcp(tcp(rest.strip_suffix('/').unwrap_or(rest), tls)?)
    };
    Ok(Address { tls, place })
}

fn tcp(text: &str, tls: bool) -> Result<SocketAddr, &'static str> {
    let default_port = if tls { 443 } else { 80 };
    let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']'));
    if let Ok(ip) = bare.unwrap_or(text).parse::<IpAddr>() {
        return match (ip, bare) {
            (IpAddr::V6(_), None) => Err("an IPv6 address stands in brackets"),
            (IpAddr::V4(_), Some(_)) => Err("only an IPv6 address stands in brackets"),
            _ => Ok(SocketAddr::new(ip, default_port)),
        };
    }
    text.parse()
        .map_err(|_| "what follows the scheme is neither an absolute path nor an IP address")
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        match &self.place {
            Place::Unix(path) => write!(f, "{scheme}://{}", path.display()),
            Place::Tcp(address) => write!(f, "{scheme}://{address}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        for (text, shown) in [
            (
                "http:///var/run/kleened.sock",
                "http:///var/run/kleened.sock",
            ),
            ("https:///a b.sock", "https:///a b.sock"),
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
            ("http://127.0.0.1/", "http://127.0.0.1:80"),
            ("https://[::1]", "https://[::1]:443"),
            ("https://[::]:2376", "https://[::]:2376"),
        ] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), shown);
        }
    }

    #[test]
    fn bad_forms() {
        let long = format!("http:///{}", "x".repeat(200));
        for text in [
            "",
            "/var/run/kleened.sock",
            "unix:///x",
            "http://",
            "http:///",
            "http://localhost:80",
            "http://::1",
            "http://[127.0.0.1]",
            "http://127.0.0.1:99999",
            "http://x/y.sock",
            &long,
        ] {
            assert!(text.parse::<Address>().is_err(), "{text:?}");
        }
    }
}
