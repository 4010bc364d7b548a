//! What `zfs` says when it refuses.
//!
//! Its exit status is 1 whatever the reason, so the words of its messages count. Those used here are
//! the same in OpenZFS on FreeBSD and Linux, and in zfs-fuse; `tests` holds real ones.

/// Why a command was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The dataset isn't there.
    NotFound,
    /// The dataset is there already.
    Exists,
    /// The pool of that name isn't there.
    NoPool,
    /// There are snapshots or datasets beneath it, of these names.
    HasChildren(Vec<String>),
    /// Clones depend on it, of these names.
    HasClones(Vec<String>),
    /// Its mount is in use.
    CannotUnmount,
    /// Something that may go away by itself holds it.
    Busy,
    /// The pool or a quota is full.
    NoSpace,
    /// A limit is lower than what is in use.
    BelowUsed,
    /// It was made, but couldn't be mounted.
    NotMounted,
    /// It is mounted already.
    AlreadyMounted,
    /// Anything else.
    Other,
}

/// Recognises a message.
pub(super) fn classify(stderr: &str) -> Refusal {
    let says = |words: &str| stderr.contains(words);
    if says("dataset does not exist") || says("no such snapshot") {
        Refusal::NotFound
    } else if says("no such pool") {
        Refusal::NoPool
    } else if says("already exists") {
        Refusal::Exists
    } else if says("has dependent clones") {
        // Snapshots of clones are listed too; they go with them.
        let names = names(stderr).filter(|name| !name.contains('@'));
        Refusal::HasClones(names.map(str::to_owned).collect())
    } else if says("filesystem has children") {
        Refusal::HasChildren(names(stderr).map(str::to_owned).collect())
    } else if says("already mounted") {
        Refusal::AlreadyMounted
    } else if says("less than current used") {
        Refusal::BelowUsed
    } else if says("out of space") || says("quota exceeded") || says("No space left") {
        Refusal::NoSpace
    } else if says("cannot mount") || says("not mounted") {
        Refusal::NotMounted
    } else if says("cannot unmount") {
        Refusal::CannotUnmount
    } else if says("dataset is busy") {
        Refusal::Busy
    } else {
        Refusal::Other
    }
}

/// The list after `use '-r' to destroy the following datasets:`.
fn names(stderr: &str) -> impl Iterator<Item = &str> {
    stderr
        .lines()
        .skip_while(|line| !line.ends_with("the following datasets:"))
        .skip(1)
        .map(str::trim)
        .filter(|line| !line.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn real_answers_are_recognised() {
        let cases = [
            // OpenZFS 2.2 on FreeBSD.
            (
                "cannot create 'zroot/kleene/volumes/my-vol': dataset already exists",
                Refusal::Exists,
            ),
            (
                "cannot create snapshot 'zroot/kleene/image/abc@image': dataset already exists",
                Refusal::Exists,
            ),
            (
                "cannot open 'zroot/kleene/image/abc@nope': dataset does not exist",
                Refusal::NotFound,
            ),
            (
                "cannot create 'zroot/nope/x': parent does not exist",
                Refusal::Other,
            ),
            (
                "cannot unmount '/zroot/kleene/container/c1': pool or dataset is busy",
                Refusal::CannotUnmount,
            ),
            (
                "cannot destroy snapshot zroot/kleene/volumes/my-vol@s1: dataset is busy",
                Refusal::Busy,
            ),
            (
                "cannot set property for 'zroot/kleene/container/c1': size is less than current used \
                 or reserved space",
                Refusal::BelowUsed,
            ),
            // zfs-fuse 0.7.
            (
                "cannot destroy 'zkt/kleene/volumes/v1': dataset is busy",
                Refusal::Busy,
            ),
            (
                "umount: /zkt/kleene/volumes/v2: target is busy.\n\
                 cannot unmount '/zkt/kleene/volumes/v2': umount failed: umount child process failed",
                Refusal::CannotUnmount,
            ),
            (
                "cannot mount '/zkt/kleene/volumes/q': failed to create mountpoint\n\
                 filesystem successfully created, but not mounted",
                Refusal::NotMounted,
            ),
            (
                "cannot mount 'zkt/kleene/volumes/v3': filesystem already mounted",
                Refusal::AlreadyMounted,
            ),
            (
                "cannot create 'nopool/x/y': no such pool 'nopool'",
                Refusal::NoPool,
            ),
            ("cannot create 'zkt/x': out of space", Refusal::NoSpace),
        ];
        for (text, refusal) in cases {
            assert_eq!(classify(text), refusal, "{text}");
        }
    }

    #[test]
    fn lists_of_names_are_read() {
        let children = "cannot destroy 'zroot/kleene/image/abc': filesystem has children\n\
                        use '-r' to destroy the following datasets:\n\
                        zroot/kleene/image/abc@image\n";
        assert_eq!(
            classify(children),
            Refusal::HasChildren(vec!["zroot/kleene/image/abc@image".into()])
        );
        let clones = "cannot destroy 'zkt/kleene/image/i1': filesystem has dependent clones\n\
                      use '-R' to destroy the following datasets:\n\
                      zkt/kleene/container/c2\n\
                      zkt/kleene/container/c1@s\n\
                      zkt/kleene/container/c1\n";
        assert_eq!(
            classify(clones),
            Refusal::HasClones(vec![
                "zkt/kleene/container/c2".into(),
                "zkt/kleene/container/c1".into()
            ])
        );
    }
}
