//! What is refused, with which words and where.

use super::*;

/// The error's sentence, its line and column.
fn error(text: &str) -> (String, usize, usize) {
    let error = match parse(text) {
        Ok(file) => panic!("{text:?} is accepted: {file:?}"),
        Err(error) => error,
    };
    let place = error.place.as_ref().map(|place| place.position);
    let (line, column) = place.map_or((0, 0), |place| (place.line, place.column));
    (error.to_string(), line, column)
}

#[test]
fn contract_errors() {
    for (text, message) in [
        ("run echo", "error in 'run echo': invalid instruction"),
        (
            "FROM a\nRUNN b \\\n  c",
            "error in 'RUNN b   c': invalid instruction",
        ),
        (
            "FROM a\n  Copy a b  ",
            "error in 'Copy a b': invalid instruction",
        ),
        (
            "FROM a\nRUN\u{a0}b",
            "error in 'RUN\u{a0}b': invalid instruction",
        ),
        (
            "RUN echo hi",
            "'RUN echo hi' not permitted before a FROM instruction",
        ),
        (
            "ARG A=1\nENV B \\\n 2",
            "'ENV B  2' not permitted before a FROM instruction",
        ),
        (
            "ONBUILD RUN a",
            "'ONBUILD RUN a' not permitted before a FROM instruction",
        ),
    ] {
        assert_eq!(error(text).0, message);
    }
}

#[test]
fn errors_say_what_and_where() {
    for (text, message, line, column) in [
        (
            "",
            "the Dockerfile is empty: it needs at least a FROM instruction",
            0,
            0,
        ),
        (
            "\n# c\n",
            "the Dockerfile is empty: it needs at least a FROM instruction",
            0,
            0,
        ),
        ("ARG A", "the Dockerfile has no FROM instruction", 0, 0),
        (
            "FROM a\0",
            "the Dockerfile holds a NUL character: is it a text file?",
            0,
            0,
        ),
        ("FROM", "FROM needs an image or a stage", 1, 1),
        ("FROM a b", "unexpected 'b'", 1, 8),
        ("FROM a AS", "FROM needs a name behind AS", 1, 1),
        ("FROM a AS b c", "unexpected 'c'", 1, 13),
        (
            "FROM a AS 1b",
            "'1b' is not a stage's name: it begins with a letter and holds letters, digits, '_', '-' and '.' only, and isn't 'scratch'",
            1,
            11,
        ),
        (
            "FROM a AS Scratch",
            "'Scratch' is not a stage's name: it begins with a letter and holds letters, digits, '_', '-' and '.' only, and isn't 'scratch'",
            1,
            11,
        ),
        (
            "FROM a AS b\nRUN x\nFROM c as B",
            "a stage named 'b' begins in line 1 already",
            3,
            11,
        ),
        (
            "FROM a:b:c",
            "invalid image reference 'a:b:c': it holds a character other than letters, digits, '_', '.' and '-'; \
             the form is [REGISTRY/]NAME[:TAG][@SNAPSHOT]",
            1,
            6,
        ),
        (
            "FROM --platfrom=x a",
            "FROM has no flag '--platfrom'; did you mean '--platform'?",
            1,
            8,
        ),
        ("FROM a\nRUN", "RUN needs a command", 2, 1),
        ("FROM a\nRUN []", "RUN needs a command", 2, 1),
        ("FROM a\nCMD", "CMD needs a command", 2, 1),
        ("FROM a\nENV", "ENV needs at least one NAME=VALUE", 2, 1),
        (
            "FROM a\nENV A",
            "ENV needs a value behind the name: NAME=VALUE",
            2,
            1,
        ),
        (
            "FROM a\nENV A=1 \\\n  B",
            "'B' has no value: the form is NAME=VALUE",
            3,
            3,
        ),
        (
            "FROM a\nENV =1",
            "'=1' has no value: the form is NAME=VALUE",
            2,
            5,
        ),
        ("FROM a\nENV A='x \\\n y", "unterminated single quote", 2, 7),
        (
            "FROM a\nENV A=1 \\\n# c\n B=\"x",
            "unterminated double quote",
            4,
            4,
        ),
        ("FROM a\nENV A ${B", "unterminated '${'", 2, 7),
        (
            "FROM a\nUSER é${A!}",
            "bad substitution: '!' is none of the modifiers :- :+ :? - + ? # % /",
            2,
            10,
        ),
        (
            "FROM a\nARG 1A=2",
            "'1A' is not a variable's name: it holds letters, digits, '_', '-' and '.' only",
            2,
            5,
        ),
        (
            "FROM a\nCOPY a",
            "COPY needs at least one source and a destination",
            2,
            1,
        ),
        (
            "FROM a\nCOPY [\"a\"]",
            "COPY needs at least one source and a destination",
            2,
            1,
        ),
        (
            "FROM a\nCOPY --form=b a c",
            "COPY has no flag '--form'; did you mean '--from'?",
            2,
            8,
        ),
        (
            "FROM a\nCOPY --xyzzy a c",
            "COPY has no flag '--xyzzy'",
            2,
            8,
        ),
        (
            "FROM a\nCOPY --from a c",
            "flag '--from' needs a value: a stage or an image",
            2,
            8,
        ),
        (
            "FROM a\nCOPY --from=b --from=c a c",
            "flag '--from' is given twice",
            2,
            17,
        ),
        (
            "FROM a\nCOPY --link=x a c",
            "flag '--link' can't be 'x': it is true or false",
            2,
            13,
        ),
        ("FROM a\nADD --from=b a c", "ADD has no flag '--from'", 2, 7),
        (
            "FROM a\nADD --keep-git-dir a c",
            "flag '--keep-git-dir' is not supported: copy a clone of the repository from the build context",
            2,
            7,
        ),
        (
            "FROM a\nCOPY a <<E\nE",
            "COPY needs a destination behind its heredoc",
            2,
            8,
        ),
        (
            "FROM a\nCOPY <<E /a\nx",
            "unterminated heredoc: no line holds 'E' alone",
            2,
            6,
        ),
        (
            "FROM a\nRUN <<A <<B\nA\n B\n",
            "unterminated heredoc: no line holds 'B' alone",
            2,
            9,
        ),
        (
            "FROM a\nRUN --network=x b",
            "flag '--network' can't be 'x': it is default, none or host",
            2,
            15,
        ),
        (
            "FROM a\nRUN --security=insecure b",
            "flag '--security' is not supported: every RUN is confined like a container",
            2,
            7,
        ),
        (
            "FROM a\nRUN --mount=type=cach,target=/x b",
            "--mount: there is no type 'cach': the types are bind, cache, tmpfs and secret",
            2,
            13,
        ),
        (
            "FROM a\nSHELL /bin/sh",
            "SHELL needs a list in JSON form, as in SHELL [\"/bin/sh\", \"-c\"]",
            2,
            7,
        ),
        (
            "FROM a\nSHELL []",
            "SHELL needs a list in JSON form, as in SHELL [\"/bin/sh\", \"-c\"]",
            2,
            7,
        ),
        (
            "FROM a\nONBUILD RUN x",
            "ONBUILD is not supported: write its instruction into the Dockerfiles that use the image",
            2,
            1,
        ),
        (
            "FROM a\nHEALTHCHECK",
            "HEALTHCHECK needs CMD and a command, or NONE",
            2,
            1,
        ),
        ("FROM a\nHEALTHCHECK curl", "unexpected 'curl'", 2, 13),
        ("FROM a\nHEALTHCHECK NONE x", "unexpected 'x'", 2, 18),
        (
            "FROM a\nHEALTHCHECK CMD",
            "HEALTHCHECK needs a command behind CMD",
            2,
            1,
        ),
        (
            "FROM a\nHEALTHCHECK --interval=x CMD y",
            "flag '--interval' can't be 'x': a time, as in 30s or 1m30s",
            2,
            24,
        ),
        (
            "# escape=x\nFROM a",
            "invalid parser directive: escape is \\ or `",
            1,
            1,
        ),
        (
            "# syntax=a\n# syntax=b\nFROM a",
            "invalid parser directive: it is given twice",
            2,
            1,
        ),
    ] {
        let (found, at_line, at_column) = error(text);
        let found = match (line, found.split_once("': ")) {
            (1.., Some((_, problem))) if found.starts_with("error in '") => problem.to_owned(),
            _ => found,
        };
        assert_eq!(found, message, "{text:?}");
        assert_eq!((at_line, at_column), (line, column), "{text:?}");
    }
    let large = format!("FROM a\n#{}", "x".repeat(MAX_SIZE));
    assert!(
        error(&large)
            .0
            .starts_with("the Dockerfile has 1048584 bytes")
    );
}

