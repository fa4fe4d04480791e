//! A made language: words of syllables, the common ones short and frequent, so that text of it
//! compresses about as prose does.

use fastrand::Rng;

const HEADS: [&str; 24] = [
    "b", "br", "d", "f", "g", "gr", "h", "k", "kl", "l", "m", "n", "p", "pr", "r", "s", "sh", "st",
    "t", "tr", "v", "w", "z", "",
];
const HEARTS: [&str; 10] = ["a", "e", "i", "o", "u", "ai", "ea", "ou", "ee", "y"];
const TAILS: [&str; 12] = ["", "", "", "n", "r", "s", "t", "l", "m", "nd", "ck", "ng"];

/// Words in the language.
const AMOUNT: usize = 3000;

/// The words, the most frequent first.
#[derive(Debug)]
pub(crate) struct Words(Vec<String>);

impl Words {
    pub(crate) fn new() -> Self {
        let mut rng = Rng::with_seed(7);
        let word = |rank: usize| {
            let syllables = if rank < 60 { 1 } else { rng.usize(1..4) };
            let part = |parts: &[&'static str], rng: &mut Rng| parts[rng.usize(..parts.len())];
            (0..syllables).fold(String::new(), |word, _| {
                let (head, heart) = (part(&HEADS, &mut rng), part(&HEARTS, &mut rng));
                word + head + heart + part(&TAILS, &mut rng)
            })
        };
        Self((0..AMOUNT).map(word).collect())
    }

    /// A word, by Zipf's law: the chance of the first `n` grows with the logarithm of `n`.
    pub(crate) fn any(&self, rng: &mut Rng) -> &str {
        let rank = (AMOUNT as f64).powf(rng.f64()) as usize - 1;
        &self.0[rank.min(AMOUNT - 1)]
    }

    /// A word as a name.
    pub(crate) fn name(&self, rng: &mut Rng) -> String {
        let word = &self.0[rng.usize(60..1500)];
        word[..1].to_uppercase() + &word[1..]
    }
}
