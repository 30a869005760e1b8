//! The parameter block and the record: what the stage writes for the blob, and what the blob leaves behind.
//!
//! All numbers are little-endian (both machines are). `entry.S` uses the offsets below by name; they are constants
//! made from the structs, so that a change here cannot go unnoticed there.

use core::fmt;
use core::mem::{offset_of, size_of};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `Params::magic`: "CatoPurg".
pub const MAGIC: u64 = u64::from_le_bytes(*b"CatoPurg");
/// `Record::magic`: "CatoStmp".
pub const RECORD_MAGIC: u64 = u64::from_le_bytes(*b"CatoStmp");
/// `Params::version`: raised whenever a struct of this file changes, or what a field means.
pub const VERSION: u32 = 3;
/// Regions a block can hold. `kexec_load` takes 16 segments; a segment can hold several regions.
pub const REGIONS: usize = 24;
/// Each region is checked in pieces of this many bytes, counted from its start; its last one may be shorter.
pub const CHUNK: u64 = 1 << CHUNK_LOG2;
/// [`CHUNK`] as it stands in [`Params::chunk_log2`]: a mismatch names 256 KiB, and the digests of 100 MB take one page
/// (`fast`) or four (`sha256`).
pub const CHUNK_LOG2: u32 = 18;
/// Ranges to clean a block can hold.
pub const CLEANS: usize = 16;
/// Bytes of a region's name.
pub const NAME: usize = 16;
/// Size of a page of the blob and of the tables behind it, bytes.
pub const PAGE: u64 = 4096;
/// The blob with its stack is never larger than this, bytes (asserted by the linker script too).
pub const BLOB_MAX: u64 = 32 * 1024;

/// Physical addresses `[start, end)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Range {
    /// First byte.
    pub start: u64,
    /// One past the last byte.
    pub end: u64,
}

/// Bytes of the payload whose digests are in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Region {
    /// ASCII, padded with NUL.
    pub name: [u8; NAME],
    /// Physical address of the first byte; never 0 in a region that counts.
    pub base: u64,
    /// Length in bytes: exactly what was loaded, without the zeros up to the end of the segment.
    pub len: u64,
}

impl Region {
    /// The name without its padding; a byte that is not printable ASCII ends it.
    pub fn name(&self) -> impl Iterator<Item = u8> {
        self.name.into_iter().take_while(|b| matches!(b, b' '..=b'~'))
    }
}

/// What the purgatory does with the payload before it jumps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "lowercase")
)]
pub enum Check {
    /// XXH3-64 (seed 0) of each chunk: memory speed, not cryptographic.
    #[default]
    Fast,
    /// SHA-256 of each chunk.
    Sha256,
    /// Nothing.
    Off,
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Fast => "fast",
            Self::Sha256 => "sha256",
            Self::Off => "off",
        })
    }
}

impl Check {
    /// The number in [`Params::check`].
    pub const fn code(self) -> u32 {
        match self {
            Self::Off => 0,
            Self::Fast => 1,
            Self::Sha256 => 2,
        }
    }

    /// The kind with that number.
    pub const fn from_code(code: u32) -> Option<Self> {
        match code {
            0 => Some(Self::Off),
            1 => Some(Self::Fast),
            2 => Some(Self::Sha256),
            _ => None,
        }
    }

    /// Bytes of one digest in the table; XXH3-64 is little-endian.
    pub const fn digest_len(self) -> usize {
        match self {
            Self::Off => 0,
            Self::Fast => 8,
            Self::Sha256 => 32,
        }
    }

    /// Bytes that the digests of a region of `len` bytes take in the table.
    pub const fn digests_len(self, len: u64) -> u64 {
        match self {
            Self::Off => 0,
            Self::Fast => len.div_ceil(CHUNK).saturating_mul(8),
            Self::Sha256 => len.div_ceil(CHUNK).saturating_mul(32),
        }
    }
}

