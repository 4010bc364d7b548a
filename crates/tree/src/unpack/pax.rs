//! The records of extended headers: `LENGTH KEY=VALUE\n`, one after the other (POSIX `pax`).

use std::ffi::CString;

use crate::flags;

/// A point in time: seconds and nanoseconds since 1970.
pub(crate) type Time = (i64, u32);

/// What extended headers say about the next entry.
#[derive(Debug, Default, Clone)]
pub(crate) struct Records {
    pub path: Option<Vec<u8>>,
    pub link: Option<Vec<u8>>,
    pub size: Option<u64>,
    pub uid: Option<u64>,
    pub gid: Option<u64>,
    pub mtime: Option<Time>,
    pub atime: Option<Time>,
    /// File flags.
    pub flags: Option<u32>,
    pub xattrs: Vec<(CString, Vec<u8>)>,
    pub sparse: Sparse,
}

/// What they say about a sparse file, in the three versions of GNU tar's format.
#[derive(Debug, Default, Clone)]
pub(crate) struct Sparse {
    pub major: Option<u64>,
    pub minor: Option<u64>,
    pub name: Option<Vec<u8>>,
    pub real_size: Option<u64>,
    /// Offsets and lengths in turn (versions 0.0 and 0.1).
    pub map: Vec<u64>,
}

impl Sparse {
    /// Whether the file's map is in front of its data (version 1.0).
    pub fn map_in_data(&self) -> bool {
        self.major == Some(1) && self.minor == Some(0)
    }

    /// Whether the entry is a sparse file.
    pub fn is_used(&self) -> bool {
        self.major.is_some() || self.real_size.is_some() || !self.map.is_empty()
    }
}

impl Records {
    /// Adds the records of one header to those known. The error says what is wrong.
    pub fn read(&mut self, mut data: &[u8]) -> Result<(), String> {
        while !data.is_empty() {
            let (key, value, rest) = record(data).ok_or("a malformed extended header record")?;
            self.set(key, value).map_err(|what| {
                format!(
                    "the extended header record {:?} {what}",
                    String::from_utf8_lossy(key)
                )
            })?;
            data = rest;
        }
        Ok(())
    }

    /// Whether these could change what an entry is. Those for all entries (`g`) must not.
    pub fn names_an_entry(&self) -> bool {
        self.path.is_some()
            || self.link.is_some()
            || self.size.is_some()
            || self.sparse.is_used()
            || self.sparse.name.is_some()
            || !self.xattrs.is_empty()
    }

    fn set(&mut self, key: &[u8], value: &[u8]) -> Result<(), &'static str> {
        match key {
            b"path" => self.path = Some(text(value)?),
            b"linkpath" => self.link = Some(text(value)?),
            b"size" => self.size = Some(decimal(value)?),
            b"uid" => self.uid = Some(decimal(value)?),
            b"gid" => self.gid = Some(decimal(value)?),
            b"mtime" => self.mtime = Some(time(value)?),
            b"atime" => self.atime = Some(time(value)?),
            b"SCHILY.fflags" => self.flags = Some(flags::parse(value)),
            b"GNU.sparse.major" => self.sparse.major = Some(decimal(value)?),
            b"GNU.sparse.minor" => self.sparse.minor = Some(decimal(value)?),
            b"GNU.sparse.name" => self.sparse.name = Some(text(value)?),
            b"GNU.sparse.realsize" | b"GNU.sparse.size" => {
                self.sparse.real_size = Some(decimal(value)?);
            }
            b"GNU.sparse.offset" | b"GNU.sparse.numbytes" => {
                self.sparse.map.push(decimal(value)?);
            }
            b"GNU.sparse.map" => {
                let numbers = value
                    .split(|byte| *byte == b',')
                    .filter(|part| !part.is_empty());
                self.sparse.map = numbers.map(decimal).collect::<Result<_, _>>()?;
            }
            _ => {
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                    let name = CString::new(name).map_err(|_| "has a NUL byte in its name")?;
                    self.xattrs.push((name, value.to_vec()));
                }
            }
        }
        Ok(())
    }
}

