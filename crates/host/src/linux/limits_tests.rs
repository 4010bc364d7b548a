//! Tests of what is refused and what is warned of.
