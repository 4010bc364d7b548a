//! Copies one directory into another: `copy SOURCE TARGET`, to be compared with `cp -a`.

use std::fs::File;
use std::os::fd::AsFd;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut paths = std::env::args_os().skip(1);
    let (Some(source), Some(target)) = (paths.next(), paths.next()) else {
        return Err("usage: copy SOURCE TARGET".into());
    };
    let (source, target) = (File::open(source)?, File::open(target)?);
    let options = kleene_tree::CopyOptions::default();
    let copied = kleene_tree::copy_tree(source.as_fd(), target.as_fd(), &options)?;
    println!("{copied:?}");
    Ok(())
}
