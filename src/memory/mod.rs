//! What an agent remembers, and where.
