//! Who, then which, then what.
