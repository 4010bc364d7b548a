//! Which system calls containers may make: what Docker's default profile comes to for its default
//! set of capabilities, in a grouping of our own.
//!
//! Everything that isn't named here fails with `EPERM`, calls newer than [`NEWEST`] with `ENOSYS`.
//! Two differences from that profile are on purpose: `socket`'s first argument is compared in the
//! 32 bits that the kernel looks at (see [`conditions`]), and the calls in [`NUMBERED`] don't
//! depend on what the installed libseccomp knows.

/// A condition on one argument of a call: its bits in `mask` are `value`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Masked {
    /// Which argument, from 0.
    pub argument: u32,
    /// The bits that count.
    pub mask: u64,
    /// What they are.
    pub value: u64,
}

/// Calls that are allowed whatever their arguments are, by name. Names that an architecture lacks
/// mean nothing there.
#[rustfmt::skip] // One name a line would hide the groups.
pub const ALLOWED: &[&[&str]] = &[
    // Processes and threads: making them, waiting for them, what they are.
    &[
        "execve", "execveat", "exit", "exit_group", "fork", "futex", "futex_time64",
        "get_robust_list", "get_thread_area", "getpgid", "getpgrp", "getpid", "getppid",
        "getsid", "gettid", "prctl", "ptrace", "riscv_hwprobe", "rseq", "seccomp",
        "set_robust_list", "set_thread_area", "set_tid_address", "setpgid", "setsid",
        "uretprobe", "vfork", "wait4", "waitid", "waitpid",
    ],
    // Signals.
    &[
        "kill", "pause", "restart_syscall", "rt_sigaction", "rt_sigpending", "rt_sigprocmask",
        "rt_sigqueueinfo", "rt_sigreturn", "rt_sigsuspend", "rt_sigtimedwait",
        "rt_sigtimedwait_time64", "rt_tgsigqueueinfo", "sigaltstack", "signalfd", "signalfd4",
        "sigprocmask", "sigreturn", "tgkill", "tkill",
    ],
    // How processors and disks are shared.
    &[
        "getcpu", "getpriority", "ioprio_get", "ioprio_set", "sched_get_priority_max",
        "sched_get_priority_min", "sched_getaffinity", "sched_getattr", "sched_getparam",
        "sched_getscheduler", "sched_rr_get_interval", "sched_rr_get_interval_time64",
        "sched_setaffinity", "sched_setattr", "sched_setparam", "sched_setscheduler",
        "sched_yield", "setpriority",
    ],
    // Users, groups and capabilities; the kernel checks what may be taken on.
    &[
        "capget", "capset", "getegid", "getegid32", "geteuid", "geteuid32", "getgid",
        "getgid32", "getgroups", "getgroups32", "getresgid", "getresgid32", "getresuid",
        "getresuid32", "getuid", "getuid32", "setfsgid", "setfsgid32", "setfsuid", "setfsuid32",
        "setgid", "setgid32", "setgroups", "setgroups32", "setregid", "setregid32", "setresgid",
        "setresgid32", "setresuid", "setresuid32", "setreuid", "setreuid32", "setuid",
        "setuid32",
    ],
    // The system as a whole, limits, and the root directory (containers have `CAP_SYS_CHROOT`).
    &[
        "chroot", "getrandom", "getrlimit", "getrusage", "prlimit64", "setrlimit", "sysinfo",
        "ugetrlimit", "umask", "uname",
    ],
    // Memory, also of a traced process.
    &[
        "brk", "madvise", "membarrier", "memfd_create", "mincore", "mlock", "mlock2",
        "mlockall", "mmap", "mmap2", "mprotect", "mremap", "msync", "munlock", "munlockall",
        "munmap", "pkey_alloc", "pkey_free", "pkey_mprotect", "process_vm_readv",
        "process_vm_writev", "remap_file_pages",
    ],
    // Clocks and timers. Setting the clock needs a capability that containers lack.
    &[
        "adjtimex", "alarm", "clock_adjtime", "clock_adjtime64", "clock_getres",
        "clock_getres_time64", "clock_gettime", "clock_gettime64", "clock_nanosleep",
        "clock_nanosleep_time64", "getitimer", "gettimeofday", "nanosleep", "setitimer", "time",
        "timer_create", "timer_delete", "timer_getoverrun", "timer_gettime", "timer_gettime64",
        "timer_settime", "timer_settime64", "timerfd_create", "timerfd_gettime",
        "timerfd_gettime64", "timerfd_settime", "timerfd_settime64", "times",
    ],
    // Waiting for events, and asynchronous input and output (not `io_uring`, which goes round
    // filters).
    &[
        "epoll_create", "epoll_create1", "epoll_ctl", "epoll_ctl_old", "epoll_pwait",
        "epoll_wait", "epoll_wait_old", "eventfd", "eventfd2", "fanotify_mark",
        "inotify_add_watch", "inotify_init", "inotify_init1", "inotify_rm_watch", "io_cancel",
        "io_destroy", "io_getevents", "io_pgetevents", "io_pgetevents_time64", "io_setup",
        "io_submit", "_newselect", "poll", "ppoll", "ppoll_time64", "pselect6",
        "pselect6_time64", "select",
    ],
    // Files and directories by name.
    &[
        "access", "chdir", "chmod", "chown", "chown32", "creat", "faccessat", "fchdir",
        "fchmod", "fchmodat", "fchown", "fchown32", "fchownat", "fstat", "fstat64", "fstatat64",
        "fstatfs", "fstatfs64", "futimesat", "getcwd", "getdents", "getdents64", "lchown",
        "lchown32", "link", "linkat", "lstat", "lstat64", "mkdir", "mkdirat", "mknod",
        "mknodat", "name_to_handle_at", "newfstatat", "open", "openat", "readlink",
        "readlinkat", "rename", "renameat", "renameat2", "rmdir", "stat", "stat64", "statfs",
        "statfs64", "statx", "symlink", "symlinkat", "unlink", "unlinkat", "utime", "utimensat",
        "utimensat_time64", "utimes",
    ],
    // Extended attributes.
    &[
        "fgetxattr", "flistxattr", "fremovexattr", "fsetxattr", "getxattr", "lgetxattr",
        "listxattr", "llistxattr", "lremovexattr", "lsetxattr", "removexattr", "setxattr",
    ],
    // Open files and their data.
    &[
        "close", "copy_file_range", "dup", "dup2", "dup3", "fadvise64", "fadvise64_64",
        "fallocate", "fcntl", "fcntl64", "fdatasync", "flock", "fsync", "ftruncate",
        "ftruncate64", "ioctl", "_llseek", "lseek", "pipe", "pipe2", "pread64", "preadv",
        "preadv2", "pwrite64", "pwritev", "pwritev2", "read", "readahead", "readv", "sendfile",
        "sendfile64", "splice", "sync", "sync_file_range", "syncfs", "tee", "truncate",
        "truncate64", "vmsplice", "write", "writev",
    ],
    // Sockets; `socket` itself is in [`conditions`].
    &[
        "accept", "accept4", "bind", "connect", "getpeername", "getsockname", "getsockopt",
        "listen", "recv", "recvfrom", "recvmmsg", "recvmmsg_time64", "recvmsg", "send",
        "sendmmsg", "sendmsg", "sendto", "setsockopt", "shutdown", "socketcall", "socketpair",
    ],
    // Message queues, semaphores and shared memory; each container has its own.
    &[
        "ipc", "mq_getsetattr", "mq_notify", "mq_open", "mq_timedreceive",
        "mq_timedreceive_time64", "mq_timedsend", "mq_timedsend_time64", "mq_unlink", "msgctl",
        "msgget", "msgrcv", "msgsnd", "semctl", "semget", "semop", "semtimedop",
        "semtimedop_time64", "shmat", "shmctl", "shmdt", "shmget",
    ],
];

