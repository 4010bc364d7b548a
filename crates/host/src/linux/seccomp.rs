//! The system call filter of containers: compiled once, kept in a file, loaded by every monitor.
//!
//! libseccomp takes some 15 ms to compile the profile, reading the file takes microseconds. What
//! libseccomp makes is preceded by a short piece of our own, for the calls that it may be too old
//! to know:
//!
//! ```text
//! number < 424, or x32, or another architecture  → go on with libseccomp's part
//! number > the profile's newest, or clone3       → ENOSYS
//! a number in the profile's list                 → allowed
//! anything else                                  → go on with libseccomp's part, which refuses it
//! ```
//!
//! See `seccomp(2)` and the kernel's `userspace-api/seccomp_filter.rst`.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use libseccomp::error::SeccompError as LibraryError;
use libseccomp::{
    ScmpAction, ScmpArch, ScmpArgCompare, ScmpCompareOp, ScmpFilterContext, ScmpSyscall,
    ScmpVersion,
};

use serde_json::{Value, json};

use super::seccomp_profile::{
    ALLOWED, ALLOWED_ON, CLONE3, Masked, NEWEST, NUMBERED, UNIFORM, conditions,
};

/// Bytes of one instruction (`struct sock_filter`).
const INSTRUCTION: usize = 8;

/// How the files are named, for removing those of earlier kernels and versions.
const PREFIX: &str = "seccomp-";
const SUFFIX: &str = ".bpf";

/// Raise it when the way in which the profile is compiled changes.
const COMPILER: u64 = 1;

/// Why there is no filter.
#[derive(Debug, thiserror::Error)]
pub enum SeccompError {
    /// libseccomp can't make it.
    #[error("compiling the system call filter failed")]
    Compile(#[source] LibraryError),
    /// The file can't be written.
    #[error("keeping the system call filter in '{path}' failed")]
    Keep {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// The path of the compiled filter: an array of `struct sock_filter` for the running kernel. It is
/// made if `cache_dir` (which must exist, and be root's own) hasn't got it yet.
///
/// # Errors
/// When libseccomp fails or the file can't be written.
pub fn ensure_filter(cache_dir: &Path) -> Result<PathBuf, SeccompError> {
    let path = cache_dir.join(file_name());
    if is_usable(&path) {
        return Ok(path);
    }
    let keep = |source| SeccompError::Keep {
        path: path.clone(),
        source,
    };
    static SERIAL: AtomicU64 = AtomicU64::new(0);
    let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
    let temporary = cache_dir.join(format!("{PREFIX}{}-{serial}.new", std::process::id()));
    // Left over from a process of the same number that was killed.
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(keep(error)),
        _ => {}
    }
    let written = write_filter(&temporary).and_then(|()| {
        remove_others(cache_dir);
        fs::rename(&temporary, &path).map_err(keep)
    });
    if written.is_err() {
        // The error that led here is the one to report.
        let _ = fs::remove_file(&temporary);
    }
    written.map(|()| path)
}

/// Profile, architecture, library and kernel: whatever the compiled filter depends on.
fn file_name() -> String {
    let library = ScmpVersion::current().map_or_else(
        |_| "unknown".to_owned(),
        |version| format!("{}.{}.{}", version.major, version.minor, version.micro),
    );
    let system = rustix::system::uname();
    let kernel = system.release().to_string_lossy().replace('/', "_");
    let architecture = std::env::consts::ARCH;
    let profile = fingerprint();
    format!("{PREFIX}{profile:016x}-{architecture}-{library}-{kernel}{SUFFIX}")
}

/// A number that changes with the profile (FNV-1a).
fn fingerprint() -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut add = |bytes: &[u8]| {
        for byte in bytes {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
        }
        hash = (hash ^ 0xff).wrapping_mul(0x100_0000_01b3);
    };
    add(&COMPILER.to_le_bytes());
    names().for_each(|name| add(name.as_bytes()));
    for (name, number) in NUMBERED {
        add(name.as_bytes());
        add(&number.to_le_bytes());
    }
    for (name, masked) in conditions() {
        add(name.as_bytes());
        add(&masked.argument.to_le_bytes());
        add(&masked.mask.to_le_bytes());
        add(&masked.value.to_le_bytes());
    }
    add(&NEWEST.to_le_bytes());
    hash
}

/// Whether there is a file of ours that holds whole instructions. It is renamed into place once it
/// is complete and durable, so nothing is to be said against its content.
fn is_usable(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|meta| {
        meta.is_file()
            && meta.uid() == rustix::process::geteuid().as_raw()
            && meta.permissions().mode() & 0o077 == 0
            && meta.len() > 0
            && meta.len() % INSTRUCTION as u64 == 0
    })
}

