//! Agents as tokio tasks, on any target with `std`.

pub mod nats;
#[cfg(feature = "operator")]
pub mod operator;
