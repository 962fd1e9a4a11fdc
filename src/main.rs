//! The program: see [`rust_wasm_lunatic_nats::cli::HELP`].

use std::process::ExitCode;

fn main() -> ExitCode {
    rust_wasm_lunatic_nats::host::main()
}
