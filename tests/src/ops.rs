//! Operations on a pool, as data: made by proptest strategies, or out of a fuzzer's bytes.
//!
//! All numbers in them are raw; [`oracle`](crate::oracle) takes them modulo what there is, so that
//! every operation means something on every pool and shrinking one toward 0 keeps it meaningful.

/// The length of an object, raw: `0` is 0 and small numbers are short objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Len(pub u32);

impl Len {
    /// The length in a pool of objects of at most `max_object` bytes. Edges are likely: around
    /// pages, around `max_object`, beyond it and around `usize::MAX`.
    #[must_use]
    pub fn of(self, max_object: usize) -> usize {
        let fine = (self.0 >> 4) as usize;
        let below = |limit: usize| fine % limit.min(max_object + 1);
        match self.0 & 15 {
            0..=2 => below(80),
            3..=6 => below(1200),
            7..=10 => below(4200),
            11 => ((fine % 5 + 1) * 4096 + fine / 5 % 33).saturating_sub(16).min(max_object),
            12 => below(20_000),
            13 => below(max_object + 1),
            14 => max_object + fine % 3 - 1,
            _ => [
                max_object + 1,
                usize::MAX,
                usize::MAX - fine % 9000,
                usize::try_from(1_u64 << 33).unwrap_or(1 << 31),
            ][fine % 4],
        }
    }
}

/// How a guard goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum End {
    /// It is dropped.
    Drop,
    /// `finish`, where it has one.
    Finish,
    /// `cancel`, where it has one.
    Cancel,
    /// By a panic.
    Panic,
    /// `mem::forget`.
    Forget,
}

/// How an object is mapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mode {
    /// For reading.
    Shared,
    /// For reading and writing.
    Mut,
    /// For being replaced by an object of this length.
    Write(Len),
    /// Pinned, by its handle.
    Pinned,
    /// Pinned, by its id.
    ById,
}

/// One operation. A `pick` chooses among the objects there are, or the handles that were freed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum PoolOp {
    /// `alloc_record`.
    Alloc(Len),
    /// `alloc_record_with`; with `true` its closure panics.
    AllocWith(Len, bool),
    /// `alloc_record_parts`, the first part being this many 255ths.
    AllocParts(Len, u8),
    /// `try_alloc_record`, likewise.
    TryAlloc(Len, u8),
    /// Maps an object, reads or writes it, and lets go.
    Use(u16, Mode, End),
    /// `read_into`, with a buffer this much longer than needed, or shorter.
    ReadInto(u16, i8),
    /// `with_record` and `object_len`.
    Record(u16),
    /// `free`.
    Free(u16),
    /// Every call with a handle that was freed, a second `free` among them.
    UseStale(u16),
    /// Every call with a handle of another pool.
    UseForeign,
    /// Every call with these bits as a handle.
    UseForged(u64),
    /// Every call with a live handle of which one bit is changed.
    UseFlipped(u16, u8),
    /// Maps an object and holds on to it over the next operations.
    Hold(u16, Mode),
    /// Lets a held guard go.
    Release(u16, End),
    /// `compact` with this budget in bytes.
    Compact(u32),
    /// `compact` without a limit.
    CompactAll,
    /// `trim`.
    Trim,
    /// `set_max_bytes` to this many percent of what is held.
    CapBytes(u8),
    /// `set_max_pages` to this many percent of what is held.
    CapPages(u8),
    /// `reserve` of this many bytes.
    Reserve(u32),
    /// `release` of a part of what is reserved.
    Unreserve(u32),
    /// Both caps back to what they were.
    Uncap,
}

/// Numbers out of a fuzzer's bytes: zeros when they run out.
struct Bytes<'b>(&'b [u8]);

impl Bytes<'_> {
    fn u8(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    fn u16(&mut self) -> u16 {
        u16::from_le_bytes([self.u8(), self.u8()])
    }

    fn len(&mut self) -> Len {
        Len(u32::from_le_bytes([self.u8(), self.u8(), self.u8(), 0]))
    }

    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(std::array::from_fn(|_| self.u8()))
    }

    fn mode(&mut self) -> Mode {
        match self.u8() % 6 {
            0 | 1 => Mode::Shared,
            2 => Mode::Mut,
            3 => Mode::Pinned,
            4 => Mode::ById,
            _ => Mode::Write(self.len()),
        }
    }

    fn end(&mut self) -> End {
        match self.u8() % 16 {
            0..=6 => End::Drop,
            7..=10 => End::Finish,
            11 | 12 => End::Cancel,
            13 | 14 => End::Panic,
            _ => End::Forget,
        }
    }

    fn op(&mut self) -> PoolOp {
        match self.u8() % 37 {
            0..=7 => PoolOp::Alloc(self.len()),
            8 | 9 => PoolOp::AllocWith(self.len(), false),
            10 => PoolOp::AllocWith(self.len(), true),
            11..=13 => PoolOp::Use(self.u16(), self.mode(), self.end()),
            14 => PoolOp::ReadInto(self.u16(), self.u8() as i8),
            15 => PoolOp::Record(self.u16()),
            16..=20 => PoolOp::Free(self.u16()),
            21 => PoolOp::UseStale(self.u16()),
            22 => PoolOp::UseForeign,
            23 => PoolOp::UseForged(self.u64()),
            24 => PoolOp::UseFlipped(self.u16(), self.u8()),
            25 => PoolOp::Hold(self.u16(), self.mode()),
            26 | 27 => PoolOp::Release(self.u16(), self.end()),
            28 => PoolOp::Compact(u32::from(self.u16())),
            29 => PoolOp::CompactAll,
            30 => PoolOp::Trim,
            31 => PoolOp::AllocParts(self.len(), self.u8()),
            32 | 33 => PoolOp::TryAlloc(self.len(), self.u8()),
            34 => PoolOp::Reserve(u32::from(self.u16())),
            35 => PoolOp::Unreserve(u32::from(self.u16())),
            _ => match self.u8() % 4 {
                0 => PoolOp::CapBytes(self.u8()),
                1 => PoolOp::CapPages(self.u8()),
                _ => PoolOp::Uncap,
            },
        }
    }
}

impl PoolOp {
    /// The operations that `bytes` spell: a handful of bytes each, so that a fuzzer's changes stay
    /// local.
    pub fn from_bytes(bytes: &[u8]) -> impl Iterator<Item = Self> + use<'_> {
        let mut bytes = Bytes(bytes);
        std::iter::from_fn(move || (!bytes.0.is_empty()).then(|| bytes.op()))
    }
}
