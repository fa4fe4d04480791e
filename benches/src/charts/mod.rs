//! Pictures of a suite's figures: bars and curves as SVG, and the page that shows them.
//!
//! ```text
//! page       the HTML page, with every figure and its numbers
//! figures    which rows make which figure; `throughput` has those over what a miss costs
//! grouping  breakeven
//! bars  curves
//! canvas     elements of an SVG, hatching, markers, legends
//! series  scale
//! turns      tables of what was timed in turns
//! suite      the rows, as they are read
//! ```
//! The elements come from the `svg` crate; scales and layout are this module's own, for the chart libraries at hand
//! have neither hatching nor dashes of SVG's own, so colours would not survive a greyscale print. No
//! clock, no hash order and no font metrics take part: the same rows make the same bytes.

pub mod bars;
pub mod breakeven;
pub mod canvas;
pub mod curves;
pub mod figures;
#[cfg(test)]
mod fixture;
mod grouping;
pub mod page;
pub mod scale;
pub mod series;
pub mod suite;
#[cfg(test)]
mod tests;
mod throughput;
pub mod turns;
