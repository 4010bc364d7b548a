//! Tells files by their first bytes: names and servers' content types are often wrong.

use kleene_compress::{Compression, compression};

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
