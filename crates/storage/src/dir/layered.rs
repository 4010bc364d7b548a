//! Images and containers: trees of frozen layers with a writable one on top.
//!
//! ```text
//! ID/
//!   top/             the writable layer
//!   work/            overlayfs' own; there when `top` is the upper directory of an overlay
//!   layers/SNAPSHOT/ what `top` was when the snapshot was taken
//!   snapshots.json   the snapshots, oldest first
//!   origin           a symbolic link to the layer that the dataset is a clone of
//!   whole/           a layer that is to be that of the snapshot being taken
//! ```
//!
//! A clone is a link, two empty directories and a rename. Nothing of it is synced: file systems write
//! directories and links in the order in which they were made, so after a power failure the clone is
//! there as a whole or not at all. That is why the origin is a link, and not in a file whose content
//! could be missing.
//!
//! Taking a snapshot writes the list first, which is the point of no return, and then moves `top`
//! into its place; [`settle`] finishes that when it was cut short.
//!
//! A snapshot that would lie on more layers than an overlay should have is made whole: the layers are
//! merged in a directory `whole`, which becomes the snapshot's layer instead of `top`. What `top` holds
//! is in there, too; so it makes no difference when a crash keeps it from being emptied.
//!
//! Where there are no overlays, a snapshot leaves no `top` behind until somebody wants the tree:
//! images are seldom changed after their last snapshot, and a copy costs time and space.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use kleene_doors::storage::{Dataset, DatasetKind, Root, Snapshot};
use kleene_tree::{Comparison, CopyOptions, Difference, Stacking, copy_tree, flatten};
use kleene_types::SnapshotName;
use rustix::fs::{
    AtFlags, CWD, Mode, OFlags, mkdirat, openat, readlinkat, renameat, symlinkat, unlinkat,
};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::kleene_root::KleeneRoot;
use super::staged::Staged;
use super::{DIRECTORY, attributes, tree_error};

/// The writable layer.
pub(super) const TOP: &str = "top";
const WORK: &str = "work";
const LAYERS: &str = "layers";
const ORIGIN: &str = "origin";
const SNAPSHOTS: &str = "snapshots.json";
const NEW_SNAPSHOTS: &str = "snapshots.json.new";

/// A layer that is about to be a snapshot's.
const WHOLE: &str = "whole";

/// Most layers that overlayfs takes. There are fewer, unless an earlier version has made them.
const MOST_LAYERS: usize = 500;

/// How the room makes clones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    /// An empty layer over the origin's, of which there are this many at most.
    Overlay(usize),
    /// A copy of the origin's only layer.
    Copy,
}

/// One snapshot in the list.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Frozen {
    name: SnapshotName,
    /// The layer holds the whole tree: nothing beneath it shows.
    whole: bool,
}

/// An open image or container.
#[derive(Debug)]
pub(super) struct Layered<'r> {
    root: &'r KleeneRoot,
    dataset: &'r Dataset,
    fd: OwnedFd,
}

/// Makes an empty dataset.
pub(super) fn create(root: &KleeneRoot, dataset: &Dataset) -> io::Result<()> {
    let staged = root.stage(Mode::RWXU)?;
    let top = make_top(&staged.open()?)?;
    rustix::fs::fchmod(&top, Mode::from(0o755))?;
    staged.publish(dataset)
}

/// Makes a clone of the snapshot `origin`, whose layer is `layer`.
pub(super) fn clone(
    root: &KleeneRoot,
    origin: &Snapshot,
    layer: &OwnedFd,
    dataset: &Dataset,
    style: Style,
) -> io::Result<()> {
    let staged = root.stage(Mode::RWXU)?;
    let place = staged.open()?;
    symlinkat(origin_link(origin), &place, ORIGIN)?;
    let top = make_top(&place)?;
    match style {
        Style::Overlay(_) => {
            attributes::copy(layer, &top)?;
            mkdirat(&place, WORK, Mode::RWXU)?;
        }
        Style::Copy => copy(layer, &top)?,
    }
    staged.publish(dataset)
}

