//! Tests of the filter: interpreted, and loaded for real.

use std::collections::BTreeSet;

use super::*;

const EPERM: u32 = libc::SECCOMP_RET_ERRNO | 1;
const ENOSYS: u32 = libc::SECCOMP_RET_ERRNO | 38;
const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;

fn filter() -> Vec<libc::sock_filter> {
    let dir = tempfile::tempdir().unwrap();
    let bytes = fs::read(ensure_filter(dir.path()).unwrap()).unwrap();
    let instruction = |bytes: &[u8]| libc::sock_filter {
        code: u16::from_ne_bytes([bytes[0], bytes[1]]),
        jt: bytes[2],
        jf: bytes[3],
        k: u32::from_ne_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]),
    };
    bytes.chunks_exact(INSTRUCTION).map(instruction).collect()
}

/// What the kernel does with a call: its number, architecture and arguments.
fn run(filter: &[libc::sock_filter], number: u32, architecture: u32, arguments: &[u64]) -> u32 {
    let mut data = [0_u8; 64];
    data[..4].copy_from_slice(&number.to_ne_bytes());
    data[4..8].copy_from_slice(&architecture.to_ne_bytes());
    for (index, argument) in arguments.iter().enumerate() {
        data[16 + 8 * index..][..8].copy_from_slice(&argument.to_ne_bytes());
    }
    let mut accumulator = 0_u32;
    let mut next = 0;
    loop {
        let libc::sock_filter { code, jt, jf, k } = filter[next];
        next += 1;
        let jump = |yes: bool| usize::from(if yes { jt } else { jf });
        match code {
            LOAD => {
                let at = k as usize;
                accumulator = u32::from_ne_bytes(data[at..at + 4].try_into().unwrap());
            }
            JUMP_EQUAL => next += jump(accumulator == k),
            JUMP_AT_LEAST => next += jump(accumulator >= k),
            JUMP_GREATER => next += jump(accumulator > k),
            0x45 => next += jump(accumulator & k != 0),
            0x54 => accumulator &= k,
            JUMP => next += k as usize,
            RETURN => return k,
            other => panic!("instruction {other:#x}"),
        }
    }
}

/// The name of a number. (The other way round, libseccomp has numbers of its own for the calls that
/// x86 can also make through `socketcall` and `ipc`.)
fn name_of(number: u32, architecture: ScmpArch) -> Option<String> {
    let call = ScmpSyscall::from(i32::try_from(number).unwrap());
    call.get_name_by_arch(architecture).ok()
}

fn base(architecture: ScmpArch) -> u32 {
    if architecture == ScmpArch::X32 {
        0x4000_0000
    } else {
        0
    }
}

fn number(name: &str, architecture: ScmpArch) -> Option<u32> {
    let base = base(architecture);
    (base..base + 600).find(|call| name_of(*call, architecture).as_deref() == Some(name))
}

/// On every architecture, every number means what the profile says of its name.
#[test]
fn every_number_does_what_the_profile_says() {
    let filter = filter();
    let names: BTreeSet<&str> = names()
        .chain(NUMBERED.iter().map(|(name, _)| *name))
        .collect();
    let conditional: BTreeSet<&str> = conditions().iter().map(|(name, _)| *name).collect();
    assert!(!architectures().is_empty(), "no architecture to look at");
    for (architecture, token) in architectures() {
        let base = base(*architecture);
        let mut allowed = 0;
        for call in base..base + 1000 {
            let uniform = NUMBERED.iter().find(|(_, number)| *number == call);
            let name = name_of(call, *architecture);
            let name = uniform
                .map(|(name, _)| *name)
                .or(name.as_deref())
                .unwrap_or_default();
            let expected = match name {
                name if conditional.contains(name) => continue,
                name if names.contains(name) => ALLOW,
                "clone3" => ENOSYS,
                _ if base == 0 && call > NEWEST => ENOSYS,
                _ => EPERM,
            };
            allowed += u32::from(expected == ALLOW);
            let got = run(&filter, call, *token, &[0; 6]);
            assert_eq!(got, expected, "{architecture:?} {call} {name}");
        }
        assert!(allowed > 250, "{architecture:?}: {allowed}");
    }
}

/// The numbers given in the profile are the library's, as far as that knows the calls.
#[test]
fn numbers_are_right() {
    let native = architectures()[0].0;
    let known: Vec<_> = NUMBERED
        .iter()
        .filter_map(|(name, _)| Some((*name, number(name, native)?)))
        .collect();
    assert!(known.len() > 8, "{known:?}");
    for known in known {
        assert!(NUMBERED.contains(&known), "{known:?}");
    }
    assert_eq!(number("clone3", native), Some(CLONE3));
}

