//! What is to be said of limits on every system.

use kleene_doors::host::HostError;
use kleene_types::{ByteSize, Limits, SwapLimit};

/// What a process needs to be started at all.
pub const LEAST_MEMORY: ByteSize = ByteSize::new(6 << 20);

/// Refuses a limit.
///
/// # Errors
/// Always: [`HostError::Unsupported`].
pub fn refused<T>(message: String) -> Result<T, HostError> {
    Err(HostError::Unsupported(message))
}

/// Checks the limits of memory on a machine with so many bytes of it.
///
/// # Errors
/// As [`refused`], naming the limit and the reason.
pub fn check_memory(machine: u64, limits: &Limits) -> Result<(), HostError> {
    let Some(memory) = limits.memory else {
        return match limits.memory_swap {
            None => Ok(()),
            Some(_) => refused("--memory-swap needs --memory: give both, or none".to_owned()),
        };
    };
    if memory < LEAST_MEMORY {
        return refused(format!(
            "--memory {memory} is too small for any process to start: give {LEAST_MEMORY} or more"
        ));
    }
    if memory.bytes() > machine {
        return refused(format!(
            "--memory {memory} is more than this machine has ({machine} bytes): give less, or leave \
             the limit out"
        ));
    }
    match limits.memory_swap {
        Some(SwapLimit::Total(total)) if total < memory => refused(format!(
            "--memory-swap {total} is less than --memory {memory}: it is memory and swap space \
             together"
        )),
        _ => Ok(()),
    }
}
