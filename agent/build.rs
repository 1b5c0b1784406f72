//! How the binary is linked.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // Relative relocations packed: the loader reads all of them at each start, and
    // 10 KiB of them instead of 740 stay resident (glibc 2.36 or later).
    println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
}
