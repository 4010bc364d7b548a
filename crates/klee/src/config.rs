//! Settings: flags beat environment variables, and those beat the configuration file.

use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use kleene_client::{HostAddress, TlsOptions};
use serde::Deserialize;

use crate::error::CommandError;
use crate::ui::Theme;

/// Configuration file of the whole system.
#[cfg(not(target_os = "linux"))]
const SYSTEM_FILE: &str = "/usr/local/etc/klee/klee_config.yaml";
/// Configuration file of the whole system.
#[cfg(target_os = "linux")]
const SYSTEM_FILE: &str = "/etc/klee/klee_config.yaml";

/// Options of klee itself, before or behind the command's name. Only klee's own help shows them.
#[derive(Debug, Clone, Default, Args)]
pub struct GlobalOptions {
    /// Configuration file [env: KLEE_CONFIG]
    #[arg(global = true, long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// How output looks [env: KLEE_THEME] [default: fancy]
    #[arg(global = true, long, value_enum)]
    pub theme: Option<Theme>,

    /// Address of the daemon: http[s]:///path/to.sock or http[s]://IP[:PORT] [env: KLEE_HOST]
    /// [default: http:///var/run/kleened.sock]
    #[arg(global = true, long, value_name = "ADDRESS")]
    pub host: Option<String>,

    /// Verify the daemon's certificate [env: KLEE_TLS_VERIFY]
    #[arg(global = true, long, overrides_with = "no_tlsverify")]
    pub tlsverify: bool,

    /// Don't verify the daemon's certificate
    #[arg(global = true, long, hide = true, overrides_with = "tlsverify")]
    pub no_tlsverify: bool,

    /// Certificate that klee shows the daemon, PEM; may hold the key too [env: KLEE_TLS_CERT]
    #[arg(global = true, long, value_name = "FILE")]
    pub tlscert: Option<PathBuf>,

    /// Key of that certificate, PEM [env: KLEE_TLS_KEY]
    #[arg(global = true, long, value_name = "FILE")]
    pub tlskey: Option<PathBuf>,

    /// Trust only certificates signed by this authority, PEM; implies --tlsverify
    /// [env: KLEE_TLS_CACERT]
    #[arg(global = true, long, value_name = "FILE")]
    pub tlscacert: Option<PathBuf>,
}

/// What flags, environment and file come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The daemon.
    pub host: HostAddress,
    /// How an encrypted connection is made.
    pub tls: TlsOptions,
    /// How output looks.
    pub theme: Theme,
}

/// The configuration file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct File {
    host: Option<String>,
    theme: Option<String>,
    tlsverify: Option<bool>,
    tlscert: Option<PathBuf>,
    tlskey: Option<PathBuf>,
    tlscacert: Option<PathBuf>,
    /// Which file it is, for messages.
    #[serde(skip)]
    origin: Option<Origin>,
}

/// A file that was read.
#[derive(Debug)]
struct Origin {
    path: PathBuf,
    text: String,
}

impl File {
    /// An error with the file and line that the value of a key came from.
    fn at(&self, key: &str, error: CommandError) -> CommandError {
        let Some(Origin { path, text }) = &self.origin else {
            return error;
        };
        let names = |line: &str| {
            let rest = line.trim_start().strip_prefix(key);
            rest.is_some_and(|rest| rest.trim_start().starts_with(':'))
        };
        match text.lines().position(names) {
            Some(index) => error.within(&format!("{}:{}", path.display(), index + 1)),
            None => error.within(&path.display().to_string()),
        }
    }
}

/// Gathers the settings.
///
/// # Errors
/// When the file can't be read or is wrong, or a value is.
pub fn load(options: &GlobalOptions) -> Result<Settings, CommandError> {
    let file = match options
        .config
        .clone()
        .or(variable("KLEE_CONFIG").map(PathBuf::from))
    {
        Some(path) => match read(&path)? {
            Some(file) => file,
            None => {
                let path = path.display();
                return Err(CommandError::usage(format!(
                    "the configuration file '{path}' doesn't exist"
                )));
            }
        },
        None => first_of(&default_files())?,
    };
    merge(options, file, variable)
}

/// The value of an environment variable; an empty one counts as none.
fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

fn default_files() -> Vec<PathBuf> {
    let mut files = vec![PathBuf::from("klee_config.yaml")];
    if let Some(home) = env::var_os("HOME") {
        files.push(Path::new(&home).join(".klee/klee_config.yaml"));
    }
    files.push(PathBuf::from(SYSTEM_FILE));
    files
}

fn first_of(files: &[PathBuf]) -> Result<File, CommandError> {
    for path in files {
        if let Some(file) = read(path)? {
            return Ok(file);
        }
    }
    Ok(File::default())
}

/// The file's content; `None` when it doesn't exist.
fn read(path: &Path) -> Result<Option<File>, CommandError> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            let path = path.display();
            return Err(CommandError::failure(format!(
                "can't read the configuration file '{path}': {error}"
            )));
        }
    };
    match parse(&text) {
        Ok(file) => {
            let path = path.to_owned();
            let origin = Some(Origin { path, text });
            Ok(Some(File { origin, ..file }))
        }
        Err(what) => Err(CommandError::failure(format!("{}:{what}", path.display()))),
    }
}

/// The error begins with the line, and names the key.
fn parse(text: &str) -> Result<File, String> {
    serde_saphyr::from_str::<Option<File>>(text)
        .map(Option::unwrap_or_default)
        .map_err(|error| {
            let line = error.location().map_or(0, |location| location.line());
            let wanted = usize::try_from(line).unwrap_or(0).checked_sub(1);
            let quoted = wanted
                .and_then(|index| text.lines().nth(index))
                .unwrap_or_default();
            let error = error.without_snippet();
            format!("{line}: {error}: '{}'", quoted.trim())
        })
}

