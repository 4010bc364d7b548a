//! The method `host`, by running what it has put together. Needs root, for chroot(8) and mount(8).

#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests may panic"
)]

use std::fs;
use std::ops::ControlFlow;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kleene_command::{Answer, Argv, Runner, Scripted, System};
use kleene_doors::userland::{Defaults, Extras, Progress, Source, Userland, UserlandError};
use kleene_userland::{Host, SystemUserland};
use tempfile::TempDir;

fn fill_with(
    add: &[PathBuf],
    extras: Extras,
    into: &Path,
) -> (Result<Defaults, UserlandError>, Vec<Progress>) {
    let userland = SystemUserland::new(into.join("no-cache-is-needed"));
    let mut told = Vec::new();
    let mut sink = |progress| {
        told.push(progress);
        ControlFlow::Continue(())
    };
    let result = userland.fill(&Source::Host { add: add.to_vec() }, extras, into, &mut sink);
    (result, told)
}

fn filled(add: &[PathBuf]) -> TempDir {
    let into = tempfile::tempdir().unwrap();
    fill_with(add, Extras::default(), into.path()).0.unwrap();
    into
}

fn refused(add: &Path) -> String {
    let into = tempfile::tempdir().unwrap();
    let (result, _) = fill_with(&[add.to_owned()], Extras::default(), into.path());
    assert_eq!(
        fs::read_dir(into.path()).unwrap().count(),
        0,
        "something was written"
    );
    match result {
        Err(UserlandError::Invalid(message)) => message,
        other => panic!("{other:?}"),
    }
}

/// What is put together on a FreeBSD, out of this host's programs; `pwd_mkdb` answers so.
fn filled_on_freebsd(add: &[PathBuf], answer: Option<Answer>) -> (TempDir, Vec<String>) {
    let into = tempfile::tempdir().unwrap();
    let etc = into.path().join("etc");
    let master = etc.join("master.passwd");
    let (etc, master) = (etc.to_str().unwrap(), master.to_str().unwrap());
    let runner = Scripted::new();
    if let Some(answer) = answer {
        runner.then(&["pwd_mkdb", "-i", "-p", "-d", etc, master], answer);
    }
    let runner = Arc::new(runner);
    let host = Host {
        system: "FreeBSD".to_owned(),
        ..Host::this()
    };
    let userland = SystemUserland::new(into.path().join("no-cache-is-needed"))
        .host(host)
        .runner(Arc::clone(&runner) as _);
    let mut told = Vec::new();
    let mut sink = |progress: Progress| {
        told.push(progress.step);
        ControlFlow::Continue(())
    };
    let source = Source::Host { add: add.to_vec() };
    userland
        .fill(&source, Extras::default(), into.path(), &mut sink)
        .unwrap();
    runner.finish().unwrap();
    (into, told)
}

#[test]
fn freebsd_has_a_layout_and_accounts_of_its_own() {
    let (into, _) = filled_on_freebsd(&[], Some(Answer::ok("")));
    let read = |name: &str| fs::read_to_string(into.path().join(name)).unwrap();
    assert!(read("etc/master.passwd").starts_with("root:*:0:0::0:0:"));
    assert!(read("etc/passwd").contains("\nwww:*:80:80:World Wide Web Owner:"));
    assert!(read("etc/group").starts_with("wheel:*:0:root\n"));
    assert!(!read("etc/nsswitch.conf").contains("shadow"));
    let mode = |name: &str| fs::metadata(into.path().join(name)).unwrap().mode() & 0o7777;
    assert_eq!(mode("etc/master.passwd"), 0o600);
    assert_eq!(
        (mode("tmp"), mode("var/tmp"), mode("root")),
        (0o1777, 0o1777, 0o750)
    );
    for dir in ["var/run", "var/empty", "libexec", "media", "usr/local"] {
        assert!(into.path().join(dir).is_dir(), "{dir}");
    }
    for linux in ["srv", "sys", "opt", "etc/mtab"] {
        assert!(!into.path().join(linux).exists(), "{linux}");
    }
}

