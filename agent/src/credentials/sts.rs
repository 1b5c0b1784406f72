//! `sts:AssumeRole`, once or chained.