fn make_top(place: &OwnedFd) -> io::Result<OwnedFd> {
    mkdirat(place, TOP, Mode::RWXU)?;
    Ok(openat(place, TOP, DIRECTORY, Mode::empty())?)
}

fn copy(from: &OwnedFd, to: &OwnedFd) -> io::Result<()> {
    copy_tree(from.as_fd(), to.as_fd(), &CopyOptions::default())
        .map(drop)
        .map_err(tree_error)
}

/// The text of the link to the origin's layer, which works from inside of any dataset.
fn origin_link(origin: &Snapshot) -> PathBuf {
    Path::new("../..")
        .join(origin.dataset.to_string())
        .join(LAYERS)
        .join(origin.name.as_str())
}

/// Finishes every snapshot that was cut short. Nobody may use the datasets meanwhile.
///
/// A dataset that can't be read doesn't stand in the way of the others: whoever uses it is told.
pub(super) fn settle(root: &KleeneRoot, style: Style) -> io::Result<()> {
    for kind in [DatasetKind::Image, DatasetKind::Container] {
        for dataset in root.list(kind)? {
            let list = Path::new(dataset.leaf()).join(SNAPSHOTS);
            let directory = root.directory(kind);
            let whole = Path::new(dataset.leaf()).join(WHOLE);
            let there =
                |path| rustix::fs::statat(directory, path, AtFlags::SYMLINK_NOFOLLOW).is_ok();
            // Most containers have no snapshots.
            if there(&list) || there(&whole) {
                let _damaged = Layered::open(root, &dataset).and_then(|it| it.settle(style));
            }
        }
    }
    Ok(())
}

/// What a dataset is a clone of, if of anything. A dataset that is gone is a clone of nothing.
pub(super) fn origin_of(root: &KleeneRoot, dataset: &Dataset) -> io::Result<Option<Snapshot>> {
    let link = Path::new(dataset.leaf()).join(ORIGIN);
    parse_origin(readlinkat(
        root.directory(dataset.kind()),
        &link,
        Vec::new(),
    ))
}

fn parse_origin(link: rustix::io::Result<std::ffi::CString>) -> io::Result<Option<Snapshot>> {
    let link = match link {
        Ok(link) => link.to_string_lossy().into_owned(),
        Err(Errno::NOENT) => return Ok(None),
        Err(errno) => return Err(errno.into()),
    };
    let strange = || io::Error::other(format!("the origin '{link}' is none of Kleene's"));
    let parts: Vec<&str> = Path::new(&link)
        .components()
        .map(|part| part.as_os_str().to_str().unwrap_or_default())
        .collect();
    let ["..", "..", kind, id, LAYERS, name] = parts.as_slice() else {
        return Err(strange());
    };
    let dataset = match *kind {
        kind if kind == DatasetKind::Image.directory() => id.parse().map(Dataset::Image),
        _ => id.parse().map(Dataset::Container),
    };
    Ok(Some(Snapshot {
        dataset: dataset.map_err(|_| strange())?,
        name: name.parse().map_err(|_| strange())?,
    }))
}

impl<'r> Layered<'r> {
    /// Opens a dataset.
    ///
    /// # Errors
    /// `NotFound` when it isn't there.
    pub(super) fn open(root: &'r KleeneRoot, dataset: &'r Dataset) -> io::Result<Self> {
        let directory = root.directory(dataset.kind());
        let fd = openat(directory, dataset.leaf(), DIRECTORY, Mode::empty())?;
        Ok(Self { root, dataset, fd })
    }

    pub(super) fn has_snapshots(&self) -> io::Result<bool> {
        Ok(!self.snapshots()?.is_empty())
    }

    /// How the host sees the dataset's tree.
    pub(super) fn root(&self) -> io::Result<Root> {
        let snapshots = self.snapshots()?;
        let upper = self.path(TOP);
        if self.has(WORK)? {
            return Ok(Root::Overlay {
                lower: self.beneath(snapshots)?,
                upper,
                work: self.path(WORK),
            });
        }
        if !self.has(TOP)? {
            self.restore_top(&snapshots)?;
        }
        Ok(Root::Directory { path: upper })
    }