#[test]
fn freebsds_accounts_without_their_databases() {
    // A host may lack the program, which is told; and users' own files are left alone.
    let (_, told) = filled_on_freebsd(&[], Some(Answer::fail(1, "pwd_mkdb: no")));
    let last = told.last().unwrap();
    assert!(
        last.contains("/etc/pwd.db") && last.contains("pwd_mkdb: no"),
        "{last}"
    );
    let (into, _) = filled_on_freebsd(&["/etc/passwd".into()], None);
    let copy = fs::read(into.path().join("etc/passwd")).unwrap();
    assert_eq!(copy, fs::read("/etc/passwd").unwrap());
    assert!(!into.path().join("etc/master.passwd").exists());
}

/// Runs a script in the image, with `/proc` as in a container: the loader needs it for `$ORIGIN`.
/// The mount goes away with its namespace.
fn sh(root: &Path, script: &str) -> String {
    let script = format!("mount -t proc proc /proc && {script}");
    let argv = Argv::new("unshare").args(["--mount", "chroot"]).arg(root);
    System
        .run(&argv.args(["/bin/sh", "-c", &script]))
        .unwrap()
        .text()
}

/// Compiles C; whoever builds Rust programs has a C compiler to link them.
fn compile(code: &str, output: &Path, options: &[&str]) {
    fs::create_dir_all(output.parent().unwrap()).unwrap();
    let argv = Argv::new("cc")
        .stdin(code)
        .args(["-x", "c", "-", "-o"])
        .arg(output);
    System.run(&argv.args(options.iter().copied())).unwrap();
}

/// A program in `bin` that needs a library in `lib`, which needs one in `deep`. The first is found
/// through the program's own search path; `tags` says of which kind that is.
fn program_with_own_libraries(dir: &Path, tags: &str) -> PathBuf {
    let (lib, deep) = (dir.join("lib"), dir.join("deep"));
    let search = |dir: &Path| format!("-L{}", dir.display());
    let shared = ["-shared", "-fPIC"];
    compile(
        "int deep(void) { return 42; }",
        &deep.join("libdeep.so"),
        &shared,
    );
    compile(
        "int deep(void); int answer(void) { return deep(); }",
        &lib.join("libanswer.so"),
        &[
            &shared[..],
            &[&search(&deep), "-ldeep", "-Wl,-rpath,$ORIGIN/../deep", tags],
        ]
        .concat(),
    );
    let program = dir.join("bin/answer");
    compile(
        "#include <stdio.h>\nint answer(void); int main(void) { printf(\"%d\\n\", answer()); }",
        &program,
        &[
            &search(&lib),
            &format!("-Wl,-rpath-link,{}", deep.display()),
            "-lanswer",
            "-Wl,-rpath,${ORIGIN}/../lib",
            tags,
        ],
    );
    program
}

#[test]
fn programs_run_in_it() {
    let into = tempfile::tempdir().unwrap();
    let extras = Extras {
        resolv_conf: true,
        localtime: true,
        update: false,
    };
    let (result, told) = fill_with(&[], extras, into.path());
    let defaults = result.unwrap();
    assert_eq!(defaults.cmd, ["/bin/sh"]);
    assert!(
        defaults
            .env
            .iter()
            .any(|variable| variable.name() == "PATH")
    );

    let text = sh(
        into.path(),
        "ls / && id && grep root /etc/passwd && tar --version",
    );
    assert!(text.contains("etc\n"), "{text}");
    assert!(text.contains("uid=0(root) gid=0(root)"), "{text}");
    assert!(text.contains("root:*:0:0:root:/root:/bin/sh"), "{text}");
    assert!(text.contains("tar"), "{text}");

    for script in [
        "echo a b | sed s/a/x/ | awk '{print $2}' | cut -c1 | sort | uniq | tr b c | grep -x c",
        "touch /tmp/f && cp /tmp/f /tmp/g && mv /tmp/g /tmp/h && rm /tmp/h && find /tmp -name f",
        "tar -czf /tmp/t.tgz /etc && mkdir /tmp/out && tar -xzf /tmp/t.tgz -C /tmp/out && cat \
         /tmp/out/etc/hosts | xargs echo && zcat /tmp/t.tgz | wc -c",
        "getent passwd nobody && id nobody && getent hosts localhost && whoami",
        "stat -c %a /tmp /root | tr '\\n' ' ' | grep '1777 700'",
        "ps -e | grep sh && kill -0 $$ && df /tmp | tail -n 1",
        "hostname && uname && date && df / && du -s /etc && env && nproc && sleep 0",
        "echo x | sha256sum && seq 3 | tac && dd if=/etc/passwd of=/tmp/p && test -s /tmp/p && [ 1 ]",
    ] {
        assert_ne!(sh(into.path(), script), "", "{script}");
    }
    for (copied, original) in [
        ("etc/resolv.conf", "/etc/resolv.conf"),
        ("etc/localtime", "/etc/localtime"),
    ] {
        assert_eq!(
            fs::read(into.path().join(copied)).unwrap(),
            fs::read(original).unwrap()
        );
    }
    let last = told.last().unwrap();
    assert_eq!(Some(last.done), last.total);
    assert!(
        told.iter()
            .any(|progress| progress.step.starts_with("copying /")),
        "{told:?}"
    );
}

