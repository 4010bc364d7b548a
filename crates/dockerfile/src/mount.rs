//! `RUN --mount=…` (Dockerfile reference, "RUN --mount").

use kleene_types::ByteSize;

use crate::error::{closest, did_you_mean};
use crate::expand::ExpandError;
use crate::word::Word;

/// Why a mount is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MountError {
    /// No such type.
    #[error("--mount: there is no type '{0}': the types are bind, cache, tmpfs and secret")]
    Type(String),
    /// Docker has it, Kleene has not.
    #[error("--mount: type 'ssh' is not supported: use a secret mount for keys")]
    Ssh,
    /// No such option.
    #[error("--mount: there is no option '{key}'{}", did_you_mean(*suggestion, ""))]
    Key {
        /// The option.
        key: String,
        /// The option that the author may have meant.
        suggestion: Option<&'static str>,
    },
    /// The option belongs to another type.
    #[error("--mount: option '{key}' doesn't go with type '{kind}'")]
    KeyOfOther {
        /// The option.
        key: String,
        /// The mount's type.
        kind: &'static str,
    },
    /// An option stands twice.
    #[error("--mount: option '{0}' is given twice")]
    Twice(String),
    /// An option that needs a value has none.
    #[error("--mount: option '{0}' needs a value")]
    NoValue(String),
    /// An option's value is none of those it may have.
    #[error("--mount: '{key}={value}': {expected}")]
    Value {
        /// The option.
        key: &'static str,
        /// Its value.
        value: String,
        /// What is expected.
        expected: &'static str,
    },
    /// A mount without its place.
    #[error("--mount: type '{0}' needs an option 'target'")]
    Target(&'static str),
    /// A secret without a name.
    #[error("--mount: type 'secret' needs an option 'id' or 'target'")]
    SecretId,
    /// A value can't be expanded.
    #[error("--mount: {0}")]
    Expand(#[from] ExpandError),
}

/// Whether several builds may use a cache at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Sharing {
    /// They may.
    #[default]
    Shared,
    /// Each has its own.
    Private,
    /// They wait for each other.
    Locked,
}

/// A mount for the time of one RUN. Paths are as written, which may be relative to the working
/// directory.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum RunMount {
    /// Files of the build context, a stage or an image.
    Bind(BindMount),
    /// A directory that outlives the build.
    Cache(CacheMount),
    /// A file system in memory.
    Tmpfs(TmpfsMount),
    /// A file or variable that the user hands to the build.
    Secret(SecretMount),
}

/// `type=bind`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct BindMount {
    /// Where it is mounted.
    pub target: String,
    /// What is mounted, relative to the root of `from`; `/` if it isn't given.
    pub source: Option<String>,
    /// A stage or image; the build context if it isn't given.
    pub from: Option<String>,
    /// Whether writing is permitted; what is written is thrown away.
    pub writable: bool,
}

/// `type=cache`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CacheMount {
    /// Where it is mounted.
    pub target: String,
    /// The cache's name; the target if it isn't given.
    pub id: Option<String>,
    /// The directory of `from` that a new cache begins with.
    pub source: Option<String>,
    /// A stage or image that a new cache begins with.
    pub from: Option<String>,
    /// What builds at the same time do.
    pub sharing: Sharing,
    /// Whether it is read-only.
    pub read_only: bool,
    /// Permissions of a new cache's directory; 0755 if they aren't given.
    pub mode: Option<u32>,
    /// Owner of a new cache's directory; 0 if it isn't given.
    pub uid: Option<u32>,
    /// Group of a new cache's directory; 0 if it isn't given.
    pub gid: Option<u32>,
}

/// `type=tmpfs`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TmpfsMount {
    /// Where it is mounted.
    pub target: String,
    /// Bytes it may hold.
    pub size: Option<ByteSize>,
}

/// `type=secret`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SecretMount {
    /// Its name: the option `id`, or the target's last part.
    pub id: String,
    /// The file; `None` if it is only wanted as a variable.
    pub target: Option<String>,
    /// The variable that gets its value.
    pub env: Option<String>,
    /// Whether a build without it fails.
    pub required: bool,
    /// Permissions of the file; 0400 if they aren't given.
    pub mode: Option<u32>,
    /// Owner of the file; 0 if it isn't given.
    pub uid: Option<u32>,
    /// Group of the file; 0 if it isn't given.
    pub gid: Option<u32>,
}

