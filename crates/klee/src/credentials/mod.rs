//! Who the user is at registries: kept where Docker keeps it, so that a login serves both.
//!
//! `config.json` in `$DOCKER_CONFIG` or `~/.docker` has secrets itself (`auths`) or names programs
//! that keep them (`credsStore`, `credHelpers`). What Podman keeps in
//! `$XDG_RUNTIME_DIR/containers/auth.json` is read, too, but never written.

mod file;
mod helper;

use std::env;
use std::fmt;
use std::path::{Path, PathBuf};

use kleene_command::{Runner, System};
use kleene_types::Registry;

use self::file::AuthFile;
use crate::error::CommandError;

/// What Docker Hub is called in these files.
const HUB_KEY: &str = "https://index.docker.io/v1/";

/// Somebody at a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// The name; may be empty when the secret is a token.
    pub username: String,
    /// What proves it.
    pub secret: Secret,
}

/// What proves who somebody is. Its `Debug` doesn't show it.
#[derive(Clone, PartialEq, Eq)]
pub enum Secret {
    /// A password.
    Password(String),
    /// A refresh token of the registry's token service.
    IdentityToken(String),
    /// A token that goes to the registry as it is.
    RegistryToken(String),
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Password(_) => "Password",
            Self::IdentityToken(_) => "IdentityToken",
            Self::RegistryToken(_) => "RegistryToken",
        })
    }
}

/// Where a login is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kept {
    /// By a program, `docker-credential-NAME`.
    Helper(String),
    /// In this file, readable by its owner.
    File(PathBuf),
}

/// The user's logins.
pub struct Credentials {
    /// Docker's file.
    file: PathBuf,
    /// Podman's file.
    also: Option<PathBuf>,
    runner: Box<dyn Runner>,
}

impl Credentials {
    /// Those of the user who runs this program.
    ///
    /// # Errors
    /// When there is no home directory.
    pub fn of_user() -> Result<Self, CommandError> {
        let directory = |name| env::var_os(name).filter(|value| !value.is_empty());
        let docker = match (directory("DOCKER_CONFIG"), directory("HOME")) {
            (Some(docker), _) => PathBuf::from(docker),
            (None, Some(home)) => Path::new(&home).join(".docker"),
            (None, None) => {
                return Err(CommandError::failure(
                    "there is no place for logins: neither DOCKER_CONFIG nor HOME is set",
                ));
            }
        };
        let run = directory("XDG_RUNTIME_DIR");
        Ok(Self {
            file: docker.join("config.json"),
            also: run.map(|run| Path::new(&run).join("containers/auth.json")),
            runner: Box::new(System),
        })
    }

    /// Who the user is at a registry; `None`: nobody in particular.
    ///
    /// # Errors
    /// When a file can't be read or understood, or a helper fails.
    pub fn lookup(&self, registry: &Registry) -> Result<Option<Login>, CommandError> {
        for path in [Some(&self.file), self.also.as_ref()].into_iter().flatten() {
            let file = AuthFile::read(path)?;
            let found = match file.helper(registry)? {
                Some(name) => helper::get(&*self.runner, &name, &key(registry))?,
                None => None,
            };
            // A helper that doesn't know leaves what was kept before there was one.
            match found {
                Some(login) => return Ok(Some(login)),
                None => match file.login(registry)? {
                    Some(login) => return Ok(Some(login)),
                    None => continue,
                },
            }
        }
        Ok(None)
    }

    /// Keeps a login. The answer says where, so that the user can be told of a secret in a file.
    ///
    /// # Errors
    /// When the file can't be written, or the helper fails; then the file is as it was.
    pub fn store(&self, registry: &Registry, login: &Login) -> Result<Kept, CommandError> {
        let mut file = AuthFile::read(&self.file)?;
        // Helpers know passwords and identity tokens only.
        let plain = matches!(login.secret, Secret::RegistryToken(_));
        match file.helper(registry)?.filter(|_| !plain) {
            Some(name) => {
                helper::store(&*self.runner, &name, &key(registry), login)?;
                file.note(registry);
                file.write()?;
                Ok(Kept::Helper(name))
            }
            None => {
                file.set(registry, login);
                file.write()?;
                Ok(Kept::File(self.file.clone()))
            }
        }
    }

    /// Forgets a login; `false` when there was none.
    ///
    /// # Errors
    /// When the file can't be written, or the helper fails.
    pub fn erase(&self, registry: &Registry) -> Result<bool, CommandError> {
        let mut file = AuthFile::read(&self.file)?;
        let mut known = false;
        if let Some(name) = file.helper(registry)? {
            known = helper::get(&*self.runner, &name, &key(registry))?.is_some();
            if known {
                helper::erase(&*self.runner, &name, &key(registry))?;
            }
        }
        if file.forget(registry) {
            file.write()?;
            known = true;
        }
        Ok(known)
    }
}

/// What a registry is called in the files and by helpers.
fn key(registry: &Registry) -> String {
    if registry.is_docker_hub() {
        HUB_KEY.to_owned()
    } else {
        registry.to_string()
    }
}

