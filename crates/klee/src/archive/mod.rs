//! Archives that come and go as a whole: of images, and of containers' roots.

mod read;
mod save;

pub use read::{Kind, Source, no_archive};
pub use save::Destination;
