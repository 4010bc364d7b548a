//! Where nothing can be mounted in a container on Linux.

use std::path::Path;

use kleene_doors::host::SourceKind;
use kleene_monitor::is_device;

/// Refuses the real path of what the container's processes, also those that join it, must find as
/// the kernel and Kleene have made it. Elsewhere in `/dev`, which is the container's own, there is
/// room: for shared memory in `/dev/shm` for one.
pub fn check_free(path: &Path, source: SourceKind) -> Result<(), String> {
    if path.starts_with("/proc") {
        return Err("it lies in /proc, which belongs to the kernel".to_owned());
    }
    if path == Path::new("/sys") {
        return Err("it is /sys, which belongs to the kernel".to_owned());
    }
    if path.starts_with("/sys") && !is_in_sys(path, source) {
        return Err("it lies in /sys, which belongs to the kernel".to_owned());
    }
    let Ok(device) = path.strip_prefix("/dev") else {
        return Ok(());
    };
    match device.iter().next() {
        None => Err(
            "it is /dev, where the container's devices are: mount on a path in it, as /dev/shm"
                .to_owned(),
        ),
        Some(name) if is_device(name) => Err(format!(
            "/dev/{} is one of the container's devices: choose another path",
            name.display()
        )),
        Some(_) => Ok(()),
    }
}

/// Whether the kernel has what can be mounted on there, such as `/sys/fs/cgroup`: nothing can be made in
/// `/sys`, and what is there is the same in all containers but for their network devices.
fn is_in_sys(path: &Path, source: SourceKind) -> bool {
    let is_directory = source == SourceKind::Directory;
    std::fs::metadata(path).is_ok_and(|there| there.is_dir() == is_directory)
}
