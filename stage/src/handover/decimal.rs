//! Numbers with a point, as text and back. The standard library's own conversions are exact for every float there is, and a
//! fortieth of the whole program.

use std::fmt;

/// Prints a number with so many digits behind the point; what has no such form is 0.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Decimal(pub(crate) f64, pub(crate) u32);

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(value, digits) = *self;
        let scale = 10_u64.saturating_pow(digits);
        let scaled = whole(value.abs() * crate::handover::float(scale));
        let sign = if value < 0.0 && scaled != 0 { "-" } else { "" };
        let (front, back) = (scaled.div_euclid(scale), scaled.rem_euclid(scale));
        f.pad(&match usize::try_from(digits) {
            Ok(digits) if digits > 0 => format!("{sign}{front}.{back:0digits$}"),
            _ => format!("{sign}{front}"),
        })
    }
}

/// The nearest whole number; 0 for NaN, the ends for what is beyond them.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a float becomes the nearest number there is"
)]
pub(crate) fn whole(value: f64) -> u64 {
    value.round() as u64
}

/// Reads `123` and `-123.456`, nothing else.
pub(crate) fn parse(text: &str) -> Option<f64> {
    let (sign, digits) = text.strip_prefix('-').map_or((1.0, text), |rest| (-1.0, rest));
    let (front, back) = digits.split_once('.').unwrap_or((digits, "0"));
    let number = |text: &str| {
        let all = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        all.then(|| {
            text.bytes()
                .fold(0.0, |n, b| n * 10.0 + f64::from(b.wrapping_sub(b'0')))
        })
    };
    let scale = back.bytes().fold(1.0, |n, _| n * 10.0);
    let value = sign * (number(front)? + number(back)? / scale);
    value.is_finite().then_some(value)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_have_the_digits_asked_for() {
        for (value, digits, text) in [
            (0.0, 3, "0.000"),
            (1.0005, 0, "1"),
            (-0.0004, 3, "0.000"),
            (-1.25, 1, "-1.3"),
            (1234.5678, 3, "1234.568"),
            (0.9996, 3, "1.000"),
            (f64::NAN, 1, "0.0"),
            (-0.0, 2, "0.00"),
        ] {
            assert_eq!(Decimal(value, digits).to_string(), text);
        }
        assert_eq!(format!("{:>8}|", Decimal(1.5, 2)), "    1.50|");
    }

    #[test]
    fn only_plain_numbers_are_read() {
        assert_eq!(
            (parse("12"), parse("-12.50"), parse("0.001")),
            (Some(12.0), Some(-12.5), Some(0.001))
        );
        for bad in ["", "-", ".", "1.", ".5", "1e3", "+1", "1.2.3", "nan", "inf", " 1"] {
            assert_eq!(parse(bad), None, "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read(us in 0u32..) {
            let ms = f64::from(us) / 1000.0;
            let read = parse(&Decimal(ms, 3).to_string()).unwrap();
            prop_assert!((read - ms).abs() < 1e-6, "{read} {ms}");
        }

        #[test]
        fn any_float_and_any_text_are_fine(value: f64, digits in 0u32..6, text: String) {
            let _ = Decimal(value, digits).to_string();
            let _ = parse(&text);
        }
    }
}
