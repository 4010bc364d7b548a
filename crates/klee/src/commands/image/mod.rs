//! Commands for images.

pub mod build;
pub mod create;
pub mod export;
pub mod history;
pub mod import;
pub mod inspect;
pub mod load;
pub mod login;
pub mod logout;
pub mod ls;
pub mod prune;
pub mod pull;
pub mod push;
pub mod rm;
pub mod save;
pub mod search;
pub mod tag;

commands! {
    /// Make a base image
    args "create" Create(create);
    /// Build an image from a Dockerfile
    args "build" Build(build);
    /// Pull an image from a registry
    args "pull" Pull(pull);
    /// Push an image to a registry
    args "push" Push(push);
    /// Log in to a registry
    args "login" Login(login);
    /// Forget the credentials for a registry
    args "logout" Logout(logout);
    /// Search a registry for images
    args "search" Search(search);
    /// List images
    args "ls" Ls(ls);
    /// Show everything about images
    args "inspect" Inspect(inspect);
    /// Show the steps that an image was made by
    args "history" History(history);
    /// Write images with their layers and settings to a tar archive
    args "save" Save(save);
    /// Take in the images of a tar archive
    args "load" Load(load);
    /// Write the files of an image to a tar archive
    args "export" Export(export);
    /// Make an image of the files in a tar archive
    args "import" Import(import);
    /// Remove images
    args "rm" Rm(rm);
    /// Remove images that nothing needs
    args "prune" Prune(prune);
    /// Rename an image
    args "tag" Tag(tag);
}
