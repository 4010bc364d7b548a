//! Sockets to listen on: made so that nobody gets at them who shouldn't, at no moment.

use std::fs;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::Mode;
use rustls::ServerConfig;

use crate::config::{Address, Place, SocketConfig};
use crate::tls::{self, TlsError};

/// Where group names are looked up.
const GROUP_FILE: &str = "/etc/group";

/// A socket that is listened on.
pub struct Listener {
    /// Its address as it was configured.
    pub address: Address,
    /// The socket.
    pub socket: Socket,
    /// How TLS is spoken on it, if it is.
    pub tls: Option<Arc<ServerConfig>>,
}

/// The two kinds of sockets.
pub enum Socket {
    /// A Unix socket, with the file that goes away with the daemon.
    Unix(UnixListener, SocketFile),
    /// A TCP port.
    Tcp(std::net::TcpListener),
}

/// Why a socket can't be listened on.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Somebody listens there already.
    #[error("{0} is in use: another daemon listens there; stop it or configure another socket")]
    InUse(Address),
    /// There is something that isn't a socket.
    #[error("'{0}' is in the way: it isn't a socket; remove it or configure another path")]
    NotASocket(PathBuf),
    /// The directory is missing.
    #[error("the directory '{0}' of the socket doesn't exist: create it or configure another path")]
    NoDirectory(PathBuf),
    /// The group isn't there.
    #[error("the group '{0}' of 'socket_group' doesn't exist: create it or name another one")]
    NoGroup(String),
    /// The certificates can't be used.
    #[error("listening on {address} failed")]
    Tls {
        /// Where.
        address: Address,
        /// Why.
        #[source]
        source: Box<TlsError>,
    },
    /// Anything else.
    #[error("listening on {address} failed")]
    Failed {
        /// Where.
        address: Address,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Listens on a socket. Members of `group` may use it if it is a Unix socket; without a group only
/// root may.
///
/// Changes the process's umask for a moment: call it before there are other threads.
///
/// # Errors
/// See [`ListenError`].
pub fn listen(config: &SocketConfig, group: Option<&str>) -> Result<Listener, ListenError> {
    let address = config.address.clone();
    let tls = match &config.tls {
        Some(files) => Some(
            tls::server_config(files).map_err(|source| ListenError::Tls {
                address: address.clone(),
                source: Box::new(source),
            })?,
        ),
        None => None,
    };
    let socket = match &address.place {
        Place::Unix(path) => listen_unix(&address, path, group)?,
        Place::Tcp(tcp) => listen_tcp(&address, *tcp)?,
    };
    Ok(Listener {
        address,
        socket,
        tls,
    })
}

fn listen_tcp(address: &Address, tcp: SocketAddr) -> Result<Socket, ListenError> {
    let listen = || -> io::Result<std::net::TcpListener> {
        let listener = std::net::TcpListener::bind(tcp)?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    };
    match listen() {
        Ok(listener) => Ok(Socket::Tcp(listener)),
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            Err(ListenError::InUse(address.clone()))
        }
        Err(source) => Err(ListenError::Failed {
            address: address.clone(),
            source,
        }),
    }
}

fn listen_unix(address: &Address, path: &Path, group: Option<&str>) -> Result<Socket, ListenError> {
    let failed = |source| ListenError::Failed {
        address: address.clone(),
        source,
    };
    let group = group.map(group_id).transpose()?;
    if let Some(directory) = path.parent()
        && !directory.is_dir()
    {
        return Err(ListenError::NoDirectory(directory.to_owned()));
    }
    remove_stale(address, path)?;
    // The file must not be open to others even between being made and being given to its group.
    let umask = rustix::process::umask(Mode::from_bits_retain(0o177));
    let bound = UnixListener::bind(path);
    rustix::process::umask(umask);
    let listener = bound.map_err(failed)?;
    let file = SocketFile::new(path).map_err(failed)?;
    let open = || -> io::Result<()> {
        std::os::unix::fs::chown(path, None, group)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o660))?;
        listener.set_nonblocking(true)
    };
    open().map_err(failed)?;
    Ok(Socket::Unix(listener, file))
}