/// Calls that exist on some architectures only.
pub const ALLOWED_ON: &[(&str, &[&str])] = &[
    ("x86_64", &["arch_prctl", "modify_ldt"]),
    (
        "aarch64",
        &[
            "arm_fadvise64_64",
            "arm_sync_file_range",
            "breakpoint",
            "cacheflush",
            "set_tls",
            "sync_file_range2",
        ],
    ),
    ("riscv64", &["riscv_flush_icache"]),
];

/// The first number from which on calls have the same one on all architectures.
pub const UNIFORM: u32 = 424;

/// Allowed calls that have the same number everywhere (but not in the x32 ABI). They are allowed
/// by number, since libraries before the call don't know its name, and programs take `EPERM` from,
/// say, `fchmodat2` for an answer.
pub const NUMBERED: &[(&str, u32)] = &[
    ("pidfd_send_signal", 424),
    ("pidfd_open", 434),
    ("close_range", 436),
    ("openat2", 437),
    ("faccessat2", 439),
    ("epoll_pwait2", 441),
    ("landlock_create_ruleset", 444),
    ("landlock_add_rule", 445),
    ("landlock_restrict_self", 446),
    ("memfd_secret", 447),
    ("process_mrelease", 448),
    ("futex_waitv", 449),
    ("cachestat", 451),
    ("fchmodat2", 452),
    ("map_shadow_stack", 453),
    ("futex_wake", 454),
    ("futex_wait", 455),
    ("futex_requeue", 456),
    ("statmount", 457),
    ("listmount", 458),
    ("mseal", 462),
    ("setxattrat", 463),
    ("getxattrat", 464),
    ("listxattrat", 465),
    ("removexattrat", 466),
];

