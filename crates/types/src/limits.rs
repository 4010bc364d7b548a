//! What a container may use of the machine.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{ByteSize, Span};

/// What all processes of a container may use together; what is `None` has no limit.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Memory.
    pub memory: Option<ByteSize>,
    /// Memory and swap space together; needs `memory`.
    pub memory_swap: Option<SwapLimit>,
    /// Time of processors.
    pub cpus: Option<Cpus>,
    /// The processors that may be used.
    pub cpuset: Option<CpuSet>,
    /// Processes and threads.
    pub pids: Option<u64>,
    /// Share of input and output where it is scarce.
    pub io_weight: Option<IoWeight>,
}

impl Limits {
    /// Whether nothing is limited.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Everything that is limited for a container; what is `None` has no limit, or the default.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Resources {
    /// Of all of its processes together.
    pub limits: Limits,
    /// Of each process.
    pub ulimits: Vec<Ulimit>,
    /// Size of `/dev/shm`.
    pub shm_size: Option<ByteSize>,
    /// What its root may occupy.
    pub storage_quota: Option<ByteSize>,
    /// What the output log of each execution instance may occupy.
    pub log_limit: Option<ByteSize>,
}

/// Memory and swap space together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SwapLimit {
    /// At most this much; as much as the memory alone means no swap space.
    Total(ByteSize),
    /// As much swap space as there is.
    Unlimited,
}

/// An amount of processor time a second, in thousandths of one processor; at least 10.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Cpus(u32);

/// A set of processors: sorted ranges that don't touch, at least one. Its text is a list of numbers
/// and ranges (`0-3,7`), as in cpuset(7).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CpuSet(Vec<(u32, u32)>);

/// Share of input and output relative to others, from 1 to 10000; 100 is everybody's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "u64", into = "u64")]
pub struct IoWeight(u16);

/// A limit of each single process: see getrlimit(2). Its text is `NAME=SOFT[:HARD]`; both are numbers
/// or `unlimited`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Ulimit {
    /// What is limited.
    pub resource: Resource,
    /// What is enforced; `None`: no limit.
    pub soft: Option<u64>,
    /// What the process may raise it to.
    pub hard: Option<u64>,
}

/// A health check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthCheck {
    /// Program and arguments, run in the container; exit code 0 means healthy. Never empty.
    pub cmd: Vec<String>,
    /// Time between two checks.
    pub interval: Span,
    /// How long a check may take.
    pub timeout: Span,
    /// Time after the start in which failures don't count.
    pub start_period: Span,
    /// Failures in a row that make the container unhealthy; at least 1.
    pub retries: u32,
}

impl HealthCheck {
    /// Docker's defaults, which people rely on.
    pub const INTERVAL: Span = Span::from_millis(30_000);
    /// As above.
    pub const TIMEOUT: Span = Span::from_millis(30_000);
    /// As above.
    pub const START_PERIOD: Span = Span::from_millis(0);
    /// As above.
    pub const RETRIES: u32 = 3;
}

/// Why a text is not a limit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LimitError {
    /// Not an amount of processor time.
    #[error("invalid number of processors '{0}': give a number of at least 0.01, as in 1.5")]
    Cpus(String),
    /// Not a set of processors.
    #[error("invalid set of processors '{0}': give numbers and ranges, as in 0-3,7")]
    CpuSet(String),
    /// Not a weight.
    #[error("invalid weight '{0}': give a number from 1 to 10000; 100 is everybody's")]
    IoWeight(String),
    /// Not a limit of processes.
    #[error("invalid ulimit '{0}': the form is NAME=SOFT[:HARD] with numbers or 'unlimited'")]
    Ulimit(String),
    /// The soft limit is above the hard one.
    #[error("invalid ulimit '{0}': the soft limit is above the hard one")]
    SoftAboveHard(String),
    /// No such resource.
    #[error("unknown ulimit '{0}': use one of {names}", names = Resource::names())]
    Resource(String),
}

impl Cpus {
    /// Thousandths of one processor.
    pub const fn thousandths(self) -> u32 {
        self.0
    }
}

impl TryFrom<u32> for Cpus {
    type Error = LimitError;

    fn try_from(thousandths: u32) -> Result<Self, LimitError> {
        match thousandths {
            10..=1_000_000 => Ok(Self(thousandths)),
            _ => Err(LimitError::Cpus(format!("{thousandths}/1000"))),
        }
    }
}

impl From<Cpus> for u32 {
    fn from(cpus: Cpus) -> Self {
        cpus.0
    }
}

