//! Properties that hold for any text.

use kleene_dockerfile::{
    Dockerfile, Ignore, Pattern, Word, expand, expand_heredoc, expand_known, expand_words, parse,
};
use proptest::prelude::*;

/// Pieces of which texts near to Dockerfiles are made.
fn dockerfile_like() -> impl Strategy<Value = String> {
    let pieces = prop::sample::select(vec![
        "FROM a",
        "FROM a AS b",
        "RUN ",
        "COPY ",
        "ADD ",
        "ENV ",
        "ARG ",
        "CMD ",
        "LABEL ",
        "SHELL ",
        "HEALTHCHECK ",
        "EXPOSE ",
        "USER ",
        "VOLUME ",
        "ONBUILD ",
        "MAINTAINER ",
        "run",
        "\n",
        "\n",
        "\n",
        "\r\n",
        "\\\n",
        "`\n",
        " ",
        "\t",
        "#",
        "# escape=`\n",
        "\u{feff}",
        "<<E",
        "<<-'E'",
        "\nE\n",
        "E",
        "<",
        "'",
        "\"",
        "\\",
        "`",
        "$",
        "${",
        "}",
        "${A:-",
        "A=1",
        "=",
        "[",
        "]",
        "[\"a\", \"b\"]",
        "--from=",
        "--mount=type=cache,target=",
        "--",
        "é",
        "\u{0}",
        "/",
        "*",
        "a b",
    ]);
    prop::collection::vec(pieces, 0..30).prop_map(|pieces| pieces.concat())
}

fn word_like() -> impl Strategy<Value = String> {
    let pieces = prop::sample::select(vec![
        "$", "{", "}", "${", "${A", "${A:-", "${B/", "${B//", "${A#", "${A%%", ":", "-", "+", "?",
        "#", "%", "/", "*", "[", "]", "^", "!", "'", "\"", "\\", "`", " ", "\n", "a", "é", "$A",
        "$1",
    ]);
    prop::collection::vec(pieces, 0..20).prop_map(|pieces| pieces.concat())
}

fn scope(name: &str) -> Option<String> {
    match name {
        "A" => Some("a*é b".to_owned()),
        "B" => Some(String::new()),
        _ => None,
    }
}

/// Checks what a parsed file promises.
fn check(text: &str, file: &Dockerfile) -> Result<(), TestCaseError> {
    let lines = text.split('\n').count();
    let mut last = 0;
    for stage in &file.stages {
        for instruction in &stage.instructions {
            let span = instruction.span;
            prop_assert!(last < span.first && span.first <= span.last && span.last <= lines);
            last = span.last;
            prop_assert!(!instruction.text.contains('\n'));
            prop_assert!(!instruction.canonical().contains('\n'));
        }
    }
    prop_assert!(!file.stages.is_empty());
    Ok(())
}

