//! Locks on single objects, so that operations on different ones don't wait for each other.
//!
//! An operation takes all of its locks at once: it waits until every one of them is free, then takes
//! them together. So no two operations can wait for each other in a circle.

use std::collections::HashMap;
use std::sync::{Condvar, Mutex, PoisonError};

use kleene_types::{ContainerId, ExecId, ImageId, VolumeName};

/// What can be locked.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Key {
    /// A container.
    Container(ContainerId),
    /// An execution instance that isn't the first one of its container.
    Exec(ExecId),
    /// An image.
    Image(ImageId),
    /// A volume.
    Volume(VolumeName),
}

/// How a lock is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Together with other users of the object.
    Shared,
    /// Alone.
    Exclusive,
}

/// The locks of one engine.
#[derive(Debug, Default)]
pub(crate) struct Locks {
    /// Number of shared holders, or -1 for an exclusive one; objects that aren't held are absent.
    held: Mutex<HashMap<Key, i64>>,
    freed: Condvar,
}

/// Holds locks until it is dropped.
#[derive(Debug)]
pub(crate) struct Guard<'a> {
    locks: &'a Locks,
    keys: Vec<(Key, Mode)>,
}

impl Locks {
    /// Waits until all of `keys` are free, then takes them. Of several entries for one object the
    /// exclusive one counts.
    pub(crate) fn hold(&self, keys: impl IntoIterator<Item = (Key, Mode)>) -> Guard<'_> {
        let keys = merge(keys);
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let mut held = self
            .freed
            .wait_while(held, |held| {
                keys.iter().any(|(key, mode)| blocked(held.get(key), *mode))
            })
            .unwrap_or_else(PoisonError::into_inner);
        for (key, mode) in &keys {
            let count = held.entry(key.clone()).or_insert(0);
            *count = if *mode == Mode::Shared {
                *count + 1
            } else {
                -1
            };
        }
        Guard { locks: self, keys }
    }

    /// Takes a single lock, alone.
    pub(crate) fn exclusive(&self, key: Key) -> Guard<'_> {
        self.hold([(key, Mode::Exclusive)])
    }
}

fn blocked(count: Option<&i64>, mode: Mode) -> bool {
    match (count, mode) {
        (None, _) => false,
        (Some(count), Mode::Shared) => *count < 0,
        (Some(_), Mode::Exclusive) => true,
    }
}

fn merge(keys: impl IntoIterator<Item = (Key, Mode)>) -> Vec<(Key, Mode)> {
    let mut merged: Vec<(Key, Mode)> = Vec::new();
    for (key, mode) in keys {
        match merged.iter_mut().find(|(known, _)| *known == key) {
            Some((_, known)) if mode == Mode::Exclusive => *known = mode,
            Some(_) => {}
            None => merged.push((key, mode)),
        }
    }
    merged
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        let mut held = self
            .locks
            .held
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        for (key, _) in &self.keys {
            match held.get_mut(key) {
                Some(count) if *count > 1 => *count -= 1,
                _ => {
                    held.remove(key);
                }
            }
        }
        self.locks.freed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn volume(name: &str) -> Key {
        Key::Volume(name.parse().unwrap())
    }

    #[test]
    fn exclusive_holders_are_alone() {
        let locks = Locks::default();
        let inside = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        let _guard = locks.hold([
                            (volume("a"), Mode::Exclusive),
                            (volume("b"), Mode::Shared),
                            (volume("a"), Mode::Shared),
                        ]);
                        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                        inside.fetch_sub(1, Ordering::SeqCst);
                    }
                });
            }
        });
        assert!(locks.held.lock().unwrap().is_empty());
    }

    #[test]
    fn shared_holders_are_together() {
        let locks = Locks::default();
        let first = locks.hold([(volume("a"), Mode::Shared)]);
        let second = locks.hold([(volume("a"), Mode::Shared)]);
        drop(first);
        assert_eq!(locks.held.lock().unwrap().get(&volume("a")), Some(&1));
        drop(second);
        drop(locks.exclusive(volume("a")));
    }
}
