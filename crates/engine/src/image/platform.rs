//! Kernels and processors, in the OCI's words.

use kleene_store::ImagePlatform;

/// What the host runs.
pub(crate) fn host_platform() -> ImagePlatform {
    ImagePlatform {
        os: std::env::consts::OS.to_owned(),
        architecture: architecture(std::env::consts::ARCH).to_owned(),
        variant: String::new(),
    }
}

/// The OCI's word for a processor (Go's `GOARCH`:
/// <https://go.dev/doc/install/source#environment>), from Rust's.
fn architecture(rust: &str) -> &str {
    match rust {
        "x86_64" => "amd64",
        "x86" => "386",
        "aarch64" => "arm64",
        "powerpc64" => "ppc64le",
        "loongarch64" => "loong64",
        other => other,
    }
}
