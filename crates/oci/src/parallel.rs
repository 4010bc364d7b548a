//! Several transfers at once, of which one thread tells.

use std::collections::{HashMap, VecDeque};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use kleene_doors::distribution::{BlobProgress, BlobStep, ProgressSink};
use kleene_types::Digest;

use crate::error::Trouble;
use crate::wire::Session;

/// Between two reports of the same step of one blob.
const INTERVAL: Duration = Duration::from_millis(100);
/// The caller is asked as often whether to go on, when nothing moves.
const HEARTBEAT: Duration = Duration::from_millis(200);
/// So much may be told before it has been listened to.
const BACKLOG: usize = 64;

/// Tells how far one blob is.
pub(crate) struct Reporter {
    sender: SyncSender<BlobProgress>,
    digest: Digest,
    total: u64,
}

impl Reporter {
    /// How far it is. Of one step, the caller isn't told more often than a person can see.
    pub fn tell(&self, step: BlobStep, done: u64) {
        // Nobody listens any more when the operation has ended.
        let _ = self.sender.send(BlobProgress {
            digest: self.digest.clone(),
            step,
            done,
            total: self.total,
        });
    }
}

/// Works on blobs, each with its size, several at a time. The first failure ends all.
pub(crate) fn run<J: Sync>(
    session: &Session<'_>,
    jobs: &[(Digest, u64, J)],
    sink: ProgressSink<'_>,
    work: impl Fn(&J, &Reporter) -> Result<(), Trouble> + Sync,
) -> Result<(), Trouble> {
    for (digest, total, _) in jobs {
        let waiting = BlobProgress {
            digest: digest.clone(),
            step: BlobStep::Waiting,
            done: 0,
            total: *total,
        };
        if sink(waiting).is_break() {
            return Err(Trouble::Cancelled);
        }
    }
    let queue: Mutex<VecDeque<&(Digest, u64, J)>> = Mutex::new(jobs.iter().collect());
    let failure: Mutex<Option<Trouble>> = Mutex::new(None);
    let worker = |sender: SyncSender<BlobProgress>| {
        let next = || {
            queue
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .pop_front()
        };
        while let Some((digest, total, job)) = next() {
            let reporter = Reporter {
                sender: sender.clone(),
                digest: digest.clone(),
                total: *total,
            };
            let result = session.check().and_then(|()| work(job, &reporter));
            if let Err(trouble) = result {
                let mut failure = failure.lock().unwrap_or_else(PoisonError::into_inner);
                // What comes later is a consequence.
                failure.get_or_insert(trouble);
                drop(failure);
                session.stop();
                return;
            }
        }
    };
    thread::scope(|scope| {
        let (sender, receiver) = sync_channel(BACKLOG);
        for _ in 0..session.config.transfers.clamp(1, jobs.len().max(1)) {
            let (sender, worker) = (sender.clone(), &worker);
            scope.spawn(move || worker(sender));
        }
        drop(sender);
        listen(session, &receiver, sink);
    });
    match failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(trouble) => Err(trouble),
        None => session.check(),
    }
}

/// Passes on what workers tell, until the last of them has ended.
fn listen(session: &Session<'_>, receiver: &Receiver<BlobProgress>, sink: ProgressSink<'_>) {
    let mut told: HashMap<Digest, (BlobStep, Instant)> = HashMap::new();
    // What came too soon after the one before.
    let mut held: HashMap<Digest, BlobProgress> = HashMap::new();
    let mut last: Option<BlobProgress> = None;
    let mut tell = |progress: BlobProgress| {
        if !session.is_stopped() && sink(progress).is_break() {
            session.stop();
        }
    };
    loop {
        match receiver.recv_timeout(HEARTBEAT) {
            Ok(progress) => {
                last = Some(progress.clone());
                let digest = progress.digest.clone();
                let soon = told
                    .get(&digest)
                    .is_some_and(|(step, at)| *step == progress.step && at.elapsed() < INTERVAL);
                if soon {
                    held.insert(digest, progress);
                } else {
                    held.remove(&digest);
                    told.insert(digest, (progress.step.clone(), Instant::now()));
                    tell(progress);
                }
            }
            Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) if held.is_empty() => {
                last.iter().cloned().for_each(&mut tell);
            }
            Err(RecvTimeoutError::Timeout) => held.drain().for_each(|(_, held)| tell(held)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use kleene_types::DigestAlgorithm;

    use super::*;
    use crate::config::Config;
    use crate::hash::digest;

    fn jobs(count: u8) -> Vec<(Digest, u64, u8)> {
        (0..count)
            .map(|n| (digest(DigestAlgorithm::Sha256, &[n]), 1, n))
            .collect()
    }

    #[test]
    fn all_are_done_and_told_of() {
        let config = Config::default();
        let session = Session::new(&config);
        let mut steps = Vec::new();
        let mut sink = |progress: BlobProgress| {
            steps.push(progress.step);
            ControlFlow::Continue(())
        };
        run(&session, &jobs(9), &mut sink, |_, reporter| {
            reporter.tell(BlobStep::Done, 1);
            Ok(())
        })
        .unwrap();
        let count = |wanted: BlobStep| steps.iter().filter(|step| **step == wanted).count();
        assert_eq!((count(BlobStep::Waiting), count(BlobStep::Done)), (9, 9));
    }

    #[test]
    fn the_first_failure_ends_all() {
        let config = Config {
            transfers: 2,
            ..Config::default()
        };
        let session = Session::new(&config);
        let begun = AtomicUsize::new(0);
        let mut sink = |_| ControlFlow::Continue(());
        let result = run(&session, &jobs(100), &mut sink, |n, _| {
            begun.fetch_add(1, Ordering::SeqCst);
            if *n == 0 {
                return Err(Trouble::lasting("the first"));
            }
            session.wait(Duration::from_secs(60))
        });
        assert!(matches!(result, Err(Trouble::Network { why, .. }) if why == "the first"));
        assert!(begun.load(Ordering::SeqCst) <= 3);
    }

    #[test]
    fn break_is_noticed_when_nothing_moves() {
        let config = Config::default();
        let session = Session::new(&config);
        let mut told = 0;
        let mut sink = |_| {
            told += 1;
            if told > 4 {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        };
        let result = run(&session, &jobs(1), &mut sink, |_, reporter| {
            reporter.tell(BlobStep::Downloading, 0);
            session.wait(Duration::from_secs(60))
        });
        assert!(matches!(result, Err(Trouble::Cancelled)));
    }
}
