//! Tests of jail parameters.