/// Bytes of the longest reason kept in memory. More than 128 bytes would be cleared by a call of `memset`, through a GOT
/// on x86_64.
pub const REASON_TEXT: usize = 112;

/// Where the reason of a reset is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReasonPlace {
    /// Nowhere.
    None,
    /// In memory at [`ReasonParams::place`].
    Memory,
    /// In the CMOS byte with the number [`ReasonParams::place`] (x86_64).
    Cmos,
}

impl ReasonPlace {
    /// The number in [`ReasonParams::kind`].
    pub const fn code(self) -> u32 {
        match self {
            Self::None => 0,
            Self::Memory => 1,
            Self::Cmos => 2,
        }
    }

    /// The kind with that number; one that is not known is none.
    pub const fn from_code(code: u32) -> Self {
        match code {
            1 => Self::Memory,
            2 => Self::Cmos,
            _ => Self::None,
        }
    }
}

/// Where to leave the reason of a reset (`reason.rs`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ReasonParams {
    /// [`ReasonPlace::code`].
    pub kind: u32,
    /// Zero.
    pub reserved: u32,
    /// Physical address, or number of the byte.
    pub place: u64,
}

/// How the blob calls PSCI (arm64).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conduit {
    /// Not known: both are tried, and then only the watchdog can reset the machine.
    None,
    /// `smc #0`
    Smc,
    /// `hvc #0`
    Hvc,
}

impl Conduit {
    /// The number in [`Params::conduit`].
    pub const fn code(self) -> u32 {
        match self {
            Self::None => 0,
            Self::Smc => 1,
            Self::Hvc => 2,
        }
    }
}

/// Register layouts of UARTs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UartKind {
    /// None: the purgatory is mute.
    None,
    /// 16550 behind port I/O (x86_64).
    Port16550,
    /// 16550 in memory: bytes where registers are less than 4 apart, else words.
    Mmio16550,
    /// ARM PL011.
    Pl011,
}

impl UartKind {
    /// The number in [`UartParams::kind`].
    pub const fn code(self) -> u32 {
        match self {
            Self::None => 0,
            Self::Port16550 => 1,
            Self::Mmio16550 => 2,
            Self::Pl011 => 3,
        }
    }

    /// The kind with that number; one that is not known is mute.
    pub const fn from_code(code: u32) -> Self {
        match code {
            1 => Self::Port16550,
            2 => Self::Mmio16550,
            3 => Self::Pl011,
            _ => Self::None,
        }
    }
}

/// The UART to speak on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct UartParams {
    /// [`UartKind::code`].
    pub kind: u32,
    /// Registers are `1 << reg_shift` bytes apart.
    pub reg_shift: u32,
    /// Port number or physical address.
    pub base: u64,
}

/// What the stage tells the blob: the first bytes of the blob's first page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Params {
    /// [`MAGIC`].
    pub magic: u64,
    /// [`VERSION`]. The blob as built has both set, so that the stage knows whom it talks to.
    pub version: u32,
    /// [`Check::code`].
    pub check: u32,
    /// Physical address to jump to.
    pub entry: u64,
    /// x0 = device tree (arm64), RSI = zero page (x86_64).
    pub argument: u64,
    /// Physical address of the [`Record`], at any alignment; 0 for none. No region has these bytes.
    pub record: u64,
    /// Counter (CNTVCT or TSC) ticks in a millisecond; 0 not known.
    pub ticks_per_ms: u64,
    /// The UART to speak on.
    pub uart: UartParams,
    /// [`Conduit::code`].
    pub conduit: u32,
    /// Entries of `clean` that count.
    pub clean_count: u32,
    /// Entries of `regions` that count.
    pub region_count: u32,
    /// log2 of the bytes of a chunk: [`CHUNK_LOG2`].
    pub chunk_log2: u32,
    /// Physical address of the digest table: the digests of all chunks of all regions, in order.
    pub digests: u64,
    /// Its length, bytes.
    pub digests_len: u64,
    /// Its SHA-256, whatever `check` says.
    pub digests_digest: [u8; 32],
    /// Where to leave the reason of a reset.
    pub reason: ReasonParams,
    /// arm64: what is cleaned to the point of coherency besides the regions that are checked and what the blob writes: what
    /// the main kernel uses with the caches off.
    pub clean: [Range; CLEANS],
    /// What is checked.
    pub regions: [Region; REGIONS],
    /// SHA-256 of all bytes of this struct before this field, whatever `check` says.
    pub digest: [u8; 32],
}

