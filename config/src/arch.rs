//! The two machines Cato runs on, as a value: pure code never asks the compiler which one it is on.

use std::fmt;
use std::str::FromStr;

/// An instruction set. Printed as `arm64` and `x86_64`; `aarch64` and `amd64` are understood too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Arch {
    /// 64-bit Arm.
    Arm64,
    /// 64-bit x86.
    X86_64,
}

impl Arch {
    /// Both, for tests and tables.
    pub const ALL: [Self; 2] = [Self::Arm64, Self::X86_64];

    /// The one this program was compiled for, where it is one of the two.
    pub fn running() -> Option<Self> {
        std::env::consts::ARCH.parse().ok()
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Arm64 => "arm64",
            Self::X86_64 => "x86_64",
        })
    }
}

/// What [`Arch::from_str`] says of any other word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownArch(String);

impl fmt::Display for UnknownArch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "unknown architecture {:?}; expected arm64 (aarch64) or x86_64 (amd64)",
            self.0
        )
    }
}

impl std::error::Error for UnknownArch {}

impl FromStr for Arch {
    type Err = UnknownArch;

    fn from_str(s: &str) -> Result<Self, UnknownArch> {
        match s {
            "arm64" | "aarch64" => Ok(Self::Arm64),
            "x86_64" | "amd64" => Ok(Self::X86_64),
            other => Err(UnknownArch(other.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_are_taken_and_one_is_printed() {
        for (given, printed) in [
            ("arm64", "arm64"),
            ("aarch64", "arm64"),
            ("amd64", "x86_64"),
            ("x86_64", "x86_64"),
        ] {
            assert_eq!(given.parse::<Arch>().unwrap().to_string(), printed);
        }
        assert!("riscv64".parse::<Arch>().unwrap_err().to_string().contains("riscv64"));
    }
}
