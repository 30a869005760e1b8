//! Medians, spreads and ratios. Pure.

use std::fmt;
use std::time::Duration;

use super::read::{Memory, Times};

/// Median and extremes of some runs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// The middle one, or the mean of the middle two.
    pub median: f64,
    /// The lowest.
    pub min: f64,
    /// The highest.
    pub max: f64,
}

impl Spread {
    /// Of at least one value.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = values.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let low = *sorted.get((sorted.len() - 1) / 2)?;
        let high = *sorted.get(sorted.len() / 2)?;
        Some(Self {
            median: f64::midpoint(low, high),
            min,
            max,
        })
    }

    fn seconds(times: &[Times], what: fn(&Times) -> Duration) -> Option<Self> {
        Self::of(times.iter().map(|times| what(times).as_secs_f64()))
    }
}

impl fmt::Display for Spread {
    /// `0.300 (0.280..0.310)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{:.3} ({:.3}..{:.3})", self.median, self.min, self.max))
    }
}

/// A contender's figures over all runs. Times are seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Figures {
    /// Load time.
    pub load: Spread,
    /// Dead time.
    pub dead: Spread,
    /// Load and dead time of the same run, added.
    pub load_and_dead: Spread,
    /// Stage time.
    pub stage: Spread,
    /// What Cato takes for the payload's memory before it loads.
    pub reserve: Spread,
    /// Peak memory beyond the payload, bytes. Less than 0 when the stage gave memory back.
    pub peak: i64,
    /// Bytes the kernel copies.
    pub copied: u64,
}

impl Figures {
    /// Of at least one boot of either kind.
    pub fn of(times: &[Times], memory: &[Memory], payload: u64) -> Option<Self> {
        let mut grown: Vec<_> = memory.iter().map(|memory| memory.grown).collect();
        grown.sort_unstable();
        let mut copied: Vec<_> = memory.iter().map(|memory| memory.copied).collect();
        copied.sort_unstable();
        Some(Self {
            load: Spread::seconds(times, |t| t.load)?,
            dead: Spread::seconds(times, |t| t.dead)?,
            load_and_dead: Spread::seconds(times, |t| t.load + t.dead)?,
            stage: Spread::seconds(times, |t| t.stage)?,
            reserve: Spread::seconds(times, |t| t.reserve)?,
            peak: grown.get(grown.len() / 2)? - i64::try_from(payload).ok()?,
            copied: *copied.get(copied.len() / 2)?,
        })
    }
}

/// Seconds as they are known: milliseconds.
pub(super) fn rounded(seconds: f64) -> f64 {
    (seconds * 1000.0).round() / 1000.0
}

/// Bytes as millions.
pub(super) fn millions(bytes: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "sizes of memory, for people")]
    let bytes = bytes as f64;
    bytes / 1e6
}

/// `a ÷ b`; nothing for a `b` that is too small to divide by.
pub fn ratio(a: f64, b: f64) -> Option<f64> {
    (b > 0.0).then(|| a / b)
}

/// How dead time grows with the payload: seconds per byte from the second size to the third, divided by seconds per
/// byte from the first to the second. Each point is bytes and seconds.
pub fn growth([a, b, c]: [(f64, f64); 3]) -> Option<f64> {
    let slope = |from: (f64, f64), to: (f64, f64)| ratio(to.1 - from.1, to.0 - from.0);
    ratio(slope(b, c)?, slope(a, b)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::float_cmp, reason = "these are exact")]
    fn same(a: f64, b: f64) -> bool {
        a == b
    }

    #[test]
    fn medians() {
        let median = |values: &[f64]| Spread::of(values.iter().copied()).map(|s| s.median);
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[2.0]), Some(2.0));
        assert_eq!(median(&[9.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 100.0]), Some(3.0));
        let spread = Spread::of([9.0, 1.0, 2.0]).unwrap();
        assert!(same(spread.min, 1.0) && same(spread.max, 9.0));
    }

    #[test]
    fn figures_are_medians_and_leave_the_payload_out() {
        let times = |load, dead| Times {
            load: Duration::from_millis(load),
            dead: Duration::from_millis(dead),
            stage: Duration::from_millis(load + 1),
            reserve: Duration::ZERO,
        };
        let memory = |grown| Memory { grown, copied: 7 };
        let figures = Figures::of(
            &[times(1000, 9000), times(2000, 2000), times(3000, 1000)],
            &[memory(1500), memory(900), memory(1200)],
            1000,
        )
        .unwrap();
        assert!(same(figures.load.median, 2.0) && same(figures.dead.median, 2.0));
        assert!(
            same(figures.load_and_dead.median, 4.0),
            "the median of sums, not the sum of medians"
        );
        assert_eq!((figures.peak, figures.copied), (200, 7));
        assert_eq!(Figures::of(&[], &[memory(1)], 0), None);
        assert_eq!(Figures::of(&[times(1, 1)], &[], 0), None);
    }

    #[test]
    fn ratios() {
        assert_eq!(ratio(1.0, 4.0), Some(0.25));
        assert_eq!(ratio(1.0, 0.0), None);
    }

    #[test]
    fn growth_is_one_for_a_straight_line() {
        let line = |x: f64| (x, 5.0 + 2.0 * x);
        assert_eq!(growth([line(64.0), line(256.0), line(700.0)]), Some(1.0));
        assert_eq!(growth([(1.0, 1.0), (2.0, 2.0), (3.0, 5.0)]), Some(3.0));
        assert_eq!(growth([(1.0, 1.0), (2.0, 1.0), (3.0, 5.0)]), None);
    }
}
