//! Tests of jail parameters.

use std::collections::BTreeSet;

use kleene_command::System;
use kleene_doors::host::{ContainerSetup, Network, Process, Stdin};
use kleene_doors::storage::Root;
use kleene_types::{ContainerId, ExecId};

use super::*;
use crate::shared::hooks::run_host_command;

fn parse(params: &[&str]) -> Result<JailParams, String> {
    let params: Vec<String> = params.iter().map(ToString::to_string).collect();
    JailParams::parse(&params, true).map_err(|error| error.to_string())
}

fn parsed(params: &[&str]) -> JailParams {
    parse(params).unwrap()
}

fn refusal(params: &[&str]) -> String {
    parse(params).unwrap_err()
}

/// What a request comes to.
fn applied(params: &[&str], user: &str) -> StartRequest {
    let mut request = StartRequest {
        exec: ExecId::random(),
        container: ContainerId::random(),
        place: Place::New(Box::new(ContainerSetup {
            hostname: "box".into(),
            root: Root::Directory {
                path: "/nowhere".into(),
            },
            mounts: Vec::new(),
            network: Network::Host,
            limits: Default::default(),
            shm_size: None,
            init: Default::default(),
        })),
        jail_params: Vec::new(),
        process: Process {
            argv: vec!["true".into()],
            env: vec!["PATH=/container".parse().unwrap()],
            user: user.into(),
            cwd: None,
            ulimits: Vec::new(),
            tty: false,
            window: None,
            stdin: Stdin::Null,
        },
        log_limit: 0,
        attach: false,
    };
    parsed(params).apply_to(&mut request);
    request
}

#[test]
fn what_every_container_has_changes_nothing() {
    let granted = [
        "allow.mount=false",
        "allow.noquotas",
        "allow.chflags=0",
        "allow.set_hostname = false",
        "allow.socket_af",
        "allow.mlock=true",
        "children.max=0",
        "enforce_statfs=1",
        "devfs_ruleset=4",
        "exec.clean",
        "host=new",
        "mount.devfs=true",
        "mount.fdescfs",
        "mount.procfs=1",
        "nopersist",
        "securelevel=-1",
        "sysvmsg=new",
    ];
    assert_eq!(parsed(&granted), JailParams::default());
    assert_eq!(parsed(&[]), JailParams::default());
}

#[test]
fn booleans_have_all_their_forms() {
    for form in [
        "allow.noraw_sockets",
        "allow.raw_sockets=false",
        "allow.raw_sockets=0",
        " allow.raw_sockets = false ",
    ] {
        assert!(!parsed(&[form]).jail.raw_sockets, "{form}");
    }
    for form in ["mount.nodevfs", "mount.devfs=0"] {
        assert!(!parsed(&[form]).jail.devfs, "{form}");
    }
    for form in ["allow.raw_sockets", "mount.devfs=true"] {
        assert_eq!(parsed(&[form]).jail, Jail::default(), "{form}");
    }
    assert!(refusal(&["mount.devfs=yes"]).contains("'yes'"));
    assert!(refusal(&["mount.nodevfs=1"]).contains("mount.devfs=true or"));
}

#[test]
fn what_cant_be_had_is_refused_with_the_reason() {
    for (param, word) in [
        ("allow.mount", "--mount"),
        ("allow.mount.zfs=1", "--mount"),
        ("allow.set_hostname", "host.hostname"),
        ("allow.nosuser", "--user"),
        ("children.max=5", "make containers"),
        ("osrelease=12.0-RELEASE", "kernel"),
        ("path=/tmp", "image"),
        ("name=x", "--name"),
        ("ip4.addr=10.0.0.1", "--ip"),
        ("vnet", "--driver"),
        ("novnet", "--driver"),
        ("vnet=new", "--driver"),
        ("persist", "--init all"),
        ("securelevel=2", "secure levels"),
        ("sysvshm=disable", "new"),
        ("allow.sysvipc=false", "its own"),
        ("exec.start=/etc/rc", "cmd"),
        ("mount.noprocfs", "/proc"),
    ] {
        let message = refusal(&[param]);
        let named = format!("jail parameter '{param}': ");
        assert!(
            message.starts_with(&named) && message.contains(word),
            "{message}"
        );
    }
}

