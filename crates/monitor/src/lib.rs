//! placeholder
#[cfg(target_os = "linux")]
pub mod root;
