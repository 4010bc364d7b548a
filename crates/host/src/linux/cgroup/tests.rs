//! Tests of finding, planning and limiting, on hierarchies made of plain files.
