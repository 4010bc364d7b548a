//! What of a tree is packed.

use std::path::Path;

use crate::attributes::Attributes;
use crate::meta::Meta;

/// What becomes of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// It is packed. So is what is in it, if that is chosen, too.
    Take,
    /// A directory that is packed only if something in it is.
    Within,
    /// Neither it nor what is in it is packed.
    Leave,
}

/// Asked about an entry: its path beneath the packed tree's root, and whether it is a directory.
pub type Chooser<'c> = &'c mut dyn FnMut(&Path, bool) -> Choice;

/// How a tree is packed.
#[derive(Default)]
pub struct PackOptions<'c> {
    /// User and group that everything belongs to; `None`: those that it has.
    pub owner: Option<(u32, u32)>,
    /// Leave out extended attributes and file flags.
    pub plain: bool,
    /// Says what is packed of what is beneath the root; an entry that changes under the walk may be
    /// asked about again. `None`: everything.
    pub choose: Option<Chooser<'c>>,
}

/// A directory that is written if something in it is.
pub(super) struct Pending {
    /// Bytes of its path.
    pub length: usize,
    pub meta: Meta,
    pub attributes: Attributes,
}
