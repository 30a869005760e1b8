//! Finding room: the highest or lowest place in free memory that obeys size, alignment and bounds.
//!
//! Given free memory as a normal set; responsible for never answering with a byte outside it, and for finding a place
//! whenever there is one.

use super::Span;
use super::range::{align_down, align_up, subtract};

/// From which end of memory to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The highest place that fits.
    Top,
    /// The lowest place that fits.
    Bottom,
}

/// What is wanted.
#[derive(Debug, Clone, Copy)]
pub struct Want {
    /// Bytes; zero finds nothing.
    pub size: u64,
    /// The place starts `offset` bytes after a multiple of this. At least 1.
    pub align: u64,
    /// See `align`; any value.
    pub offset: u64,
    /// The whole place is in here.
    pub window: Span,
    /// Which one of several.
    pub end: End,
}

impl Want {
    /// `size` bytes anywhere, as high as they fit, at a multiple of `align`.
    pub fn top(size: u64, align: u64) -> Self {
        Self {
            size,
            align,
            offset: 0,
            window: Span {
                start: 0,
                end: u64::MAX,
            },
            end: End::Top,
        }
    }

    /// The same, inside `window`.
    #[must_use]
    pub fn within(mut self, window: Span) -> Self {
        self.window = window;
        self
    }
}

/// The place in `free` that `want` describes.
pub fn find(free: &[Span], want: &Want) -> Option<Span> {
    let places = free.iter().filter_map(|span| fit(&span.common(&want.window), want));
    match want.end {
        End::Top => places.max(),
        End::Bottom => places.min(),
    }
}

/// The place inside one free span.
fn fit(span: &Span, want: &Want) -> Option<Span> {
    if want.size == 0 || span.len() < want.size {
        return None;
    }
    let lowest = align_up(span.start.saturating_sub(want.offset), want.align)?.checked_add(want.offset)?;
    let start = match want.end {
        End::Bottom => lowest,
        End::Top => align_down(span.end.checked_sub(want.size)?.checked_sub(want.offset)?, want.align)
            .checked_add(want.offset)?,
    };
    let place = Span::sized(start, want.size)?;
    (start >= lowest && span.contains(&place)).then_some(place)
}

/// Free memory that gets less with every place taken from it.
#[derive(Debug, Clone)]
pub struct Free(Vec<Span>);

impl Free {
    /// Starts with `spans`, a normal set.
    pub fn new(spans: Vec<Span>) -> Self {
        Self(spans)
    }

    /// Takes the place that `want` describes.
    pub fn take(&mut self, want: &Want) -> Option<Span> {
        let place = find(&self.0, want)?;
        self.0 = subtract(&self.0, &[place]);
        Some(place)
    }

    /// The largest single piece inside `window`, in bytes: what a message says there is.
    pub fn largest(&self, window: &Span) -> u64 {
        self.0.iter().map(|s| s.common(window).len()).max().unwrap_or(0)
    }
}

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "small numbers in tests")]
mod tests {
    use super::*;
    use crate::place::range::{covers, normalise};
    use proptest::prelude::*;

    proptest! {
        /// Against trying every start address one by one.
        #[test]
        fn finds_the_outermost_place_or_there_is_none(
            raw in prop::collection::vec((0u64..400, 1u64..80), 0..8),
            size in 0u64..60, align in 1u64..40, offset in 0u64..90,
            start in 0u64..300, len in 0u64..300, top: bool,
        ) {
            let free = normalise(raw.into_iter().map(|(start, len)| Span { start, end: start + len }));
            let window = Span { start, end: start + len };
            let want = Want { size, align, offset, window, end: if top { End::Top } else { End::Bottom } };
            let good = |s: &u64| {
                let place = Span { start: *s, end: s + size };
                size > 0 && *s >= offset && (s - offset).is_multiple_of(align) && window.contains(&place) && covers(&free, &place)
            };
            let mut all = (0u64..700).filter(good);
            let expected = if top { all.next_back() } else { all.next() };
            prop_assert_eq!(find(&free, &want).map(|s| s.start), expected);
        }
    }

    #[test]
    fn what_is_taken_is_gone() {
        let mut free = Free::new(vec![Span {
            start: 0x1000,
            end: 0x5000,
        }]);
        assert_eq!(
            free.take(&Want::top(0x2000, 0x1000)),
            Some(Span {
                start: 0x3000,
                end: 0x5000
            })
        );
        assert_eq!(free.take(&Want::top(0x2001, 1)), None);
        assert_eq!(
            free.largest(&Span {
                start: 0,
                end: u64::MAX
            }),
            0x2000
        );
        assert_eq!(
            free.largest(&Span {
                start: 0x2000,
                end: u64::MAX
            }),
            0x1000
        );
    }

    #[test]
    fn the_last_address_does_not_wrap() {
        let free = [Span {
            start: u64::MAX - 10,
            end: u64::MAX,
        }];
        assert_eq!(find(&free, &Want::top(1, 4096)), None);
        assert_eq!(
            find(
                &free,
                &Want {
                    offset: u64::MAX,
                    ..Want::top(1, 1)
                }
            ),
            None
        );
        assert_eq!(find(&free, &Want::top(4, 1)).map(|s| s.end), Some(u64::MAX));
    }
}
