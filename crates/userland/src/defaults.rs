//! What an image starts with.

use kleene_doors::userland::Defaults;

/// Where programs are looked for in containers.
pub(crate) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The defaults of an image that has a shell.
pub(crate) fn defaults(name: Option<String>) -> Defaults {
    let path = format!("PATH={PATH}").parse();
    Defaults {
        cmd: vec!["/bin/sh".to_owned()],
        env: path.into_iter().collect(),
        name,
    }
}
