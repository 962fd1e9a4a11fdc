//! Supervision: what is decided when an agent starts, answers, fails or stops, and what is told
//! of it.
