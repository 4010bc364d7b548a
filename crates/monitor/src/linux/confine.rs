//! Takes from the process what it isn't to have, right before it executes its program.

use rustix::fs::Mode;
use rustix::process::{Gid, Uid};
use rustix::thread::{CapabilitySet, CapabilitySets};

use crate::directory::WorkingDirectory;
use crate::failure::{OrFail, Started};
use crate::linux::sys;
use crate::proto::Jail;
use crate::user::Identity;

/// What root may do in a container: Docker's default set. See `capabilities(7)`.
pub(crate) const CAPABILITIES: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::MKNOD)
    .union(CapabilitySet::NET_RAW)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SETFCAP)
    .union(CapabilitySet::SETPCAP)
    .union(CapabilitySet::NET_BIND_SERVICE)
    .union(CapabilitySet::SYS_CHROOT)
    .union(CapabilitySet::KILL)
    .union(CapabilitySet::AUDIT_WRITE);

/// What root may do in this container.
pub(crate) fn capabilities(control_devices: bool, jail: Jail) -> CapabilitySet {
    let mut kept = CAPABILITIES;
    // Without a control group to restrict them, new device nodes are out of the question.
    kept.set(CapabilitySet::MKNOD, control_devices);
    kept.set(CapabilitySet::NET_RAW, jail.raw_sockets);
    kept
}

/// Capabilities, then the user, then the working directory as this user, then no new privileges, then
/// the filter: each step needs what the next ones take.
pub(crate) fn confine(
    identity: &Identity,
    kept: CapabilitySet,
    directory: &WorkingDirectory<'_>,
    filter: &mut [libc::sock_filter],
) -> Started<()> {
    let failed = || "dropping capabilities".to_owned();
    sys::limit_capabilities(kept.bits()).or_fail(failed)?;
    let sets = CapabilitySets {
        effective: kept,
        permitted: kept,
        inheritable: CapabilitySet::empty(),
    };
    rustix::thread::set_capabilities(None, sets).or_fail(failed)?;
    become_user(identity)
        .or_fail(|| format!("becoming user {} with group {}", identity.uid, identity.gid))?;
    directory.enter()?;
    sys::new_session_keyring();
    rustix::process::umask(Mode::from_raw_mode(0o022));
    // Changing the user has made the kernel forget this.
    sys::die_with_parent().or_fail(|| "binding the process to its monitor".to_owned())?;
    rustix::thread::set_no_new_privs(true).or_fail(|| "setting no_new_privs".to_owned())?;
    sys::set_seccomp_filter(filter).or_fail(|| "loading the system call filter".to_owned())
}

fn become_user(identity: &Identity) -> rustix::io::Result<()> {
    let groups: Vec<Gid> = identity
        .groups
        .iter()
        .map(|gid| Gid::from_raw(*gid))
        .collect();
    let (uid, gid) = (Uid::from_raw(identity.uid), Gid::from_raw(identity.gid));
    rustix::thread::set_thread_groups(&groups)?;
    rustix::thread::set_thread_res_gid(gid, gid, gid)?;
    rustix::thread::set_thread_res_uid(uid, uid, uid)
}
