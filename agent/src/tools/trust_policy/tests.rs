//! Whole trust policies, judged and mended.
