//! What words expand to, and which have no value.

use super::*;

fn scope(name: &str) -> Option<String> {
    let value = match name {
        "A" => "a",
        "EMPTY" => "",
        "TWO" => "x y",
        "PATH" => "/usr/local/lib/libz.so.1.2",
        "V" => "1.2.3",
        "STAR" => "*",
        "U" => "äöü",
        _ => return None,
    };
    Some(value.to_owned())
}

fn one(word: &str) -> String {
    expand(word, &scope, '\\').unwrap()
}

fn words(text: &str) -> Vec<String> {
    expand_words(text, &scope, '\\').unwrap()
}

#[test]
fn words_are_expanded() {
    for (word, expected) in [
        ("", ""),
        ("plain", "plain"),
        ("$A", "a"),
        ("${A}", "a"),
        ("$A$A", "aa"),
        ("x${A}y$A-z", "xaya-z"),
        ("$Ab", ""),
        ("$UNSET.", "."),
        ("$", "$"),
        ("a$", "a$"),
        ("$.", "$."),
        ("100%", "100%"),
        // Quotes.
        ("'$A'", "$A"),
        ("\"$A\"", "a"),
        ("'a\"b'\"c'd\"", "a\"bc'd"),
        ("\"\"", ""),
        ("\"a\\\"b\\$A\\\\c\\n\"", "a\"b$A\\c\\n"),
        ("'a\\'b", "a\\b"),
        // Escapes.
        ("\\$A", "$A"),
        ("\\\\$A", "\\a"),
        ("\\a\\ b", "a b"),
        ("\\\"x\\'", "\"x'"),
        ("end\\", "end\\"),
        // Conditions.
        ("${A:-d}", "a"),
        ("${A-d}", "a"),
        ("${EMPTY:-d}", "d"),
        ("${EMPTY-d}", ""),
        ("${UNSET:-d}", "d"),
        ("${UNSET-d}", "d"),
        ("${A:+x}", "x"),
        ("${A+x}", "x"),
        ("${EMPTY:+x}", ""),
        ("${EMPTY+x}", "x"),
        ("${UNSET:+x}", ""),
        ("${UNSET+x}", ""),
        ("${A:?m}", "a"),
        ("${EMPTY?m}", ""),
        ("${UNSET:-}", ""),
        ("${UNSET:-a b}", "a b"),
        ("${UNSET:-$A}", "a"),
        ("${UNSET:-${X:-${A}}}z", "az"),
        ("${UNSET:-'}'}", "}"),
        ("${UNSET:-\\}}", "}"),
        ("${UNSET:-\"$A}\"}", "a}"),
        ("\"${UNSET:-a\"}\"b}\"", "a}b"),
        ("\"${UNSET:-$TWO}\"", "x y"),
        // Special parameters are never set.
        ("$1x$@y$$z", "xyz"),
        ("${1:-one}", "one"),
        // Nothing is executed.
        ("$(reboot)", "$(reboot)"),
        ("`reboot`", "`reboot`"),
        ("$((1+1))", "$((1+1))"),
    ] {
        assert_eq!(one(word), expected, "{word}");
    }
}

#[test]
fn patterns_remove_and_replace() {
    for (word, expected) in [
        ("${PATH#*/}", "usr/local/lib/libz.so.1.2"),
        ("${PATH##*/}", "libz.so.1.2"),
        ("${PATH%/*}", "/usr/local/lib"),
        ("${PATH%%/*}", ""),
        ("${V%.*}", "1.2"),
        ("${V%%.*}", "1"),
        ("${V#*.}", "2.3"),
        ("${V##*.}", "3"),
        ("${V#1}", ".2.3"),
        ("${V#2}", "1.2.3"),
        ("${V%3}", "1.2."),
        ("${V#?.}", "2.3"),
        ("${V#[0-9]}", ".2.3"),
        ("${V#[!0-9]}", "1.2.3"),
        ("${V##[0-9.]*}", ""),
        ("${V#'?'}", "1.2.3"),
        ("${V#\\?}", "1.2.3"),
        ("${V#}", "1.2.3"),
        ("${V%*}", "1.2.3"),
        ("${V%%*}", ""),
        ("${V/./-}", "1-2.3"),
        ("${V//./-}", "1-2-3"),
        ("${V//.}", "123"),
        ("${V/2*/x}", "1.x"),
        ("${V//[0-9]/n}", "n.n.n"),
        ("${V/x/y}", "1.2.3"),
        ("${V///y}", "1.2.3"),
        ("${V//./$A}", "1a2a3"),
        ("${V/$UNSET/y}", "1.2.3"),
        ("${PATH/\\/usr/}", "/local/lib/libz.so.1.2"),
        ("${PATH//\\//:}", ":usr:local:lib:libz.so.1.2"),
        ("${STAR#$STAR}", "*"),
        ("${STAR##$STAR}", ""),
        ("${V##$STAR}", ""),
        ("${V##\"$STAR\"}", "1.2.3"),
        ("${U#ä}", "öü"),
        ("${U%?}", "äö"),
        ("${U/ö/o}", "äoü"),
        ("${UNSET#a}", ""),
        ("${V#[}", "1.2.3"),
        ("${V/[]1]/x}", "x.2.3"),
    ] {
        assert_eq!(one(word), expected, "{word}");
    }
}

