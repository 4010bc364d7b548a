//! The file that has logins, or says which programs have them.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use kleene_types::Registry;
use serde::Serialize as _;
use serde_json::{Map, Value, json};

use super::{Login, Secret, key, means};
use crate::error::CommandError;

/// A file's content, with whatever else is in it.
#[derive(Debug)]
pub(super) struct AuthFile {
    path: PathBuf,
    content: Map<String, Value>,
}

impl AuthFile {
    /// Reads a file; one that isn't there is empty.
    pub fn read(path: &Path) -> Result<Self, CommandError> {
        let error = |why: &dyn std::fmt::Display| {
            CommandError::failure(format!("{} can't be read: {why}", path.display()))
        };
        let content = match fs::read(path) {
            Ok(text) if text.trim_ascii().is_empty() => Map::new(),
            Ok(text) => serde_json::from_slice(&text).map_err(|why| error(&why))?,
            Err(why) if why.kind() == io::ErrorKind::NotFound => Map::new(),
            Err(why) => return Err(error(&why)),
        };
        Ok(Self {
            path: path.to_owned(),
            content,
        })
    }

    fn wrong(&self, what: &str) -> CommandError {
        CommandError::failure(format!("{}: {what}", self.path.display()))
    }

    /// The program that keeps a registry's secret.
    pub fn helper(&self, registry: &Registry) -> Result<Option<String>, CommandError> {
        let own = self.content.get("credHelpers").and_then(Value::as_object);
        let own = own.and_then(|own| own.iter().find(|(key, _)| means(key, registry)));
        let (field, value) = match own {
            Some((_, value)) => ("credHelpers", Some(value)),
            None => ("credsStore", self.content.get("credsStore")),
        };
        let name = match value {
            None | Some(Value::Null) => return Ok(None),
            Some(Value::String(name)) => name,
            Some(_) => return Err(self.wrong(&format!("'{field}' isn't the name of a helper"))),
        };
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if !name.chars().all(plain) || name.starts_with('.') {
            return Err(self.wrong(&format!("'{name}' in '{field}' isn't the name of a helper")));
        }
        Ok(Some(name.clone()).filter(|name| !name.is_empty()))
    }

    fn entry(&self, registry: &Registry) -> Option<(&String, &Map<String, Value>)> {
        let auths = self.content.get("auths")?.as_object()?;
        // The usual key first: the file may have old ones beside it.
        let usual = auths.get_key_value(&key(registry));
        let other = || auths.iter().find(|(key, _)| means(key, registry));
        let (key, entry) = usual.or_else(other)?;
        Some((key, entry.as_object()?))
    }

    /// The login that the file itself has.
    pub fn login(&self, registry: &Registry) -> Result<Option<Login>, CommandError> {
        let Some((key, entry)) = self.entry(registry) else {
            return Ok(None);
        };
        let text = |name: &str| {
            let text = entry.get(name).and_then(Value::as_str);
            text.filter(|text| !text.is_empty()).map(str::to_owned)
        };
        let pair = match text("auth") {
            Some(auth) => Some(decoded(&auth).ok_or_else(|| {
                let damaged = format!("the login of '{key}' is damaged");
                self.wrong(&damaged)
                    .hint(format!("log in again with: klee image login {registry}"))
            })?),
            None => text("username").zip(text("password")),
        };
        let (username, password) = pair.unwrap_or_default();
        let secret = match (text("identitytoken"), text("registrytoken")) {
            (Some(token), _) => Secret::IdentityToken(token),
            (None, Some(token)) => Secret::RegistryToken(token),
            (None, None) if username.is_empty() => return Ok(None),
            (None, None) => Secret::Password(password),
        };
        Ok(Some(Login { username, secret }))
    }

    /// Keeps a login in the file.
    pub fn set(&mut self, registry: &Registry, login: &Login) {
        let auth = |password: &str| STANDARD.encode(format!("{}:{password}", login.username));
        let entry = match &login.secret {
            Secret::Password(password) => json!({ "auth": auth(password) }),
            Secret::IdentityToken(token) => json!({ "auth": auth(""), "identitytoken": token }),
            Secret::RegistryToken(token) => json!({ "registrytoken": token }),
        };
        self.put(registry, entry);
    }

    /// Notes that a helper has a login, as Docker does.
    pub fn note(&mut self, registry: &Registry) {
        self.put(registry, json!({}));
    }

    fn put(&mut self, registry: &Registry, entry: Value) {
        self.forget(registry);
        let auths = self
            .content
            .entry("auths")
            .or_insert_with(|| Value::Object(Map::new()));
        if !auths.is_object() {
            *auths = Value::Object(Map::new());
        }
        if let Some(auths) = auths.as_object_mut() {
            auths.insert(key(registry), entry);
        }
    }

    /// Forgets all entries for a registry; `false` when there was none.
    pub fn forget(&mut self, registry: &Registry) -> bool {
        let auths = self.content.get_mut("auths").and_then(Value::as_object_mut);
        let Some(auths) = auths else {
            return false;
        };
        let before = auths.len();
        auths.retain(|key, _| !means(key, registry));
        auths.len() < before
    }

    /// Writes the file anew, all or nothing. Only its owner may read it.
    pub fn write(&self) -> Result<(), CommandError> {
        self.try_write().map_err(|why| {
            CommandError::failure(format!("{} can't be written: {why}", self.path.display()))
        })
    }

    fn try_write(&self) -> io::Result<()> {
        // Of a link, what it leads to is written.
        let path = fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
        if let Some(directory) = path.parent() {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(directory)?;
        }
        let mut text = Vec::new();
        let tabs = serde_json::ser::PrettyFormatter::with_indent(b"\t");
        let mut json = serde_json::Serializer::with_formatter(&mut text, tabs);
        self.content.serialize(&mut json)?;
        text.push(b'\n');
        let new = path.with_extension(format!("json.{}", process::id()));
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&new)?;
        let written = file
            .write_all(&text)
            .and_then(|()| file.sync_all())
            .and_then(|()| fs::rename(&new, &path));
        if written.is_err() {
            // The secret isn't left lying about.
            let _ = fs::remove_file(&new);
        }
        written
    }
}

/// User name and password of an `auth` entry.
fn decoded(auth: &str) -> Option<(String, String)> {
    let bytes = STANDARD
        .decode(auth)
        .or_else(|_| STANDARD_NO_PAD.decode(auth))
        .ok()?;
    let text = String::from_utf8(bytes).ok()?;
    let (username, password) = text.split_once(':')?;
    // Docker ends some with zeros.
    let password = password.trim_end_matches('\0');
    Some((username.to_owned(), password.to_owned()))
}