/// A mount's options as written, names brought to one form (`dst` to `target` and so on). Values may
/// hold variables; [`Self::resolve`] gives the mount. If none does, it is known that it can.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct MountFlag {
    options: Vec<(&'static str, Option<Word>)>,
}

/// Options: their names in one form, other forms, and the types that have them (b, c, t, s).
const OPTIONS: [(&str, &[&str], &str); 14] = [
    ("type", &[], "bcts"),
    ("target", &["dst", "destination"], "bcts"),
    ("source", &["src"], "bc"),
    ("from", &[], "bc"),
    ("id", &[], "cs"),
    ("readonly", &["ro"], "bc"),
    ("readwrite", &["rw"], "bc"),
    ("sharing", &[], "c"),
    ("size", &[], "t"),
    ("required", &[], "s"),
    ("env", &[], "s"),
    ("mode", &[], "cs"),
    ("uid", &[], "cs"),
    ("gid", &[], "cs"),
];

/// Options that may stand without a value.
const BARE: [&str; 4] = ["readonly", "readwrite", "required", "env"];

fn option(key: &str) -> Result<&'static str, MountError> {
    let same = |(name, others, _): &(&'static str, &[&str], &str)| {
        (*name == key || others.contains(&key)).then_some(*name)
    };
    OPTIONS
        .iter()
        .find_map(same)
        .ok_or_else(|| MountError::Key {
            key: key.to_owned(),
            suggestion: closest(key, OPTIONS.iter().map(|(name, ..)| *name)),
        })
}

