//! The hosts. Target `cfg` stands here and, but for the file backend, nowhere else in `src/`.

#[cfg(all(target_arch = "wasm32", target_os = "wasi"))]
pub mod lunatic;
