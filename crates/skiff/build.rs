//! Links the binary: functions that came out the same are kept once. The typed objects of Kubernetes make many of them.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // Where Rust links with lld by default; other linkers don't know the option.
    if std::env::var("TARGET").is_ok_and(|t| t == "x86_64-unknown-linux-gnu") {
        println!("cargo::rustc-link-arg-bins=-Wl,--icf=all");
    }
}