#[test]
fn unknown_parameters_are_told_with_near_ones() {
    let message = refusal(&["allow.raw_socket"]);
    assert!(message.contains("near: allow.raw_sockets"), "{message}");
    assert!(refusal(&["hostname=x"]).contains("near: host.hostname"));
    assert!(refusal(&["exec.cleam"]).contains("exec.clean"));
    assert!(refusal(&["nomount.devfs"]).contains("mount.devfs"));
    for param in ["", "=", "no", "no=1", "nosuch", "allow.", "a\nb"] {
        assert!(refusal(&[param]).contains("no such parameter"), "{param:?}");
    }
}

#[test]
fn nothing_is_said_twice() {
    let message = refusal(&["allow.raw_sockets", "allow.noraw_sockets"]);
    assert!(
        message.contains("'allow.raw_sockets' is given twice"),
        "{message}"
    );
    let hooks = parsed(&["exec.prestop=/a", "exec.prestop+=/b c"]).hooks;
    let expected: [&[&str]; 2] = [&["/a"], &["/b", "c"]];
    assert_eq!(hooks.prestop, expected);
    assert!(refusal(&["exec.stop+=x"]).contains("no such parameter"));
}

#[test]
fn host_names_are_host_names() {
    let longest = "a".repeat(64);
    for name in ["a", "web-1.example.org", "my_box", "1", &longest] {
        let request = applied(&[&format!("host.hostname={name}")], "");
        let Place::New(setup) = request.place else {
            panic!("it was new");
        };
        assert_eq!(setup.hostname, name);
    }
    let longer = "a".repeat(65);
    for name in [
        "", "-a", "a-", "a..b", ".a", "a b", "a/b", "ä", "a\n", &longer,
    ] {
        let message = refusal(&[&format!("host.hostname=x{name}\u{1}")]);
        assert!(message.contains("no host name"), "{message}");
        if !name.is_empty() && !name.ends_with('\n') {
            assert!(
                parse(&[&format!("host.hostname={name}")]).is_err(),
                "{name}"
            );
        }
    }
    assert!(refusal(&["host.hostname"]).contains("needs a value"));
    assert!(refusal(&["host.hostname="]).contains("no host name"));
}

#[test]
fn users_are_those_who_werent_named_otherwise() {
    let params = ["exec.jail_user=www"];
    assert_eq!(applied(&params, "").process.user, "www");
    assert_eq!(applied(&params, "root").process.user, "root");
    assert!(parse(&["exec.jail_user="]).is_err());
}

#[test]
fn the_daemons_environment_lies_beneath() {
    let plain = applied(&["exec.clean"], "").process.env;
    assert_eq!(plain, ["PATH=/container".parse().unwrap()]);
    let whole = applied(&["exec.noclean"], "").process.env;
    let named = |name: &str| whole.iter().filter(|v| v.name() == name).count();
    assert_eq!(named("PATH"), 1);
    assert!(whole.contains(&plain[0]));
    // Cargo sets it for tests.
    assert_eq!(named("CARGO_MANIFEST_DIR"), 1);
}

#[test]
fn ipc_is_shared_as_a_whole() {
    assert!(!parsed(&["sysvmsg=new"]).jail.host_ipc);
    assert!(parsed(&["allow.sysvipc"]).jail.host_ipc);
    let all = ["sysvmsg=inherit", "sysvsem=inherit", "sysvshm=inherit"];
    assert!(parsed(&all).jail.host_ipc);
    for some in [&all[..1], &all[..2], &["allow.sysvipc", "sysvsem=new"]] {
        assert!(refusal(some).contains("all three"), "{some:?}");
    }
    assert!(refusal(&["sysvmsg=other"]).contains("neither"));
}

