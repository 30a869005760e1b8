//! Sets of physical addresses, as sorted lists of [`Span`]s that neither touch nor overlap.
//!
//! Given lists that may be in any order, with duplicates and empty spans; every function here answers with a normal one.

use super::span::Span;

/// `value` rounded up to a multiple of `align` (at least 1), or none where that is past the last address.
pub(crate) fn align_up(value: u64, align: u64) -> Option<u64> {
    value.checked_next_multiple_of(align.max(1))
}

/// `value` rounded down to a multiple of `align` (at least 1).
pub(crate) fn align_down(value: u64, align: u64) -> u64 {
    value.saturating_sub(value.checked_rem(align.max(1)).unwrap_or(0))
}

/// The same bytes: sorted, without empty spans, neighbours joined.
pub(crate) fn normalise(spans: impl IntoIterator<Item = Span>) -> Vec<Span> {
    let mut all: Vec<Span> = spans.into_iter().filter(|s| !s.is_empty()).collect();
    all.sort_unstable();
    let mut out: Vec<Span> = Vec::with_capacity(all.len());
    for span in all {
        match out.last_mut() {
            Some(last) if span.start <= last.end => last.end = last.end.max(span.end),
            _ => out.push(span),
        }
    }
    out
}

/// The bytes that are in `a` and not in `b`.
pub(crate) fn subtract(a: &[Span], b: &[Span]) -> Vec<Span> {
    let holes = normalise(b.iter().copied());
    let mut out = Vec::new();
    for span in normalise(a.iter().copied()) {
        let mut start = span.start;
        for hole in holes.iter().filter(|h| h.overlaps(&span)) {
            if hole.start > start {
                out.push(Span { start, end: hole.start });
            }
            start = start.max(hole.end);
        }
        if start < span.end {
            out.push(Span { start, end: span.end });
        }
    }
    out
}

/// The bytes that are in `a` and in `b`.
pub(crate) fn intersect(a: &[Span], b: &[Span]) -> Vec<Span> {
    let b = normalise(b.iter().copied());
    normalise(
        normalise(a.iter().copied())
            .iter()
            .flat_map(|x| b.iter().map(move |y| x.common(y))),
    )
}

/// Whether every byte of `span` is in `set`, which is normal.
pub(crate) fn covers(set: &[Span], span: &Span) -> bool {
    span.is_empty() || set.iter().any(|s| s.contains(span))
}

/// Bytes in `set`, which is normal.
pub(crate) fn total(set: &[Span]) -> u64 {
    set.iter().fold(0, |sum, s| sum.saturating_add(s.len()))
}

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "small numbers in tests")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Sets over a universe of 256 addresses, next to which a plain array of flags is the truth.
    fn spans() -> impl Strategy<Value = Vec<Span>> {
        prop::collection::vec((0u64..256, 0u64..64), 0..12).prop_map(|v| {
            v.into_iter()
                .map(|(start, len)| Span {
                    start,
                    end: start + len,
                })
                .collect()
        })
    }

    fn flags(set: &[Span]) -> Vec<bool> {
        (0..320)
            .map(|a| set.iter().any(|s| s.start <= a && a < s.end))
            .collect()
    }

    fn is_normal(set: &[Span]) -> bool {
        set.iter().all(|s| s.start < s.end) && set.iter().zip(set.iter().skip(1)).all(|(x, y)| x.end < y.start)
    }

    proptest! {
        #[test]
        fn every_operation_agrees_with_flags(a in spans(), b in spans()) {
            let (fa, fb) = (flags(&a), flags(&b));
            let each = |f: fn(bool, bool) -> bool| -> Vec<bool> { fa.iter().zip(&fb).map(|(x, y)| f(*x, *y)).collect() };
            for (set, wanted) in [
                (normalise(a.iter().copied()), fa.clone()),
                (subtract(&a, &b), each(|x, y| x && !y)),
                (intersect(&a, &b), each(|x, y| x && y)),
            ] {
                prop_assert!(is_normal(&set), "{set:?}");
                prop_assert_eq!(flags(&set), wanted.clone());
                prop_assert_eq!(total(&set), wanted.iter().filter(|f| **f).count() as u64);
            }
        }

        #[test]
        fn covers_and_overlaps_agree_with_flags(a in spans(), start in 0u64..256, len in 0u64..64) {
            let set = normalise(a);
            let span = Span { start, end: start + len };
            let f = flags(&set);
            prop_assert_eq!(covers(&set, &span), (start..start + len).all(|x| f[usize::try_from(x).unwrap()]));
            prop_assert_eq!(
                set.iter().any(|s| s.overlaps(&span)),
                (start..start + len).any(|x| f[usize::try_from(x).unwrap()])
            );
        }
    }

    #[test]
    fn the_ends_of_the_address_space_do_not_wrap() {
        assert_eq!(Span::sized(u64::MAX, 1), None);
        assert_eq!(align_up(u64::MAX, 4096), None);
        assert_eq!(align_down(u64::MAX, 4096), u64::MAX - 4095);
        let all = [Span {
            start: 0,
            end: u64::MAX,
        }];
        assert_eq!(subtract(&all, &all), []);
        assert_eq!(total(&normalise(all.into_iter().chain(all))), u64::MAX);
    }
}