impl FromStr for Cpus {
    type Err = LimitError;

    fn from_str(text: &str) -> Result<Self, LimitError> {
        let error = || LimitError::Cpus(text.to_owned());
        let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        if !digits(whole) || !digits(fraction) {
            return Err(error());
        }
        let whole: u32 = whole.parse().map_err(|_| error())?;
        let fraction: String = fraction.chars().chain("000".chars()).take(3).collect();
        let fraction: u32 = fraction.parse().map_err(|_| error())?;
        let thousandths = whole
            .checked_mul(1000)
            .and_then(|w| w.checked_add(fraction));
        Self::try_from(thousandths.ok_or_else(error)?).map_err(|_| error())
    }
}

impl fmt::Display for Cpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, fraction) = (self.0 / 1000, self.0 % 1000);
        let text = format!("{whole}.{fraction:03}");
        f.write_str(text.trim_end_matches('0').trim_end_matches('.'))
    }
}

impl CpuSet {
    /// The highest processor of the set.
    pub fn last(&self) -> u32 {
        self.0.last().map_or(0, |(_, last)| *last)
    }

    /// Every processor of the set.
    pub fn iter(&self) -> impl Iterator<Item = u32> {
        self.0.iter().flat_map(|(first, last)| *first..=*last)
    }
}

impl FromStr for CpuSet {
    type Err = LimitError;

    fn from_str(text: &str) -> Result<Self, LimitError> {
        let error = || LimitError::CpuSet(text.to_owned());
        let number = |text: &str| match text.bytes().all(|b| b.is_ascii_digit()) {
            // More processors than any machine has.
            true => text.parse::<u32>().ok().filter(|number| *number < 65_536),
            false => None,
        };
        let mut ranges = Vec::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            match (number(first), number(last)) {
                (Some(first), Some(last)) if first <= last => ranges.push((first, last)),
                _ => return Err(error()),
            }
        }
        ranges.sort_unstable();
        let mut merged: Vec<(u32, u32)> = Vec::new();
        for (first, last) in ranges {
            match merged.last_mut() {
                Some((_, end)) if first <= *end + 1 => *end = last.max(*end),
                _ => merged.push((first, last)),
            }
        }
        Ok(Self(merged))
    }
}

impl TryFrom<String> for CpuSet {
    type Error = LimitError;

    fn try_from(text: String) -> Result<Self, LimitError> {
        text.parse()
    }
}

impl From<CpuSet> for String {
    fn from(set: CpuSet) -> Self {
        set.to_string()
    }
}

impl fmt::Display for CpuSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (first, last)) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            match first == last {
                true => write!(f, "{comma}{first}")?,
                false => write!(f, "{comma}{first}-{last}")?,
            }
        }
        Ok(())
    }
}

impl IoWeight {
    /// From 1 to 10000.
    pub const fn get(self) -> u16 {
        self.0
    }
}

impl TryFrom<u64> for IoWeight {
    type Error = LimitError;

    fn try_from(weight: u64) -> Result<Self, LimitError> {
        match u16::try_from(weight) {
            Ok(weight @ 1..=10_000) => Ok(Self(weight)),
            _ => Err(LimitError::IoWeight(weight.to_string())),
        }
    }
}

impl From<IoWeight> for u64 {
    fn from(weight: IoWeight) -> Self {
        weight.0.into()
    }
}

