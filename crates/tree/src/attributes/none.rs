//! Systems whose extended attributes aren't known.

use std::ffi::{CStr, CString};
use std::os::fd::BorrowedFd;

use super::Node;
use crate::error::Fault;

pub fn all(_: Node<'_>) -> Result<Vec<(CString, Vec<u8>)>, Fault> {
    Ok(Vec::new())
}

pub fn value(_: Node<'_>, _: &CStr) -> Result<Option<Vec<u8>>, Fault> {
    Ok(None)
}

pub fn comes_after_mode(_: &CStr) -> bool {
    false
}

pub fn set(_: Node<'_>, _: &CStr, _: &[u8]) -> Result<bool, Fault> {
    Ok(false)
}

pub fn clear_default_acl(_: BorrowedFd<'_>) -> rustix::io::Result<()> {
    Ok(())
}

pub fn remove(_: BorrowedFd<'_>, _: &CStr) -> rustix::io::Result<()> {
    Ok(())
}