#[test]
fn hooks_are_words_and_times() {
    let hooks = parsed(&[
        "exec.prestart=/bin/echo 'a b' c",
        "exec.poststart=logger up",
        "exec.poststop=/x",
        "exec.stop=/bin/sh /etc/rc.shutdown; true",
        "exec.timeout=5",
        "stop.timeout=2m",
    ])
    .hooks;
    let echo: [&[&str]; 1] = [&["/bin/echo", "a b", "c"]];
    assert_eq!(hooks.prestart, echo);
    let stop = ["/bin/sh", "-c", "/bin/sh /etc/rc.shutdown; true"];
    assert_eq!(hooks.stop.unwrap(), stop);
    assert_eq!(hooks.timeout, Some(Span::from_millis(5000)));
    assert_eq!(hooks.stop_timeout, Some(Span::from_millis(120_000)));
    assert_eq!(parsed(&["exec.timeout=0"]).hooks.timeout, Some(NO_LIMIT));
    let none = parsed(&["stop.timeout=0"]).hooks.stop_timeout;
    assert_eq!(none, Some(Span::from_millis(0)));
    for param in [
        "exec.timeout=soon",
        "exec.stop=",
        "exec.prestart=",
        "exec.prestart=./x",
        "exec.prestart=/a 'b",
    ] {
        assert!(parse(&[param]).is_err(), "{param}");
    }
}

#[test]
fn host_commands_need_the_configurations_consent() {
    for name in ["prestart", "poststart", "prestop", "poststop"] {
        let params = [format!("exec.{name}=/bin/true")];
        let error = JailParams::parse(&params, false).unwrap_err().to_string();
        assert!(error.contains("allow_host_commands"), "{error}");
        JailParams::parse(&params, true).unwrap();
    }
    // It runs inside.
    JailParams::parse(&["exec.stop=true".to_owned()], false).unwrap();
}

#[test]
fn host_commands_know_the_container_and_have_their_time() {
    let container = ContainerId::random();
    let run = |script: &str, limit| {
        let argv = ["/bin/sh", "-c", script].map(str::to_owned);
        run_host_command(&System, &container, &argv, Span::from_millis(limit))
    };
    run(&format!("test $KLEENE_CONTAINER = {container}"), 60_000).unwrap();
    run("test -z \"$CARGO_MANIFEST_DIR\"", 60_000).unwrap();
    let cause = |error: HostError| match error {
        HostError::Failed { action, source } => format!("{action}: {source}"),
        other => panic!("{other:?}"),
    };
    let message = cause(run("echo no luck >&2; exit 3", 60_000).unwrap_err());
    assert!(
        message.contains("no luck") && message.contains("status 3"),
        "{message}"
    );
    assert!(message.contains(container.as_str()), "{message}");
    let message = cause(run("exec sleep 1000", 50).unwrap_err());
    assert!(message.contains("longer than 0.05 s"), "{message}");
}

#[test]
fn the_guide_has_every_parameter_and_no_other() {
    let guide = include_str!("../../../../../docs/guide/jail-parameters.md");
    let (_, of_linux) = guide.split_once("## What has an effect on Linux").unwrap();
    let rows = of_linux.lines().filter_map(|line| line.strip_prefix("| `"));
    let named: BTreeSet<&str> = rows
        .flat_map(|row| row.split(" | ").next())
        .flat_map(|names| names.split(['`', ',', ' ']))
        .filter(|name| !name.is_empty())
        .collect();
    let known: BTreeSet<&str> = table::TABLE.iter().map(|(name, _)| *name).collect();
    assert_eq!(
        known.len(),
        table::TABLE.len(),
        "a parameter is there twice"
    );
    let missing: Vec<_> = known.difference(&named).collect();
    let odd: Vec<_> = named.difference(&known).collect();
    assert_eq!((missing, odd), (vec![], vec![]));
}