#[test]
fn malformed_words_say_where() {
    for (word, offset, message) in [
        ("a'b", 1, "unterminated single quote"),
        ("a\"b", 1, "unterminated double quote"),
        ("ab${A", 2, "unterminated '${'"),
        ("${", 0, "unterminated '${'"),
        ("${A:-x", 0, "unterminated '${'"),
        ("${A:", 0, "unterminated '${'"),
        (
            "${}",
            0,
            "bad substitution: no variable's name follows '${'",
        ),
        (
            "x${ A}",
            1,
            "bad substitution: no variable's name follows '${'",
        ),
        (
            "${A!x}",
            3,
            "bad substitution: '!' is none of the modifiers :- :+ :? - + ? # % /",
        ),
        (
            "${A:1}",
            3,
            "bad substitution: ':1' is none of the modifiers :- :+ :? - + ? # % /",
        ),
        (
            "\"${A\"",
            4,
            "bad substitution: '\"' is none of the modifiers :- :+ :? - + ? # % /",
        ),
        ("${A:-'}", 5, "unterminated single quote"),
    ] {
        let error = check(word, '\\').unwrap_err();
        assert_eq!(error.to_string(), message, "{word}");
        assert_eq!(error.offset, offset, "{word}");
        assert!(expand(word, &scope, '\\').is_err());
    }
    let deep = "${A:-".repeat(1000) + &"}".repeat(1000);
    assert_eq!(check(&deep, '\\').unwrap_err().kind, SyntaxErrorKind::Depth);
}

#[test]
fn required_variables() {
    for (word, message) in [
        ("${X:?}", "variable 'X' is required: it is unset or empty"),
        ("${X?}", "variable 'X' is required: it is unset"),
        ("${EMPTY:?set $A}", "variable 'EMPTY' is required: set a"),
    ] {
        let error = expand(word, &scope, '\\').unwrap_err();
        assert_eq!(error.to_string(), message);
    }
}

#[test]
fn another_escape_character() {
    assert_eq!(expand("C:\\`$A\\$A", &scope, '`').unwrap(), "C:\\$A\\a");
    assert_eq!(expand("\"`$A `\" \\\"", &scope, '`').unwrap(), "$A \" \\");
}

#[test]
fn texts_are_split_into_words() {
    for (text, expected) in [
        ("", vec![]),
        ("  a  b ", vec!["a", "b"]),
        ("$TWO", vec!["x", "y"]),
        ("a$TWO", vec!["ax", "y"]),
        ("\"$TWO\" z", vec!["x y", "z"]),
        ("$UNSET", vec![]),
        ("\"$UNSET\" ''", vec!["", ""]),
        ("a\\ b 'c d'", vec!["a b", "c d"]),
        ("${UNSET:-p q}", vec!["p", "q"]),
        ("${UNSET:-\"p q\"}", vec!["p q"]),
    ] {
        assert_eq!(words(text), expected, "{text}");
    }
}

#[test]
fn heredocs_keep_quotes() {
    for (body, expected) in [
        ("it's \"$A\"\n", "it's \"a\"\n"),
        ("'$A'", "'a'"),
        ("\\$A \\\\ \\` \\n \\\"", "$A \\ ` \\n \\\""),
        ("a\\\nb", "ab"),
        ("${UNSET:-\"it's\"}", "\"it's\""),
        ("${UNSET:-\\}}", "}"),
        ("$(date) `date`", "$(date) `date`"),
    ] {
        assert_eq!(expand_heredoc(body, &scope).unwrap(), expected, "{body}");
    }
    let error = expand_heredoc("one\ntwo ${\nx", &scope).unwrap_err();
    assert!(error.to_string().starts_with("'two ${': "), "{error}");
}

#[test]
fn exec_forms_keep_what_is_unknown() {
    for (text, expected) in [
        ("$A", "a"),
        ("${A}-$UNSET-${UNSET:-x}", "a-$UNSET-${UNSET:-x}"),
        ("it's $A", "it's a"),
        ("${A:+yes}", "yes"),
        ("${EMPTY:-$A}", "a"),
        ("\\$A", "\\$A"),
        ("$$ $1 $@ ${ $(A) ${A", "$$ $1 $@ ${ $(A) ${A"),
        (
            "for i in $A; do echo $i; done",
            "for i in a; do echo $i; done",
        ),
        ("awk '{print $1}'", "awk '{print $1}'"),
        ("${UNSET:-$A}", "${UNSET:-$A}"),
        ("${UNSET:?no}", "${UNSET:?no}"),
        ("end\\", "end\\"),
    ] {
        let known = expand_known(text, &scope, '\\').unwrap();
        assert_eq!(known, expected, "{text}");
    }
    let required = expand_known("${EMPTY:?no}", &scope, '\\').unwrap_err();
    assert_eq!(required.to_string(), "variable 'EMPTY' is required: no");
}

#[test]
fn growth_and_work_are_bounded() {
    let long = |name: &str| match name {
        "L" => Some("a".repeat(300_000)),
        _ => None,
    };
    assert_eq!(expand("$L$L$L$L", &long, '\\'), Err(ExpandError::TooLong));
    assert_eq!(
        expand("${L//a/aaaaaaaa}", &long, '\\'),
        Err(ExpandError::TooLong)
    );
    assert_eq!(
        expand("${L//a*a*a*b/x}", &long, '\\'),
        Err(ExpandError::TooComplex)
    );
    assert_eq!(expand("${L##*a}", &long, '\\').unwrap(), "");
}