/// Removes the filters of other kernels, libraries and versions. They do no harm if it fails.
fn remove_others(cache_dir: &Path) {
    let Ok(entries) = fs::read_dir(cache_dir) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with(PREFIX) && name.ends_with(SUFFIX) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Writes the filter to a new file, durably.
fn write_filter(path: &Path) -> Result<(), SeccompError> {
    let keep = |source| SeccompError::Keep {
        path: path.to_owned(),
        source,
    };
    let mut options = OpenOptions::new();
    let options = options.write(true).create_new(true).mode(0o600);
    let mut file = options.open(path).map_err(keep)?;
    file.write_all(&prelude()).map_err(keep)?;
    compile_into(&file).map_err(SeccompError::Compile)?;
    file.sync_all().map_err(keep)
}

/// The names that are allowed without a condition on this architecture.
fn names() -> impl Iterator<Item = &'static str> {
    let here = ALLOWED_ON
        .iter()
        .filter(|(architecture, _)| *architecture == std::env::consts::ARCH)
        .map(|(_, names)| names);
    ALLOWED
        .iter()
        .chain(here)
        .flat_map(|names| names.iter().copied())
}

/// The same filter as OCI runtimes take it: `linux.seccomp` of the runtime specification. They
/// compile it by themselves, and for names that their libseccomp is too old to know it is stricter.
pub fn runtime_spec() -> Value {
    let architectures: &[&str] = match std::env::consts::ARCH {
        "x86_64" => &["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "aarch64" => &["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"],
        "riscv64" => &["SCMP_ARCH_RISCV64"],
        _ => &[],
    };
    let allowed: Vec<&str> = names()
        .chain(NUMBERED.iter().map(|(name, _)| *name))
        .collect();
    let mut rules = vec![
        json!({"names": allowed, "action": "SCMP_ACT_ALLOW"}),
        json!({
            "names": ["clone3"],
            "action": "SCMP_ACT_ERRNO",
            "errnoRet": libc::ENOSYS,
        }),
    ];
    rules.extend(conditions().into_iter().map(|(name, masked)| {
        json!({
            "names": [name],
            "action": "SCMP_ACT_ALLOW",
            "args": [{
                "index": masked.argument,
                "value": masked.mask,
                "valueTwo": masked.value,
                "op": "SCMP_CMP_MASKED_EQ",
            }],
        })
    }));
    json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": libc::EPERM,
        "architectures": architectures,
        "syscalls": rules,
    })
}

/// Architectures whose programs the kernel runs beside its own, with their numbers in filters
/// (`AUDIT_ARCH_*`). x32 has the number of x86-64.
fn architectures() -> &'static [(ScmpArch, u32)] {
    match std::env::consts::ARCH {
        "x86_64" => &[
            (ScmpArch::X8664, 0xc000_003e),
            (ScmpArch::X86, 0x4000_0003),
            (ScmpArch::X32, 0xc000_003e),
        ],
        "aarch64" => &[
            (ScmpArch::Aarch64, 0xc000_00b7),
            (ScmpArch::Arm, 0x4000_0028),
        ],
        "riscv64" => &[(ScmpArch::Riscv64, 0xc000_00f3)],
        // libseccomp still filters for the native one.
        _ => &[],
    }
}

/// Appends libseccomp's part.
fn compile_into(file: &File) -> Result<(), LibraryError> {
    let refuse = ScmpAction::Errno(libc::EPERM);
    let mut filter = ScmpFilterContext::new(refuse)?;
    // A binary tree instead of a chain of comparisons: loading walks through the program once for
    // every call there is, running it once for every call that isn't allowed at once.
    filter.set_ctl_optimize(2)?;
    for (architecture, _) in architectures() {
        if !filter.is_arch_present(*architecture)? {
            filter.add_arch(*architecture)?;
        }
    }
    let numbered = NUMBERED.iter().map(|(name, _)| *name);
    for name in names().chain(numbered) {
        // Names that the installed library is too old for are left out.
        if let Ok(call) = ScmpSyscall::from_name(name) {
            filter.add_rule(ScmpAction::Allow, call)?;
        }
    }
    for (name, masked) in conditions() {
        let call = ScmpSyscall::from_name(name)?;
        filter.add_rule_conditional(ScmpAction::Allow, call, &[comparison(masked)])?;
    }
    if let Ok(clone3) = ScmpSyscall::from_name("clone3") {
        filter.add_rule(ScmpAction::Errno(libc::ENOSYS), clone3)?;
    }
    filter.export_bpf(file)
}

