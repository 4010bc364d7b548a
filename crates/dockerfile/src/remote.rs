//! Sources of ADD that aren't in the build context (Dockerfile reference, "ADD").

/// Where a source of ADD is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Remote {
    /// A file behind `http://` or `https://`.
    Http,
    /// A repository: `git://`, `ssh://`, `git@host:…`, or `http(s)://….git`.
    Git,
}

/// What an expanded source of ADD is; `None` for paths in the build context.
pub fn remote(source: &str) -> Option<Remote> {
    let repository = source.split('#').next().unwrap_or_default();
    if ["git://", "ssh://", "git@"]
        .iter()
        .any(|prefix| source.starts_with(prefix))
    {
        return Some(Remote::Git);
    }
    match source.starts_with("http://") || source.starts_with("https://") {
        true if repository.ends_with(".git") => Some(Remote::Git),
        true => Some(Remote::Http),
        false => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds() {
        for (source, expected) in [
            ("a/b.git", None),
            ("http.txt", None),
            ("https://x.org/a.tar.gz", Some(Remote::Http)),
            ("http://x.org/", Some(Remote::Http)),
            ("https://x.org/a.git#main:dir", Some(Remote::Git)),
            ("git@x.org:a/b", Some(Remote::Git)),
        ] {
            assert_eq!(remote(source), expected, "{source}");
        }
    }
}