/// When the purgatory was where: in bytes no region covers. The stage writes `magic`, `jump` and `hz` and zeros, the blob the
/// rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Record {
    /// [`RECORD_MAGIC`].
    pub magic: u64,
    /// Counter (CNTVCT or TSC) when the stage called `reboot(KEXEC)`; 0 if not known.
    pub jump: u64,
    /// Counter ticks per second; 0 if not known.
    pub hz: u64,
    /// Counter when the blob was entered.
    pub entered: u64,
    /// Counter after the check.
    pub checked: u64,
    /// Counter when the blob was left.
    pub left: u64,
    /// Bytes that were checked.
    pub bytes: u64,
    /// [`RECORD_STAMPED`] and zeros.
    pub flags: u64,
}

impl Record {
    /// Bytes.
    pub const SIZE: usize = size_of::<Self>();

    /// Reads it from the start of `bytes`; none where the magic is not there.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let (record, _) = Self::read_from_prefix(bytes).ok()?;
        (record.magic == RECORD_MAGIC).then_some(record)
    }

    /// Whether the blob wrote its part.
    pub const fn written(&self) -> bool {
        self.flags & RECORD_STAMPED != 0
    }
}

/// One in which nothing is known yet.
impl Default for Record {
    fn default() -> Self {
        Self {
            magic: RECORD_MAGIC,
            jump: 0,
            hz: 0,
            entered: 0,
            checked: 0,
            left: 0,
            bytes: 0,
            flags: 0,
        }
    }
}

/// `Record::flags`: the blob wrote its part.
pub const RECORD_STAMPED: u64 = 1;

/// Offset of [`Params::entry`], for `entry.S`.
pub const ENTRY_AT: usize = offset_of!(Params, entry);
/// Offset of [`Params::argument`], for `entry.S`.
pub const ARGUMENT_AT: usize = offset_of!(Params, argument);
/// Offset of [`Params::record`], for `entry.S`.
pub const RECORD_AT: usize = offset_of!(Params, record);
/// Offset of [`Params::uart`], for `entry.S`.
pub const UART_AT: usize = offset_of!(Params, uart);
/// Offset of [`Params::conduit`], for `entry.S`.
pub const CONDUIT_AT: usize = offset_of!(Params, conduit);
/// Offset of [`Params::digest`]: the bytes before it are what it is made of.
pub const DIGEST_AT: usize = offset_of!(Params, digest);

// The layout, once more in numbers: whoever changes a struct changes VERSION and these.
const _: () = {
    assert!(size_of::<Range>() == 16);
    assert!(size_of::<Region>() == 32);
    assert!(size_of::<UartParams>() == 16);
    assert!(size_of::<ReasonParams>() == 16);
    assert!(size_of::<Params>() == 0x4b0);
    assert!(Record::SIZE == 64);
    assert!(offset_of!(Params, version) == 0x08);
    assert!(ENTRY_AT == 0x10);
    assert!(ARGUMENT_AT == 0x18);
    assert!(RECORD_AT == 0x20);
    assert!(UART_AT == 0x30);
    assert!(CONDUIT_AT == 0x40);
    assert!(offset_of!(Params, clean_count) == 0x44);
    assert!(offset_of!(Params, digests) == 0x50);
    assert!(offset_of!(Params, reason) == 0x80);
    assert!(offset_of!(Params, clean) == 0x90);
    assert!(offset_of!(Params, regions) == 0x190);
    assert!(DIGEST_AT == 0x490);
    assert!(offset_of!(Record, entered) == 24);
};

