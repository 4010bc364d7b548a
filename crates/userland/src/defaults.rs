//! What an image starts with.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;

use kleene_doors::userland::Defaults;
use kleene_tree::Open;

/// Where programs are looked for in containers.
pub(crate) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

const SHELL: &str = "/bin/sh";

/// The defaults of an image that has a shell.
pub(crate) fn with_shell() -> Defaults {
    Defaults {
        cmd: vec![SHELL.to_owned()],
        ..without_shell()
    }
}

/// The defaults of the image whose root is the directory `into`.
pub(crate) fn of_tree(into: &Path) -> Defaults {
    let has_shell = File::open(into).is_ok_and(|root| {
        kleene_tree::open_in_root(root.as_fd(), Path::new(SHELL), Open::File).is_ok()
    });
    if has_shell {
        with_shell()
    } else {
        without_shell()
    }
}

fn without_shell() -> Defaults {
    let path = format!("PATH={PATH}").parse();
    Defaults {
        env: path.into_iter().collect(),
        ..Defaults::default()
    }
}
