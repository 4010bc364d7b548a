//! Programs that keep secrets: `docker-credential-NAME` (docker-credential-helpers, "Development").

use std::env;
use std::time::Duration;

use kleene_command::{Argv, Runner};
use serde::{Deserialize, Serialize};

use super::{Login, Secret};
use crate::error::CommandError;

/// A helper may ask its user for a passphrase.
const TIME_LIMIT: Duration = Duration::from_secs(120);

/// A user of this name has a token instead of a password.
const TOKEN_USER: &str = "<token>";

/// What all helpers say when they know nothing.
const NOT_FOUND: &str = "credentials not found";

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    #[serde(rename = "ServerURL", default)]
    server_url: String,
    #[serde(default)]
    username: String,
    secret: String,
}

/// Helpers are the user's own programs, and need the user's session.
fn command(name: &str, verb: &str, stdin: impl Into<Vec<u8>>) -> Argv {
    let mut command = Argv::new(format!("docker-credential-{name}"))
        .arg(verb)
        .stdin(stdin)
        .output_limit(1 << 20)
        .time_limit(TIME_LIMIT);
    for (name, value) in env::vars_os() {
        command = command.env(name, value);
    }
    command
}

fn failed(name: &str, error: &kleene_command::CommandError) -> CommandError {
    let missing = matches!(error, kleene_command::CommandError::NotFound { .. });
    let failure = CommandError::failure(format!(
        "the helper '{name}', which keeps the logins of registries, failed: {error}"
    ));
    match missing {
        true => failure.hint("Docker's config.json names it in 'credsStore' or 'credHelpers'"),
        false => failure,
    }
}

/// The login that a helper has for a registry.
pub(super) fn get(
    runner: &dyn Runner,
    name: &str,
    key: &str,
) -> Result<Option<Login>, CommandError> {
    let output = match runner.run(&command(name, "get", key)) {
        Ok(output) => output,
        Err(error) if error.stderr().is_some_and(|text| text.contains(NOT_FOUND)) => {
            return Ok(None);
        }
        Err(error) => return Err(failed(name, &error)),
    };
    let entry: Entry = serde_json::from_slice(&output.stdout).map_err(|_| {
        CommandError::failure(format!("the helper '{name}' answers something strange"))
    })?;
    Ok(Some(match entry.username.as_str() {
        TOKEN_USER => Login {
            username: String::new(),
            secret: Secret::IdentityToken(entry.secret),
        },
        _ => Login {
            username: entry.username,
            secret: Secret::Password(entry.secret),
        },
    }))
}

/// Gives a login to a helper.
pub(super) fn store(
    runner: &dyn Runner,
    name: &str,
    key: &str,
    login: &Login,
) -> Result<(), CommandError> {
    let (username, secret) = match &login.secret {
        Secret::Password(password) => (login.username.as_str(), password),
        Secret::IdentityToken(token) | Secret::RegistryToken(token) => (TOKEN_USER, token),
    };
    let entry = Entry {
        server_url: key.to_owned(),
        username: username.to_owned(),
        secret: secret.clone(),
    };
    let json = serde_json::to_vec(&entry)
        .map_err(|error| CommandError::failure(format!("the login can't be written: {error}")))?;
    let stored = runner.run(&command(name, "store", json));
    stored.map(drop).map_err(|error| failed(name, &error))
}

/// Makes a helper forget a login.
pub(super) fn erase(runner: &dyn Runner, name: &str, key: &str) -> Result<(), CommandError> {
    let erased = runner.run(&command(name, "erase", key));
    erased.map(drop).map_err(|error| failed(name, &error))
}