#[test]
fn layout_is_the_hosts() {
    let into = filled(&[]);
    for dir in ["/bin", "/sbin", "/lib", "/lib64", "/usr/bin"] {
        let host = fs::read_link(dir);
        let image = fs::read_link(into.path().join(&dir[1..]));
        assert_eq!(host.ok(), image.ok(), "{dir}");
    }
    assert_eq!(fs::metadata(into.path()).unwrap().mode() & 0o7777, 0o755);
    assert!(!into.path().join("etc/resolv.conf").exists());
    assert!(!into.path().join("etc/shadow").exists());
    assert_eq!(fs::read_dir(into.path().join("dev")).unwrap().count(), 0);
}

#[test]
fn added_directories_come_whole() {
    let host = tempfile::tempdir().unwrap();
    let www = host.path().join("www/nginx");
    fs::create_dir_all(www.join("errors")).unwrap();
    fs::write(www.join("index.html"), "<h1>hello</h1>\n").unwrap();
    fs::write(www.join("errors/50x.html"), "oops\n").unwrap();
    fs::write(www.join(".hidden"), "dot\n").unwrap();
    symlink("index.html", www.join("start")).unwrap();
    fs::set_permissions(&www, fs::Permissions::from_mode(0o750)).unwrap();
    fs::hard_link(www.join("index.html"), www.join("copy.html")).unwrap();

    let into = filled(std::slice::from_ref(&www));
    let copy = into.path().join(www.strip_prefix("/").unwrap());
    assert_eq!(
        fs::read_to_string(copy.join("index.html")).unwrap(),
        "<h1>hello</h1>\n"
    );
    assert_eq!(
        fs::read_to_string(copy.join("errors/50x.html")).unwrap(),
        "oops\n"
    );
    assert_eq!(fs::read_to_string(copy.join(".hidden")).unwrap(), "dot\n");
    assert_eq!(
        fs::read_link(copy.join("start")).unwrap(),
        Path::new("index.html")
    );
    assert_eq!(fs::metadata(&copy).unwrap().mode() & 0o7777, 0o750);
    assert_eq!(fs::metadata(copy.join("copy.html")).unwrap().nlink(), 2);
    assert_eq!(
        sh(into.path(), &format!("ls {}", www.display())),
        "copy.html\nerrors\nindex.html\nstart\n"
    );
}

#[test]
fn libraries_are_found_where_programs_look_for_them() {
    for tags in ["-Wl,--enable-new-dtags", "-Wl,--disable-new-dtags"] {
        let host = tempfile::tempdir().unwrap();
        let program = program_with_own_libraries(host.path(), tags);
        let into = filled(std::slice::from_ref(&program));
        assert_eq!(sh(into.path(), program.to_str().unwrap()), "42\n", "{tags}");

        fs::remove_file(host.path().join("deep/libdeep.so")).unwrap();
        let message = refused(&program);
        assert!(
            message.contains("lib/libanswer.so needs 'libdeep.so'"),
            "{message}"
        );
    }
}

