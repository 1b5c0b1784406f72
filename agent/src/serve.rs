//! The front doors: listeners, limits, deadlines.
