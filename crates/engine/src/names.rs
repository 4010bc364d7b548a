//! Random names for containers: `adjective_surname`.

use kleene_types::{ContainerId, ContainerName};

const ADJECTIVES: [&str; 64] = [
    "able", "agile", "amber", "ample", "apt", "avid", "bold", "brave", "bright", "brisk", "calm",
    "candid", "clear", "clever", "cosy", "crisp", "deft", "eager", "early", "fair", "fleet",
    "fond", "frank", "fresh", "gentle", "glad", "golden", "grand", "happy", "hardy", "honest",
    "jolly", "keen", "kind", "lively", "loyal", "lucid", "mellow", "merry", "modest", "neat",
    "nimble", "noble", "patient", "placid", "plucky", "polite", "proud", "quick", "quiet", "rapid",
    "ready", "serene", "sharp", "silent", "snug", "solid", "steady", "sunny", "swift", "tidy",
    "vivid", "warm", "wise",
];

/// People who shaped logic, computing and operating systems.
const SURNAMES: [&str; 64] = [
    "allen",
    "babbage",
    "backus",
    "bardeen",
    "bernstein",
    "boole",
    "borg",
    "bostic",
    "brinch",
    "cantor",
    "cerf",
    "church",
    "codd",
    "conway",
    "cray",
    "curry",
    "dahl",
    "darwin",
    "dijkstra",
    "engelbart",
    "erdos",
    "euclid",
    "euler",
    "feynman",
    "floyd",
    "frege",
    "gauss",
    "godel",
    "goldberg",
    "gray",
    "hamilton",
    "hamming",
    "hilbert",
    "hoare",
    "hopper",
    "huffman",
    "iverson",
    "jacobson",
    "joy",
    "kay",
    "kernighan",
    "kleene",
    "knuth",
    "lamport",
    "liskov",
    "lovelace",
    "mccarthy",
    "mcilroy",
    "mckusick",
    "milner",
    "minsky",
    "naur",
    "noether",
    "nygaard",
    "perlman",
    "postel",
    "ritchie",
    "shannon",
    "stonebraker",
    "tarski",
    "thompson",
    "turing",
    "wirth",
    "zuse",
];

/// A name that isn't `taken`.
pub(crate) fn random<E>(
    mut taken: impl FnMut(&ContainerName) -> Result<bool, E>,
) -> Result<ContainerName, E> {
    let mut attempt = 0_u32;
    loop {
        if let Ok(name) = candidate(attempt).parse::<ContainerName>()
            && !taken(&name)?
        {
            return Ok(name);
        }
        attempt += 1;
    }
}

/// A random name; with a number once a few have been taken.
fn candidate(attempt: u32) -> String {
    // An id is twelve random hexadecimal digits: more randomness than the two picks need.
    let digits = ContainerId::random();
    let random = usize::from_str_radix(digits.as_str(), 16).unwrap_or_default();
    let adjective = ADJECTIVES
        .get(random % ADJECTIVES.len())
        .copied()
        .unwrap_or_default();
    let surname = SURNAMES
        .get(random / 64 % SURNAMES.len())
        .copied()
        .unwrap_or_default();
    let number = random / 4096 % 1000;
    if attempt < 3 {
        format!("{adjective}_{surname}")
    } else {
        format!("{adjective}_{surname}{number}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_valid_and_avoid_taken_ones() {
        let mut refused = 0;
        let name = random(|_| {
            refused += 1;
            Ok::<_, ()>(refused < 6)
        });
        assert_eq!(refused, 6);
        assert!(name.unwrap().as_str().contains('_'));
    }
}
