//! Limits on depth and elements, put between a type and the serializer of any format.
//!
//! postcard and bincode have none of their own: a million nested values overflow the stack, and a
//! sequence of units may claim 2^60 elements in a few bytes. Encoding keeps the same limits, so that
//! nothing is written which could not be read.

mod de;
mod ser;

use std::cell::Cell;

pub(super) use de::Limited;
pub(super) use ser::Guarded;

/// How deep a value may nest: the levels that serde_json takes, for every codec.
pub(super) const MAX_DEPTH: u32 = 127;

/// Elements that a value may have beyond one for each of its bytes (elements without bytes: units).
const FREE_ELEMENTS: usize = 1 << 16;

/// How many elements may stand in `bytes` encoded bytes: every element but a unit has at least one.
pub(super) const fn max_elements(bytes: usize) -> usize {
    bytes.saturating_add(FREE_ELEMENTS)
}

/// What a value did that it must not.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Breach {
    Depth,
    Elements,
    /// A field was left out, which only a self-describing codec can express.
    Skipped,
    /// JSON would write `null` and read something else.
    Null,
}

impl Breach {
    /// In words, as the end of a sentence.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Depth => "it nests deeper than 127 levels",
            Self::Elements => "it has too many elements for its bytes",
            Self::Skipped => {
                "serde leaves out one of its fields (`skip_serializing_if`), which a binary codec cannot \
                 express: use `Codec::Json`"
            }
            Self::Null => {
                "JSON would write null for a float that is not finite, or for `Some` of nothing, and read \
                 another value: use `Codec::Postcard`"
            }
        }
    }
}

/// The account of one value: shared by all wrappers of one encoding or decoding.
pub(super) struct Guard {
    depth: Cell<u32>,
    elements: Cell<usize>,
    max_elements: usize,
    breach: Cell<Option<Breach>>,
    self_describing: bool,
}

impl Guard {
    pub(super) fn new(max_elements: usize, self_describing: bool) -> Self {
        Self {
            depth: Cell::new(0),
            elements: Cell::new(0),
            max_elements,
            breach: Cell::new(None),
            self_describing,
        }
    }

    /// Why it failed, if it was one of the limits.
    pub(super) fn breach(&self) -> Option<Breach> {
        self.breach.get()
    }

    /// Elements so far.
    pub(super) fn elements(&self) -> usize {
        self.elements.get()
    }

    fn report(&self, breach: Breach) -> Breach {
        self.breach.set(Some(breach));
        breach
    }

    #[inline]
    fn enter(&self) -> Result<(), Breach> {
        let depth = self.depth.get() + 1;
        if depth > MAX_DEPTH {
            return Err(self.report(Breach::Depth));
        }
        self.depth.set(depth);
        Ok(())
    }

    #[inline]
    fn leave(&self) {
        self.depth.set(self.depth.get().saturating_sub(1));
    }

    /// Counts elements: all of a sequence at once where their number is known.
    #[inline]
    fn add_elements(&self, count: usize) -> Result<(), Breach> {
        match self.elements.get().checked_add(count) {
            Some(elements) if elements <= self.max_elements => {
                self.elements.set(elements);
                Ok(())
            }
            _ => Err(self.report(Breach::Elements)),
        }
    }
}
