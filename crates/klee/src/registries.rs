//! Registries: which one a reference names, and pulling images from there.

use kleene_api::{ImagePullConfig, RegistryCredentials};
use kleene_client::Client;
use kleene_types::Registry;

use crate::credentials::{Credentials, Secret};
use crate::error::{CommandError, CommandResult, names};
use crate::follow;
use crate::interrupt::unless_interrupted;
use crate::progress::Shown;
use crate::ui::Ui;

/// The registry of references that name none.
pub const DEFAULT: &str = "docker.io";

/// The registry that a reference names: its first part, if that has a `.` or `:` or is `localhost`
/// and something follows.
pub fn named(reference: &str) -> Option<&str> {
    let (first, _) = reference.split_once('/')?;
    (first.contains(['.', ':']) || first == "localhost").then_some(first)
}

/// The registry that a reference is asked for at.
pub fn of(reference: &str) -> &str {
    named(reference).unwrap_or(DEFAULT)
}

/// Whether a reference names the snapshot of a build, which no registry has.
pub fn names_snapshot(reference: &str) -> bool {
    let behind = reference.rsplit_once('@').map(|(_, behind)| behind);
    // A digest has its algorithm in front.
    behind.is_some_and(|behind| !behind.contains(':'))
}

/// A registry by its name.
///
/// # Errors
/// When it is none.
pub fn parse(text: &str) -> CommandResult<Registry> {
    // Where other tools take URLs.
    let name = text.trim_start_matches("https://").trim_end_matches('/');
    let parsed = name.parse::<Registry>();
    parsed
        .map_err(|error| CommandError::usage(format!("'{text}' is no registry: {}", error.reason)))
}

/// Who asks at a registry, if the user has logged in there. What is wrong with that is told, but
/// doesn't keep anybody from asking without it.
pub fn credentials(ui: Ui, registry: &str) -> Option<RegistryCredentials> {
    let registry = registry.parse::<Registry>().ok()?;
    // Who has no home directory has no logins.
    let logins = Credentials::of_user().ok()?;
    let login = match logins.lookup(&registry) {
        Ok(login) => login?,
        Err(error) => {
            let warning = format!("asking {registry} without a login: {}", error.message);
            ui.warnings(&[warning]);
            return None;
        }
    };
    let (password, identity_token) = match login.secret {
        Secret::Password(password) => (password, String::new()),
        Secret::IdentityToken(token) => (String::new(), token),
        Secret::RegistryToken(_) => {
            let warning = format!("the login at {registry} is of a kind that can't be used");
            ui.warnings(&[warning]);
            return None;
        }
    };
    Some(RegistryCredentials {
        registry: registry.to_string(),
        username: login.username,
        password,
        identity_token,
    })
}

/// Pulls an image; the answer is what the daemon says about it and its id.
///
/// # Errors
/// When it can't be pulled.
pub async fn pull(
    ui: Ui,
    client: &Client,
    reference: &str,
    platform: Option<&str>,
    tag: Option<&str>,
    shown: Shown,
) -> CommandResult<(String, String)> {
    let registry = of(reference);
    let credentials = credentials(ui, registry);
    let anonymous = credentials.is_none();
    let config = ImagePullConfig {
        reference: reference.to_owned(),
        platform: platform.map(str::to_owned),
        tag: tag.map(str::to_owned),
        credentials,
    };
    let work = async {
        let work = client.image_pull(&config).await?;
        follow::to_the_end(work, shown).await
    };
    match unless_interrupted(work).await {
        Ok(closing) => Ok((closing.message.message, closing.message.data)),
        Err(error) => Err(failed("pull", reference, anonymous, error)),
    }
}

/// The error of a pull or push: names the reference if the daemon doesn't, with the advice to log in
/// if that nobody has seems to be why.
pub fn failed(what: &str, reference: &str, anonymous: bool, error: CommandError) -> CommandError {
    const DENIED: [&str; 3] = ["unauthorized", "authentication required", "denied"];
    let message = error.message.to_lowercase();
    let denied = DENIED.iter().any(|word| message.contains(word));
    let error = match names(&error.message, reference) {
        true => error,
        false => error.within(&format!("could not {what} '{reference}'")),
    };
    match anonymous && denied {
        true => error.hint(format!("log in with `klee login {}`", of(reference))),
        false => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registries_of_references() {
        for (reference, registry) in [
            ("nginx", "docker.io"),
            ("nginx:1.26", "docker.io"),
            ("team/app", "docker.io"),
            ("quay.io/team/app:1", "quay.io"),
            ("localhost/app", "localhost"),
            ("registry:5000/app", "registry:5000"),
            ("[::1]:5000/app", "[::1]:5000"),
        ] {
            assert_eq!(of(reference), registry, "{reference}");
        }
        assert_eq!(named("nginx:1.26"), None);
    }

    #[test]
    fn snapshots_are_no_digests() {
        assert!(names_snapshot("app@0a1b"));
        assert!(names_snapshot("quay.io/app:1@image"));
        assert!(!names_snapshot("quay.io/app"));
        assert!(!names_snapshot("quay.io/app@sha256:0a1b"));
    }
}
