//! Sizes as people read them.

use std::fmt;

/// A number of bytes: `511 bytes`, `64 KiB`, `37.7 MiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size(pub(crate) u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let n = self.0;
        let (unit, name) = match n {
            0..0x400 => return write!(f, "{n} bytes"),
            0x400..0x10_0000 => (10_u32, "KiB"),
            0x10_0000..0x4000_0000 => (20, "MiB"),
            _ => (30, "GiB"),
        };
        let whole = n >> unit;
        // Tenths, rounded down: the fraction is below one unit, so this stays below 10.
        let tenths = ((n >> unit.saturating_sub(10)) & 0x3ff).wrapping_mul(10) >> 10;
        if tenths == 0 {
            write!(f, "{whole} {name}")
        } else {
            write!(f, "{whole}.{tenths} {name}")
        }
    }
}

/// Several sizes: `4 KiB, 64 KiB`.
pub(crate) struct Listed<'a>(pub(crate) &'a [u64]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut comma = "";
        for n in self.0 {
            write!(f, "{comma}{}", Size(*n))?;
            comma = ", ";
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_well() {
        for (bytes, text) in [
            (0, "0 bytes"),
            (1023, "1023 bytes"),
            (1024, "1 KiB"),
            (1 << 16, "64 KiB"),
            (37_660_608, "35.9 MiB"),
            ((1 << 30) - 1, "1023.9 MiB"),
            (3 << 29, "1.5 GiB"),
            (u64::MAX, "17179869183.9 GiB"),
        ] {
            assert_eq!(Size(bytes).to_string(), text);
        }
        assert_eq!(Listed(&[4096, 65536]).to_string(), "4 KiB, 64 KiB");
    }
}
