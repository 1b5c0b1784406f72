//! What is asked of AWS, and how its answers are taken.
