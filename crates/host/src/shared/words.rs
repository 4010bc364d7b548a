//! Command lines as words: no shell, nothing is expanded.

/// Splits at blanks. Single quotes keep everything, double quotes all but `\"` and `\\`, a backslash
/// outside of quotes keeps the next character.
///
/// # Errors
/// A sentence that says what is wrong.
pub fn split(text: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            ' ' | '\t' | '\n' => words.extend(word.take()),
            '\'' => quoted(&mut chars, '\'', word.get_or_insert_default())?,
            '"' => quoted(&mut chars, '"', word.get_or_insert_default())?,
            '\\' => {
                let next = chars.next().ok_or("it ends with a backslash")?;
                word.get_or_insert_default().push(next);
            }
            // What a shell would do with it isn't done, and it wouldn't be noticed.
            '|' | '&' | ';' | '<' | '>' | '$' | '`' | '*' | '?' => {
                return Err(format!(
                    "there is no shell to understand '{c}': quote it, or name a script"
                ));
            }
            '\0' => return Err("it has a NUL character".to_owned()),
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    match words.is_empty() {
        true => Err("it has no command".to_owned()),
        false => Ok(words),
    }
}

fn quoted(chars: &mut std::str::Chars<'_>, quote: char, word: &mut String) -> Result<(), String> {
    loop {
        match chars.next() {
            None => return Err(format!("the quotation mark {quote} has no end")),
            Some('\0') => return Err("it has a NUL character".to_owned()),
            Some(end) if end == quote => return Ok(()),
            Some('\\') if quote == '"' => match chars.next() {
                Some(kept @ ('"' | '\\')) => word.push(kept),
                Some(other) => word.extend(['\\', other]),
                None => return Err(format!("the quotation mark {quote} has no end")),
            },
            Some(other) => word.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::split;

    fn words(text: &str) -> Vec<String> {
        split(text).unwrap()
    }

    #[test]
    fn blanks_and_quotes() {
        assert_eq!(words(" /bin/a  b\tc\n"), ["/bin/a", "b", "c"]);
        assert_eq!(words(r#"/a 'b c' "d e" f\ g"#), ["/a", "b c", "d e", "f g"]);
        assert_eq!(
            words(r#"/a '' "" x''y '\' "\"\\\n""#),
            ["/a", "", "", "xy", "\\", "\"\\\\n"]
        );
        assert_eq!(
            words(r"/a '$(reboot)' \; '*'"),
            ["/a", "$(reboot)", ";", "*"]
        );
    }

    #[test]
    fn what_a_shell_would_understand_is_refused() {
        for text in [
            "/a | b", "/a; b", "/a $X", "/a `b`", "/a > b", "/a *", "/a &",
        ] {
            assert!(split(text).unwrap_err().contains("no shell"), "{text}");
        }
        for text in [
            "", "  ", "/a 'b", "/a \"b", "/a \"b\\", "/a \\", "/a \0", "'\0'",
        ] {
            assert!(split(text).is_err(), "{text:?}");
        }
    }
}