/// Splits the first record off: key, value, rest.
fn record(data: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = data.iter().take(20).position(|byte| *byte == b' ')?;
    let length = usize::try_from(decimal(data.get(..space)?).ok()?).ok()?;
    let rest = data.get(length..)?;
    let record = data.get(space + 1..length)?.strip_suffix(b"\n")?;
    let equals = record
        .iter()
        .position(|byte| *byte == b'=')
        .filter(|at| *at > 0)?;
    Some((record.get(..equals)?, record.get(equals + 1..)?, rest))
}

fn text(value: &[u8]) -> Result<Vec<u8>, &'static str> {
    if value.contains(&0) {
        Err("has a NUL byte in it")
    } else {
        Ok(value.to_vec())
    }
}

/// A decimal number, not negative, that fits a signed one of 64 bits.
pub(crate) fn decimal(value: &[u8]) -> Result<u64, &'static str> {
    let number = |sum: i64, digit: &u8| match digit {
        b'0'..=b'9' => sum.checked_mul(10)?.checked_add(i64::from(digit - b'0')),
        _ => None,
    };
    let parsed = value
        .iter()
        .try_fold(0_i64, number)
        .filter(|_| !value.is_empty());
    parsed
        .map(i64::cast_unsigned)
        .ok_or("isn't a number, or out of range")
}

/// Seconds with any number of decimals, perhaps negative.
fn time(value: &[u8]) -> Result<Time, &'static str> {
    let (negative, value) = match value.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, value),
    };
    let mut parts = value.splitn(2, |byte| *byte == b'.');
    let seconds = decimal(parts.next().unwrap_or_default())?.cast_signed();
    let decimals = parts.next().unwrap_or_default();
    let mut nanoseconds = 0;
    for place in 0..9 {
        let digit = decimals.get(place).copied().unwrap_or(b'0');
        nanoseconds = nanoseconds * 10
            + match digit {
                b'0'..=b'9' => u32::from(digit - b'0'),
                _ => return Err("isn't a time"),
            };
    }
    Ok(match (negative, nanoseconds) {
        (false, _) => (seconds, nanoseconds),
        (true, 0) => (-seconds, 0),
        (true, _) => (-seconds - 1, 1_000_000_000 - nanoseconds),
    })
}

#[cfg(test)]
mod tests {
    use super::{Records, time};

    #[test]
    fn records() {
        let mut records = Records::default();
        records
            .read(b"14 path=a\nb=c\n12 uid=1000\n28 SCHILY.xattr.user.x=\0\n\xff=\n")
            .unwrap();
        assert_eq!(records.path.as_deref(), Some(&b"a\nb=c"[..]));
        assert_eq!(records.uid, Some(1000));
        assert_eq!(records.xattrs[0].1, b"\0\n\xff=");
        for bad in [
            &b"5 a=b"[..],
            b"99 path=x\n",
            b"7 path\n",
            b"x",
            b"6 =ab\n",
            b"0 a=b\n",
            b"-6 a=b\n",
        ] {
            Records::default().read(bad).unwrap_err();
        }
        for bad in [
            &b"11 size=-1\n"[..],
            b"29 size=18446744073709551616\n",
            b"8 size=\n",
            b"9 path=\0\n",
        ] {
            Records::default().read(bad).unwrap_err();
        }
    }

    #[test]
    fn times() {
        assert_eq!(time(b"12.5"), Ok((12, 500_000_000)));
        assert_eq!(time(b"12.1234567899"), Ok((12, 123_456_789)));
        assert_eq!(time(b"-1.25"), Ok((-2, 750_000_000)));
        assert_eq!(time(b"-3"), Ok((-3, 0)));
        assert!(time(b"1.x").is_err() && time(b"").is_err() && time(b"--1").is_err());
    }
}
