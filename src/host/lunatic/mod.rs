//! Agents as Lunatic processes.
