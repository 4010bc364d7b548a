//! What instructions mean.

use super::*;
use crate::ast::{Command, FileSource, HealthCheck, Invocation, Kind, Run, RunCommand, RunNetwork};
use crate::mount::{BindMount, CacheMount, RunMount, SecretMount, Sharing, TmpfsMount};

/// The only instruction behind FROM.
fn one(instruction: &str) -> Kind {
    let file = match parse(&format!("FROM a\n{instruction}")) {
        Ok(file) => file,
        Err(error) => panic!("{instruction:?}: {}", error.in_file("Dockerfile")),
    };
    let [instruction] = file.stages[0].instructions.as_slice() else {
        panic!("{instruction:?}: not one instruction");
    };
    instruction.kind.clone()
}

fn run(instruction: &str) -> Run {
    match one(instruction) {
        Kind::Run(run) => run,
        other => panic!("{other:?}"),
    }
}

fn pairs(instruction: &str) -> Vec<(String, String)> {
    match one(instruction) {
        Kind::Env(pairs) | Kind::Label(pairs) => pairs
            .iter()
            .map(|pair| (pair.name.raw().to_owned(), pair.value.raw().to_owned()))
            .collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn spans_and_texts() {
    let text = "\u{feff}# syntax=docker/dockerfile:1\r\n# Escape = `\r\n\r\nARG V=1\r\nFROM a:$V AS x\r\n\
        # c\r\nRUN a `\r\n  # c\r\n\r\n  b\r\nCOPY <<E /f\r\nx\r\nE\r\nCMD c";
    let file = parse(text).unwrap();
    assert_eq!(
        file.directives.syntax.as_deref(),
        Some("docker/dockerfile:1")
    );
    assert_eq!(file.directives.escape, '`');
    assert_eq!(file.global_args[0].text, "ARG V=1");
    let stage = &file.stages[0];
    assert_eq!(stage.name.as_deref(), Some("x"));
    assert_eq!(stage.from.kind.image.raw(), "a:$V");
    let found: Vec<_> = stage
        .instructions
        .iter()
        .map(|it| {
            (
                it.span.first,
                it.span.last,
                it.text.as_str(),
                it.source.as_str(),
            )
        })
        .collect();
    assert_eq!(
        found,
        [
            (7, 10, "RUN a   b", "RUN a `\n  # c\n\n  b"),
            (11, 13, "COPY <<E /f", "COPY <<E /f\nx\nE"),
            (14, 14, "CMD c", "CMD c"),
        ]
    );
}

#[test]
fn directives_are_at_the_top_only() {
    for text in [
        "# c\n# escape=`\nFROM a",
        "\n# escape=`\nFROM a",
        "# x=y\n# escape=`\nFROM a",
    ] {
        assert_eq!(parse(text).unwrap().directives.escape, '\\', "{text:?}");
    }
    let file = parse("#check=skip=all\n#ESCAPE=`\nFROM a").unwrap();
    assert_eq!(file.directives.check.as_deref(), Some("skip=all"));
    assert_eq!(file.directives.escape, '`');
}

#[test]
fn commands() {
    let exec = |list: &[&str]| Command::Exec(list.iter().map(|&s| s.to_owned()).collect());
    let shell = |text: &str| Command::Shell(text.to_owned());
    for (text, command) in [
        ("a b", shell("a b")),
        ("[\"a\", \"b c\"]", exec(&["a", "b c"])),
        (" [ \"a\"\\\n ]", exec(&["a"])),
        ("[\"\\u0061\\n\"]", exec(&["a\n"])),
        ("[]", exec(&[])),
        // Anything else is a shell's text, as in Docker.
        ("['a', 'b']", shell("['a', 'b']")),
        ("[\"a\", 1]", shell("[\"a\", 1]")),
        ("[\"a\",]", shell("[\"a\",]")),
        ("[\"a\"] b", shell("[\"a\"] b")),
        ("[ -f x ] && y", shell("[ -f x ] && y")),
        ("echo 'it", shell("echo 'it")),
        ("--x", shell("--x")),
    ] {
        assert_eq!(one(&format!("CMD {text}")), Kind::Cmd(command.clone()));
        assert_eq!(
            one(&format!("ENTRYPOINT {text}")),
            Kind::Entrypoint(command)
        );
    }
    assert_eq!(
        run("RUN -- --x y").command,
        RunCommand::Plain(shell("--x y"))
    );
}

#[test]
fn variables_of_env_and_label() {
    for (text, expected) in [
        ("A=1", &[("A", "1")][..]),
        (
            "A=1 B=\"2 3\"\\\n C='4 5' D=6\\ 7",
            &[("A", "1"), ("B", "\"2 3\""), ("C", "'4 5'"), ("D", "6\\ 7")],
        ),
        ("A b  c", &[("A", "b  c")]),
        ("A b=c", &[("A", "b=c")]),
        ("A=", &[("A", "")]),
        ("A=b=c", &[("A", "b=c")]),
        ("A=${B:-x y} C=1", &[("A", "${B:-x y}"), ("C", "1")]),
        ("\"a b\"=c", &[("\"a b\"", "c")]),
        ("A \"it's\"", &[("A", "\"it's\"")]),
    ] {
        let expected: Vec<_> = expected
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        assert_eq!(pairs(&format!("ENV {text}")), expected, "{text}");
        assert_eq!(pairs(&format!("LABEL {text}")), expected, "{text}");
    }
    assert_eq!(
        pairs("MAINTAINER me")[0],
        ("'maintainer'".to_owned(), "'me'".to_owned())
    );
}

#[test]
fn arguments() {
    let Kind::Arg(args) = one("ARG A B=\"x y\" _c-d.e=") else {
        panic!("not ARG");
    };
    let found: Vec<_> = args
        .iter()
        .map(|arg| {
            (
                arg.name.as_str(),
                arg.default.as_ref().map(|word| word.raw()),
            )
        })
        .collect();
    assert_eq!(
        found,
        [("A", None), ("B", Some("\"x y\"")), ("_c-d.e", Some(""))]
    );
}

#[test]
fn simple_instructions() {
    let raw = |kind: Kind| -> Vec<String> {
        let words = match kind {
            Kind::User(word) | Kind::Workdir(word) | Kind::StopSignal(word) => vec![word],
            Kind::Expose(words) | Kind::Volume(words) => words,
            other => panic!("{other:?}"),
        };
        words.iter().map(|word| word.raw().to_owned()).collect()
    };
    for (text, expected) in [
        ("USER ${U}:g", &["${U}:g"][..]),
        ("WORKDIR /a b", &["/a b"]),
        ("STOPSIGNAL SIGQUIT", &["SIGQUIT"]),
        ("EXPOSE 80 443/tcp $P", &["80", "443/tcp", "$P"]),
        ("VOLUME /a /b", &["/a", "/b"]),
        ("VOLUME [\"/a b\", \"/c\"]", &["/a b", "/c"]),
    ] {
        assert_eq!(raw(one(text)), expected);
    }
    let shell = vec!["/bin/bash".to_owned(), "-c".to_owned()];
    assert_eq!(one("SHELL [\"/bin/bash\", \"-c\"]"), Kind::Shell(shell));
}

#[test]
fn from_forms() {
    for (text, image, platform, name) in [
        ("FROM FreeBSD:14.1@snap", "FreeBSD:14.1@snap", None, None),
        (
            "FROM  --platform=$P  h:5000/a/b:c  as  Build-1",
            "h:5000/a/b:c",
            Some("$P"),
            Some("build-1"),
        ),
        ("FROM ${A:-x y}", "${A:-x y}", None, None),
        ("FROM \"a\"", "\"a\"", None, None),
    ] {
        let stage = parse(text).unwrap().stages.remove(0);
        assert_eq!(stage.from.kind.image.raw(), image);
        assert_eq!(
            stage.from.kind.platform.as_ref().map(|word| word.raw()),
            platform
        );
        assert_eq!(stage.name.as_deref(), name);
    }
}

#[test]
fn files() {
    let Kind::Copy(copy) = one(
        "COPY --from=b --chown=u:g --chmod=755 --exclude=*.md --exclude=x --link --parents a 'b c' d/",
    ) else {
        panic!("not COPY");
    };
    assert_eq!(copy.from.unwrap().raw(), "b");
    assert!(copy.parents);
    assert_eq!(copy.files.chown.unwrap().raw(), "u:g");
    assert_eq!(copy.files.chmod.unwrap().raw(), "755");
    let exclude: Vec<&str> = copy.files.exclude.iter().map(|word| word.raw()).collect();
    assert_eq!(exclude, ["*.md", "x"]);
    assert_eq!(copy.files.sources.len(), 2);
    assert_eq!(copy.files.destination.raw(), "d/");
    let Kind::Add(add) =
        one("ADD --checksum=sha256:0 --unpack=false [\"https://x/a b\", \"/c d\"]")
    else {
        panic!("not ADD");
    };
    assert_eq!(add.checksum.unwrap().raw(), "sha256:0");
    assert_eq!(add.unpack, Some(false));
    assert_eq!(add.files.destination.raw(), "/c d");
    assert!(
        matches!(&add.files.sources[0], FileSource::Path(word) if word.raw() == "https://x/a b")
    );
}

#[test]
fn inline_files() {
    let Kind::Copy(copy) = one("COPY --chmod=644 <<a.txt x <<-\"b\" /d/\n$A\na.txt\n\t$B\n\tb\n")
    else {
        panic!("not COPY");
    };
    let [
        FileSource::Inline(a),
        FileSource::Path(x),
        FileSource::Inline(b),
    ] = copy.files.sources.as_slice()
    else {
        panic!("{:?}", copy.files.sources);
    };
    assert_eq!(
        (a.name.as_str(), a.expands, a.content().as_str()),
        ("a.txt", true, "$A\n")
    );
    assert_eq!(x.raw(), "x");
    assert_eq!(
        (b.name.as_str(), b.expands, b.content().as_str()),
        ("b", false, "$B\n")
    );
    // In a list nothing is a heredoc.
    assert!(matches!(one("COPY [\"<<E\", \"/x\"]"), Kind::Copy(_)));
}

#[test]
fn scripts() {
    let invoked = |text: &str| match run(text).command.invocation() {
        Invocation::Shell(text) => format!("sh: {text}"),
        Invocation::Exec(list) => format!("exec: {}", list.join("|")),
        Invocation::File(text) => format!("file: {text}"),
    };
    for (text, expected) in [
        ("RUN a", "sh: a"),
        ("RUN [\"a\", \"b\"]", "exec: a|b"),
        ("RUN [\"<<E\"]", "exec: <<E"),
        ("RUN <<E\na\n# b\n\nRUN c\nE\n", "sh: a\n# b\n\nRUN c\n"),
        ("RUN <<-E\n\ta\n\tE\n", "sh: a\n"),
        ("RUN <<E\nE\n", "sh: "),
        (
            "RUN <<E\n#!/usr/bin/env perl\nprint;\nE\n",
            "file: #!/usr/bin/env perl\nprint;\n",
        ),
        ("RUN <<E sh -x\na \\\n b\nE", "sh: <<E sh -x\na \\\n b\nE\n"),
        ("RUN 3<<E\na\nE", "sh: 3<<E\na\nE\n"),
        (
            "RUN cat <<'A' >/x && \\\n cat <<-B\n$x\nA\n\ty\n\tB\n",
            "sh: cat <<'A' >/x &&  cat <<-B\n$x\nA\n\ty\nB\n",
        ),
        ("RUN --network=none <<E\na\nE", "sh: a\n"),
        ("RUN echo $((1 <<2)) # <<E", "sh: echo $((1 <<2)) # <<E"),
        ("RUN \"<<E\"", "sh: \"<<E\""),
    ] {
        assert_eq!(invoked(text), expected, "{text:?}");
    }
}

#[test]
fn networks_and_mounts() {
    let run = run(
        "RUN --network=host --mount=type=cache,target=/c,sharing=locked,uid=1,mode=0700 \\\n\
         --mount=src=a,dst='/b c',from=x,rw --mount=type=tmpfs,target=/t,size=1m \\\n\
         --mount=type=secret,id=s,env=S,required x",
    );
    assert_eq!(run.network, RunNetwork::Host);
    let none = |_: &str| None;
    let mounts: Vec<_> = run
        .mounts
        .iter()
        .map(|m| m.resolve(&none).unwrap())
        .collect();
    let [cache, bind, tmpfs, secret] = mounts.as_slice() else {
        panic!("{mounts:?}");
    };
    let text = |text: &str| Some(text.to_owned());
    let expected = RunMount::Cache(CacheMount {
        target: "/c".to_owned(),
        id: None,
        source: None,
        from: None,
        sharing: Sharing::Locked,
        read_only: false,
        mode: Some(0o700),
        uid: Some(1),
        gid: None,
    });
    assert_eq!(*cache, expected);
    let expected = RunMount::Bind(BindMount {
        target: "/b c".to_owned(),
        source: text("a"),
        from: text("x"),
        writable: true,
    });
    assert_eq!(*bind, expected);
    assert!(
        matches!(tmpfs, RunMount::Tmpfs(TmpfsMount { size: Some(size), .. }) if size.bytes() == 1 << 20)
    );
    let expected = RunMount::Secret(SecretMount {
        id: "s".to_owned(),
        target: None,
        env: text("S"),
        required: true,
        mode: None,
        uid: None,
        gid: None,
    });
    assert_eq!(*secret, expected);
}

#[test]
fn secrets_have_names_and_places() {
    for (options, id, target) in [
        ("id=a", "a", Some("/run/secrets/a")),
        ("target=/x/b", "b", Some("/x/b")),
        ("id=a,target=/x/b,env", "a", Some("/x/b")),
        ("id=a,env", "a", None),
    ] {
        let run = run(&format!("RUN --mount=type=secret,{options} x"));
        let mount = run.mounts[0].resolve(&|_| None).unwrap();
        let RunMount::Secret(SecretMount {
            id: found_id,
            target: found_target,
            env,
            ..
        }) = mount
        else {
            panic!("{mount:?}");
        };
        assert_eq!((found_id.as_str(), found_target.as_deref()), (id, target));
        let expected = options.contains("env").then_some(id);
        assert_eq!(env.as_deref(), expected);
    }
}

#[test]
fn mounts_with_variables() {
    let run = run("RUN --mount=type=$T,target=${D},uid=$U x");
    let scope = |uid: &'static str| {
        move |name: &str| match name {
            "T" => Some("cache".to_owned()),
            "D" => Some("/x".to_owned()),
            _ => Some(uid.to_owned()),
        }
    };
    let mount = &run.mounts[0];
    assert!(matches!(
        mount.resolve(&scope("7")),
        Ok(RunMount::Cache(CacheMount { uid: Some(7), .. }))
    ));
    assert!(mount.resolve(&scope("x")).is_err());
}

#[test]
fn health_checks() {
    let Kind::HealthCheck(HealthCheck::Check {
        interval,
        timeout,
        start_period,
        start_interval,
        retries,
        command,
    }) = one(
        "HEALTHCHECK --interval=1m30s --timeout=3s --start-period=5s --retries=4 \\\n CMD [\"a\"]",
    )
    else {
        panic!("not a check");
    };
    let seconds = |time: Option<kleene_types::Span>| time.map(|time| time.duration().as_secs());
    assert_eq!(seconds(interval), Some(90));
    assert_eq!(seconds(timeout), Some(3));
    assert_eq!(seconds(start_period), Some(5));
    assert_eq!(seconds(start_interval), None);
    assert_eq!(retries, Some(4));
    assert_eq!(command, Command::Exec(vec!["a".to_owned()]));
    assert_eq!(
        one("HEALTHCHECK NONE"),
        Kind::HealthCheck(HealthCheck::None)
    );
}

#[test]
fn warnings() {
    let text = "FROM a\nMAINTAINER x\nCMD ['a']\nCMD [ -f x ]\nRUN [\"a\" b]\nENTRYPOINT [\"a\"]\n";
    let file = parse(text).unwrap();
    let lines: Vec<usize> = file.warnings.iter().map(|warning| warning.line).collect();
    assert_eq!(lines, [2, 3, 5]);
}
