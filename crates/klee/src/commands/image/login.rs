//! `klee image login`.

use std::io::{self, IsTerminal, Read};

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use kleene_api::{RegistryCredentials, RegistryLogin};

use crate::commands::Session;
use crate::credentials::{Credentials, Kept, Login, Secret};
use crate::error::{CommandError, CommandResult, Exit};
use crate::prompt;
use crate::registries;

/// Log in to a registry
#[derive(Debug, Args)]
#[command(
    after_help = "The daemon asks the registry whether it takes the credentials; then they are kept where Docker
keeps them: by the credential helper that is set up in ~/.docker/config.json, or else in that file.
Pulls, pushes and builds send the daemon the credentials of the registries that they are about.

Examples:
  klee login
  klee login quay.io
  pass show quay.io | klee login -u me --password-stdin quay.io"
)]
pub struct Options {
    /// User name [default: asked for]
    #[arg(short, long, value_parser = NonEmptyStringValueParser::new())]
    username: Option<String>,

    /// Password or token [default: asked for]; others may see it on the command line
    #[arg(short, long, conflicts_with = "password_stdin", hide_env_values = true)]
    password: Option<Hidden>,

    /// Read the password from standard input
    #[arg(long, requires = "username")]
    password_stdin: bool,

    /// The registry, HOST[:PORT] [default: the daemon's]
    registry: Option<String>,
}

/// A text that is shown nowhere.
#[derive(Clone)]
struct Hidden(String);

impl From<&str> for Hidden {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl std::fmt::Debug for Hidden {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("…")
    }
}

/// Asks for what isn't given, has the daemon check it, and keeps it.
///
/// # Errors
/// When the registry doesn't take the credentials, or they can't be kept.
pub async fn run(session: &Session, options: Options) -> CommandResult {
    let registry = match &options.registry {
        Some(text) => registries::parse(text)?.as_str().to_owned(),
        None => String::new(),
    };
    let kept = Credentials::of_user()?;
    let asked = options.username.is_none() || options.password.is_none() && !options.password_stdin;
    if asked && !io::stdin().is_terminal() {
        return Err(CommandError::usage(
            "there is no terminal to ask for user name and password on",
        )
        .hint("give --username and --password-stdin"));
    }
    let client = session.client().await?;
    let address = client.address();
    if address.is_remote() && !address.is_tls() {
        let warning = "the password goes to the daemon unencrypted: use an address with https://";
        session.ui.warnings(&[warning.to_owned()]);
    }
    let username = match options.username {
        Some(username) => username,
        None => prompt::line("Username").await?,
    };
    let password = match (options.password, options.password_stdin) {
        (Some(Hidden(password)), _) => {
            let warning = "others may see a password on the command line: use --password-stdin";
            session.ui.warnings(&[warning.to_owned()]);
            password
        }
        (None, true) => from_stdin()?,
        (None, false) => prompt::secret("Password").await?,
    };
    let login = RegistryLogin {
        registry,
        credentials: RegistryCredentials {
            registry: String::new(),
            username: username.clone(),
            password: password.clone(),
            identity_token: String::new(),
        },
    };
    let answer = client.registry_login(&login).await?;
    let registry = registries::parse(&answer.registry)?;
    let (what, secret) = match answer.identity_token {
        Some(token) => ("token", Secret::IdentityToken(token)),
        None => ("password", Secret::Password(password)),
    };
    if let Kept::File(file) = kept.store(&registry, &Login { username, secret })? {
        let shown = file.display();
        session.ui.warnings(&[format!(
            "the {what} is kept in '{shown}' as it is; a credential helper would encrypt it"
        )]);
    }
    session.ui.line(&format!("Login succeeded at {registry}"))?;
    Ok(Exit::Success)
}

fn from_stdin() -> CommandResult<String> {
    let mut password = String::new();
    if let Err(error) = io::stdin().lock().read_to_string(&mut password) {
        return Err(CommandError::failure(format!(
            "can't read the password: {error}"
        )));
    }
    match password.trim_end_matches(['\r', '\n']) {
        "" => Err(CommandError::failure(
            "there is no password on standard input",
        )),
        password => Ok(password.to_owned()),
    }
}
