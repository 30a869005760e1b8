//! The kernel's own texts about memory: `/proc/iomem` and `/sys/firmware/memmap`.
//!
//! Given their text; responsible for what may be written over when the running kernel is gone. Documentation:
//! Documentation/filesystems/proc.rst ("iomem"), Documentation/ABI/testing/sysfs-firmware-memmap.

use super::range::{normalise, subtract};
use super::span::Span;

/// Why memory is not known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum MemoryMapError {
    /// The kernel shows zeros to whoever may not know.
    #[error("/proc/iomem shows no addresses; run Cato with CAP_SYS_ADMIN")]
    Hidden,
    /// A line that is not one.
    #[error("/proc/iomem line {line}: {text:?} is not \"start-end : name\"")]
    Line {
        /// From 1.
        line: usize,
        /// Its start.
        text: String,
    },
    /// Nothing to place anything in.
    #[error("/proc/iomem has no \"System RAM\" in its {lines} lines")]
    NoRam {
        /// How many there are.
        lines: usize,
    },
}

/// The memory of the machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct MemoryMap {
    /// Memory the payload may go to: System RAM of the running kernel less everything reserved; sorted, disjoint.
    pub usable: Vec<Span>,
    /// The firmware's map for the main kernel: span and E820 type (x86_64), sorted.
    pub firmware: Vec<(Span, u32)>,
    /// All System RAM including its reserved parts (arm64's memory node); sorted, disjoint.
    pub ram: Vec<Span>,
    /// `MemTotal` of `/proc/meminfo`, bytes: what the kernel's RAM/2 rule for `kexec_load` counts.
    pub total: u64,
}

impl MemoryMap {
    /// Adds memory that is known to be free, whatever `/proc/iomem` says of it.
    pub(crate) fn add_usable(&mut self, spans: &[Span]) {
        self.usable = normalise(self.usable.iter().chain(spans).copied());
    }

    /// Bytes that the segments of a kexec image may fill: half of the memory and no page more
    /// (kernel/kexec_core.c, `sanity_check_segment_list`).
    pub(crate) fn kexec_most(&self) -> u64 {
        self.total.div_euclid(2)
    }
}

/// What `/proc/iomem` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Iomem {
    /// All of System RAM; normal.
    pub ram: Vec<Span>,
    /// System RAM less everything nested in it but the running kernel itself; normal.
    pub usable: Vec<Span>,
}

/// Nested in System RAM, and dead once the running kernel is.
const RUNNING_KERNEL: [&str; 4] = ["Kernel code", "Kernel rodata", "Kernel data", "Kernel bss"];

/// Reads `/proc/iomem`. Only a top-level `System RAM` counts; of what is nested in it only the running kernel's own
/// image is free, so `reserved`, `ACPI Tables`, `Crash kernel` and whatever a newer kernel invents are all left alone.
pub(crate) fn iomem(text: &str) -> Result<Iomem, MemoryMapError> {
    let mut ram = Vec::new();
    let mut taken = Vec::new();
    let mut hidden = true;
    let mut in_ram = false;
    for (number, line) in (1..).zip(text.lines()) {
        let bad = || MemoryMapError::Line {
            line: number,
            text: line.chars().take(80).collect(),
        };
        let entry = line.trim_start_matches(' ');
        let nested = entry.len() != line.len();
        let (range, name) = entry.split_once(" : ").ok_or_else(bad)?;
        let (first, last) = range.split_once('-').ok_or_else(bad)?;
        let start = u64::from_str_radix(first, 16).map_err(|_| bad())?;
        let last = u64::from_str_radix(last, 16).map_err(|_| bad())?;
        hidden &= start == 0 && last == 0;
        let span = Span {
            start,
            end: last.saturating_add(1),
        };
        if !nested {
            in_ram = name == "System RAM";
            if in_ram {
                ram.push(span);
            }
        } else if in_ram && !RUNNING_KERNEL.contains(&name) {
            taken.push(span);
        }
    }
    let ram = normalise(ram);
    if hidden {
        Err(MemoryMapError::Hidden)
    } else if ram.is_empty() {
        Err(MemoryMapError::NoRam {
            lines: text.lines().count(),
        })
    } else {
        Ok(Iomem {
            usable: subtract(&ram, &taken),
            ram,
        })
    }
}

/// E820 type of RAM: arch/x86/include/asm/e820/types.h.
pub(crate) const E820_RAM: u32 = 1;
/// E820 type of what is not for the kernel.
pub(crate) const E820_RESERVED: u32 = 2;

