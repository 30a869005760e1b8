//! x86_64 `bzImage`: Documentation/arch/x86/boot.rst, "The Real-Mode Kernel Header" and "64-bit Boot Protocol".

use config::Arch;

use super::initrd::version;
use super::object;
use super::{BzImage, Format, FormatError, FormatKind, Head, Header, Plan, SETUP_HEADER, le32};

pub(super) const FORMAT: Format = Format {
    name: "bzImage",
    is: |bytes| le32(bytes, HEADER) == Some(u32::from_le_bytes(*b"HdrS")),
    kind: FormatKind::Kernel(parse),
};

// Offsets in the file, and in the zero page.
const SETUP_SECTS: usize = 0x1f1;
const SYSSIZE: usize = 0x1f4;
const BOOT_FLAG: usize = 0x1fe;
const JUMP: usize = 0x200;
const HEADER: usize = 0x202;
const VERSION: usize = 0x206;
const KERNEL_VERSION: usize = 0x20e;
const LOADFLAGS: usize = 0x211;
const INITRD_ADDR_MAX: usize = 0x22c;
const KERNEL_ALIGNMENT: usize = 0x230;
const RELOCATABLE_KERNEL: usize = 0x234;
const XLOADFLAGS: usize = 0x236;
const CMDLINE_SIZE: usize = 0x238;
const PREF_ADDRESS: usize = 0x258;
const INIT_SIZE: usize = 0x260;
/// Where the header of protocol 2.12 ends.
const END_2_12: usize = 0x268;

// loadflags
const LOADED_HIGH: u8 = 1;
// xloadflags
const XLF_KERNEL_64: u16 = 1 << 0;
const XLF_CAN_BE_LOADED_ABOVE_4G: u16 = 1 << 1;
const XLF_EFI_KEXEC: u16 = 1 << 4;
const XLF_5LEVEL: u16 = 1 << 5;

/// What may follow the part that is loaded, bytes: the signature of a signed kernel.
const TRAILER: u64 = 1 << 20;

/// The fields that are looked at.
struct Raw {
    setup_sects: u8,
    syssize: u32,
    boot_flag: u16,
    jump: u8,
    version: u16,
    kernel_version: u16,
    loadflags: u8,
    initrd_addr_max: u32,
    kernel_alignment: u32,
    relocatable_kernel: u8,
    xloadflags: u16,
    cmdline_size: u32,
    pref_address: u64,
    init_size: u32,
}

impl Raw {
    fn read(head: &Head<'_>) -> Option<Self> {
        let byte = |at: usize| head.bytes.get(at).copied();
        Some(Self {
            setup_sects: byte(SETUP_SECTS)?,
            syssize: head.le32(SYSSIZE)?,
            boot_flag: head.le16(BOOT_FLAG)?,
            jump: byte(JUMP.checked_add(1)?)?,
            version: head.le16(VERSION)?,
            kernel_version: head.le16(KERNEL_VERSION)?,
            loadflags: byte(LOADFLAGS)?,
            initrd_addr_max: head.le32(INITRD_ADDR_MAX)?,
            kernel_alignment: head.le32(KERNEL_ALIGNMENT)?,
            relocatable_kernel: byte(RELOCATABLE_KERNEL)?,
            xloadflags: head.le16(XLOADFLAGS)?,
            cmdline_size: head.le32(CMDLINE_SIZE)?,
            pref_address: head.le64(PREF_ADDRESS)?,
            init_size: head.le32(INIT_SIZE)?,
        })
    }

    /// What this machine would die of without a word.
    fn bootable(&self, head: &Head<'_>) -> Result<(), FormatError> {
        if self.boot_flag != 0xaa55 {
            return Err(FormatError::Header {
                field: "boot_flag",
                value: self.boot_flag.into(),
                rule: "0xaa55",
            });
        }
        // xloadflags came with 2.12: before it there is no saying that there is a 64-bit entry point.
        if self.version < 0x020c {
            return Err(FormatError::TooOld { version: self.version });
        }
        if self.loadflags & LOADED_HIGH == 0 {
            return Err(FormatError::NotLoadedHigh);
        }
        // "Bit 0 (read): XLF_KERNEL_64 - If 1, this kernel has the legacy 64-bit entry point at 0x200."
        if self.xloadflags & XLF_KERNEL_64 == 0 {
            return Err(FormatError::Not64Bit);
        }
        if self.relocatable_kernel == 0 {
            return Err(FormatError::NotRelocatable);
        }
        if head.machine.la57 && self.xloadflags & XLF_5LEVEL == 0 {
            return Err(FormatError::No5Level);
        }
        let alignment = self.kernel_alignment;
        if !alignment.is_power_of_two() || !(0x1000..=1 << 30).contains(&alignment) {
            return Err(FormatError::Header {
                field: "kernel_alignment",
                value: alignment.into(),
                rule: "a power of two from 4 KiB to 1 GiB",
            });
        }
        Ok(())
    }