#[test]
fn what_leads_out_of_a_container_is_refused() {
    let filter = filter();
    let refused = [
        "acct",
        "add_key",
        "bpf",
        "clock_settime",
        "delete_module",
        "fanotify_init",
        "fsopen",
        "init_module",
        "io_uring_setup",
        "kcmp",
        "kexec_load",
        "keyctl",
        "mbind",
        "mount",
        "move_mount",
        "move_pages",
        "nfsservctl",
        "open_by_handle_at",
        "open_tree",
        "perf_event_open",
        "pidfd_getfd",
        "pivot_root",
        "quotactl",
        "reboot",
        "request_key",
        "sethostname",
        "setns",
        "swapon",
        "syslog",
        "umount2",
        "unshare",
        "userfaultfd",
        "vhangup",
    ];
    for (architecture, token) in architectures() {
        for name in refused {
            if let Some(call) = number(name, *architecture) {
                let got = run(&filter, call, *token, &[0; 6]);
                assert_eq!(got, EPERM, "{architecture:?} {name}");
            }
        }
    }
}

#[test]
fn arguments_decide() {
    let filter = filter();
    let (above, namespaces) = (1_u64 << 32, libc::CLONE_NEWUSER as u64);
    let cases = [
        ("socket", libc::AF_INET as u64, ALLOW),
        ("socket", libc::AF_NETLINK as u64, ALLOW),
        ("socket", libc::AF_ALG as u64, EPERM),
        ("socket", 39, ALLOW),
        ("socket", libc::AF_VSOCK as u64, EPERM),
        ("socket", 41, ALLOW),
        ("socket", libc::AF_XDP as u64, ALLOW),
        ("personality", 0, ALLOW),
        ("personality", 0xffff_ffff, ALLOW),
        ("personality", 0x0004_0000, EPERM),
        ("clone", libc::SIGCHLD as u64, ALLOW),
        ("clone", (libc::CLONE_VM | libc::CLONE_VFORK) as u64, ALLOW),
        ("clone", namespaces, EPERM),
        ("clone", libc::CLONE_NEWNET as u64 | 17, EPERM),
    ];
    for (architecture, token) in architectures() {
        for (name, argument, expected) in cases {
            let call = number(name, *architecture).unwrap();
            let got = run(&filter, call, *token, &[argument]);
            assert_eq!(got, expected, "{architecture:?} {name}({argument:#x})");
        }
    }
    // The kernel takes 32 bits of these: what lies above must not make another family of it.
    let (architecture, token) = architectures()[0];
    for family in [libc::AF_ALG as u64, libc::AF_VSOCK as u64] {
        let call = number("socket", architecture).unwrap();
        assert_eq!(run(&filter, call, token, &[family + above]), EPERM);
    }
}

/// Runs `checks` in a process of its own under the filter; gives what it returns. Nothing in
/// `checks` may allocate memory or take a lock, since other threads of this process may hold one.
fn under_filter(filter: &mut [libc::sock_filter], checks: fn() -> i32) -> i32 {
    let program = libc::sock_fprog {
        len: u16::try_from(filter.len()).unwrap(),
        filter: filter.as_mut_ptr(),
    };
    // SAFETY: the child only makes system calls, and ends without running anything of the parent's.
    let child = unsafe { libc::fork() };
    assert!(child >= 0, "fork: {}", io::Error::last_os_error());
    if child == 0 {
        // SAFETY: the program points to the parent's copied instructions; _exit doesn't return.
        unsafe {
            let ready = libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
                && libc::syscall(
                    libc::SYS_seccomp,
                    libc::SECCOMP_SET_MODE_FILTER,
                    0,
                    &program,
                ) == 0;
            libc::_exit(if ready { checks() } else { 99 });
        }
    }
    let mut status = 0;
    // SAFETY: `status` is a valid place for the result.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    assert!(libc::WIFEXITED(status), "killed: {status:#x}");
    libc::WEXITSTATUS(status)
}

/// Whether the last call failed with this.
fn failed_with(result: libc::c_long, errno: i32) -> bool {
    // SAFETY: gives this thread's errno.
    result == -1 && unsafe { *libc::__errno_location() } == errno
}

#[test]
fn the_kernel_takes_it_and_refuses_what_it_should() {
    fn checks() -> i32 {
        // SAFETY: all pointers are null or to static strings; refused calls do nothing, and the
        // allowed ones touch no memory.
        unsafe {
            let null = std::ptr::null::<libc::c_char>();
            let none = null.cast::<libc::c_void>();
            let name = c"x".as_ptr();
            let checks = [
                failed_with(libc::mount(null, null, null, 0, none).into(), libc::EPERM),
                failed_with(libc::syscall(libc::SYS_keyctl, 0, 0, 0, 0, 0), libc::EPERM),
                failed_with(libc::syscall(libc::SYS_clone3, none, 0), libc::ENOSYS),
                failed_with(libc::unshare(libc::CLONE_NEWUSER).into(), libc::EPERM),
                failed_with(
                    libc::syscall(libc::SYS_clone, libc::CLONE_NEWUSER),
                    libc::EPERM,
                ),
                failed_with(libc::socket(libc::AF_VSOCK, 1, 0).into(), libc::EPERM),
                failed_with(libc::socket(libc::AF_ALG, 5, 0).into(), libc::EPERM),
                failed_with(libc::sethostname(name, 1).into(), libc::EPERM),
                failed_with(
                    libc::syscall(libc::SYS_io_uring_setup, 1, none),
                    libc::EPERM,
                ),
                failed_with(libc::syscall(9999), libc::ENOSYS),
                // fchmodat2: allowed, whatever libseccomp knows, so the kernel looks at the path.
                failed_with(libc::syscall(452, -1, null, 0, 0), libc::EFAULT),
                libc::getpid() > 1,
                libc::socket(libc::AF_UNIX, libc::SOCK_STREAM, 0) >= 0,
            ];
            checks
                .iter()
                .position(|ok| !ok)
                .map_or(0, |index| index as i32 + 1)
        }
    }
    assert_eq!(
        under_filter(&mut filter(), checks),
        0,
        "the number of the failed check"
    );
}

