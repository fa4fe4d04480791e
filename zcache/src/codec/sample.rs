//! Sampling.
/// Whether the page looks incompressible.
pub fn looks_incompressible(page: &[u8]) -> bool {
    if page.len() < 512 {
        return false;
    }
    let mut seen = [0_u8; 256];
    let stride = page.len() / 16;
    for part in page.chunks_exact(stride).take(16) {
        for byte in &part[..8] {
            seen[usize::from(*byte)] = 1;
        }
    }
    let distinct: u32 = seen.iter().map(|s| u32::from(*s)).sum();
    distinct >= 88
}
