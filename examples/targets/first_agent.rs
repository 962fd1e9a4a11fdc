//! The example is `examples/first_agent.rs`; it runs under Lunatic.
#![allow(unreachable_pub)] // Its `main` is public for here.

#[cfg_attr(target_os = "wasi", path = "../first_agent.rs")]
#[cfg_attr(not(target_os = "wasi"), path = "elsewhere.rs")]
mod example;

fn main() -> impl std::process::Termination {
    example::main()
}
