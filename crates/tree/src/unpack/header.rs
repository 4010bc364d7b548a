//! One 512-byte header, in the formats v7, ustar and GNU (`tar(5)`, POSIX `pax`).

use std::ops::Range;

/// Headers are one block long, contents are padded to whole blocks.
pub(crate) const BLOCK: usize = 512;

const NAME: Range<usize> = 0..100;
const MODE: Range<usize> = 100..108;
const UID: Range<usize> = 108..116;
const GID: Range<usize> = 116..124;
const SIZE: Range<usize> = 124..136;
const MTIME: Range<usize> = 136..148;
const CHECKSUM: Range<usize> = 148..156;
const TYPE: usize = 156;
const LINK: Range<usize> = 157..257;
const MAGIC: Range<usize> = 257..265;
const MAJOR: Range<usize> = 329..337;
const MINOR: Range<usize> = 337..345;
const PREFIX: Range<usize> = 345..500;
/// GNU: four (offset, length) pairs of 12 + 12 bytes.
const GNU_MAP: Range<usize> = 386..482;
const GNU_MAP_GOES_ON: usize = 482;
const GNU_REAL_SIZE: Range<usize> = 483..495;
/// In the blocks that continue the map: 21 pairs.
const MORE_MAP: Range<usize> = 0..504;
const MORE_MAP_GOES_ON: usize = 504;

/// A block read as a header.
pub(crate) struct Header(pub [u8; BLOCK]);

impl Header {
    fn field(&self, range: Range<usize>) -> &[u8] {
        self.0.get(range).unwrap_or_default()
    }

    fn byte(&self, index: usize) -> u8 {
        self.0.get(index).copied().unwrap_or_default()
    }

    /// Whether the block holds nothing: two of these end the archive.
    pub fn is_zero(&self) -> bool {
        self.0.iter().all(|byte| *byte == 0)
    }

    /// Whether the checksum fits. Some old programs added up the bytes as signed ones.
    pub fn checksum_fits(&self) -> bool {
        let Some(wanted) = number(self.field(CHECKSUM)) else {
            return false;
        };
        let blank = |(index, byte): (usize, &u8)| {
            if CHECKSUM.contains(&index) {
                b' '
            } else {
                *byte
            }
        };
        let bytes = || self.0.iter().enumerate().map(blank);
        let unsigned: i64 = bytes().map(i64::from).sum();
        let signed: i64 = bytes().map(|byte| i64::from(byte.cast_signed())).sum();
        wanted == unsigned || wanted == signed
    }

    /// The type flag.
    pub fn flag(&self) -> u8 {
        self.byte(TYPE)
    }

    fn is_ustar(&self) -> bool {
        self.field(MAGIC).starts_with(b"ustar\0")
    }

    /// The name, put together from its two parts.
    pub fn name(&self) -> Vec<u8> {
        let name = until_nul(self.field(NAME));
        let prefix = until_nul(self.field(PREFIX));
        if self.is_ustar() && !prefix.is_empty() {
            return [prefix, b"/", name].concat();
        }
        name.to_vec()
    }

    /// The target of a link.
    pub fn link(&self) -> Vec<u8> {
        until_nul(self.field(LINK)).to_vec()
    }

    /// `None` for a malformed or overlong number; the same goes for the others.
    pub fn mode(&self) -> Option<i64> {
        number(self.field(MODE))
    }

    pub fn uid(&self) -> Option<i64> {
        number(self.field(UID))
    }

    pub fn gid(&self) -> Option<i64> {
        number(self.field(GID))
    }

    pub fn size(&self) -> Option<i64> {
        number(self.field(SIZE))
    }

    pub fn mtime(&self) -> Option<i64> {
        number(self.field(MTIME))
    }

    pub fn major(&self) -> Option<i64> {
        number(self.field(MAJOR))
    }

    pub fn minor(&self) -> Option<i64> {
        number(self.field(MINOR))
    }

    /// The full size of a GNU sparse file.
    pub fn gnu_real_size(&self) -> Option<i64> {
        number(self.field(GNU_REAL_SIZE))
    }

    /// The start of a GNU sparse file's map, and whether another block continues it.
    pub fn gnu_map(&self) -> (&[u8], bool) {
        (self.field(GNU_MAP), self.byte(GNU_MAP_GOES_ON) != 0)
    }

    /// This block as a continuation of such a map.
    pub fn gnu_more_map(&self) -> (&[u8], bool) {
        (self.field(MORE_MAP), self.byte(MORE_MAP_GOES_ON) != 0)
    }
}

/// A field up to its first NUL byte.
pub(crate) fn until_nul(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// A numeric field: octal digits, or (with the highest bit set) a big-endian two's complement
/// number. An empty field is 0. `None` when it is malformed or doesn't fit.
pub(crate) fn number(field: &[u8]) -> Option<i64> {
    match field.split_first() {
        Some((first, rest)) if first & 0x80 != 0 => binary(*first, rest),
        _ => octal(field),
    }
}

fn binary(first: u8, rest: &[u8]) -> Option<i64> {
    // The highest bit is the mark, the next one the sign.
    let negative = first & 0x40 != 0;
    let head = if negative {
        i64::from(first.cast_signed())
    } else {
        i64::from(first & 0x3f)
    };
    rest.iter().try_fold(head, |sum, byte| {
        sum.checked_mul(256)?.checked_add(i64::from(*byte))
    })
}

fn octal(field: &[u8]) -> Option<i64> {
    let digits = until_nul(field).trim_ascii();
    digits.iter().try_fold(0_i64, |sum, digit| match digit {
        b'0'..=b'7' => sum.checked_mul(8)?.checked_add(i64::from(digit - b'0')),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::number;

    #[test]
    fn numbers() {
        assert_eq!(number(b"0000644\0"), Some(0o644));
        assert_eq!(number(b"   644 \0"), Some(0o644));
        assert_eq!(number(b"77777777777 "), Some(0o77_777_777_777));
        assert_eq!(number(b"\0\0\0\0"), Some(0));
        assert_eq!(number(b"0000689\0"), None);
        assert_eq!(number(b"-000644\0"), None);
        assert_eq!(
            number(&[0x80, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 1]),
            Some((2 << 32) + 1)
        );
        assert_eq!(number(&[0xff; 12]), Some(-1));
        assert_eq!(
            number(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe]),
            Some(-2)
        );
        assert_eq!(number(&[0x80, 0, 0, 0, 0xff, 0, 0, 0, 0, 0, 0, 0]), None);
        assert_eq!(
            number(&[
                0x80, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff
            ]),
            Some(i64::MAX)
        );
    }
}
