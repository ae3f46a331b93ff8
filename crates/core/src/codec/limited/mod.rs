//! These wrappers limit the depth and the elements of a value. They stand between the value's type and
//! the serializer of any format.
//!
//! postcard and bincode do not limit depth or elements: a million nested values overflow the stack, and
//! a sequence of units may claim 2^60 elements in a few bytes. Encoding keeps the same limits as
//! decoding, so that every encoded value can be decoded.

mod de;
mod ser;

use std::cell::Cell;

pub(super) use de::Limited;
pub(super) use ser::Guarded;

/// How deep a value may nest with any codec. serde_json has the same limit.
pub(super) const MAX_DEPTH: u32 = 127;

/// How many elements a value may have beyond one for each byte, because units are elements without
/// bytes.
const FREE_ELEMENTS: usize = 1 << 16;

/// The most elements of a value with this many encoded bytes. Every element but a unit has at least one
/// byte.
pub(super) const fn max_elements(bytes: usize) -> usize {
    bytes.saturating_add(FREE_ELEMENTS)
}

/// A rule that a value has broken.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Breach {
    Depth,
    Elements,
    /// Serde skipped a field, which only a self-describing codec can express.
    Skipped,
    /// JSON would write `null`, and a reader would get another value.
    Null,
}

impl Breach {
    /// The breach in words, as the end of a sentence.
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

/// Counts the levels and elements of one value. All wrappers of one encoding or decoding share one
/// guard.
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

    /// The rule that the value has broken, if there is one.
    pub(super) fn breach(&self) -> Option<Breach> {
        self.breach.get()
    }

    /// The number of elements that were counted so far.
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

    /// Runs `run` one level deeper. `fail` makes the error of a value that is too deep.
    #[inline]
    fn nested<T, E>(
        &self,
        fail: impl FnOnce(Breach) -> E,
        run: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, E> {
        self.enter().map_err(fail)?;
        let done = run();
        self.leave();
        done
    }

    /// Counts elements. If the number of a sequence's elements is known, all of them are counted at
    /// once.
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
