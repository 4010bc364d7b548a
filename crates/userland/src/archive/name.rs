//! What a downloaded file is called.

use super::location::{Url, percent_decoded};

/// What it is called where nobody says.
const NAMELESS: &str = "download";

/// The longest name that file systems take, in bytes.
const MAX_LENGTH: usize = 255;

/// The last part of the URL's path, else what the server says in `Content-Disposition`.
///
/// The URL comes first: it is what the user wrote, and the name depends on nobody else.
pub(crate) fn of(url: &Url, disposition: Option<&str>) -> String {
    let last = url.uri().path().rsplit('/').next().unwrap_or_default();
    let of_url = percent_decoded(last.as_bytes())
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .unwrap_or_else(|| last.to_owned());
    plain(&of_url)
        .or_else(|| plain(&of_disposition(disposition?)?))
        .unwrap_or_else(|| NAMELESS.to_owned())
}

/// A name that is one, and harmless; servers on Windows send backslashes.
fn plain(name: &str) -> Option<String> {
    let name = name.rsplit(['/', '\\']).next()?.trim();
    if matches!(name, "" | "." | "..") || name.chars().any(char::is_control) {
        return None;
    }
    let end = name.floor_char_boundary(MAX_LENGTH);
    name.get(..end).map(str::to_owned)
}

/// The file name in a `Content-Disposition` header (RFC 6266): `filename*` beats `filename`.
fn of_disposition(header: &str) -> Option<String> {
    let mut simple = None;
    // The first is `attachment` or `inline`.
    for parameter in parameters(header).into_iter().skip(1) {
        let Some((name, value)) = parameter.split_once('=') else {
            continue;
        };
        match name.trim().to_ascii_lowercase().as_str() {
            "filename*" => {
                if let Some(name) = extended(value.trim()) {
                    return Some(name);
                }
            }
            "filename" if simple.is_none() => simple = Some(unquoted(value.trim())),
            _ => {}
        }
    }
    simple
}

/// Splits at semicolons outside of quotes.
fn parameters(header: &str) -> Vec<String> {
    let mut parameters = vec![String::new()];
    let (mut quoted, mut escaped) = (false, false);
    for c in header.chars() {
        if c == ';' && !quoted {
            parameters.push(String::new());
            continue;
        }
        quoted ^= c == '"' && !escaped;
        escaped = quoted && c == '\\' && !escaped;
        if let Some(last) = parameters.last_mut() {
            last.push(c);
        }
    }
    parameters
}

fn unquoted(value: &str) -> String {
    let Some(inner) = value.strip_prefix('"') else {
        return value.to_owned();
    };
    let mut name = String::new();
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        match c {
            '"' => break,
            '\\' => name.extend(chars.next()),
            other => name.push(other),
        }
    }
    name
}

/// `UTF-8'en'%e2%82%ac.txt` (RFC 8187).
fn extended(value: &str) -> Option<String> {
    let (charset, rest) = value.split_once('\'')?;
    let (_, text) = rest.split_once('\'')?;
    if !charset.eq_ignore_ascii_case("utf-8") {
        return None;
    }
    String::from_utf8(percent_decoded(text.as_bytes())?).ok()
}

#[cfg(test)]
mod tests {
    use super::super::location::Location;
    use super::*;

    fn name(url: &str, disposition: Option<&str>) -> String {
        match Location::parse(url) {
            Ok(Location::Http(url)) => of(&url, disposition),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn urls() {
        for (url, expected) in [
            ("http://h/a/b.tar.gz?c=/d", "b.tar.gz"),
            ("http://h/a%20b", "a b"),
            ("http://h/a%", "a%"),
            ("http://h/%ff", "%ff"),
            ("http://h/x%2f..%2fy", "y"),
            ("http://h/x%2f..", "from-server"),
            ("http://h/..", "from-server"),
            ("http://h/%2e%2e", "from-server"),
            ("http://h/a%0ab", "from-server"),
            ("http://h/a%00", "from-server"),
            ("http://h/dir/", "from-server"),
            ("http://h", "from-server"),
        ] {
            let disposition = Some("attachment; filename=from-server");
            assert_eq!(name(url, disposition), expected, "{url}");
        }
        assert_eq!(name("http://h/", None), "download");
        let long = format!("http://h/{}%c3%a9", "x".repeat(254));
        assert_eq!(name(&long, None), "x".repeat(254));
    }

    #[test]
    fn dispositions() {
        for (header, expected) in [
            ("attachment; filename=a.txt", "a.txt"),
            ("attachment;FileName = \"a; b.txt\" ; x=y", "a; b.txt"),
            (r#"attachment; filename="a\"b;.txt""#, "a\"b;.txt"),
            (r#"attachment; filename="\\\\share\\a.txt""#, "a.txt"),
            ("attachment; filename=\"../../etc/passwd\"", "passwd"),
            ("attachment; filename=old; filename*=UTF-8''n%c3%a9w", "néw"),
            ("attachment; filename*=ISO-8859-1''%e9; filename=old", "old"),
            ("attachment; filename*=UTF-8''%ff; filename=old", "old"),
            ("attachment; filename=\"..\"", "download"),
            ("attachment; filename=\"\"", "download"),
            ("filename=x", "download"),
            ("attachment", "download"),
            ("", "download"),
        ] {
            assert_eq!(name("http://h/", Some(header)), expected, "{header}");
        }
    }
}
