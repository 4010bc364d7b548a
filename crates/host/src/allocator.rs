//! How much memory the allocator keeps to itself.

/// Tells the allocator to give freed memory back to the system rather than keep it for speed. By
/// default the GNU allocator has eight arenas a processor, and stops giving large blocks back once it
/// has seen some: a daemon that has answered one large request would stay large for ever.
///
/// Does nothing where the allocator is another one. Call it before there are threads.
pub fn keep_small() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    for (parameter, value) in [
        (libc::M_ARENA_MAX, 1),
        (libc::M_MMAP_THRESHOLD, 128 << 10),
        (libc::M_TRIM_THRESHOLD, 256 << 10),
    ] {
        // SAFETY: mallopt(3) takes plain numbers and changes nothing but how the allocator works. It
        // answers 0 for what it doesn't know, which then stays as it was.
        let _ = unsafe { libc::mallopt(parameter, value) };
    }
}
