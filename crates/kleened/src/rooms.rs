//! Opens the host's room behind the engine's door, as the platform has it.

use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use kleene_doors::host::Host;

use kleened::config::Config;

/// Opens the host. `metadata` is the private directory of the Kleene root.
///
/// # Errors
/// When something that containers need is missing.
#[cfg(target_os = "linux")]
pub fn host(config: &Config, metadata: &Path) -> Result<Arc<dyn Host>> {
    use kleene_host::linux::{LinuxHost, LinuxHostConfig, find_monitor};
    let host = LinuxHost::new(&LinuxHostConfig {
        state_dir: metadata.join("run"),
        cache_dir: metadata.join("cache"),
        monitor: find_monitor()?,
        oci_runtime: config.oci_runtime.clone(),
        allow_host_commands: config.allow_host_commands,
    })?;
    Ok(Arc::new(host))
}

/// Opens the host.
///
/// # Errors
/// Always, on this platform.
#[cfg(not(target_os = "linux"))]
pub fn host(_: &Config, _: &Path) -> Result<Arc<dyn Host>> {
    anyhow::bail!("this version runs containers on Linux only")
}