    /// The layer of a snapshot, to be cloned.
    ///
    /// # Errors
    /// `NotFound` when there is no such snapshot; `Unsupported` when the layer isn't the whole tree,
    /// and only that could be cloned.
    pub(super) fn layer_of(&self, name: &SnapshotName, style: Style) -> io::Result<OwnedFd> {
        let snapshots = self.snapshots()?;
        let frozen = snapshots.iter().find(|frozen| frozen.name == *name);
        let frozen = frozen.ok_or(io::ErrorKind::NotFound)?;
        if style == Style::Copy && !frozen.whole {
            return Err(not_whole());
        }
        self.open_layer(name)
    }

    /// Freezes the present top as the layer `name`.
    ///
    /// # Errors
    /// `AlreadyExists` when the name is taken.
    pub(super) fn snapshot(&self, name: &SnapshotName, style: Style) -> io::Result<()> {
        let mut snapshots = self.snapshots()?;
        if snapshots.iter().any(|frozen| frozen.name == *name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        if !self.has(TOP)? {
            self.restore_top(&snapshots)?;
        }
        let top = openat(&self.fd, TOP, DIRECTORY, Mode::empty())?;
        self.discard_whole()?;
        let mut whole = !self.has(WORK)?;
        let merged = match style {
            Style::Overlay(deepest) if !whole => self.merged(&top, &snapshots, deepest)?,
            _ => None,
        };
        // A record will say that the layer is there: so its files have to be.
        sync_files(&top)?;
        self.ensure_directory(LAYERS)?;
        let next = match style {
            Style::Copy if whole => None,
            _ => Some(self.next_top(&top)?),
        };
        if let Some(merged) = merged {
            merged.publish_at(self.fd.as_fd(), WHOLE)?;
            rustix::fs::fsync(&self.fd)?;
            whole = true;
        }
        let before = snapshots.clone();
        snapshots.push(Frozen {
            name: name.clone(),
            whole,
        });
        self.write_snapshots(&snapshots)?;
        self.freeze(name, next).inspect_err(|_| {
            // The first error is the one to report. Where this can't be undone, the snapshot is
            // finished when the room is opened next, which harms nobody.
            if self.has(layer_path(name)).is_ok_and(|frozen| !frozen) {
                let _undone = self.write_snapshots(&before);
            }
        })?;
        // From here on there is no way back: the top's files are in the layer.
        rustix::fs::fsync(openat(&self.fd, LAYERS, DIRECTORY, Mode::empty())?)?;
        Ok(rustix::fs::fsync(&self.fd)?)
    }

    /// Moves the top into its place as a layer, and the next one into its place.
    fn freeze(&self, name: &SnapshotName, next: Option<Staged<'_>>) -> io::Result<()> {
        let layer = layer_path(name);
        if self.has(WHOLE)? {
            renameat(&self.fd, WHOLE, &self.fd, &layer)?;
            // What the top holds is in the layer; there, it only takes space.
            if let Some(next) = next {
                let _stays = next.exchange(self.fd.as_fd(), TOP);
            }
            return Ok(());
        }
        renameat(&self.fd, TOP, &self.fd, &layer)?;
        if let Some(next) = next {
            let placed = self
                .ensure_directory(WORK)
                .and_then(|()| next.publish_at(self.fd.as_fd(), TOP));
            if let Err(error) = placed {
                renameat(&self.fd, &layer, &self.fd, TOP)?;
                return Err(error);
            }
        }
        Ok(())
    }

    /// The dataset's whole tree, to be the next snapshot's layer; `None` when there are few enough layers
    /// beneath the top.
    fn merged(
        &self,
        top: &OwnedFd,
        snapshots: &[Frozen],
        deepest: usize,
    ) -> io::Result<Option<Staged<'r>>> {
        let beneath = self.beneath(snapshots.to_vec())?;
        if beneath.len() < deepest {
            return Ok(None);
        }
        let mut layers = vec![top.try_clone()?];
        for path in beneath {
            layers.push(openat(CWD, path, DIRECTORY, Mode::empty())?);
        }
        let staged = self.root.stage(Mode::RWXU)?;
        flatten(&layers, staged.open()?.as_fd()).map_err(tree_error)?;
        Ok(Some(staged))
    }