/// The last call that this profile has an opinion on. What is newer doesn't exist (`ENOSYS`), so
/// that programs do without it, as they do on older kernels.
pub const NEWEST: u32 = 466;

/// Programs take `ENOSYS` from this call and use `clone`, whose flags a filter can see. (They take
/// `EPERM` for an answer.)
pub const CLONE3: u32 = 435;

/// Flags of `clone(2)` that make namespaces: mount, cgroup, uts, ipc, user, pid, net.
const NAMESPACES: u64 =
    0x0002_0000 | 0x0200_0000 | 0x0400_0000 | 0x0800_0000 | 0x1000_0000 | 0x2000_0000 | 0x4000_0000;

/// The execution domains of `personality(2)`: `PER_LINUX`, `PER_LINUX32`, both with `UNAME26`, and
/// the question for the current one.
const PERSONALITIES: [u64; 5] = [0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// Calls that are allowed when one of their conditions holds.
///
/// Socket families are 0 to 37, 39 and 41 to 47: neither `AF_ALG` (38), a way into much kernel code
/// that few programs need, nor `AF_VSOCK` (40), which leads to the hypervisor past all namespaces.
/// Families are compared in 32 bits, since the kernel takes no more of the argument: compared in
/// 64 bits, 38 + 2^32 would be another one.
pub fn conditions() -> Vec<(&'static str, Masked)> {
    let first = |mask, value| Masked {
        argument: 0,
        mask,
        value,
    };
    // All that the kernel takes of an `int`.
    const LOW: u64 = 0xffff_ffff;
    let families = [
        (0xffff_ffe0, 0),
        (0xffff_fffc, 32),
        (0xffff_fffe, 36),
        (LOW, 39),
        (LOW, 41),
        (0xffff_fffe, 42),
        (0xffff_fffc, 44),
    ];
    let sockets = families.map(|(mask, value)| ("socket", first(mask, value)));
    let personalities = PERSONALITIES.map(|value| ("personality", first(LOW, value)));
    let clone = ("clone", first(NAMESPACES, 0));
    std::iter::once(clone)
        .chain(sockets)
        .chain(personalities)
        .collect()
}
