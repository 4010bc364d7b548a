//! Links the unwinder into the program: loading `libgcc_s.so.1` each time it starts takes longer than
//! much of what it does then. The C library stays shared.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let target = |key| std::env::var(key).unwrap_or_default();
    if target("CARGO_CFG_TARGET_OS") == "linux" && target("CARGO_CFG_TARGET_ENV") == "gnu" {
        // As a whole, so that its symbols are there before the shared library's are looked for, which
        // is then left out as nobody needs it; unused sections are left out as always.
        println!(
            "cargo:rustc-link-arg-bins=-Wl,--push-state,--whole-archive,-l:libgcc_eh.a,--pop-state"
        );
    }
}
