//! Locks on single objects, so that operations on different ones don't wait for each other.
//!
//! An operation takes all of its locks at once: it waits until every one of them is free, then takes
//! them together. So no two operations can wait for each other in a circle. They come in the order in
//! which they asked, as far as they want the same objects, so that many who share one can't keep out
//! for ever who wants it alone. (Therefore nobody who holds a lock may ask for another one.)

use std::collections::{BTreeMap, HashMap};
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
    state: Mutex<State>,
    freed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Number of shared holders, or -1 for an exclusive one; objects that aren't held are absent.
    held: HashMap<Key, i64>,
    /// What those who wait want, by the order in which they came.
    waiting: BTreeMap<u64, Vec<(Key, Mode)>>,
    next: u64,
}

impl State {
    /// Whether who came as number `turn` must wait on.
    fn blocks(&self, turn: u64, keys: &[(Key, Mode)]) -> bool {
        let held = |(key, mode): &(Key, Mode)| blocked(self.held.get(key), *mode);
        let earlier = || self.waiting.range(..turn);
        keys.iter().any(held) || earlier().any(|(_, others)| conflict(keys, others))
    }
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
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let turn = state.next;
        state.next += 1;
        if state.blocks(turn, &keys) {
            state.waiting.insert(turn, keys.clone());
            state = self
                .freed
                .wait_while(state, |state| state.blocks(turn, &keys))
                .unwrap_or_else(PoisonError::into_inner);
            state.waiting.remove(&turn);
            // Those behind may have waited for this one's turn only.
            self.freed.notify_all();
        }
        for (key, mode) in &keys {
            let count = state.held.entry(key.clone()).or_insert(0);
            *count = if *mode == Mode::Shared {
                *count + 1
            } else {
                -1
            };
        }
        drop(state);
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

/// Whether two can't hold what they want at the same time.
fn conflict(keys: &[(Key, Mode)], others: &[(Key, Mode)]) -> bool {
    let exclusive = |a: Mode, b: Mode| a == Mode::Exclusive || b == Mode::Exclusive;
    keys.iter().any(|(key, mode)| {
        let mut others = others.iter();
        others.any(|(other, wanted)| key == other && exclusive(*mode, *wanted))
    })
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
        let state = self.locks.state.lock();
        let mut state = state.unwrap_or_else(PoisonError::into_inner);
        for (key, _) in &self.keys {
            match state.held.get_mut(key) {
                Some(count) if *count > 1 => *count -= 1,
                _ => {
                    state.held.remove(key);
                }
            }
        }
        drop(state);
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
        assert!(locks.state.lock().unwrap().held.is_empty());
    }

    #[test]
    fn shared_holders_are_together() {
        let locks = Locks::default();
        let first = locks.hold([(volume("a"), Mode::Shared)]);
        let second = locks.hold([(volume("a"), Mode::Shared)]);
        drop(first);
        assert_eq!(locks.state.lock().unwrap().held.get(&volume("a")), Some(&1));
        drop(second);
        drop(locks.exclusive(volume("a")));
    }

    /// However many share an object all the time, who wants it alone gets it.
    #[test]
    fn who_wants_an_object_alone_is_not_kept_out() {
        let locks = Locks::default();
        let done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            // There is no moment at which nobody shares it, were it not for the turns.
            let first = locks.hold([(volume("a"), Mode::Shared)]);
            let alone = scope.spawn(|| {
                let _alone = locks.exclusive(volume("a"));
                done.store(true, Ordering::SeqCst);
            });
            while locks.state.lock().unwrap().waiting.is_empty() {
                std::thread::yield_now();
            }
            let second = scope.spawn(|| {
                let _second = locks.hold([(volume("a"), Mode::Shared)]);
                assert!(done.load(Ordering::SeqCst), "it came later");
            });
            let other = locks.hold([(volume("b"), Mode::Exclusive)]);
            while locks.state.lock().unwrap().waiting.len() < 2 {
                std::thread::yield_now();
            }
            drop(other);
            drop(first);
            alone.join().unwrap();
            second.join().unwrap();
        });
    }
}
