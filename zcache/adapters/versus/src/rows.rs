//! The rows: the same for the same number, whatever machine makes them.

use std::fmt::Write;

use fastrand::Rng;

use crate::words::Words;

/// What a row holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An order as JSON: names, a date, products of a catalogue, a random reference, some prose.
    Orders,
    /// Random bytes: nothing to compress.
    Random,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Orders => "orders",
            Self::Random => "random",
        }
    }
}

/// The rows of a table.
#[derive(Debug)]
pub struct Rows {
    words: Words,
    kind: Kind,
    /// How many there are.
    pub amount: u64,
}

/// Bytes of a row, on average.
const LENGTH: u64 = 440;

/// Products in the catalogue.
const PRODUCTS: u64 = 2000;

const STATUS: [&str; 5] = ["placed", "paid", "shipped", "delivered", "returned"];
const PAYMENTS: [&str; 4] = ["card", "invoice", "transfer", "voucher"];
const COUNTRIES: [&str; 8] = ["AT", "CH", "DE", "EE", "FR", "IT", "NL", "PL"];

impl Rows {
    /// Rows of so many bytes together.
    pub(crate) fn new(kind: Kind, bytes: u64) -> Self {
        Self { words: Words::new(), kind, amount: (bytes / LENGTH).max(1000) }
    }

    /// The row of a number.
    #[must_use]
    pub fn row(&self, number: u64) -> Vec<u8> {
        let mut rng = Rng::with_seed(number.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        match self.kind {
            Kind::Orders => self.order(number, &mut rng).into_bytes(),
            Kind::Random => {
                let len = rng.usize(200..2 * LENGTH as usize - 200);
                std::iter::repeat_with(|| rng.u8(..)).take(len).collect()
            }
        }
    }

    fn order(&self, number: u64, rng: &mut Rng) -> String {
        let (first, last) = (self.words.name(rng), self.words.name(rng));
        let token: String = std::iter::repeat_with(|| rng.alphanumeric()).take(22).collect();
        // Orders come in the order of their numbers, some seconds apart.
        let second = 11 * number + rng.u64(..11);
        let (minute, hour, day) = (second / 60, second / 3600, second / 86_400);
        let mut row = format!(
            "{{\"order\":{number},\"placed\":\"{}-{:02}-{:02}T{:02}:{:02}:{:02}Z\",\
             \"status\":\"{}\",\"customer\":{{\"name\":\"{first} {last}\",\
             \"email\":\"{}.{}{}@example.org\",\"city\":\"{}\",\"country\":\"{}\"}},\
             \"payment\":\"{}\",\"reference\":\"{token}\",\"items\":[",
            2024 + day / 336,
            1 + day / 28 % 12,
            1 + day % 28,
            hour % 24,
            minute % 60,
            second % 60,
            STATUS[rng.usize(..STATUS.len())],
            first.to_lowercase(),
            last.to_lowercase(),
            rng.u32(..100),
            self.words.name(rng),
            COUNTRIES[rng.usize(..COUNTRIES.len())],
            PAYMENTS[rng.usize(..PAYMENTS.len())],
        );
        for item in 0..rng.u32(1..4) {
            let comma = if item > 0 { "," } else { "" };
            let (product, count) = (self.product(rng), rng.u32(1..6));
            let _ = write!(row, "{comma}{{{product},\"count\":{count}}}");
        }
        row.push_str("],\"note\":\"");
        if rng.u32(..3) == 0 {
            for word in 0..rng.u32(5..60) {
                let gap = if word > 0 { " " } else { "" };
                let _ = write!(row, "{gap}{}", self.words.any(rng));
            }
        }
        row.push_str("\"}");
        row
    }

    /// A product of the catalogue, the popular ones more often: always the same for its number.
    fn product(&self, rng: &mut Rng) -> String {
        let product = (PRODUCTS as f64).powf(rng.f64()) as u64;
        let mut rng = Rng::with_seed(product);
        let title = format!("{} {}", self.words.name(&mut rng), self.words.any(&mut rng));
        let (letter, code) = (rng.uppercase(), rng.u32(1000..10_000));
        let (euros, cents) = (rng.u32(2..200), rng.u32(..100));
        format!("\"sku\":\"{letter}{code}\",\"title\":\"{title}\",\"price\":{euros}.{cents:02}")
    }
}

#[cfg(test)]
mod tests {
    use super::{Kind, LENGTH, Rows};

    #[test]
    fn rows_are_the_same_each_time_and_as_long_as_is_said() {
        for kind in [Kind::Orders, Kind::Random] {
            let rows = Rows::new(kind, 10 << 20);
            let bytes: usize = (0..2000).map(|row| rows.row(row).len()).sum();
            let mean = bytes as u64 / 2000;
            assert!((LENGTH - 60..LENGTH + 60).contains(&mean), "{} of {mean} bytes", kind.name());
            assert_eq!(rows.row(17), Rows::new(kind, 1 << 20).row(17));
        }
    }
}