/// One `/sys/firmware/memmap/N`: the texts of its `start`, `end` (inclusive) and `type` as span and E820 type; none where
/// they are no numbers. A type nobody knows is reserved.
pub(crate) fn firmware_entry(start: &str, end: &str, kind: &str) -> Option<(Span, u32)> {
    let number = |text: &str| u64::from_str_radix(text.trim().trim_start_matches("0x"), 16).ok();
    let span = Span {
        start: number(start)?,
        end: number(end)?.saturating_add(1),
    };
    let kind = match kind.trim() {
        "System RAM" => E820_RAM,
        "ACPI Tables" => 3,
        "ACPI Non-volatile Storage" => 4,
        "Unusable memory" => 5,
        "Persistent Memory" => 7,
        "Persistent Memory (legacy)" => 12,
        "Soft Reserved" => 0xefff_ffff,
        _ => E820_RESERVED,
    };
    (!span.is_empty()).then_some((span, kind))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn span(start: u64, end: u64) -> Span {
        Span { start, end }
    }

    const X86: &str = "\
00000000-00000fff : Reserved
00001000-0009fbff : System RAM
0009fc00-0009ffff : Reserved
000f0000-000fffff : System ROM
00100000-3ffdffff : System RAM
  01000000-01e02e66 : Kernel code
  02000000-02bedfff : Kernel rodata
  02c00000-03023c3f : Kernel data
  03528000-039fffff : Kernel bss
  2c000000-33ffffff : Crash kernel
3ffe0000-3fffffff : Reserved
fee00000-fee00fff : Local APIC
  fee00000-fee00fff : System RAM
100000000-13fffffff : System RAM (kmem)
";

    const ARM64: &str = "\
09000000-09000fff : pl011@9000000
  09000000-09000fff : 9000000.pl011 pl011@9000000
40000000-7fffffff : System RAM
  40210000-41b5ffff : Kernel code
    40300000-40300fff : reserved
  41b60000-4242ffff : reserved
  42430000-4295ffff : Kernel data
  48000000-480fffff : reserved
80000000-8fffffff : reserved
";

    #[test]
    fn x86_leaves_the_crash_kernel_and_gives_away_the_running_one() {
        let map = iomem(X86).unwrap();
        assert_eq!(map.ram, [span(0x1000, 0x9_fc00), span(0x10_0000, 0x3ffe_0000)]);
        assert_eq!(
            map.usable,
            [
                span(0x1000, 0x9_fc00),
                span(0x10_0000, 0x2c00_0000),
                span(0x3400_0000, 0x3ffe_0000)
            ]
        );
    }

    #[test]
    fn arm64_leaves_what_is_reserved_at_any_depth() {
        assert_eq!(
            iomem(ARM64).unwrap().usable,
            [
                span(0x4000_0000, 0x4030_0000),
                span(0x4030_1000, 0x41b6_0000),
                span(0x4243_0000, 0x4800_0000),
                span(0x4810_0000, 0x8000_0000),
            ]
        );
    }

    #[test]
    fn texts_that_are_of_no_use_say_why() {
        let zeros = "00000000-00000000 : Reserved\n00000000-00000000 : System RAM\n  00000000-00000000 : Kernel code\n";
        assert_eq!(iomem(zeros), Err(MemoryMapError::Hidden));
        assert_eq!(iomem(""), Err(MemoryMapError::Hidden));
        assert_eq!(iomem("1000-1fff : Reserved\n"), Err(MemoryMapError::NoRam { lines: 1 }));
        let error = iomem("1000-1fff : System RAM\n2000 : x\n").unwrap_err().to_string();
        assert!(error.contains("line 2") && error.contains("2000 : x"), "{error}");
    }

    #[test]
    fn the_last_address_does_not_wrap() {
        let map = iomem("1000-ffffffffffffffff : System RAM\n").unwrap();
        assert_eq!(map.usable, [span(0x1000, u64::MAX)]);
    }

    #[test]
    fn firmware_types_have_their_e820_numbers() {
        assert_eq!(
            firmware_entry("0x100000\n", "0x3ffdffff\n", "System RAM\n"),
            Some((span(0x10_0000, 0x3ffe_0000), 1))
        );
        for (text, number) in [
            ("Reserved", 2),
            ("reserved", 2),
            ("ACPI Tables", 3),
            ("ACPI Non-volatile Storage", 4),
            ("Unusable memory", 5),
            ("Persistent Memory", 7),
            ("Persistent Memory (legacy)", 12),
            ("Soft Reserved", 0xefff_ffff),
            ("of the future", 2),
        ] {
            assert_eq!(firmware_entry("0x0", "0xfff", text).unwrap().1, number, "{text}");
        }
        assert_eq!(firmware_entry("0x0", "", "System RAM"), None);
        assert_eq!(firmware_entry("0x2000", "0xfff", "System RAM"), None);
    }

    proptest! {
        #[test]
        fn any_text_is_an_answer(text in "( {0,4}[0-9a-f]{0,17}-[0-9a-f]{0,17} : (System RAM|reserved|Kernel code)\n){0,9}|.{0,60}") {
            if let Ok(map) = iomem(&text) {
                prop_assert!(map.usable.iter().all(|s| crate::memory::range::covers(&map.ram, s)));
            }
        }
    }
}