/// Whether a key means a registry: old ones are URLs. Podman's keys may name repositories, which is
/// something else.
fn means(key: &str, registry: &Registry) -> bool {
    let (url, is_url) = match key
        .strip_prefix("https://")
        .or_else(|| key.strip_prefix("http://"))
    {
        Some(rest) => (rest, true),
        None => (key, false),
    };
    let host = match url.split_once('/') {
        Some((host, _)) if is_url => host,
        Some(_) => return false,
        None => url,
    };
    host.parse().is_ok_and(|named: Registry| named == *registry)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::sync::Arc;

    use kleene_command::{Answer, Scripted};
    use tempfile::TempDir;

    use super::*;

    struct Home {
        dir: TempDir,
        runner: Arc<Scripted>,
        credentials: Credentials,
    }

    impl Home {
        fn new(config: Option<&str>) -> Self {
            let dir = tempfile::tempdir().unwrap();
            let runner = Arc::new(Scripted::new());
            let credentials = Credentials {
                file: dir.path().join("docker/config.json"),
                also: Some(dir.path().join("auth.json")),
                runner: Box::new(Arc::clone(&runner)),
            };
            if let Some(config) = config {
                fs::create_dir(dir.path().join("docker")).unwrap();
                fs::write(&credentials.file, config).unwrap();
            }
            Self {
                dir,
                runner,
                credentials,
            }
        }

        fn lookup(&self, registry: &str) -> Option<Login> {
            self.credentials.lookup(&registry.parse().unwrap()).unwrap()
        }

        fn json(&self) -> serde_json::Value {
            serde_json::from_slice(&fs::read(&self.credentials.file).unwrap()).unwrap()
        }
    }

    fn kim(password: &str) -> Login {
        Login {
            username: "kim".to_owned(),
            secret: Secret::Password(password.to_owned()),
        }
    }

    #[test]
    fn keys_mean_registries() {
        for (key, registry, expected) in [
            (HUB_KEY, "docker.io", true),
            ("docker.io", "docker.io", true),
            ("registry-1.docker.io", "docker.io", true),
            ("https://h.example/v1/", "h.example", true),
            ("http://h.example:5000", "h.example:5000", true),
            ("h.example", "h.example", true),
            ("h.example", "h.example:5000", false),
            ("h.example/team", "h.example", false),
            ("xh.example", "h.example", false),
        ] {
            assert_eq!(means(key, &registry.parse().unwrap()), expected, "{key}");
        }
    }

    #[test]
    fn a_login_is_kept_and_forgotten() {
        let home = Home::new(None);
        let hub = Registry::docker_hub();
        assert_eq!(home.lookup("docker.io"), None);
        assert!(!home.credentials.erase(&hub).unwrap());
        let kept = home.credentials.store(&hub, &kim("a:b")).unwrap();
        assert_eq!(kept, Kept::File(home.credentials.file.clone()));
        assert_eq!(home.json()["auths"][HUB_KEY]["auth"], "a2ltOmE6Yg==");
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&home.credentials.file), 0o600);
        assert_eq!(mode(&home.dir.path().join("docker")), 0o700);
        assert_eq!(home.lookup("docker.io"), Some(kim("a:b")));
        assert_eq!(home.lookup("h.example"), None);
        assert!(home.credentials.erase(&hub).unwrap());
        assert_eq!(home.lookup("docker.io"), None);
    }

    #[test]
    fn what_others_have_written_stays() {
        let before = r#"{"auths":{"https://index.docker.io/v1/":{"auth":"eA=="},"h.example":{"auth":"a2ltOng="}},
            "HttpHeaders":{"X":"y"},"proxies":{"default":{"httpProxy":"p"}},"currentContext":"c"}"#;
        let home = Home::new(Some(before));
        let file = &home.credentials.file;
        fs::set_permissions(file, fs::Permissions::from_mode(0o644)).unwrap();
        home.credentials
            .store(&Registry::docker_hub(), &kim("new"))
            .unwrap();
        let after = home.json();
        assert_eq!(after["HttpHeaders"]["X"], "y");
        assert_eq!(after["proxies"]["default"]["httpProxy"], "p");
        assert_eq!(after["currentContext"], "c");
        assert_eq!(home.lookup("h.example"), Some(kim("x")));
        assert_eq!(home.lookup("docker.io"), Some(kim("new")));
        assert_eq!(
            fs::metadata(file).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert_eq!(
            fs::read_dir(home.dir.path().join("docker"))
                .unwrap()
                .count(),
            1
        );
    }

    #[test]
    fn a_linked_file_stays_a_link() {
        let home = Home::new(Some("{}"));
        let file = &home.credentials.file;
        let real = home.dir.path().join("real.json");
        fs::rename(file, &real).unwrap();
        std::os::unix::fs::symlink("../real.json", file).unwrap();
        home.credentials
            .store(&Registry::docker_hub(), &kim("x"))
            .unwrap();
        assert!(fs::symlink_metadata(file).unwrap().is_symlink());
        assert!(fs::read_to_string(&real).unwrap().contains("auths"));
    }

    #[test]
    fn tokens() {
        let home = Home::new(Some(
            r#"{"auths":{"a.example":{"auth":"a2ltOg==","identitytoken":"i"},"b.example":{"registrytoken":"r"},
                "c.example":{"username":"kim","password":"p"},"d.example":{}}}"#,
        ));
        let secret = |registry| {
            home.lookup(registry)
                .map(|login| (login.username, login.secret))
        };
        assert_eq!(
            secret("a.example"),
            Some(("kim".into(), Secret::IdentityToken("i".into())))
        );
        assert_eq!(
            secret("b.example"),
            Some((String::new(), Secret::RegistryToken("r".into())))
        );
        assert_eq!(
            secret("c.example"),
            Some(("kim".into(), Secret::Password("p".into())))
        );
        assert_eq!(secret("d.example"), None);
        let token = Login {
            username: "kim".into(),
            secret: Secret::IdentityToken("t".into()),
        };
        home.credentials
            .store(&"e.example".parse().unwrap(), &token)
            .unwrap();
        assert_eq!(home.lookup("e.example"), Some(token));
    }

    #[test]
    fn podman_s_file_is_read() {
        let home = Home::new(Some("{}"));
        fs::write(
            home.dir.path().join("auth.json"),
            r#"{"auths":{"quay.io/team":{"auth":"eDp5"},"quay.io":{"auth":"a2ltOng="}}}"#,
        )
        .unwrap();
        assert_eq!(home.lookup("quay.io"), Some(kim("x")));
        assert!(!home.credentials.erase(&"quay.io".parse().unwrap()).unwrap());
    }

    #[test]
    fn helpers_keep_secrets() {
        let home = Home::new(Some(
            r#"{"credsStore":"desktop","credHelpers":{"h.example":"pass","none.example":""}}"#,
        ));
        let answer = |user: &str, secret: &str| {
            Answer::ok(format!(
                r#"{{"ServerURL":"x","Username":"{user}","Secret":"{secret}"}}"#
            ))
        };
        let (pass, desktop) = ("docker-credential-pass", "docker-credential-desktop");
        home.runner.then(&[pass, "get"], answer("kim", "x"));
        assert_eq!(home.lookup("h.example"), Some(kim("x")));
        home.runner.then(&[desktop, "get"], answer("<token>", "t"));
        let login = home.lookup("docker.io").unwrap();
        assert_eq!(login.secret, Secret::IdentityToken("t".into()));
        let missing = Answer::fail(1, "credentials not found in native keychain");
        home.runner.then(&[desktop, "get"], missing.clone());
        assert_eq!(home.lookup("docker.io"), None);

        home.runner.then(&[pass, "store"], Answer::ok(""));
        let h: Registry = "h.example".parse().unwrap();
        let kept = home.credentials.store(&h, &kim("x")).unwrap();
        assert_eq!(kept, Kept::Helper("pass".to_owned()));
        assert_eq!(home.json()["auths"]["h.example"], serde_json::json!({}));
        home.runner.then(&[pass, "get"], answer("kim", "x"));
        home.runner.then(&[pass, "erase"], Answer::ok(""));
        assert!(home.credentials.erase(&h).unwrap());
        assert_eq!(home.json()["auths"], serde_json::json!({}));
        home.runner.then(&[desktop, "get"], missing);
        assert!(!home.credentials.erase(&Registry::docker_hub()).unwrap());

        home.runner
            .then(&[pass, "get"], Answer::fail(2, "the keychain is locked"));
        let error = home.credentials.lookup(&h).unwrap_err();
        assert!(
            error.message.contains("the keychain is locked"),
            "{}",
            error.message
        );
        // An empty name means the file, for this registry.
        assert_eq!(home.lookup("none.example"), None);
        home.runner.finish().unwrap();
    }

    #[test]
    fn what_is_wrong_is_said_and_nothing_is_lost() {
        let hub = Registry::docker_hub();
        for (config, part) in [
            ("{", "config.json"),
            ("[]", "config.json"),
            (r#"{"credsStore":"../x"}"#, "'../x'"),
            (r#"{"credsStore":5}"#, "credsStore"),
            (r#"{"auths":{"docker.io":{"auth":"%%"}}}"#, "docker.io"),
        ] {
            let home = Home::new(Some(config));
            let error = home.credentials.lookup(&hub).unwrap_err();
            assert!(error.message.contains(part), "{config}: {}", error.message);
        }
        let home = Home::new(Some("{"));
        assert!(home.credentials.store(&hub, &kim("x")).is_err());
        assert_eq!(fs::read_to_string(&home.credentials.file).unwrap(), "{");
        // A damaged entry can be replaced.
        let home = Home::new(Some(r#"{"auths":{"docker.io":{"auth":"%%"}}}"#));
        home.credentials.store(&hub, &kim("x")).unwrap();
        assert_eq!(home.lookup("docker.io"), Some(kim("x")));
    }
}