#[test]
fn programs_in_added_directories_run() {
    let host = tempfile::tempdir().unwrap();
    let tags = "-Wl,--enable-new-dtags";
    let program = program_with_own_libraries(&host.path().join("library"), tags);
    // The directory has a program whose libraries are elsewhere.
    let bin = host.path().join("bin");
    fs::rename(program.parent().unwrap(), &bin).unwrap();
    fs::rename(host.path().join("library/lib"), host.path().join("lib")).unwrap();
    fs::rename(host.path().join("library/deep"), host.path().join("deep")).unwrap();
    let into = filled(std::slice::from_ref(&bin));
    assert_eq!(
        sh(into.path(), bin.join("answer").to_str().unwrap()),
        "42\n"
    );
}

#[test]
fn what_the_user_adds_wins_over_what_is_generated() {
    let into = filled(&["/etc/passwd".into()]);
    let copy = fs::read(into.path().join("etc/passwd")).unwrap();
    assert_eq!(copy, fs::read("/etc/passwd").unwrap());
    assert!(sh(into.path(), "cat /etc/group").starts_with("root:"));
}

#[test]
fn added_scripts_bring_their_interpreters() {
    let host = tempfile::tempdir().unwrap();
    let script = |name: &str, text: &str| {
        let path = host.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    };
    let perl = script(
        "greet",
        "#!/usr/bin/env perl\nprint \"hello from perl\\n\";\n",
    );
    let link = host.path().join("alias");
    symlink("greet", &link).unwrap();
    let into = filled(std::slice::from_ref(&link));
    assert!(into.path().join(perl.strip_prefix("/").unwrap()).exists());
    assert_eq!(sh(into.path(), link.to_str().unwrap()), "hello from perl\n");

    let lost = script("lost", "#!/nowhere/interpreter\n");
    let message = refused(&lost);
    assert!(
        message.contains("lost") && message.contains("/nowhere/interpreter"),
        "{message}"
    );
}

#[test]
fn added_programs_bring_their_libraries() {
    let into = filled(&["/bin/bash".into()]);
    assert_eq!(sh(into.path(), "bash -c 'a=(x y); echo ${a[1]}'"), "y\n");
}

#[test]
fn what_cannot_be_added_is_named() {
    let host = tempfile::tempdir().unwrap();
    let missing = host.path().join("nothing/here");
    let message = refused(&missing);
    assert!(
        message.contains("nothing/here") && message.contains("doesn't exist"),
        "{message}"
    );
    let message = refused(Path::new("usr/bin/env"));
    assert!(
        message.contains("relative") && message.contains("'/usr/bin/env'"),
        "{message}"
    );
    for bad in ["/", "/proc/self", "/dev/null", "/sys", "/etc/../bin", ""] {
        refused(Path::new(bad));
    }
    let socket = host.path().join("socket");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    assert!(refused(&socket).contains("neither a file nor a directory"));
    let dangling = host.path().join("dangling");
    symlink("/nowhere", &dangling).unwrap();
    assert!(refused(&dangling).contains("dangling"));
}

#[test]
fn the_image_cannot_hold_itself() {
    let root = tempfile::tempdir().unwrap();
    let into = root.path().join("images/new");
    fs::create_dir_all(&into).unwrap();
    let (result, _) = fill_with(&[root.path().to_owned()], Extras::default(), &into);
    assert!(
        matches!(result, Err(UserlandError::Invalid(_))),
        "{result:?}"
    );
}

#[test]
fn break_cancels() {
    let into = tempfile::tempdir().unwrap();
    let userland = SystemUserland::new(into.path().join("cache"));
    let mut calls = 0;
    let mut sink = |_| {
        calls += 1;
        if calls == 20 {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    };
    let source = Source::Host { add: Vec::new() };
    let result = userland.fill(&source, Extras::default(), into.path(), &mut sink);
    assert!(
        matches!(result, Err(UserlandError::Cancelled)),
        "{result:?}"
    );
    assert_eq!(calls, 20);
}
