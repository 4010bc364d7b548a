//! The header `WWW-Authenticate` (RFC 9110, section 11.6.1; of Bearer: distribution's token
//! authentication specification).

/// How a server wants to be told who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Challenge {
    /// A token of this service.
    Bearer(Bearer),
    /// User name and password.
    Basic,
}

/// Where tokens come from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Bearer {
    /// URL of the token service.
    pub realm: String,
    /// The registry's name at the service.
    pub service: Option<String>,
    /// What the token has to allow, words with spaces between them.
    pub scope: Option<String>,
}

/// The best of the challenges in the header's values; `None` when there is none that is understood.
pub(crate) fn parse<'v>(values: impl IntoIterator<Item = &'v str>) -> Option<Challenge> {
    let mut basic = false;
    for value in values {
        for (scheme, parameters) in challenges(value) {
            if scheme.eq_ignore_ascii_case("basic") {
                basic = true;
            } else if scheme.eq_ignore_ascii_case("bearer") {
                let bearer = bearer(parameters);
                if !bearer.realm.is_empty() {
                    return Some(Challenge::Bearer(bearer));
                }
            }
        }
    }
    basic.then_some(Challenge::Basic)
}

fn bearer(parameters: Vec<(&str, String)>) -> Bearer {
    let mut bearer = Bearer::default();
    for (name, value) in parameters {
        match name.to_ascii_lowercase().as_str() {
            "realm" => bearer.realm = value,
            "service" => bearer.service = Some(value),
            "scope" => bearer.scope = Some(value),
            _ => {}
        }
    }
    bearer
}

type Parameters<'v> = Vec<(&'v str, String)>;

/// Schemes with their parameters. What can't be understood is passed over up to the next comma.
fn challenges(value: &str) -> Vec<(&str, Parameters<'_>)> {
    let mut found: Vec<(&str, Parameters<'_>)> = Vec::new();
    let mut rest = value;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        if rest.is_empty() {
            return found;
        }
        let (name, behind) = token(rest);
        if name.is_empty() {
            rest = after_comma(rest);
            continue;
        }
        match (parameter(behind), found.last_mut()) {
            (Some((value, behind)), Some((_, parameters))) => {
                parameters.push((name, value));
                rest = behind;
            }
            // A parameter of nothing, or a scheme's one value (RFC 9110: token68).
            (Some((_, behind)), None) => rest = behind,
            (None, _) if behind.starts_with([' ', '\t', ',']) || behind.is_empty() => {
                found.push((name, Vec::new()));
                rest = behind;
            }
            (None, _) => rest = after_comma(behind),
        }
    }
}

/// `= value`, with the value quoted or not.
fn parameter(text: &str) -> Option<(String, &str)> {
    let text = text.trim_start_matches([' ', '\t']).strip_prefix('=')?;
    let text = text.trim_start_matches([' ', '\t']);
    match text.strip_prefix('"') {
        Some(quoted) => unquoted(quoted),
        None => {
            let (value, behind) = token(text);
            (!value.is_empty()).then(|| (value.to_owned(), behind))
        }
    }
}

/// The text up to the closing quote, and what is behind it.
fn unquoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, text.get(at + 1..)?)),
            '\\' => value.push(characters.next()?.1),
            other => value.push(other),
        }
    }
    None
}

fn token(text: &str) -> (&str, &str) {
    let plain = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~:/".contains(c);
    let end = text.find(|c| !plain(c)).unwrap_or(text.len());
    text.split_at_checked(end).unwrap_or((text, ""))
}

fn after_comma(text: &str) -> &str {
    text.split_once(',').map_or("", |(_, behind)| behind)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Option<Challenge> {
        Some(Challenge::Bearer(Bearer {
            realm: realm.to_owned(),
            service: service.map(str::to_owned),
            scope: scope.map(str::to_owned),
        }))
    }

    #[test]
    fn headers_of_registries() {
        let hub = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/debian:pull,push""#;
        assert_eq!(
            parse([hub]),
            bearer(
                "https://auth.docker.io/token",
                Some("registry.docker.io"),
                Some("repository:library/debian:pull,push")
            )
        );
        for (values, expected) in [
            (vec![r#"Basic realm="x, y=\"z\"""#], Some(Challenge::Basic)),
            (vec!["basic"], Some(Challenge::Basic)),
            (
                vec![r#"Basic realm="x", Bearer realm = "r" , service=s"#],
                bearer("r", Some("s"), None),
            ),
            (
                vec!["Basic", r#"BEARER Realm="r""#],
                bearer("r", None, None),
            ),
            (
                vec![r#"Negotiate YII==, Bearer realm="r""#],
                bearer("r", None, None),
            ),
            (
                vec![r#"Bearer realm="r",error="invalid_token",scope="a b""#],
                bearer("r", None, Some("a b")),
            ),
            (
                vec!["Bearer realm=http://h/t"],
                bearer("http://h/t", None, None),
            ),
            (vec!["Bearer"], None),
            (vec![r#"Bearer realm="#], None),
            (vec![r#"Bearer realm="never closed"#], None),
            (vec!["Digest realm=\"x\""], None),
            (vec![""], None),
            (vec![], None),
        ] {
            assert_eq!(parse(values.clone()), expected, "{values:?}");
        }
    }

    proptest! {
        #[test]
        fn nothing_is_too_strange(value in r#"([ ,="\\a-zA-Z]|Basic|Bearer|realm|é){0,30}"#) {
            let _ = parse([value.as_str()]);
        }

        #[test]
        fn any_value_comes_back(realm in "[ -~]{1,20}", service in "[ -~]{0,20}", first in any::<bool>()) {
            let quote = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"");
            let bearer_text =
                format!("Bearer realm=\"{}\",service=\"{}\"", quote(&realm), quote(&service));
            let value = if first {
                format!("{bearer_text}, Basic realm=\"a, b\"")
            } else {
                format!("Basic realm=\"a, b\", {bearer_text}")
            };
            prop_assert_eq!(parse([value.as_str()]), bearer(&realm, Some(&service), None));
        }
    }
}
