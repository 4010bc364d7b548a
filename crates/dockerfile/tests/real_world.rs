//! Whole Dockerfiles as people write them.

#![allow(clippy::unwrap_used, reason = "a test's helpers may panic as well")]

use kleene_dockerfile::{
    Base, BuildArgs, Dockerfile, FileSource, GlobalScope, Invocation, Kind, Step, parse,
};

fn load(text: &str) -> Dockerfile {
    parse(text)
        .map_err(|error| error.in_file("Dockerfile").to_string())
        .unwrap()
}

fn names(file: &Dockerfile) -> Vec<&'static str> {
    let name = |step: Step<'_>| match step {
        Step::GlobalArg(_) => "(ARG)",
        Step::From { .. } => "FROM",
        Step::Instruction { instruction, .. } => instruction.kind.name(),
    };
    file.steps().map(name).collect()
}

/// The shell's texts of all RUNs.
fn scripts(file: &Dockerfile) -> Vec<String> {
    let instructions = file.stages.iter().flat_map(|stage| &stage.instructions);
    let script = |kind: &Kind| match kind {
        Kind::Run(run) => match run.command.invocation() {
            Invocation::Shell(text) => Some(text.into_owned()),
            Invocation::File(text) => Some(text),
            Invocation::Exec(_) => None,
        },
        _ => None,
    };
    instructions.filter_map(|it| script(&it.kind)).collect()
}

#[test]
fn web_server() {
    let file = load(include_str!("files/web.Dockerfile"));
    let expected = "(ARG) FROM LABEL ENV ENV RUN RUN COPY COPY COPY ENTRYPOINT EXPOSE STOPSIGNAL \
        HEALTHCHECK CMD";
    assert_eq!(names(&file).join(" "), expected);
    let script = &scripts(&file)[0];
    for part in [
        "done;",
        "esac > /etc",
        "$server",
        "--uid 101 web     && apt-get",
    ] {
        assert!(script.contains(part), "{part}: {script}");
    }
    assert!(!script.contains("create the user") && !script.contains("tolerated"));
    let scope = GlobalScope::of(&file, BuildArgs::default()).unwrap();
    let image = scope.expand(&file.stages[0].from.kind.image).unwrap();
    assert_eq!(image, "registry.example.org:5000/debian:12-slim");
    let inline = file.stages[0]
        .instructions
        .iter()
        .find_map(|it| match &it.kind {
            Kind::Copy(copy) => match copy.files.sources.as_slice() {
                [FileSource::Inline(heredoc)] => Some(heredoc),
                _ => None,
            },
            _ => None,
        });
    let content = inline.unwrap().expand(&|_| None).unwrap();
    assert!(content.contains("listen 80;\n"), "{content}");
    assert_eq!(file.warnings, []);
}

#[test]
fn database() {
    let file = load(include_str!("files/database.Dockerfile"));
    assert_eq!(file.steps().count(), 17);
    let scope = GlobalScope::of(&file, BuildArgs::default()).unwrap();
    let path = ("PATH".to_owned(), "/bin".to_owned());
    let mut scope = scope.stage([path]);
    for instruction in &file.stages[0].instructions {
        if let Kind::Env(pairs) = &instruction.kind {
            scope.set_env(pairs).unwrap();
        }
    }
    assert_eq!(
        scope.value("PATH").as_deref(),
        Some("/bin:/usr/lib/db/17/bin")
    );
    assert!(scripts(&file)[1].contains("awk -F- '{ print $NF }'"));
}

#[test]
fn node_in_stages() {
    let file = load(include_str!("files/node.Dockerfile"));
    let scope = GlobalScope::of(&file, BuildArgs::default()).unwrap();
    let bases: Vec<Base> = file
        .stages
        .iter()
        .enumerate()
        .map(|(index, stage)| {
            let image = scope.expand(&stage.from.kind.image).unwrap();
            file.base(index, &image).unwrap()
        })
        .collect();
    assert_eq!(
        bases[1..4],
        [Base::Stage(0), Base::Stage(0), Base::Stage(0)]
    );
    assert!(matches!(&bases[0], Base::Image(image) if image.to_string() == "node:22-alpine"));
    let needed: Vec<usize> = file.needed(4, &bases).into_iter().collect();
    assert_eq!(needed, [0, 1, 2, 4]);
    assert!(scripts(&file).last().unwrap().starts_with("#!/bin/sh -e\n"));
}

#[test]
fn freebsd() {
    let file = load(include_str!("files/freebsd.Dockerfile"));
    let scripts = scripts(&file);
    assert!(
        scripts[1].starts_with("sysrc nginx_enable=YES\ncat > "),
        "{}",
        scripts[1]
    );
    assert!(scripts[2].ends_with("x_enable=\"YES\"\nA\n\tWelcome to $HOSTNAME\nB\n"));
    assert_eq!(file.stages[0].instructions.last().unwrap().span.first, 25);
}

/// Carriage returns, a byte order mark and a missing line end change nothing.
#[test]
fn files_from_other_systems() {
    for text in [
        include_str!("files/web.Dockerfile"),
        include_str!("files/database.Dockerfile"),
        include_str!("files/node.Dockerfile"),
        include_str!("files/freebsd.Dockerfile"),
    ] {
        let other = format!("\u{feff}{}", text.trim_end().replace('\n', "\r\n"));
        assert_eq!(load(text), load(&other));
    }
}