    /// Removes what a snapshot has left behind that was cut short before it was in the list.
    fn discard_whole(&self) -> io::Result<()> {
        match self.has(WHOLE)? {
            true => self.root.discard_at(self.fd.as_fd(), WHOLE)?.remove(),
            false => Ok(()),
        }
    }

    /// Finishes a snapshot that was cut short after its name got into the list.
    fn settle(&self, style: Style) -> io::Result<()> {
        let snapshots = self.snapshots()?;
        let Some(last) = snapshots.last() else {
            return self.discard_whole();
        };
        let layer = layer_path(&last.name);
        if !self.has(&layer)? {
            let from = if self.has(WHOLE)? { WHOLE } else { TOP };
            renameat(&self.fd, from, &self.fd, &layer)?;
        }
        self.discard_whole()?;
        let overlay = style != Style::Copy || self.has(WORK)?;
        if overlay && !self.has(TOP)? {
            let next = self.next_top(&self.open_layer(&last.name)?)?;
            self.ensure_directory(WORK)?;
            next.publish_at(self.fd.as_fd(), TOP)?;
        }
        Ok(())
    }

    /// An empty top that looks like the present one.
    fn next_top(&self, like: &OwnedFd) -> io::Result<Staged<'r>> {
        let staged = self.root.stage(Mode::RWXU)?;
        attributes::copy(like, staged.open()?)?;
        Ok(staged)
    }

    /// Copies the last snapshot, which is all of the tree, to be changed.
    fn restore_top(&self, snapshots: &[Frozen]) -> io::Result<()> {
        let last = snapshots.last().ok_or(io::ErrorKind::NotFound)?;
        if !last.whole {
            return Err(not_whole());
        }
        let staged = self.root.stage(Mode::RWXU)?;
        copy(&self.open_layer(&last.name)?, &staged.open()?)?;
        staged.publish_at(self.fd.as_fd(), TOP)
    }

    /// What differs from the snapshot that the dataset is a clone of; from nothing when it is none.
    pub(super) fn changes(&self) -> io::Result<Vec<(PathBuf, Difference)>> {
        let mut new = Vec::new();
        if self.has(TOP)? {
            new.push(openat(&self.fd, TOP, DIRECTORY, Mode::empty())?);
        }
        let is_overlay = self.has(WORK)?;
        // A top without a work directory is the whole tree, and so is the last layer without a top.
        let mut whole = !is_overlay && !new.is_empty();
        for frozen in self.snapshots()?.iter().rev() {
            if whole {
                break;
            }
            new.push(self.open_layer(&frozen.name)?);
            whole = frozen.whole;
        }
        let old = self.origin_layers()?;
        let stacking = match (is_overlay, whole) {
            (true, false) => Stacking::Over,
            (true, true) => Stacking::Beside,
            (false, _) => Stacking::Apart,
        };
        let comparison = Comparison {
            old: &old,
            new: &new,
            stacking,
            only: None,
        };
        kleene_tree::changes(&comparison).map_err(tree_error)
    }

    /// The layers of the snapshot that the dataset is a clone of, the topmost first.
    fn origin_layers(&self) -> io::Result<Vec<OwnedFd>> {
        let Some(origin) = origin_of(self.root, self.dataset)? else {
            return Ok(Vec::new());
        };
        let dataset = Layered::open(self.root, &origin.dataset)?;
        let layers = dataset.beneath(dataset.up_to(&origin.name)?)?;
        let open = |path| Ok(openat(CWD, path, DIRECTORY, Mode::empty())?);
        layers.into_iter().map(open).collect()
    }

    /// The frozen layers of this dataset and its origins, the topmost first.
    fn beneath(&self, snapshots: Vec<Frozen>) -> io::Result<Vec<PathBuf>> {
        let mut layers = Vec::new();
        let mut dataset = self.dataset.clone();
        let mut snapshots = snapshots;
        while layers.len() <= MOST_LAYERS {
            let base = self.root.path().join(dataset.to_string());
            for frozen in snapshots.iter().rev() {
                layers.push(base.join(layer_path(&frozen.name)));
                if frozen.whole {
                    return Ok(layers);
                }
            }
            let Some(origin) = origin_of(self.root, &dataset)? else {
                return Err(io::Error::other("its lowest layer is missing"));
            };
            snapshots = Layered::open(self.root, &origin.dataset)?.up_to(&origin.name)?;
            dataset = origin.dataset;
        }
        Err(io::Error::other(format!(
            "it has more than {MOST_LAYERS} layers"
        )))
    }

    /// The snapshots up to this one.
    fn up_to(&self, name: &SnapshotName) -> io::Result<Vec<Frozen>> {
        let mut snapshots = self.snapshots()?;
        let index = snapshots.iter().position(|frozen| frozen.name == *name);
        let index = index.ok_or_else(|| {
            io::Error::other(format!("its origin {}@{name} is missing", self.dataset))
        })?;
        snapshots.truncate(index + 1);
        Ok(snapshots)
    }

    /// Bytes in the dataset's own layers.
    pub(super) fn usage(&self) -> io::Result<u64> {
        let mut bytes = 0;
        for name in [TOP, LAYERS] {
            match openat(&self.fd, name, DIRECTORY, Mode::empty()) {
                Ok(fd) => bytes += kleene_tree::usage(fd.as_fd()).map_err(tree_error)?.bytes,
                Err(Errno::NOENT) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(bytes)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(self.dataset.to_string()).join(name)
    }

    fn has(&self, name: impl AsRef<Path>) -> io::Result<bool> {
        match rustix::fs::statat(&self.fd, name.as_ref(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }

    fn ensure_directory(&self, name: &str) -> io::Result<()> {
        match mkdirat(&self.fd, name, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    fn open_layer(&self, name: &SnapshotName) -> io::Result<OwnedFd> {
        Ok(openat(
            &self.fd,
            layer_path(name),
            DIRECTORY,
            Mode::empty(),
        )?)
    }

    fn snapshots(&self) -> io::Result<Vec<Frozen>> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match openat(&self.fd, SNAPSHOTS, flags, Mode::empty()) {
            Ok(fd) => {
                let text = io::read_to_string(std::fs::File::from(fd))?;
                serde_json::from_str(&text).map_err(|error| {
                    io::Error::other(format!("its list of snapshots is damaged: {error}"))
                })
            }
            Err(Errno::NOENT) => Ok(Vec::new()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Replaces the list of snapshots, durably.
    fn write_snapshots(&self, snapshots: &[Frozen]) -> io::Result<()> {
        use io::Write as _;
        let write = || -> io::Result<()> {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC;
            let fd = openat(&self.fd, NEW_SNAPSHOTS, flags, Mode::RUSR | Mode::WUSR)?;
            let mut file = std::fs::File::from(fd);
            file.write_all(&serde_json::to_vec(snapshots)?)?;
            file.sync_all()?;
            renameat(&self.fd, NEW_SNAPSHOTS, &self.fd, SNAPSHOTS)?;
            Ok(rustix::fs::fsync(&self.fd)?)
        };
        write().inspect_err(|_| {
            // It would be overwritten the next time; this only gives the space back.
            let _left = unlinkat(&self.fd, NEW_SNAPSHOTS, AtFlags::empty());
        })
    }
}

fn layer_path(name: &SnapshotName) -> PathBuf {
    Path::new(LAYERS).join(name.as_str())
}

fn not_whole() -> io::Error {
    io::Error::new(
        io::ErrorKind::Unsupported,
        "it was made as an overlay, and this host has no overlays on the Kleene root",
    )
}

/// Makes the files of a layer durable, with everything else on its file system.
fn sync_files(layer: &OwnedFd) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    rustix::fs::syncfs(layer)?;
    #[cfg(not(target_os = "linux"))]
    {
        let _ = layer;
        rustix::fs::sync();
    }
    Ok(())
}