impl MountFlag {
    /// The options, their values as written, in the order of their names.
    pub fn options(&self) -> &[(&'static str, Option<Word>)] {
        &self.options
    }

    /// Takes the flag's parts, which commas separate.
    pub(crate) fn new(
        fields: impl IntoIterator<Item = (String, Option<Word>)>,
    ) -> Result<Self, MountError> {
        let mut options: Vec<(&'static str, Option<Word>)> = Vec::new();
        for (key, value) in fields {
            let name = option(&key)?;
            if value.is_none() && !BARE.contains(&name) {
                return Err(MountError::NoValue(key));
            }
            if options.iter().any(|(known, _)| *known == name) {
                return Err(MountError::Twice(key));
            }
            options.push((name, value));
        }
        options.sort_by_key(|(name, _)| *name);
        let flag = Self { options };
        let variable = |(_, value): &(_, Option<Word>)| {
            value
                .as_ref()
                .is_some_and(|value| value.raw().contains('$'))
        };
        if !flag.options.iter().any(variable) {
            flag.resolve(&|_| None)?;
        }
        Ok(flag)
    }

    /// The stage or image that the mount's files come from, if it is given.
    pub fn from(&self) -> Option<&Word> {
        let from = self.options.iter().find(|(name, _)| *name == "from");
        from.and_then(|(_, value)| value.as_ref())
    }

    /// The mount with its variables expanded.
    ///
    /// # Errors
    /// An option's value is none of those it may have, or it doesn't go with the type.
    pub fn resolve(&self, scope: &dyn Fn(&str) -> Option<String>) -> Result<RunMount, MountError> {
        let mut values = Vec::new();
        for (name, word) in &self.options {
            let value = word.as_ref().map(|word| word.expand(scope)).transpose()?;
            values.push((*name, value));
        }
        Values(values).mount()
    }
}

/// Options with their values.
struct Values(Vec<(&'static str, Option<String>)>);

impl Values {
    fn text(&self, key: &str) -> Option<String> {
        let found = self.0.iter().find(|(name, _)| *name == key);
        found.and_then(|(_, value)| value.clone())
    }

    fn given(&self, key: &str) -> bool {
        self.0.iter().any(|(name, _)| *name == key)
    }

    fn mount(&self) -> Result<RunMount, MountError> {
        let kind = self.text("type").unwrap_or_else(|| "bind".to_owned());
        match kind.as_str() {
            "bind" => self.bind(),
            "cache" => self.cache(),
            "tmpfs" => self.tmpfs(),
            "secret" => self.secret(),
            "ssh" => Err(MountError::Ssh),
            _ => Err(MountError::Type(kind)),
        }
    }

    /// Refuses the options of other types.
    fn only(&self, kind: &'static str) -> Result<(), MountError> {
        let letter = kind.get(..1).unwrap_or_default();
        let foreign = |key: &str| {
            !OPTIONS
                .iter()
                .any(|(name, _, kinds)| *name == key && kinds.contains(letter))
        };
        match self.0.iter().find(|(name, _)| foreign(name)) {
            Some((name, _)) => Err(MountError::KeyOfOther {
                key: (*name).to_owned(),
                kind,
            }),
            None => Ok(()),
        }
    }

    fn target(&self, kind: &'static str) -> Result<String, MountError> {
        self.only(kind)?;
        let target = self.text("target").filter(|target| !target.is_empty());
        target.ok_or(MountError::Target(kind))
    }

    fn bind(&self) -> Result<RunMount, MountError> {
        Ok(RunMount::Bind(BindMount {
            target: self.target("bind")?,
            source: self.text("source"),
            from: self.text("from"),
            writable: self.writable(false)?,
        }))
    }

    fn cache(&self) -> Result<RunMount, MountError> {
        let sharing = match self.text("sharing").as_deref() {
            None | Some("shared") => Sharing::Shared,
            Some("private") => Sharing::Private,
            Some("locked") => Sharing::Locked,
            Some(value) => {
                return Err(MountError::Value {
                    key: "sharing",
                    value: value.to_owned(),
                    expected: "it is shared, private or locked",
                });
            }
        };
        Ok(RunMount::Cache(CacheMount {
            target: self.target("cache")?,
            id: self.text("id"),
            source: self.text("source"),
            from: self.text("from"),
            sharing,
            read_only: !self.writable(true)?,
            mode: self.number("mode", 8)?,
            uid: self.number("uid", 10)?,
            gid: self.number("gid", 10)?,
        }))
    }

    fn tmpfs(&self) -> Result<RunMount, MountError> {
        let size = self.text("size").map(|text| {
            text.parse().map_err(|_| MountError::Value {
                key: "size",
                value: text,
                expected: "it is a number with an optional unit b, k, m, g, t or p",
            })
        });
        Ok(RunMount::Tmpfs(TmpfsMount {
            target: self.target("tmpfs")?,
            size: size.transpose()?,
        }))
    }

    fn secret(&self) -> Result<RunMount, MountError> {
        self.only("secret")?;
        let given = self.text("target").filter(|target| !target.is_empty());
        let last = |path: &String| path.rsplit('/').next().unwrap_or_default().to_owned();
        let id = self
            .text("id")
            .or_else(|| given.as_ref().map(last))
            .filter(|id| !id.is_empty())
            .ok_or(MountError::SecretId)?;
        let env = match self.given("env") {
            true => Some(self.text("env").unwrap_or_else(|| id.clone())),
            false => None,
        };
        let target = match (given, &env) {
            (None, None) => Some(format!("/run/secrets/{id}")),
            (given, _) => given,
        };
        Ok(RunMount::Secret(SecretMount {
            target,
            env,
            required: self.flag("required")?.unwrap_or(false),
            mode: self.number("mode", 8)?,
            uid: self.number("uid", 10)?,
            gid: self.number("gid", 10)?,
            id,
        }))
    }

    fn writable(&self, default: bool) -> Result<bool, MountError> {
        let read_only = self.flag("readonly")?;
        let writable = self.flag("readwrite")?;
        Ok(writable
            .or(read_only.map(|value| !value))
            .unwrap_or(default))
    }

    /// The value of a flag; a bare one is set.
    fn flag(&self, key: &'static str) -> Result<Option<bool>, MountError> {
        if !self.given(key) {
            return Ok(None);
        }
        match self.text(key).as_deref() {
            None | Some("true" | "1") => Ok(Some(true)),
            Some("false" | "0") => Ok(Some(false)),
            Some(value) => Err(MountError::Value {
                key,
                value: value.to_owned(),
                expected: "it is true or false",
            }),
        }
    }

    fn number(&self, key: &'static str, radix: u32) -> Result<Option<u32>, MountError> {
        let Some(value) = self.text(key) else {
            return Ok(None);
        };
        let number = u32::from_str_radix(&value, radix).ok();
        let number = number.filter(|number| radix != 8 || *number <= 0o7777);
        number.map(Some).ok_or(MountError::Value {
            key,
            value,
            expected: match radix {
                8 => "it is permissions in octal digits, as in 0755",
                _ => "it is a number",
            },
        })
    }
}