#[test]
fn suggestions() {
    for (text, suggestion) in [
        ("run x", "RUN"),
        ("FORM a", "FROM"),
        ("Entrypoint x", "ENTRYPOINT"),
    ] {
        let shown = parse(text)
            .unwrap_err()
            .in_file("sub/Dockerfile")
            .to_string();
        assert!(
            shown.ends_with(&format!("did you mean {suggestion}?")),
            "{shown}"
        );
        assert!(shown.contains("--> sub/Dockerfile:1:1\n"), "{shown}");
    }
    let shown = parse("XYZZY").unwrap_err().in_file("f").to_string();
    assert!(!shown.contains("did you mean"), "{shown}");
}

#[test]
fn malformed_mounts() {
    for (mount, message) in [
        ("type=bind", "type 'bind' needs an option 'target'"),
        (
            "type=secret",
            "type 'secret' needs an option 'id' or 'target'",
        ),
        (
            "type=ssh",
            "type 'ssh' is not supported: use a secret mount for keys",
        ),
        ("target=/x,id=a", "option 'id' doesn't go with type 'bind'"),
        (
            "type=tmpfs,target=/x,from=a",
            "option 'from' doesn't go with type 'tmpfs'",
        ),
        (
            "targt=/x",
            "there is no option 'targt'; did you mean 'target'?",
        ),
        ("target=/x,dst=/y", "option 'dst' is given twice"),
        ("target", "option 'target' needs a value"),
        (
            "type=cache,target=/x,mode=9",
            "'mode=9': it is permissions in octal digits, as in 0755",
        ),
        ("type=cache,target=/x,uid=a", "'uid=a': it is a number"),
        (
            "type=cache,target=/x,sharing=a",
            "'sharing=a': it is shared, private or locked",
        ),
        (
            "type=cache,target=/x,ro=a",
            "'readonly=a': it is true or false",
        ),
        (
            "type=tmpfs,target=/x,size=a",
            "'size=a': it is a number with an optional unit b, k, m, g, t or p",
        ),
        ("", "there is no option ''"),
    ] {
        let text = format!("FROM a\nRUN --mount={mount} x");
        let expected = format!("--mount: {message}");
        assert!(error(&text).0.ends_with(&expected), "{}", error(&text).0);
    }
}
