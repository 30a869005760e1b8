//! Finding room: the highest or lowest place in free memory that obeys size, alignment and bounds.
//!
//! Given free memory as a normal set, and for a payload that stays where it is read to, the pages that can be had for it;
//! responsible for never answering with a byte outside them, and for finding a place whenever there is one.

use super::range::{align_down, align_up, covers, intersect, subtract};
use super::span::Span;

/// From which end of memory to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// The highest place that fits.
    Top,
    /// The lowest place that fits.
    Bottom,
}

/// What is wanted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Want {
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
    /// How many bytes at its start hold payload: these are in the pages the payload stays in, where there are such.
    pub resident: u64,
}

impl Want {
    /// `size` bytes anywhere, as high as they fit, at a multiple of `align`.
    pub(crate) fn top(size: u64, align: u64) -> Self {
        Self {
            size,
            align,
            offset: 0,
            window: Span {
                start: 0,
                end: u64::MAX,
            },
            end: End::Top,
            resident: 0,
        }
    }

    /// The same, with `bytes` of payload at its start.
    #[must_use]
    pub(crate) fn holding(mut self, bytes: u64) -> Self {
        self.resident = bytes;
        self
    }

    /// The same, inside `window`.
    #[must_use]
    pub(crate) fn within(mut self, window: Span) -> Self {
        self.window = window;
        self
    }
}

/// The place in `free` that `want` describes.
pub(crate) fn find(free: &[Span], want: &Want) -> Option<Span> {
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

/// The places in `free` that `want` describes, its resident part in `pages`: one in each run of pages that has room, the
/// shortest first, so that the long ones are left for what is long.
fn find_resident(free: &[Span], pages: &[Span], want: &Want) -> Vec<Span> {
    let mut runs = intersect(pages, free);
    runs.sort_by_key(|run| (run.len(), run.start));
    let part = Want {
        size: want.resident.min(want.size),
        ..*want
    };
    let place_in = |run: Span| {
        let mut left = run.common(&want.window);
        // Step by step along the run: what follows the resident part has to be free, too.
        while let Some(start) = fit(&left, &part).map(|place| place.start) {
            let place = Span::sized(start, want.size)?;
            if want.window.contains(&place) && covers(free, &place) {
                return Some(place);
            }
            match want.end {
                End::Top => left.end = start.saturating_add(part.size).saturating_sub(1),
                End::Bottom => left.start = start.saturating_add(1),
            }
        }
        None
    };
    runs.into_iter().filter_map(place_in).collect()
}

/// Free memory that gets less with every place taken from it.
#[derive(Debug, Clone)]
pub(crate) struct Free {
    spans: Vec<Span>,
    pages: Option<Vec<Span>>,
}

impl Free {
    /// Starts with `spans`, a normal set. The payload is moved to its place later: it may come from anywhere.
    pub(crate) fn new(spans: Vec<Span>) -> Self {
        Self { spans, pages: None }
    }

    /// The same for a payload that stays where it is read to: in `pages`, a normal set.
    pub(crate) fn with_pages(spans: Vec<Span>, pages: Vec<Span>) -> Self {
        Self {
            spans,
            pages: Some(pages),
        }
    }

    /// Without `taken`.
    #[must_use]
    pub(crate) fn without(mut self, taken: &[Span]) -> Self {
        self.spans = subtract(&self.spans, taken);
        self
    }

    /// Takes the place that `want` describes, the first of [`Self::places`].
    pub(crate) fn take(&mut self, want: &Want) -> Option<Span> {
        let place = self.places(want).into_iter().next()?;
        self.spans = subtract(&self.spans, &[place]);
        Some(place)
    }

    /// The places that are worth a try where what comes later may not fit any more: one in each run of pages, or the only
    /// one where the payload may come from anywhere.
    pub(crate) fn places(&self, want: &Want) -> Vec<Span> {
        match &self.pages {
            Some(pages) if want.resident > 0 => find_resident(&self.spans, pages, want),
            _ => find(&self.spans, want).into_iter().collect(),
        }
    }

    /// The largest single piece inside `window`, in bytes: what a message says there is.
    pub(crate) fn largest(&self, window: &Span) -> u64 {
        self.spans.iter().map(|s| s.common(window).len()).max().unwrap_or(0)
    }
}

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "small numbers in tests")]
mod tests {
    use super::*;
    use crate::memory::range::{covers, normalise};
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
            let want = Want { size, align, offset, window, end: if top { End::Top } else { End::Bottom }, resident: 0 };
            let good = |s: &u64| {
                let place = Span { start: *s, end: s + size };
                size > 0 && *s >= offset && (s - offset).is_multiple_of(align) && window.contains(&place) && covers(&free, &place)
            };
            let mut all = (0u64..700).filter(good);
            let expected = if top { all.next_back() } else { all.next() };
            prop_assert_eq!(find(&free, &want).map(|s| s.start), expected);
        }
    }

    proptest! {
        /// Against trying every start address one by one.
        #[test]
        fn what_stays_is_in_the_pages_and_is_placed_whenever_it_can_be(
            raw in prop::collection::vec((0u64..400, 1u64..80), 0..8),
            pages in prop::collection::vec((0u64..50, 1u64..12), 0..8),
            size in 1u64..60, resident in 1u64..60, align in 1u64..40, offset in 0u64..90,
            start in 0u64..300, len in 0u64..300, top: bool,
        ) {
            let free = normalise(raw.into_iter().map(|(start, len)| Span { start, end: start + len }));
            let pages = normalise(pages.into_iter().map(|(start, len)| Span { start: start * 8, end: (start + len) * 8 }));
            let window = Span { start, end: start + len };
            let resident = resident.min(size);
            let want = Want { size, align, offset, window, end: if top { End::Top } else { End::Bottom }, resident };
            let good = |s: u64| {
                let place = Span { start: s, end: s + size };
                let part = Span { start: s, end: s + resident };
                s >= offset && (s - offset).is_multiple_of(align) && window.contains(&place)
                    && covers(&free, &place) && covers(&pages, &part)
            };
            match Free::with_pages(free.clone(), pages.clone()).take(&want) {
                Some(place) => prop_assert!(good(place.start) && place.len() == size),
                None => prop_assert!(!(0u64..700).any(good)),
            }
        }
    }

    #[test]
    fn what_stays_takes_the_shortest_run_that_has_room() {
        let all = vec![Span { start: 0, end: 100 }];
        let pages = vec![Span { start: 10, end: 40 }, Span { start: 50, end: 60 }];
        let mut free = Free::with_pages(all, pages);
        assert_eq!(free.take(&Want::top(8, 1).holding(8)).map(|s| s.start), Some(52));
        // Twenty bytes of which five stay.
        assert_eq!(free.take(&Want::top(20, 1).holding(5)).map(|s| s.start), Some(32));
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
