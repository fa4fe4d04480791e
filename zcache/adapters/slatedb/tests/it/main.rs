//! SlateDB with the cache: the same answers, stores that are slow or fail, restarts, fenced
//! writers.

mod answers;
mod loads;
mod store;
