//! Agents as tokio tasks, on any target with `std`.

#[cfg(feature = "operator")]
pub mod operator;