/// Removes the socket of a daemon that was killed. One that somebody listens on stays.
fn remove_stale(address: &Address, path: &Path) -> Result<(), ListenError> {
    let failed = |source| ListenError::Failed {
        address: address.clone(),
        source,
    };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(ListenError::NotASocket(path.to_owned()));
        }
        Ok(_) => {}
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(failed)
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Ok(_) => Err(ListenError::InUse(address.clone())),
        Err(error) => Err(failed(error)),
    }
}

/// The number of a group, which may also be given as a number.
///
/// # Errors
/// [`ListenError::NoGroup`].
pub fn group_id(group: &str) -> Result<u32, ListenError> {
    if let Ok(id) = group.parse() {
        return Ok(id);
    }
    let groups = fs::read_to_string(GROUP_FILE).unwrap_or_default();
    find_group(&groups, group).ok_or_else(|| ListenError::NoGroup(group.to_owned()))
}

/// The number of a group in a file as `group(5)` describes it.
fn find_group(file: &str, name: &str) -> Option<u32> {
    file.lines().find_map(|line| {
        let mut fields = line.split(':');
        let found = fields.next()? == name;
        found.then(|| fields.nth(1)?.parse().ok()).flatten()
    })
}

/// A Unix socket's file. It is removed when this is dropped, unless another daemon has put its own
/// there in the meantime.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
}

impl SocketFile {
    fn new(path: &Path) -> io::Result<Self> {
        Ok(Self {
            path: path.to_owned(),
            identity: identity(path)?,
        })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|identity| identity == self.identity)
            && let Err(problem) = fs::remove_file(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %problem, "a socket can't be removed");
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|metadata| (metadata.dev(), metadata.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(path: &Path) -> SocketConfig {
        let address = format!("http://{}", path.display()).parse().unwrap();
        SocketConfig { address, tls: None }
    }

    fn refusal(config: &SocketConfig, group: Option<&str>) -> String {
        match listen(config, group) {
            Ok(_) => panic!("{} is listened on", config.address),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn sockets_are_for_root_and_a_group() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("k.sock");
        let listener = listen(&config(&path), Some("4711")).unwrap();
        let metadata = fs::metadata(&path).unwrap();
        assert_eq!(metadata.mode() & 0o7777, 0o660);
        assert_eq!(metadata.gid(), 4711);
        drop(listener);
        assert!(!path.exists());
    }

    #[test]
    fn only_stale_sockets_are_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("k.sock");
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let listener = listen(&config(&path), None).unwrap();
        assert!(refusal(&config(&path), None).contains("another daemon listens there"));
        // Another daemon's socket in the same place isn't ours to remove.
        fs::remove_file(&path).unwrap();
        let other = UnixListener::bind(&path).unwrap();
        drop(listener);
        assert!(path.exists());
        drop(other);
    }

    #[test]
    fn what_is_in_the_way_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        fs::write(&file, "precious").unwrap();
        assert!(refusal(&config(&file), None).contains("it isn't a socket"));
        assert_eq!(fs::read_to_string(&file).unwrap(), "precious");
        let missing = directory.path().join("none/k.sock");
        assert!(refusal(&config(&missing), None).contains("doesn't exist"));
        let path = directory.path().join("k.sock");
        assert!(refusal(&config(&path), Some("no-such-group")).contains("'no-such-group'"));
        assert!(!path.exists());
    }

    #[test]
    fn ports_in_use_are_named() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", taken.local_addr().unwrap());
        let config = SocketConfig {
            address: address.parse().unwrap(),
            tls: None,
        };
        assert!(refusal(&config, None).starts_with(&address));
    }

    #[test]
    fn groups_are_found_by_name() {
        let file = "root:x:0:\nwheel:*:10:a,b\nbad\nother:x:no:\n";
        assert_eq!(find_group(file, "wheel"), Some(10));
        assert_eq!(find_group(file, "whee"), None);
        assert_eq!(find_group(file, "other"), None);
    }
}