#[test]
fn programs_run_under_it() {
    fn fork_and_exec() -> i32 {
        // SAFETY: the child executes a program at once; all strings are static.
        unsafe {
            let child = libc::fork();
            if child == 0 {
                let shell = c"/bin/sh".as_ptr();
                let script = c"test \"$(echo a | cat)\" = a && exit 42".as_ptr();
                let arguments = [shell, c"-c".as_ptr(), script, std::ptr::null()];
                let environment = [c"PATH=/usr/bin:/bin".as_ptr(), std::ptr::null()];
                libc::execve(shell, arguments.as_ptr(), environment.as_ptr());
                libc::_exit(127);
            }
            let mut status = 0;
            libc::waitpid(child, &raw mut status, 0);
            libc::WEXITSTATUS(status)
        }
    }
    assert_eq!(under_filter(&mut filter(), fork_and_exec), 42);
}

#[test]
fn it_is_compiled_once() {
    let dir = tempfile::tempdir().unwrap();
    let stale = dir.path().join("seccomp-0-x86_64-1.0.0-old.bpf");
    fs::write(&stale, "old").unwrap();
    fs::write(dir.path().join("other"), "kept").unwrap();
    let path = ensure_filter(dir.path()).unwrap();
    let made = fs::metadata(&path).unwrap();
    assert_eq!(made.permissions().mode() & 0o777, 0o600);
    assert_eq!(ensure_filter(dir.path()).unwrap(), path);
    assert_eq!(fs::metadata(&path).unwrap().ino(), made.ino());
    let mut left: Vec<_> = fs::read_dir(dir.path())
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    left.sort();
    assert_eq!(left, [dir.path().join("other"), path]);
}

#[test]
fn a_file_that_is_no_filter_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let path = ensure_filter(dir.path()).unwrap();
    let good = fs::read(&path).unwrap();
    let spoil: [fn(&Path); 4] = [
        |path| fs::write(path, b"").unwrap(),
        |path| fs::write(path, b"1234567").unwrap(),
        |path| fs::set_permissions(path, fs::Permissions::from_mode(0o666)).unwrap(),
        |path| {
            fs::remove_file(path).unwrap();
            std::os::unix::fs::symlink("/etc/hostname", path).unwrap();
        },
    ];
    for spoil in spoil {
        spoil(&path);
        ensure_filter(dir.path()).unwrap();
        assert!(fs::symlink_metadata(&path).unwrap().is_file());
        assert_eq!(fs::read(&path).unwrap(), good);
    }
    let missing = dir.path().join("missing");
    let error = ensure_filter(&missing).unwrap_err();
    assert!(error.to_string().contains("missing"), "{error}");
}

#[test]
fn outside_runtimes_get_the_same_rules() {
    let spec = runtime_spec();
    assert_eq!(spec["defaultAction"], "SCMP_ACT_ERRNO");
    let rules = spec["syscalls"].as_array().unwrap();
    let named = |name: &str| -> Vec<&Value> {
        let has = |rule: &&Value| {
            let names = rule["names"].as_array().unwrap();
            names.iter().any(|known| known == name)
        };
        rules.iter().filter(has).collect()
    };
    for name in ["read", "execve", "openat2", "fchmodat2"] {
        let rules = named(name);
        assert_eq!(rules.len(), 1, "{name}");
        assert_eq!(rules[0]["action"], "SCMP_ACT_ALLOW", "{name}");
        assert!(rules[0].get("args").is_none(), "{name}");
    }
    for name in ["mount", "unshare", "bpf", "io_uring_setup"] {
        assert!(named(name).is_empty(), "{name}");
    }
    assert_eq!(named("clone3")[0]["errnoRet"], libc::ENOSYS);
    assert_eq!(named("socket").len(), 7);
    let clone = &named("clone")[0]["args"][0];
    assert_eq!(clone["op"], "SCMP_CMP_MASKED_EQ");
    assert_eq!(clone["value"], 0x7e02_0000);
    assert_eq!(clone["valueTwo"], 0);
}
