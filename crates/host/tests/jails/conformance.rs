//! The simulated tools answer as those of a FreeBSD 14.2 did.

use kleene_command::{Argv, CommandError, Ending, Runner};
use kleene_host::freebsd::simulated::Machine;
use kleene_tree::memory::MemFs;
use std::path::Path;

/// Commands in their order, with what they answered: lines of output begin with `>`, lines of complaint
/// with `!`, and an exit status that isn't 0 comes last.
const SESSION: &str = include_str!("../fixtures/freebsd-session.txt");

/// A command line, in which words may be quoted.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (number, part) in line.split('\'').enumerate() {
        match number % 2 {
            0 => words.extend(part.split_whitespace().map(str::to_owned)),
            _ => words.push(part.to_owned()),
        }
    }
    words
}

fn answer(machine: &Machine, line: &str) -> String {
    let mut words = words(line).into_iter();
    let command = Argv::new(words.next().unwrap()).args(words);
    let (output, complaint, status) = match machine.run(&command) {
        Ok(output) => (output.text(), String::new(), 0),
        Err(CommandError::Failed {
            ending: Ending::Status(status),
            stderr,
            ..
        }) => (String::new(), stderr, status),
        Err(other) => panic!("{other}"),
    };
    let output = output.lines().map(|line| format!("> {line}\n"));
    let complaint = complaint.lines().map(|line| format!("! {line}\n"));
    let mut text: String = output.chain(complaint).collect();
    if status != 0 {
        text.push_str(&format!("= {status}\n"));
    }
    text
}

#[test]
fn answers_are_those_of_a_real_one() {
    let machine = Machine::new(MemFs::new());
    for directory in ["/t/a", "/t/b", "/t/c"] {
        machine.fs().create_dir_all(Path::new(directory));
    }
    machine.fs().write(Path::new("/t/file"), b"");
    machine.fs().write(Path::new("/t/other"), b"");
    let mut commands = 0;
    for block in SESSION.split("\n$ ").skip(1) {
        let (line, wanted) = block.split_once('\n').unwrap_or((block, ""));
        let wanted = wanted.trim_end();
        assert_eq!(answer(&machine, line).trim_end(), wanted, "{line}");
        commands += 1;
    }
    assert!(commands > 50, "{commands}");
}

/// Both are JSON of the same kind, spaced differently.
#[test]
fn tables_are_those_of_a_real_one() {
    let samples = include_str!("../fixtures/freebsd-tools.json");
    let samples: serde_json::Value = serde_json::from_str(samples).unwrap();
    let sample = |program: &str| {
        let all = samples.as_array().unwrap().iter();
        let mut all = all.filter(|sample| sample["argv"][0] == program);
        let answer = all.next().unwrap()["stdout"].as_str().unwrap();
        serde_json::from_str::<serde_json::Value>(answer).unwrap()
    };
    let machine = Machine::new(MemFs::new());
    let run = |line: &str| {
        let words = words(line);
        let command = Argv::new(&words[0]).args(&words[1..]);
        machine.run(&command).unwrap().text()
    };
    let wanted = sample("mount");
    let root = "/zroot/kleene/container/c1";
    for mount in wanted["mount"]["mounted"]
        .as_array()
        .unwrap()
        .iter()
        .skip(2)
    {
        let text = |key: &str| mount[key].as_str().unwrap();
        if text("fstype") == "nullfs" {
            continue;
        }
        machine.mount(text("special"), Path::new(text("node")), text("fstype"));
    }
    for directory in ["app", "mnt", "tmp"] {
        machine
            .fs()
            .create_dir_all(&Path::new(root).join(directory));
    }
    for file in [
        "/etc/group",
        "/zroot/kleene/container/c1/file",
        "/zroot/kleene/container/c1/etc/group",
    ] {
        machine.fs().write(Path::new(file), b"");
    }
    run(&format!(
        "mount_nullfs /zroot/kleene/volumes/my-vol {root}/app"
    ));
    run(&format!(
        "mount_nullfs -o ro /zroot/kleene/volumes/my-vol {root}/mnt"
    ));
    run(&format!("mount_nullfs /etc/group {root}/etc/group"));
    run(&format!("mount_nullfs /etc/group {root}/file"));
    run(&format!("mount_nullfs /zroot/kleene/volumes {root}/tmp"));
    let found: serde_json::Value = serde_json::from_str(&run("mount --libxo json")).unwrap();
    assert_eq!(found, wanted);
    for _ in 0..6 {
        run("jail -c name=c1 path=/zroot/kleene/container/c1 persist");
        if machine
            .traces()
            .iter()
            .filter(|it| it.starts_with("jail"))
            .count()
            == 1
        {
            let jls: serde_json::Value = serde_json::from_str(&run("jls -v --libxo json")).unwrap();
            if jls["jail-information"]["jail"][0]["jid"] == 6 {
                let mut wanted = sample("jls");
                // Which set of processors it has is of no interest.
                wanted["jail-information"]["jail"][0]["cpusetid"] = 6.into();
                assert_eq!(jls, wanted);
                return;
            }
        }
        run("jail -R c1");
    }
    panic!("the sixth jail has another number");
}
