//! Layers: tar archives, compressed or not.

mod ahead;
mod read;
mod write;

pub(crate) use self::read::{Kind, LayerReader, decoder, kind};
pub(crate) use self::write::add;
