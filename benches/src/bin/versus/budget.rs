//! Budgets: in bytes, or as a part of what all pages take compressed.

use benches::packing::Failure;

/// A dictionary is this part of the budget at most, and no longer than this.
const DICTIONARY: (u64, usize) = (128, 64 << 10);

/// What a cache may take.
#[derive(Debug)]
pub(crate) enum Budget {
    Bytes(u64),
    Percent(f64),
}

/// The budget that is a percentage of what all pages take.
pub(crate) fn percent_of(lz4_bytes: u64, percent: f64) -> u64 {
    (lz4_bytes as f64 * percent / 100.0) as u64
}

/// How long a dictionary may be that counts in a budget.
pub(crate) fn dictionary_bytes(budget: u64) -> usize {
    ((budget / DICTIONARY.0) as usize).clamp(1024, DICTIONARY.1)
}

/// A number of bytes, with or without a unit.
pub(crate) fn bytes(text: &str) -> Result<u64, Failure> {
    let units = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];
    let unit = units.iter().find_map(|(name, unit)| Some((text.strip_suffix(name)?, *unit)));
    let (number, unit) = unit.unwrap_or((text, 1));
    let number: u64 = number.parse().map_err(|_| format!("`{text}` is no number of bytes"))?;
    let bytes = number.checked_mul(unit).filter(|bytes| *bytes > 0);
    bytes.ok_or_else(|| format!("`{text}` is no number of bytes").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_units() {
        assert_eq!(bytes("16MiB").unwrap(), 16 << 20);
        assert_eq!(bytes("123").unwrap(), 123);
        assert!(bytes("99999999999GiB").is_err());
    }
}
