//! Commands for images.

pub mod build;
pub mod create;
pub mod inspect;
pub mod ls;
pub mod prune;
pub mod rm;
pub mod tag;

commands! {
    /// Make a base image
    args "create" Create(create);
    /// Build an image from a Dockerfile
    args "build" Build(build);
    /// List images
    args "ls" Ls(ls);
    /// Show everything about images
    args "inspect" Inspect(inspect);
    /// Remove images
    args "rm" Rm(rm);
    /// Remove images that nothing needs
    args "prune" Prune(prune);
    /// Rename an image
    args "tag" Tag(tag);
}
