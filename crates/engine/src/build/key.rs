//! What a snapshot is known by: everything that has an influence on its files.

/// The key of a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Key(String);

impl Key {
    /// The key of what nothing was done to.
    pub(super) fn of(kind: &str, text: &str) -> Self {
        KeyBuilder::new(kind).text(text).finish()
    }

    /// The key of what is made of this by some kind of step.
    pub(super) fn then(&self, kind: &str) -> KeyBuilder {
        KeyBuilder::new(kind).text(&self.0)
    }

    /// Its name in the records.
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

/// A key that is put together.
#[derive(Debug)]
pub(super) struct KeyBuilder {
    kind: String,
    hasher: blake3::Hasher,
}

impl KeyBuilder {
    fn new(kind: &str) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(kind.as_bytes());
        Self {
            kind: kind.to_owned(),
            hasher,
        }
    }

    /// One more part. Its length is part of the key, so that parts can't run into each other.
    pub(super) fn bytes(mut self, part: &[u8]) -> Self {
        self.hasher.update(&(part.len() as u64).to_le_bytes());
        self.hasher.update(part);
        self
    }

    /// One more part.
    pub(super) fn text(self, part: &str) -> Self {
        self.bytes(part.as_bytes())
    }

    /// Several more parts.
    pub(super) fn texts<'a>(self, parts: impl IntoIterator<Item = &'a str>) -> Self {
        let mut count: u64 = 0;
        let mut builder = self;
        for part in parts {
            count += 1;
            builder = builder.text(part);
        }
        builder.bytes(&count.to_le_bytes())
    }

    pub(super) fn finish(self) -> Key {
        Key(format!("{}:{}", self.kind, self.hasher.finalize().to_hex()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_stay_apart() {
        let base = Key::of("base", "a");
        let keys = [
            base.then("copy").texts(["a", "b"]).finish(),
            base.then("copy").texts(["ab"]).finish(),
            base.then("copy").texts(["a"]).text("b").finish(),
            base.then("run").texts(["a", "b"]).finish(),
            Key::of("base", "b").then("copy").texts(["a", "b"]).finish(),
        ];
        for (index, key) in keys.iter().enumerate() {
            assert!(keys.iter().skip(index + 1).all(|other| other != key));
        }
        assert_eq!(keys[0], base.then("copy").texts(["a", "b"]).finish());
    }
}