fn parse_and_check(text: &str) -> Result<(), TestCaseError> {
    match parse(text) {
        Ok(file) => check(text, &file),
        Err(error) => {
            if let Some(place) = &error.place {
                let position = place.position;
                prop_assert!(position.line >= 1 && position.line <= text.split('\n').count());
                prop_assert!(position.column >= 1);
                prop_assert!(position.column <= place.line.chars().count() + 1);
            }
            prop_assert!(
                error
                    .in_file("f")
                    .to_string()
                    .starts_with(&error.to_string())
            );
            Ok(())
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_text_is_parsed_or_refused(text in any::<String>()) {
        parse_and_check(&text)?;
        parse_and_check(&format!("FROM a\nRUN {text}"))?;
    }

    #[test]
    fn dockerfiles_are_parsed_or_refused(text in dockerfile_like()) {
        parse_and_check(&text)?;
        parse_and_check(&format!("FROM a\n{text}"))?;
    }

    #[test]
    fn words_are_expanded_or_refused(text in prop_oneof![any::<String>(), word_like()]) {
        for escape in ['\\', '`'] {
            let one = expand(&text, &scope, escape);
            prop_assert_eq!(one.is_ok(), expand_words(&text, &scope, escape).is_ok());
            prop_assert!(Word::new(&text, escape).is_ok() || one.is_err());
            drop(expand_known(&text, &scope, escape));
        }
        drop(expand_heredoc(&text, &scope));
    }

    #[test]
    fn unknown_variables_leave_arguments_alone(text in prop_oneof![any::<String>(), word_like()]) {
        prop_assert_eq!(expand_known(&text, &|_| None, '\\').unwrap(), text);
    }

    #[test]
    fn literal_words_keep_their_text(text in any::<String>()) {
        prop_assert_eq!(Word::literal(&text).expand(&scope).unwrap(), text);
    }

    #[test]
    fn layout_has_no_meaning(
        words in prop::collection::vec("[a-z&|;]{1,3}|'[a-z $]{0,4}'|\"[a-z ]{0,4}\"", 1..8),
        gaps in prop::collection::vec(
            prop::sample::select(vec![" ", "  ", "\t", " \\\n", "\\\n  ", " \\\n# c\n\n\t"]), 8),
    ) {
        let plain = format!("FROM a\nRUN {}", words.join(" "));
        let mut other = "FROM a\nRUN".to_owned();
        for (word, gap) in words.iter().zip(&gaps) {
            other.push_str(gap);
            other.push_str(word);
        }
        let canonical = |text: &str| parse(text).unwrap().stages[0].instructions[0].canonical();
        prop_assert_eq!(canonical(&plain), canonical(&other));
    }

    #[test]
    fn ignore_files_are_parsed_or_refused(text in any::<String>(), path in any::<String>()) {
        if let Ok(ignore) = Ignore::parse(&text) {
            ignore.is_ignored(&path);
            ignore.may_contain_exceptions_below(&path);
        }
    }

    #[test]
    fn patterns_are_what_they_are_defined_to_be(
        pattern in "[ab/*?]{0,8}",
        path in "[ab]{1,2}(/[ab]{1,2}){0,3}",
    ) {
        let parsed = Pattern::parse(&pattern).unwrap();
        let text: Vec<char> = parsed.as_str().chars().collect();
        let chars: Vec<char> = path.chars().collect();
        prop_assert_eq!(parsed.matches(&path), by_definition(&text, &chars), "{}", pattern);
        if parsed.matches_or_parent(&path) {
            for (at, _) in path.match_indices('/') {
                prop_assert!(parsed.may_match_below(&path[..at]), "{} {}", pattern, &path[..at]);
            }
            let below = format!("{path}/x");
            prop_assert!(parsed.matches_or_parent(&below));
            prop_assert!(parsed.may_match_below(&path));
        }
    }
}

/// Whether a pattern of `*`, `**`, `?` and ordinary characters matches, tried out the slow way.
fn by_definition(pattern: &[char], path: &[char]) -> bool {
    let splits = |accept: &dyn Fn(&[char]) -> bool, rest: &[char]| {
        (0..=path.len()).any(|n| {
            let (part, behind) = path.split_at(n);
            accept(part) && by_definition(rest, behind)
        })
    };
    match pattern {
        [] => path.is_empty(),
        ['*', '*'] | ['*', '*', '/'] => true,
        ['*', '*', '/', rest @ ..] | ['*', '*', rest @ ..] => {
            splits(&|part| part.is_empty() || part.last() == Some(&'/'), rest)
        }
        ['*', rest @ ..] => splits(&|part| !part.contains(&'/'), rest),
        ['?', rest @ ..] => {
            matches!(path, [c, more @ ..] if *c != '/' && by_definition(rest, more))
        }
        [c, rest @ ..] => matches!(path, [d, more @ ..] if c == d && by_definition(rest, more)),
    }
}

/// Files of the greatest size whose parts are all alike are parsed in a moment.
#[test]
fn large_files_take_no_time() {
    let fill = |part: &str| part.repeat(((1 << 20) - 100) / part.len());
    let numbered: String = (0..60_000).map(|n| format!("FROM a AS s{n}\n")).collect();
    let heredocs = 100_000;
    let copy = format!(
        "COPY {} /d\n{}",
        "<<a ".repeat(heredocs),
        "a\n".repeat(heredocs)
    );
    for text in [
        fill("FROM a\n"),
        numbered,
        format!("FROM a\n{copy}"),
        format!("FROM a\nRUN {}", fill("a \\\n")),
        format!("FROM a\nRUN {}", fill("<<'a ")),
        format!("FROM a\nENV {}", fill("A=${A:-x} ")),
        format!("FROM a\nCMD {}", fill("[")),
        format!("FROM a\nUSER {}", fill("${A:-")),
        format!("FROM a\nRUN {}", fill("--mount=target=/x ")),
        fill("# syntax\n"),
    ] {
        let begin = std::time::Instant::now();
        drop(parse(&text));
        let head: String = text.chars().take(40).collect();
        assert!(
            begin.elapsed().as_secs() < 20,
            "{head:?}: {:?}",
            begin.elapsed()
        );
    }
    let scope = |_: &str| Some("a".repeat(100_000));
    for text in [
        fill("$A"),
        fill("${A+x}"),
        fill("${A:-"),
        fill("${A#*b}"),
        fill("${A-"),
    ] {
        let begin = std::time::Instant::now();
        drop(expand(&text, &scope, '\\'));
        drop(expand_known(&text, &scope, '\\'));
        let head: String = text.chars().take(40).collect();
        assert!(
            begin.elapsed().as_secs() < 20,
            "{head:?}: {:?}",
            begin.elapsed()
        );
    }
}