    /// "If non-zero, contains a pointer to a NUL-terminated human-readable kernel version number string, less 0x200."
    fn version(&self, file: &[u8]) -> Option<(u16, u16)> {
        let at = usize::from(self.kernel_version)
            .checked_add(0x200)
            .filter(|at| *at > 0x200)?;
        version(file.get(at..)?)
    }

    /// "The end of setup header can be calculated as follows: 0x0202 + byte value at offset 0x0201"
    fn header_end(&self) -> Result<usize, FormatError> {
        let end = HEADER.saturating_add(self.jump.into());
        if end < END_2_12 {
            return Err(FormatError::Header {
                field: "jump",
                value: self.jump.into(),
                rule: "at least 0x66, the length of a 2.12 header",
            });
        }
        Ok(end)
    }
}

fn parse(head: &Head<'_>) -> Result<Plan, FormatError> {
    let truncated = |need| FormatError::Truncated {
        have: head.have(),
        need,
    };
    if head.machine.arch != Arch::X86_64 {
        return Err(FormatError::WrongArch {
            what: "an x86 bzImage",
            arch: head.machine.arch,
        });
    }
    let raw = Raw::read(head).ok_or_else(|| truncated(u64::try_from(END_2_12).unwrap_or(0)))?;
    raw.bootable(head)?;
    let end = raw.header_end()?;
    let stored = head
        .bytes
        .get(SETUP_SECTS..end)
        .ok_or_else(|| truncated(u64::try_from(end).unwrap_or(0)))?;
    let mut setup_header = [0; SETUP_HEADER];
    setup_header.iter_mut().zip(stored).for_each(|(to, from)| *to = *from);

    // "For backwards compatibility, if the setup_sects field contains 0, the real value is 4." The boot sector is one
    // more, and "the 32-bit (non-real-mode) kernel starts at offset (setup_sects+1)*512 in the kernel file".
    let setup_sects = if raw.setup_sects == 0 { 4 } else { raw.setup_sects };
    let skip = u64::from(setup_sects).saturating_add(1).saturating_mul(512);
    // "The size of the protected-mode code in units of 16-byte paragraphs": the last one may be cut short. The EFI stub's
    // section table is exact.
    let paragraphs = u64::from(raw.syssize).saturating_mul(16);
    let sections = object::pe(head.bytes).map_or(0, |pe| pe.end.saturating_sub(skip));
    let least = paragraphs.saturating_sub(15).max(sections);
    if paragraphs == 0 {
        return Err(FormatError::Header {
            field: "syssize",
            value: 0,
            rule: "the size of the kernel",
        });
    }
    // "This field indicates the amount of linear contiguous memory starting at the kernel runtime start address that
    // the kernel needs before it is capable of examining its memory map."
    let init_size = u64::from(raw.init_size);
    if init_size < least {
        return Err(FormatError::Header {
            field: "init_size",
            value: init_size,
            rule: "at least the size of the kernel",
        });
    }
    let most = match head.len {
        None => least.saturating_add(TRAILER).min(init_size),
        Some(len) => {
            let rest = len.saturating_sub(skip);
            if rest < least {
                return Err(truncated(skip.saturating_add(least)));
            }
            // Up to `init_size` the kernel writes over what is behind its bytes anyway, beyond it others may be.
            if rest > init_size {
                return Err(FormatError::TooLong {
                    have: len,
                    most: skip.saturating_add(init_size),
                });
            }
            rest
        }
    };
    Ok(Plan {
        skip,
        least,
        most,
        header: Header::BzImage(BzImage {
            setup_header,
            init_size,
            pref_address: raw.pref_address,
            alignment: raw.kernel_alignment.into(),
            cmdline_size: raw.cmdline_size.into(),
            above_4g: raw.xloadflags & XLF_CAN_BE_LOADED_ABOVE_4G != 0,
            efi_kexec: raw.xloadflags & XLF_EFI_KEXEC != 0,
            initrd_addr_max: raw.initrd_addr_max.into(),
            version: raw.version(head.bytes),
        }),
    })
}
