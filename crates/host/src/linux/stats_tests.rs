//! Tests of reading usage.
