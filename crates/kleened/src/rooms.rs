//! Opens the host's room behind the engine's door, as the platform has it.

use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use kleene_doors::host::Host;
use kleene_host::find_monitor;

use kleened::config::Config;

/// Opens the host. `metadata` is the private directory of the Kleene root.
///
/// # Errors
/// When something that containers need is missing.
#[cfg(target_os = "linux")]
pub fn host(config: &Config, metadata: &Path) -> Result<Arc<dyn Host>> {
    use kleene_host::linux::{LinuxHost, LinuxHostConfig};
    let host = LinuxHost::new(&LinuxHostConfig {
        state_dir: metadata.join("run"),
        cache_dir: metadata.join("cache"),
        monitor: find_monitor()?,
        oci_runtime: config.oci_runtime.clone(),
        allow_host_commands: config.allow_host_commands,
    })?;
    Ok(Arc::new(host))
}

/// Opens the host. `metadata` is the private directory of the Kleene root.
///
/// # Errors
/// When something that containers need is missing, or the configuration asks for what isn't there.
#[cfg(not(target_os = "linux"))]
pub fn host(config: &Config, metadata: &Path) -> Result<Arc<dyn Host>> {
    use kleene_host::freebsd::{FreeBsdHost, FreeBsdHostConfig};
    if let Some(runtime) = &config.oci_runtime {
        anyhow::bail!(
            "oci_runtime: '{}' can't be used: OCI runtimes are not on FreeBSD; leave the key out",
            runtime.display()
        );
    }
    let host = FreeBsdHost::new(&FreeBsdHostConfig {
        state_dir: metadata.join("run"),
        monitor: find_monitor()?,
        allow_host_commands: config.allow_host_commands,
    })?;
    Ok(Arc::new(host))
}