/// Picks each value by precedence.
fn merge(
    options: &GlobalOptions,
    file: File,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Settings, CommandError> {
    let path = |flag: &Option<PathBuf>, name: &str, file: &Option<PathBuf>| {
        let variable = variable(name).map(PathBuf::from);
        flag.clone().or(variable).or(file.clone())
    };
    let parsed = |text: &str| {
        text.parse::<HostAddress>()
            .map_err(|error| CommandError::usage(format!("{error}")))
    };
    let host = match (options.host.clone().or(variable("KLEE_HOST")), &file.host) {
        (Some(given), _) => parsed(&given)?,
        (None, Some(host)) => parsed(host).map_err(|error| file.at("host", error))?,
        (None, None) => HostAddress::default_socket(),
    };
    let theme = match (options.theme, variable("KLEE_THEME"), &file.theme) {
        (Some(theme), ..) => theme,
        (None, Some(name), _) => theme(&name)?,
        (None, None, Some(name)) => theme(name).map_err(|error| file.at("theme", error))?,
        (None, None, None) => Theme::default(),
    };
    let verify = match variable("KLEE_TLS_VERIFY") {
        _ if options.tlsverify => true,
        _ if options.no_tlsverify => false,
        Some(text) => boolean(&text)?,
        None => file.tlsverify.unwrap_or(false),
    };
    let tls = TlsOptions {
        verify,
        cert: path(&options.tlscert, "KLEE_TLS_CERT", &file.tlscert),
        key: path(&options.tlskey, "KLEE_TLS_KEY", &file.tlskey),
        cacert: path(&options.tlscacert, "KLEE_TLS_CACERT", &file.tlscacert),
    };
    Ok(Settings { host, tls, theme })
}

fn theme(name: &str) -> Result<Theme, CommandError> {
    Theme::from_str(name, false).map_err(|_| {
        CommandError::usage(format!(
            "unknown theme '{name}': there are 'fancy' and 'simple'"
        ))
    })
}

fn boolean(text: &str) -> Result<bool, CommandError> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" => Ok(true),
        "false" | "0" | "no" => Ok(false),
        _ => Err(CommandError::usage(format!(
            "KLEE_TLS_VERIFY is '{text}': it can be 'true' or 'false'"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merged(
        options: &GlobalOptions,
        file: &str,
        variables: &[(&str, &str)],
    ) -> Result<Settings, CommandError> {
        merge(options, parse(file).unwrap(), |name| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn flags_beat_environment_and_that_the_file() {
        const FILE: &str = "host: http:///file.sock\ntheme: simple\ntlsverify: true\ntlskey: /f\n";
        let none = GlobalOptions::default();
        let settings = merged(&none, FILE, &[]).unwrap();
        assert_eq!(settings.host.to_string(), "http:///file.sock");
        assert_eq!(settings.theme, Theme::Simple);
        assert!(settings.tls.verify);

        let variables = [
            ("KLEE_HOST", "http:///env.sock"),
            ("KLEE_THEME", "fancy"),
            ("KLEE_TLS_VERIFY", "false"),
            ("KLEE_TLS_CERT", "/e"),
        ];
        let settings = merged(&none, FILE, &variables).unwrap();
        assert_eq!(settings.host.to_string(), "http:///env.sock");
        assert_eq!(settings.theme, Theme::Fancy);
        assert!(!settings.tls.verify);
        assert_eq!(settings.tls.cert, Some("/e".into()));
        assert_eq!(settings.tls.key, Some("/f".into()));

        let flags = GlobalOptions {
            host: Some("http:///flag.sock".to_owned()),
            theme: Some(Theme::Simple),
            tlsverify: true,
            tlscert: Some("/c".into()),
            ..GlobalOptions::default()
        };
        let settings = merged(&flags, FILE, &variables).unwrap();
        assert_eq!(settings.host.to_string(), "http:///flag.sock");
        assert_eq!(settings.theme, Theme::Simple);
        assert!(settings.tls.verify);
        assert_eq!(settings.tls.cert, Some("/c".into()));
    }

    #[test]
    fn without_anything_the_default_socket_is_used() {
        let settings = merged(&GlobalOptions::default(), "", &[]).unwrap();
        assert_eq!(settings.host.to_string(), "http:///var/run/kleened.sock");
        assert_eq!(settings.tls, TlsOptions::default());
    }

    #[test]
    fn wrong_files_say_where() {
        let error = parse("host: a\nhots: b\n").unwrap_err();
        assert!(
            error.starts_with("2: ") && error.contains("unknown field `hots`"),
            "{error}"
        );
        let error = parse("# x\ntlsverify: maybe\n").unwrap_err();
        assert!(
            error.starts_with("2: ") && error.contains("tlsverify"),
            "{error}"
        );
        assert!(parse("host: [a\n").unwrap_err().starts_with("1: "));
        assert!(parse("# nothing\n").is_ok());
    }

    #[test]
    fn wrong_values_are_refused() {
        let none = GlobalOptions::default();
        for (name, value) in [
            ("KLEE_HOST", "localhost"),
            ("KLEE_THEME", "pink"),
            ("KLEE_TLS_VERIFY", "perhaps"),
        ] {
            assert!(merged(&none, "", &[(name, value)]).is_err(), "{name}");
        }
    }
}
