//! Codecs: what makes pages small.
