//! The example is `examples/seed_hybrid.rs`; it runs under Lunatic and natively.
#![allow(unreachable_pub)] // Its `main` is public for here.

#[cfg_attr(
    any(target_os = "wasi", all(feature = "nats", not(target_arch = "wasm32"))),
    path = "../seed_hybrid.rs"
)]
#[cfg_attr(
    not(any(target_os = "wasi", all(feature = "nats", not(target_arch = "wasm32")))),
    path = "elsewhere.rs"
)]
mod example;

fn main() -> impl std::process::Termination {
    example::main()
}