impl Params {
    /// A block with nothing in it but magic and version.
    pub const EMPTY: Self = Self {
        magic: MAGIC,
        version: VERSION,
        check: 0,
        entry: 0,
        argument: 0,
        record: 0,
        ticks_per_ms: 0,
        uart: UartParams {
            kind: 0,
            reg_shift: 0,
            base: 0,
        },
        conduit: 0,
        clean_count: 0,
        region_count: 0,
        chunk_log2: CHUNK_LOG2,
        digests: 0,
        digests_len: 0,
        digests_digest: [0; 32],
        reason: ReasonParams {
            kind: 0,
            reserved: 0,
            place: 0,
        },
        clean: [Range { start: 0, end: 0 }; CLEANS],
        regions: [Region {
            name: [0; NAME],
            base: 0,
            len: 0,
        }; REGIONS],
        digest: [0; 32],
    };

    /// The regions that count; all of them where the count is more than there are.
    pub fn regions(&self) -> &[Region] {
        let count = usize::try_from(self.region_count).unwrap_or(REGIONS);
        self.regions.get(..count).unwrap_or(&self.regions)
    }

    /// The ranges to clean that count, in the same way.
    pub fn cleans(&self) -> &[Range] {
        let count = usize::try_from(self.clean_count).unwrap_or(CLEANS);
        self.clean.get(..count).unwrap_or(&self.clean)
    }

    /// The bytes [`Params::digest`] is made of.
    pub fn digested(&self) -> &[u8] {
        self.as_bytes().get(..DIGEST_AT).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_ends_at_its_padding() {
        let mut region = Params::EMPTY.regions[0];
        let name = |region: &Region| String::from_utf8(region.name().collect()).unwrap();
        assert_eq!(name(&region), "");
        region.name[..9].copy_from_slice(b"boot data");
        assert_eq!(name(&region), "boot data");
        region.name = *b"sixteen-letters!";
        assert_eq!(name(&region), "sixteen-letters!");
        region.name[3] = 0xff;
        assert_eq!(name(&region), "six");
    }

    #[test]
    fn a_count_beyond_the_table_is_cut() {
        let mut params = Params::EMPTY;
        params.region_count = 2;
        assert_eq!(params.regions().len(), 2);
        params.region_count = u32::MAX;
        assert_eq!(params.regions().len(), REGIONS);
        params.clean_count = 3;
        assert_eq!(params.cleans().len(), 3);
        params.clean_count = u32::MAX;
        assert_eq!(params.cleans().len(), CLEANS);
    }

    #[test]
    fn a_table_has_one_digest_for_each_begun_chunk() {
        for check in [Check::Off, Check::Fast, Check::Sha256] {
            let one = u64::try_from(check.digest_len()).unwrap();
            for (len, chunks) in [(0, 0), (1, 1), (CHUNK, 1), (CHUNK + 1, 2), (10 * CHUNK, 10)] {
                assert_eq!(check.digests_len(len), chunks * one, "{check:?} {len}");
            }
            check.digests_len(u64::MAX);
        }
    }

    #[test]
    fn codes_come_back() {
        for kind in [Check::Off, Check::Fast, Check::Sha256] {
            assert_eq!(Check::from_code(kind.code()), Some(kind));
        }
        assert_eq!(Check::from_code(3), None);
        for kind in [ReasonPlace::None, ReasonPlace::Memory, ReasonPlace::Cmos] {
            assert_eq!(ReasonPlace::from_code(kind.code()), kind);
        }
        for kind in [
            UartKind::None,
            UartKind::Port16550,
            UartKind::Mmio16550,
            UartKind::Pl011,
        ] {
            assert_eq!(UartKind::from_code(kind.code()), kind);
        }
    }
}
