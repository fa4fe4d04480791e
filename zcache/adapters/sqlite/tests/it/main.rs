//! SQLite with the cache below it: the same answers, crashes, other processes.

mod accounts;
mod answers;
mod crashes;
mod processes;
mod vfs;
