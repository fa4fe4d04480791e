//! Loom models of the word and the table.