fn comparison(masked: Masked) -> ScmpArgCompare {
    let equal = ScmpCompareOp::MaskedEqual(masked.mask);
    ScmpArgCompare::new(masked.argument, equal, masked.value)
}

/// The piece before libseccomp's part.
fn prelude() -> Vec<u8> {
    /// Where a call's number and architecture are in `struct seccomp_data`.
    const NUMBER_AT: u32 = 0;
    const ARCHITECTURE_AT: u32 = 4;
    /// Set in the numbers of x32's calls.
    const X32: u32 = 0x4000_0000;

    let mut numbers: Vec<u32> = architectures().iter().map(|(_, number)| *number).collect();
    numbers.sort_unstable();
    numbers.dedup();
    if numbers.is_empty() {
        return Vec::new();
    }
    let mut program = Program::default();
    program.load(ARCHITECTURE_AT);
    for number in numbers {
        program.jump_if(JUMP_EQUAL, number, Label::Known);
    }
    program.go(Label::Rest);
    program.place(Label::Known);
    program.load(NUMBER_AT);
    program.jump_if(JUMP_AT_LEAST, UNIFORM, Label::Uniform);
    program.go(Label::Rest);
    program.place(Label::Uniform);
    program.jump_if(JUMP_AT_LEAST, X32, Label::Rest);
    program.jump_if(JUMP_GREATER, NEWEST, Label::Unknown);
    program.jump_if(JUMP_EQUAL, CLONE3, Label::Unknown);
    for (_, number) in NUMBERED {
        program.jump_if(JUMP_EQUAL, *number, Label::Allowed);
    }
    program.go(Label::Rest);
    program.place(Label::Unknown);
    program.give(libc::SECCOMP_RET_ERRNO | libc::ENOSYS.cast_unsigned());
    program.place(Label::Allowed);
    program.give(libc::SECCOMP_RET_ALLOW);
    program.place(Label::Rest);
    program.bytes()
}

/// `ld [k]`, `jeq`, `jge`, `jgt`, `ja`, `ret` of classic BPF, with operands in the instruction.
const LOAD: u16 = 0x20;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_AT_LEAST: u16 = 0x35;
const JUMP_GREATER: u16 = 0x25;
const JUMP: u16 = 0x05;
const RETURN: u16 = 0x06;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Label {
    Known,
    Uniform,
    Unknown,
    Allowed,
    Rest,
}

/// A program whose jumps are resolved at the end; they lead forward, by 255 instructions at most.
#[derive(Default)]
struct Program {
    instructions: Vec<(u16, u32, Option<Label>)>,
    labels: Vec<(Label, usize)>,
}

impl Program {
    fn load(&mut self, at: u32) {
        self.instructions.push((LOAD, at, None));
    }

    fn jump_if(&mut self, comparison: u16, operand: u32, to: Label) {
        self.instructions.push((comparison, operand, Some(to)));
    }

    fn go(&mut self, to: Label) {
        self.instructions.push((JUMP, 0, Some(to)));
    }

    fn give(&mut self, action: u32) {
        self.instructions.push((RETURN, action, None));
    }

    fn place(&mut self, label: Label) {
        self.labels.push((label, self.instructions.len()));
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.instructions.len() * INSTRUCTION);
        for (index, (code, operand, to)) in self.instructions.iter().enumerate() {
            let distance = to.map_or(0, |to| self.distance(index, to));
            let (if_true, operand) = match *code {
                // An unconditional jump has its distance in the operand.
                JUMP => (0, u32::from(distance)),
                _ => (distance, *operand),
            };
            bytes.extend_from_slice(&code.to_ne_bytes());
            bytes.extend_from_slice(&[if_true, 0]);
            bytes.extend_from_slice(&operand.to_ne_bytes());
        }
        bytes
    }

    /// Instructions to skip from `index` to a label.
    fn distance(&self, index: usize, to: Label) -> u8 {
        let found = self.labels.iter().find(|(label, _)| *label == to);
        let target = found.map_or(index + 1, |(_, target)| *target);
        u8::try_from(target - index - 1).unwrap_or(u8::MAX)
    }
}

#[cfg(test)]
#[path = "seccomp_tests.rs"]
mod tests;
