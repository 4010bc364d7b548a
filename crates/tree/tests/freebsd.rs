//! What FreeBSD has and Linux hasn't: file flags, and ACLs of two kinds.
#![cfg(target_os = "freebsd")]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests may panic"
)]

mod common;

use std::fs;
use std::ops::ControlFlow;
use std::os::freebsd::fs::MetadataExt as _;
use std::os::unix::fs::{MetadataExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;

use common::{Dir, Mounted, assert_same, facts, file_system, run, scratch, set_xattr};
use kleene_tree::{
    CopyOptions, Existing, LayerOf, PackOptions, PopulateOutcome, UnpackOptions, Unpacked,
    apply_layer, copy_tree, is_kernels, pack_chosen, pack_layer, pack_tar, populate,
    remove_contents, remove_tree, unpack_tar,
};

const SCHG: u32 = 0x2_0000;

fn chflags(flags: &str, path: &Path) {
    run("chflags", &["-h", flags, path.to_str().unwrap()]);
}

fn flags(path: &Path) -> u32 {
    common::flags(&fs::symlink_metadata(path).unwrap())
}

fn copy(source: &Dir, target: &Dir) -> kleene_tree::Copied {
    copy_tree(source.fd(), target.fd(), &CopyOptions::default()).unwrap()
}

fn unpack(archive: &[u8], into: &Dir) -> Unpacked {
    let go_on = &mut |_| ControlFlow::Continue(());
    let options = UnpackOptions::default();
    unpack_tar(&mut &*archive, into.fd(), &options, go_on).unwrap()
}

fn apply(layer: &[u8], into: &Dir) -> Unpacked {
    let go_on = &mut |_| ControlFlow::Continue(());
    let options = UnpackOptions::default();
    apply_layer(&mut &*layer, into.fd(), &options, go_on).unwrap()
}

/// A tree as the base system is: a program that may not be changed and has two names, a directory that
/// nobody may write to, and so on.
fn base(root: &Dir) {
    for dir in ["sbin", "var/empty", "var/log", "usr/bin"] {
        fs::create_dir_all(root.join(dir)).unwrap();
    }
    fs::write(root.join("sbin/init"), "init").unwrap();
    fs::write(root.join("usr/bin/chpass"), "chpass").unwrap();
    fs::hard_link(root.join("usr/bin/chpass"), root.join("usr/bin/chfn")).unwrap();
    fs::hard_link(root.join("usr/bin/chpass"), root.join("top")).unwrap();
    fs::write(root.join("var/log/messages"), "one").unwrap();
    fs::write(root.join("var/log/not-to-be-dumped"), "two").unwrap();
    symlink("init", root.join("sbin/link")).unwrap();
    chflags("schg", &root.join("sbin/init"));
    chflags("schg", &root.join("usr/bin/chpass"));
    chflags("sappnd", &root.join("var/log/messages"));
    chflags("nodump", &root.join("var/log/not-to-be-dumped"));
    chflags("schg", &root.join("var/empty"));
    chflags("sunlnk", &root.join("var"));
}

/// Nobody else can remove such a scratch directory.
fn clear(dirs: &[&Dir]) {
    for dir in dirs {
        remove_contents(dir.fd()).unwrap();
        assert_eq!(fs::read_dir(&dir.path).unwrap().count(), 0);
    }
}

#[test]
fn flags_are_kept_and_stand_in_nobodys_way() {
    let scratch = scratch();
    let [source, copied, filled, again] =
        ["source", "copied", "filled", "again"].map(|name| Dir::new(&scratch, name));
    base(&source);
    let done = copy(&source, &copied);
    assert_eq!(
        (done.entries, done.skipped, done.skipped_xattrs),
        (13, 0, 0)
    );
    assert_same(&source.path, &copied.path);
    assert_eq!(flags(&copied.join("sbin/init")), SCHG);

    assert!(matches!(
        populate(source.fd(), filled.fd()).unwrap(),
        PopulateOutcome::Copied(_)
    ));
    assert_same(&source.path, &filled.path);

    // Whatever is there is replaced.
    let merge = CopyOptions {
        existing: Existing::Merge,
        ..Default::default()
    };
    copy_tree(source.fd(), copied.fd(), &merge).unwrap();
    assert_same(&source.path, &copied.path);

    // The archive, twice.
    let mut archive = Vec::new();
    let dot = Path::new(".");
    pack_tar(source.fd(), dot, dot, &mut archive).unwrap();
    for _ in 0..2 {
        assert_eq!(unpack(&archive, &again).skipped_xattrs, 0);
        assert_same(&source.path, &again.path);
    }
    clear(&[&source, &copied, &filled, &again]);
}

#[test]
fn a_volume_itself_has_no_flags() {
    let scratch = scratch();
    let [source, target] = ["source", "target"].map(|name| Dir::new(&scratch, name));
    fs::write(source.join("file"), "x").unwrap();
    chflags("schg", &source.path);
    populate(source.fd(), target.fd()).unwrap();
    assert_eq!((flags(&source.path), flags(&target.path)), (SCHG, 0));
    chflags("0", &source.path);
    clear(&[&source, &target]);
}

#[test]
fn layers_change_what_has_flags() {
    let scratch = scratch();
    let [old, new, applied] = ["old", "new", "applied"].map(|name| Dir::new(&scratch, name));
    base(&old);
    copy(&old, &new);
    copy(&old, &applied);
    for path in ["sbin/init", "var/empty", "usr/bin/chpass", "var"] {
        chflags("0", &new.join(path));
    }
    fs::remove_file(new.join("sbin/init")).unwrap();
    fs::write(new.join("var/empty/file"), "not empty").unwrap();
    fs::remove_file(new.join("usr/bin/chpass")).unwrap();
    chflags("schg", &new.join("var/empty"));
    let mut layer = Vec::new();
    let of = LayerOf {
        below: Some(old.fd()),
        root: new.fd(),
        apart: None,
    };
    let packed = pack_layer(&of, &mut layer).unwrap();
    assert_eq!(packed.whiteouts, 2);
    apply(&layer, &applied);
    let plain = |root: &Dir| {
        let mut facts = facts(&root.path);
        facts.get_mut(Path::new("")).unwrap().mtime = (0, 0);
        facts
    };
    assert_eq!(plain(&applied), plain(&new));
    assert_eq!(flags(&applied.join("var/empty")), SCHG);
    clear(&[&old, &new, &applied]);
}

#[test]
fn a_directory_keeps_its_flags_when_something_in_it_goes() {
    let scratch = scratch();
    let dir = Dir::new(&scratch, "dir");
    fs::create_dir(dir.join("inner")).unwrap();
    fs::write(dir.join("inner/file"), "x").unwrap();
    fs::write(dir.join("file"), "x").unwrap();
    chflags("schg", &dir.join("inner"));
    chflags("schg,sunlnk", &dir.path);
    for name in ["inner", "file"] {
        assert!(remove_tree(dir.fd(), Path::new(name)).unwrap());
    }
    assert_eq!(flags(&dir.path), SCHG | 0x10_0000);
    chflags("0", &dir.path);
}

#[test]
fn other_names_of_a_file_keep_its_flags() {
    let scratch = scratch();
    let dir = Dir::new(&scratch, "dir");
    fs::write(dir.join("one"), "x").unwrap();
    fs::hard_link(dir.join("one"), dir.join("two")).unwrap();
    chflags("schg", &dir.join("one"));
    assert!(remove_tree(dir.fd(), Path::new("one")).unwrap());
    assert_eq!(flags(&dir.join("two")), SCHG);
    clear(&[&dir]);
}

#[test]
fn plain_archives_have_no_flags_and_tar_knows_ours() {
    let scratch = scratch();
    let [source, target, theirs] =
        ["source", "target", "theirs"].map(|name| Dir::new(&scratch, name));
    fs::write(source.join("file"), "x").unwrap();
    chflags("schg,nodump", &source.join("file"));
    let dot = Path::new(".");
    let mut archive = Vec::new();
    let options = PackOptions {
        plain: true,
        ..Default::default()
    };
    pack_chosen(source.fd(), dot, dot, options, &mut archive).unwrap();
    unpack(&archive, &target);
    assert_eq!(flags(&target.join("file")), 0);
    archive.clear();
    pack_tar(source.fd(), dot, dot, &mut archive).unwrap();
    let file = scratch.path().join("archive");
    fs::write(&file, &archive).unwrap();
    let [archive, into] = [&file, &theirs.path].map(|path| path.to_str().unwrap());
    run("tar", &["-xpf", archive, "-C", into]);
    assert_eq!(flags(&theirs.join("file")), SCHG | 1);
    // And what theirs makes of it.
    run(
        "tar",
        &["-cf", archive, "--format", "pax", "-C", into, "file"],
    );
    unpack(&fs::read(&file).unwrap(), &target);
    assert_eq!(flags(&target.join("file")), SCHG | 1);
    clear(&[&source, &target, &theirs]);
}

/// On ZFS these are none of the flags that it can hold; on others they are kept.
#[test]
fn flags_that_cannot_be_held_are_counted() {
    let scratch = scratch();
    let [source, target] = ["source", "target"].map(|name| Dir::new(&scratch, name));
    let memory = Dir::new(&scratch, "memory");
    let mount = Mounted::tmpfs(&memory.path, "8m", None);
    let memory = Dir::new(&scratch, "memory");
    fs::write(memory.join("file"), "x").unwrap();
    chflags("uchg,schg", &memory.join("file"));
    let copied = copy(&memory, &target);
    let zfs = file_system(&target.path) == "zfs";
    assert_eq!(copied.skipped_xattrs, u64::from(zfs));
    assert_eq!(
        flags(&target.join("file")),
        if zfs { SCHG } else { SCHG | 2 }
    );
    clear(&[&source, &target, &memory]);
    drop(memory);
    drop(mount);
}

#[test]
fn sockets_are_left_out_of_copies() {
    let scratch = scratch();
    let [source, target] = ["source", "target"].map(|name| Dir::new(&scratch, name));
    let _listener = UnixListener::bind(source.join("socket")).unwrap();
    fs::write(source.join("file"), "x").unwrap();
    let copied = copy(&source, &target);
    assert_eq!((copied.entries, copied.skipped), (1, 1));
}

#[test]
fn the_kernels_file_systems_are_known() {
    let scratch = scratch();
    let plain = Dir::new(&scratch, "plain");
    assert!(!is_kernels(plain.fd()));
    assert!(is_kernels(rustix::fd::AsFd::as_fd(
        &fs::File::open("/dev").unwrap()
    )));
}

fn acl(path: &Path) -> String {
    run("getfacl", &["-nhq", path.to_str().unwrap()])
}

/// A file system with ACLs in a memory disk, of the kind that the options of `mount(8)` say.
struct Ufs {
    disk: String,
    _scratch: tempfile::TempDir,
    root: Dir,
}

impl Ufs {
    fn new(option: &str) -> Self {
        let scratch = scratch();
        let root = Dir::new(&scratch, "ufs");
        let disk = run("mdconfig", &["-a", "-t", "swap", "-s", "32m"]);
        let disk = disk.trim().to_owned();
        run("newfs", &["-U", &format!("/dev/{disk}")]);
        let at = root.path.to_str().unwrap();
        run("mount", &["-o", option, &format!("/dev/{disk}"), at]);
        let root = Dir::new(&scratch, "ufs");
        Self {
            disk,
            _scratch: scratch,
            root,
        }
    }

    fn dir(&self, name: &str) -> Dir {
        let path = self.root.join(name);
        fs::create_dir(&path).unwrap();
        let file = fs::File::open(&path).unwrap();
        Dir { path, file }
    }
}

impl Drop for Ufs {
    fn drop(&mut self) {
        run("umount", &["-f", self.root.path.to_str().unwrap()]);
        run("mdconfig", &["-d", "-u", &self.disk]);
    }
}

/// Copies, populates and packs a tree; all have the same ACLs. What a target hands down reaches none.
fn acls_are_kept(source: &Dir, make: &dyn Fn(&str) -> Dir, hand_down: &dyn Fn(&Path)) {
    let of = |root: &Dir| -> Vec<String> {
        let paths = facts(&root.path).into_keys();
        paths.map(|path| acl(&root.join(path))).collect()
    };
    let [copied, filled, unpacked] = ["copied", "filled", "unpacked"].map(make);
    hand_down(&copied.path);
    hand_down(&filled.path);
    let done = copy(source, &copied);
    assert_eq!(done.skipped_xattrs, 0);
    assert_eq!(of(&copied), of(source));
    populate(source.fd(), filled.fd()).unwrap();
    assert_eq!(of(&filled), of(source));
    let mut archive = Vec::new();
    let dot = Path::new(".");
    let packed = pack_tar(source.fd(), dot, dot, &mut archive).unwrap();
    assert_eq!(packed.skipped_xattrs, 0);
    assert_eq!(unpack(&archive, &unpacked).skipped_xattrs, 0);
    assert_eq!(of(&unpacked), of(source));
    for root in [&copied, &filled, &unpacked] {
        assert_same(&source.path, &root.path);
    }
    // A copy to where there are none: the mode has to do.
    let scratch = scratch();
    let memory = Dir::new(&scratch, "memory");
    let mount = Mounted::tmpfs(&memory.path, "8m", None);
    let memory = Dir::new(&scratch, "memory");
    assert!(copy(source, &memory).skipped_xattrs > 0);
    assert_same(&source.path, &memory.path);
    drop(memory);
    drop(mount);
}

fn setfacl(entry: &str, path: &Path) {
    run("setfacl", &["-m", entry, path.to_str().unwrap()]);
}

#[test]
fn posix_acls_are_kept() {
    let ufs = Ufs::new("acls");
    let source = ufs.dir("source");
    fs::create_dir(source.join("dir")).unwrap();
    fs::write(source.join("file"), "x").unwrap();
    fs::write(source.join("plain"), "x").unwrap();
    set_xattr(&source.join("file"), "user.too", b"1");
    setfacl("u:1001:rw,g:1002:r", &source.join("file"));
    setfacl("u:1001:rwx", &source.join("dir"));
    let default = "u::rwx,g::rx,o::-,u:1003:rx,m::rx";
    let dir = source.join("dir");
    run("setfacl", &["-dm", default, dir.to_str().unwrap()]);
    let hand_down = |path: &Path| {
        let entries = "u::rwx,g::rwx,o::rwx,u:33:rwx,m::rwx";
        run("setfacl", &["-dm", entries, path.to_str().unwrap()]);
    };
    acls_are_kept(&source, &|name| ufs.dir(name), &hand_down);
    assert_eq!(
        fs::metadata(source.join("plain")).unwrap().mode() & 0o777,
        0o644
    );
}

fn nfs4_acls(source: &Dir, make: &dyn Fn(&str) -> Dir) {
    fs::create_dir(source.join("dir")).unwrap();
    fs::write(source.join("file"), "x").unwrap();
    fs::write(source.join("plain"), "x").unwrap();
    setfacl("u:1001:rwpaRc::allow,g:1002:w::deny", &source.join("file"));
    setfacl("u:1001:full_set:fd:allow", &source.join("dir"));
    fs::write(source.join("dir/inherited"), "x").unwrap();
    let hand_down = |path: &Path| setfacl("u:33:full_set:fd:allow", path);
    acls_are_kept(source, make, &hand_down);
}

#[test]
fn nfs4_acls_are_kept() {
    let ufs = Ufs::new("nfsv4acls");
    nfs4_acls(&ufs.dir("source"), &|name| ufs.dir(name));
}

/// On ZFS setting a mode may do away with an ACL. (On other file systems that is tested above.)
#[test]
fn nfs4_acls_are_kept_on_zfs() {
    let scratch = scratch();
    let source = Dir::new(&scratch, "source");
    if file_system(&source.path) == "zfs" {
        nfs4_acls(&source, &|name| Dir::new(&scratch, name));
    }
}

#[test]
fn what_zfs_marks_as_changed_is_no_difference() {
    let scratch = scratch();
    let [source, target] = ["source", "target"].map(|name| Dir::new(&scratch, name));
    fs::write(source.join("file"), "x").unwrap();
    chflags("uarch", &source.join("file"));
    let copied = copy(&source, &target);
    assert_eq!(copied.skipped_xattrs, 0);
    let meta = fs::metadata(source.join("file")).unwrap();
    assert_ne!(meta.st_flags() & 0x800, 0);
    let mut archive = Vec::new();
    pack_tar(source.fd(), Path::new("file"), Path::new("x"), &mut archive).unwrap();
    assert!(!archive.windows(6).any(|bytes| bytes == b"fflags"));
}
