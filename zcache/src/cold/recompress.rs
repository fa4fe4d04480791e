//! Cold entries, compressed again with the stronger coder.
//!
//! A hand goes over all ids, a bounded way in each call of `maintain`. It marks each entry that it
//! passes as idle, and a hit removes that mark. An entry that is still idle when the hand comes
//! again was not hit for a sweep. It is decoded, and compressed with the stronger coder. If that
//! takes a smaller slot, the new object takes the place of the old one in the index, unless the key
//! was touched meanwhile: see `tier`. It is no replacement: the page, its expiry and its place in
//! the policy are the same. No hook is called, and leases and loads are not told.
//!
//! The new object takes the room there is, or what compaction finds. A full cache may have none at
//! all in the smaller classes, and recompression would never begin. So entries are evicted for it,
//! but of no more bytes than it has saved before, and a first few: it pays out of what it gains.
//! Contexts and buffers make room as those of an insert do.

use crate::codec::Form;
use crate::stats::{Recompression, RemovalCause};
use crate::store::Rest;
use crate::sync::add;
use crate::tier::{Hand, Outcome, Renewal, Tier};

/// What passing an id counts in bytes of a budget.
const PASSED: usize = 64;
/// Entries in a row without room for their new objects that end a call.
const CROWDED: usize = 32;

/// What a step came to.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Step {
    pub(crate) counts: Recompression,
    pub(crate) expired: u64,
    pub(crate) swept: bool,
}

impl<K: Eq + Send + Sync> Tier<K> {
    /// Passes ids until `budget` bytes of pages were worked on, the last id was passed, or `stop`
    /// says so. It is asked before each entry.
    pub(crate) fn recompress(
        &self,
        hand: &mut Hand,
        budget: usize,
        stop: &dyn Fn() -> bool,
    ) -> Step {
        let (mut step, mut left, mut crowded) = (Step::default(), budget, 0);
        let all = self.ids().end;
        while left > 0 && crowded < CROWDED && !step.swept && !stop() {
            left = left.saturating_sub(PASSED);
            let id = hand.next;
            step.swept = id + 1 >= all;
            hand.next = if step.swept { 0 } else { id + 1 };
            let again = hand.again > 0;
            hand.again = hand.again.saturating_sub(1);
            let Some(entry) = self.entry(id) else { continue };
            if self.has_ended(id) {
                self.withdraw(entry, RemovalCause::Cleared, false);
                continue;
            }
            let state = entry.record().state();
            if state.expires() && self.store.expired(&entry, self.clock()) == Ok(true) {
                step.expired += u64::from(self.withdraw(entry, RemovalCause::Expired, false));
                continue;
            }
            if !self.may_gain(state.form()) {
                continue;
            }
            match state.rest() {
                Rest::Warm => {
                    entry.record().set_rest(state, Rest::Idle);
                    continue;
                }
                Rest::Tried if !again => continue,
                // An entry of a scan that is there still has stayed, as far as anybody knows.
                Rest::Idle | Rest::Tried | Rest::Unpacked => {}
            }
            let hot = self.hot.as_ref();
            if hot.is_some_and(|hot| hot.holds(entry.record().tag, id)) {
                continue;
            }
            left = left.saturating_sub(state.len());
            step.counts.tried += 1;
            let outcome =
                self.renew(entry, Renewal::Stronger, &mut |_| self.make_slots(&mut hand.spent));
            crowded = if outcome == Outcome::Crowded { crowded + 1 } else { 0 };
            match outcome {
                Outcome::Saved(bytes) => {
                    step.counts.recompressed += 1;
                    step.counts.bytes_saved += bytes as u64;
                    add(&self.counters.maintenance.bytes_saved, bytes as u64);
                }
                Outcome::Full => break,
                _ => {}
            }
        }
        let counters = &self.counters.maintenance;
        add(&counters.tried, step.counts.tried);
        add(&counters.recompressed, step.counts.recompressed);
        step
    }

    /// Whether the stronger coder, if there is one, is another than the one that a page is stored
    /// by.
    fn may_gain(&self, form: Form) -> bool {
        let target = self.store.coders.target();
        target != 0
            && match form {
                Form::Raw => true,
                Form::Coded(coder) => coder != target,
                Form::Filled(_) | Form::Pieces => false,
            }
    }
}
