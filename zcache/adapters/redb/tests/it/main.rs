//! redb with the cache below it: crashes, errors, threads, other processes' locks.

mod crashes;
mod shared;
mod storage;
