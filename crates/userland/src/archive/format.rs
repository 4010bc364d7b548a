//! Tells files by their first bytes: names and servers' content types are often wrong.

/// How a tar archive is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compression {
    None,
    Gzip,
    Xz,
    Zstd,
    Bzip2,
}

/// How a file that starts like this is compressed.
pub(crate) fn compression(head: &[u8]) -> Compression {
    let is_skippable_zstd = matches!(head, [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..]);
    match head {
        [0x1f, 0x8b, 8, ..] => Compression::Gzip,
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Compression::Xz,
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Compression::Zstd,
        [b'B', b'Z', b'h', b'1'..=b'9', 0x31, 0x41, ..]
        | [b'B', b'Z', b'h', b'1'..=b'9', 0x17, 0x72, ..] => Compression::Bzip2,
        _ if is_skippable_zstd => Compression::Zstd,
        _ => Compression::None,
    }
}

/// What a file that starts like this is, if it is something well known that is no tar archive.
pub(crate) fn other_format(head: &[u8]) -> Option<&'static str> {
    const MAGIC: [(&[u8], &str); 14] = [
        (b"PK\x03\x04", "a zip archive"),
        (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
        (b"Rar!", "a RAR archive"),
        (b"LZIP", "compressed with lzip"),
        (b"\x04\x22\x4d\x18", "compressed with lz4"),
        (b"\x1f\x9d", "compressed with compress(1)"),
        (b"!<arch>\n", "an ar archive, such as a Debian package"),
        (b"\xed\xab\xee\xdb", "an RPM package"),
        (b"07070", "a cpio archive"),
        (b"hsqs", "a squashfs image"),
        (b"\x7fELF", "a program"),
        (b"QFI\xfb", "a disk image (qcow2)"),
        (b"#!", "a script"),
        (b"{", "JSON text"),
    ];
    if compression(head) != Compression::None {
        return Some("compressed twice");
    }
    let text = head.trim_ascii_start().to_ascii_lowercase();
    if text.starts_with(b"<!doctype html") || text.starts_with(b"<html") {
        return Some("a web page (HTML): the URL may be wrong, or ask for a login");
    }
    if text.starts_with(b"<?xml") || text.starts_with(b"<error") {
        return Some("an XML document");
    }
    MAGIC
        .iter()
        .find(|(magic, _)| head.starts_with(magic))
        .map(|(_, name)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats() {
        assert_eq!(compression(b"\x1f\x8b\x08\0"), Compression::Gzip);
        assert_eq!(compression(b"BZh9\x31\x41Y&SY"), Compression::Bzip2);
        assert_eq!(compression(b"BZh9name-of-a-file"), Compression::None);
        assert_eq!(compression(b"\x5a\x2a\x4d\x18rest"), Compression::Zstd);
        assert_eq!(compression(b""), Compression::None);
        assert_eq!(other_format(b"\x7fELF\x02"), Some("a program"));
        assert!(
            other_format(b"\n <!DOCTYPE html>")
                .unwrap()
                .contains("HTML")
        );
        assert_eq!(other_format(b"\x1f\x8b\x08\0"), Some("compressed twice"));
        assert_eq!(other_format(b"plain"), None);
    }
}