/// Defines the resources with their names.
macro_rules! resources {
    ($($(#[$doc:meta])* $variant:ident $name:literal,)+) => {
        /// What a process's limit is about: see getrlimit(2).
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Resource {
            $($(#[$doc])* $variant,)+
        }

        impl Resource {
            /// Every resource.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// Its name, as users write it.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }
        }
    };
}

resources! {
    /// Size of the address space.
    As "as",
    /// Size of a core file.
    Core "core",
    /// Seconds of processor time.
    Cpu "cpu",
    /// Size of the data segment.
    Data "data",
    /// Size of files that are written.
    Fsize "fsize",
    /// Locks (Linux only, and of no effect there).
    Locks "locks",
    /// Memory that can't be swapped out.
    Memlock "memlock",
    /// Bytes in POSIX message queues (Linux only).
    Msgqueue "msgqueue",
    /// Ceiling of the nice value (Linux only).
    Nice "nice",
    /// Open files.
    Nofile "nofile",
    /// Processes of the user.
    Nproc "nproc",
    /// Resident memory.
    Rss "rss",
    /// Ceiling of the real-time priority (Linux only).
    Rtprio "rtprio",
    /// Microseconds of real-time processor time (Linux only).
    Rttime "rttime",
    /// Signals that may be queued (Linux only).
    Sigpending "sigpending",
    /// Size of the stack.
    Stack "stack",
}

impl Resource {
    fn names() -> String {
        let names: Vec<&str> = Self::ALL.iter().map(|resource| resource.name()).collect();
        names.join(", ")
    }
}

impl FromStr for Ulimit {
    type Err = LimitError;

    fn from_str(text: &str) -> Result<Self, LimitError> {
        let error = || LimitError::Ulimit(text.to_owned());
        let (name, values) = text.split_once('=').ok_or_else(error)?;
        let known = Resource::ALL
            .iter()
            .find(|resource| resource.name() == name);
        let resource = *known.ok_or_else(|| LimitError::Resource(name.to_owned()))?;
        let value = |text: &str| match text {
            "unlimited" | "-1" => Some(None),
            digits if digits.bytes().all(|b| b.is_ascii_digit()) => digits.parse().ok().map(Some),
            _ => None,
        };
        let (soft, hard) = values.split_once(':').unwrap_or((values, values));
        let (soft, hard) = (
            value(soft).ok_or_else(error)?,
            value(hard).ok_or_else(error)?,
        );
        let above = match (soft, hard) {
            (_, None) => false,
            (None, Some(_)) => true,
            (Some(soft), Some(hard)) => soft > hard,
        };
        match above {
            true => Err(LimitError::SoftAboveHard(text.to_owned())),
            false => Ok(Self {
                resource,
                soft,
                hard,
            }),
        }
    }
}

impl TryFrom<String> for Ulimit {
    type Error = LimitError;

    fn try_from(text: String) -> Result<Self, LimitError> {
        text.parse()
    }
}

impl From<Ulimit> for String {
    fn from(limit: Ulimit) -> Self {
        limit.to_string()
    }
}

impl fmt::Display for Ulimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = |value: Option<u64>| match value {
            Some(number) => number.to_string(),
            None => "unlimited".to_owned(),
        };
        let (soft, hard) = (value(self.soft), value(self.hard));
        write!(f, "{}={soft}:{hard}", self.resource.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors() {
        let thousandths = |text: &str| text.parse::<Cpus>().unwrap().thousandths();
        assert_eq!(thousandths("2"), 2000);
        assert_eq!(thousandths("1.5"), 1500);
        assert_eq!(thousandths("0.01"), 10);
        assert_eq!("1.50".parse::<Cpus>().unwrap().to_string(), "1.5");
        assert_eq!("3".parse::<Cpus>().unwrap().to_string(), "3");
        for text in ["", "0", "0.001", "-1", "1.", ".5", "x", "+1", "99999999"] {
            assert!(text.parse::<Cpus>().is_err(), "{text}");
        }
    }

    #[test]
    fn sets_of_processors() {
        let set: CpuSet = "7,0-2,2-3".parse().unwrap();
        assert_eq!(set.to_string(), "0-3,7");
        assert_eq!(set.last(), 7);
        assert_eq!(set.iter().collect::<Vec<_>>(), [0, 1, 2, 3, 7]);
        for text in ["", ",", "3-1", "a", "0-", "-1", "0,,1", "4294967295", "+1"] {
            assert!(text.parse::<CpuSet>().is_err(), "{text}");
        }
    }

    #[test]
    fn ulimits() {
        let limit: Ulimit = "nofile=1024:2048".parse().unwrap();
        assert_eq!((limit.soft, limit.hard), (Some(1024), Some(2048)));
        assert_eq!(limit.to_string(), "nofile=1024:2048");
        let limit: Ulimit = "core=unlimited".parse().unwrap();
        assert_eq!((limit.soft, limit.hard), (None, None));
        assert!(matches!(
            "nofile=3:2".parse::<Ulimit>(),
            Err(LimitError::SoftAboveHard(_))
        ));
        let unknown = "files=3".parse::<Ulimit>().unwrap_err().to_string();
        assert!(unknown.contains("nofile"), "{unknown}");
        for text in [
            "",
            "nofile",
            "nofile=",
            "nofile=x",
            "nofile=1:2:3",
            "nofile=+1",
            "nofile=:1",
        ] {
            assert!(text.parse::<Ulimit>().is_err(), "{text}");
        }
    }

    #[test]
    fn weights() {
        assert_eq!(IoWeight::try_from(100).unwrap().get(), 100);
        assert!(IoWeight::try_from(0).is_err());
        assert!(IoWeight::try_from(10_001).is_err());
    }
}
