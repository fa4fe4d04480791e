//! Eviction policies: who goes.
