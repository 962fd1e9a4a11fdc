//! The example is `examples/first_agent.rs`; it runs under Lunatic, and natively with the feature `nats`.
#![allow(unreachable_pub)] // Its `main` is public for here.

#[cfg_attr(any(target_os = "wasi", feature = "nats"), path = "../first_agent.rs")]
#[cfg_attr(not(any(target_os = "wasi", feature = "nats")), path = "elsewhere.rs")]
mod example;

fn main() -> impl std::process::Termination {
    example::main()
}
