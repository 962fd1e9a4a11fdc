//! The example is `examples/state_survives.rs`; it runs under Lunatic, and natively with the feature `nats`.
#![allow(unreachable_pub)] // Its `main` is public for here.

#[cfg_attr(any(target_os = "wasi", feature = "nats"), path = "../state_survives.rs")]
#[cfg_attr(not(any(target_os = "wasi", feature = "nats")), path = "elsewhere.rs")]
mod example;

fn main() -> impl std::process::Termination {
    example::main()
}
