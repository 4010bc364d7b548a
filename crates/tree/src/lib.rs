//! Directory trees by file descriptor: copy, populate, pack, unpack, compare, measure and remove them.
//!
//! The daemon works as root on trees whose content strangers control: images, volumes and the
//! roots of containers. Nothing in here follows a symbolic link on the host's behalf. Every step
//! goes through an open directory (`openat` and friends with `O_NOFOLLOW`), and what was opened is
//! looked at again before it is trusted. Paths inside a tree are resolved by [`open_in_root`] and
//! its relatives as the container would see them, so no link leads out.
//!
//! Directory arguments may be `O_PATH` descriptors.
//!
//! FreeBSD has the same by other means: its own calls for attributes, ACLs and file flags, and
//! `O_RESOLVE_BENEATH`. On other systems extended attributes aren't copied, and files are copied by
//! reading and writing.

mod attributes;
mod changes;
mod copy;
mod data;
mod digest;
mod error;
mod filter;
mod flags;
mod kernels;
mod links;
pub mod memory;
mod meta;
mod pack;
mod pattern;
mod place;
mod populate;
mod remove;
mod resolve;
mod sources;
mod sys;
mod unpack;
mod usage;

pub use changes::{Comparison, Difference, Stacking, changes};
pub use copy::{
    Archives, Copied, CopyFrom, CopyInto, CopyOptions, Existing, Progress, copy_in, copy_tree,
    flatten,
};
pub use digest::digest_sources;
pub use error::{Step, TreeError};
pub use filter::{Filter, Keep};
pub use kernels::is_kernels;
pub use pack::{Choice, Chooser, LayerOf, PackOptions, Packed, pack_chosen, pack_layer, pack_tar};
pub use pattern::name_fits;
pub use populate::{PopulateOutcome, populate, recover_populate};
pub use remove::{remove_contents, remove_tree, remove_tree_at};
pub use resolve::{Open, create_dirs_in_root, create_file_in_root, open_in_root, resolve_in_root};
pub use unpack::{Rename, UnpackOptions, Unpacked, apply_layer, unpack_tar};
pub use usage::{Usage, usage};
