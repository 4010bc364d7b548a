//! Tests of reading processes.
