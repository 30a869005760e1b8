//! The kernel inside a bzImage, entered without the bzImage's own decompressor (x86_64).
//!
//! Given a bzImage's header; responsible for what its decompressor would have done (arch/x86/boot/compressed/misc.c): find
//! the payload, unpack it, put the segments of the ELF file in it where their physical addresses say, and move the
//! kernel to a random virtual address. Its physical address is the placement's; no other is drawn.

use std::io::{self, Read};

use goblin::container::{Container, Ctx};
use goblin::elf::header::{EM_X86_64, ET_DYN, ET_EXEC};
use goblin::elf::program_header::{PF_X, PT_LOAD, ProgramHeader};

use super::super::arena::Slot;
use super::super::read::fill;
use super::{Content, Format, FormatError, Head, Header, Kind, Plan, Sniffed, Wrapper, gzip, inside, relocs, zstd};

/// As in messages.
pub(super) const NAME: &str = "vmlinux";
/// The payload of a bzImage; xz is not among them because nothing here unpacks it faster than the kernel does itself.
static PACKED: [&Format; 2] = [&gzip::FORMAT, &zstd::FORMAT];
/// `KERNEL_IMAGE_SIZE` of a kernel with CONFIG_RANDOMIZE_BASE, bytes: what is mapped for it from `__START_KERNEL_map` on.
const IMAGE_SIZE: u64 = 1 << 30;
/// How much is read behind the ELF file, bytes: Debian's kernels have 1 MB of relocations.
const RELOCS_MAX: u64 = 8 << 20;

/// What an ELF kernel's headers say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::load) struct Vmlinux {
    loads: Vec<Load>,
    /// Physical address it was linked for.
    base: u64,
    /// Memory from the first segment's start to the last one's end, bytes.
    len: u64,
    /// First instruction, bytes from the load address.
    pub(super) entry: u64,
    /// Where the ELF file ends and the relocations begin.
    end: u64,
    /// How far it moves up in virtual memory, bytes; none: it stays.
    slide: Option<u64>,
    /// It has been moved.
    pub(super) moved: bool,
}

/// The bytes of one segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Load {
    /// Offset in the file.
    from: u64,
    /// Offset from the load address.
    to: u64,
    len: u64,
}

/// Looks inside the bzImage that `sniffed` is, whose first bytes are `head`. Any other kernel stays what it is.
pub(super) fn look_inside(head: &Head<'_>, sniffed: Sniffed) -> Result<Sniffed, FormatError> {
    let Sniffed {
        mut wrappers,
        plan,
        memory,
    } = sniffed;
    let Header::BzImage {
        payload, pref_address, ..
    } = &plan.header
    else {
        return Ok(Sniffed { wrappers, plan, memory });
    };
    let (mut part, pref_address) = (*payload, *pref_address);
    if head.machine.la57 && !super::bzimage::has_5_levels(head) {
        return Err(inside(&wrappers, FormatError::Unpacked5Level));
    }
    let bound = plan.skip.saturating_add(plan.most);
    // boot.rst, "payload_offset": from the start of the protected-mode code, which `part` has been corrected for.
    if part.len == 0 || part.at <= plan.skip || part.at.saturating_add(part.len) > bound {
        let error = FormatError::Header {
            field: "payload_length",
            value: part.len,
            rule: "inside the kernel; unpack = false leaves it to the kernel",
        };
        return Err(inside(&wrappers, error));
    }
    let bytes = part.of(head.bytes);
    let Some((format, stream)) = PACKED.iter().find_map(|format| match &format.kind {
        Kind::Stream(stream) if (format.is)(bytes) => Some((format, stream)),
        _ => None,
    }) else {
        let what = super::FORMATS.iter().find(|f| (f.is)(bytes));
        let what = what.and_then(|f| match &f.kind {
            Kind::Refused(why) => match why(&head.with(bytes)) {
                FormatError::NotTaken { what, .. } => Some(what),
                _ => None,
            },
            _ => None,
        });
        return Err(inside(
            &wrappers,
            FormatError::Payload {
                what: what.unwrap_or("of an unknown kind"),
            },
        ));
    };
    // boot.rst, "payload": what is not gzip has the unpacked length appended; in gzip it is part of the format.
    if format.name != gzip::FORMAT.name {
        part.len = part.len.saturating_sub(4);
    }
    wrappers.push(Wrapper {
        name: super::bzimage::FORMAT.name,
        content: Content::Part(part),
    });
    let elf = (stream.peek)(part.of(head.bytes));
    if elf.is_empty() {
        return Err(inside(&wrappers, FormatError::Nothing { wrapper: format.name }));
    }
    wrappers.push(Wrapper {
        name: format.name,
        content: Content::Stream(*stream),
    });
    let vmlinux = parse(&elf, pref_address).map_err(|e| inside(&wrappers, e))?;
    let unpack = (stream.memory)(bytes).min(vmlinux.len.saturating_mul(2));
    let memory = memory.saturating_add(unpack).saturating_add(RELOCS_MAX);
    Ok(Sniffed {
        wrappers,
        memory,
        plan: Plan {
            skip: 0,
            least: vmlinux.len,
            most: vmlinux.len,
            header: plan.header.unpacked(vmlinux),
        },
    })
}

/// The headers of an ELF kernel for `pref_address`.
fn parse(head: &[u8], pref_address: u64) -> Result<Vmlinux, FormatError> {
    let wrong = |field, value, rule| Err(FormatError::Header { field, value, rule });
    let header = match goblin::elf::Elf::parse_header(head) {
        Ok(header)
            if header.container().ok() == Some(Container::Big) && header.endianness().is_ok_and(|e| e.is_little()) =>
        {
            header
        }
        _ => return Err(FormatError::unknown(head)),
    };
    if header.e_machine != EM_X86_64 {
        return wrong("e_machine", header.e_machine.into(), "x86_64's, 62");
    }
    if ![ET_EXEC, ET_DYN].contains(&header.e_type) {
        return wrong("e_type", header.e_type.into(), "a program's, 2");
    }
    let ctx = Ctx::new(Container::Big, goblin::container::Endian::Little);
    let segments = usize::try_from(header.e_phoff)
        .ok()
        .filter(|_| usize::from(header.e_phentsize) == ProgramHeader::size(ctx))
        .and_then(|at| ProgramHeader::parse(head, at, header.e_phnum.into(), ctx).ok());
    let Some(segments) = segments else {
        return wrong(
            "e_phoff",
            header.e_phoff,
            "where 56-byte program headers are, at the start of the file",
        );
    };

    let mut loads: Vec<Load> = Vec::new();
    let mut read = 0_u64;
    let mut len = 0_u64;
    let mut entry = None;
    for segment in segments.iter().filter(|s| s.p_type == PT_LOAD && s.p_memsz > 0) {
        // It is read once, from front to back.
        if segment.p_offset < read {
            return wrong("p_offset", segment.p_offset, "behind the segment before");
        }
        let Some(to) = segment
            .p_paddr
            .checked_sub(pref_address)
            .filter(|to| *to >= len && *to < IMAGE_SIZE)
        else {
            return wrong("p_paddr", segment.p_paddr, "behind the segment before");
        };
        if segment.p_filesz > segment.p_memsz || segment.p_memsz > IMAGE_SIZE {
            return wrong("p_memsz", segment.p_memsz, "at least p_filesz, at most 1 GiB");
        }
        let Some(end) = segment.p_offset.checked_add(segment.p_filesz) else {
            return wrong("p_offset", segment.p_offset, "inside the file");
        };
        if segment.p_flags & PF_X != 0
            && let Some(offset) = header.e_entry.checked_sub(segment.p_paddr)
            && offset < segment.p_filesz
        {
            entry = Some(to.saturating_add(offset));
        }
        read = end;
        len = to.saturating_add(segment.p_memsz);
        loads.push(Load {
            from: segment.p_offset,
            to,
            len: segment.p_filesz,
        });
    }
    // startup_64 runs at the place its own base has been moved to.
    if loads.first().is_none_or(|load| load.to != 0) {
        return wrong(
            "p_paddr",
            pref_address,
            "that of the first segment, as pref_address says",
        );
    }
    let Some(entry) = entry else {
        return wrong("e_entry", header.e_entry, "the physical address of an instruction");
    };
    let sections = u64::from(header.e_shnum).saturating_mul(header.e_shentsize.into());
    Ok(Vmlinux {
        loads,
        base: pref_address,
        len,
        entry,
        end: header.e_shoff.saturating_add(sections).max(read),
        slide: None,
        moved: false,
    })
}

impl Vmlinux {
    /// Draws a virtual address for a kernel that takes `span` bytes, in steps of `align`
    /// (arch/x86/boot/compressed/kaslr.c, `find_random_virt_addr`).
    pub(super) fn randomise(&mut self, random: u64, span: u64, align: u64) -> bool {
        let room = IMAGE_SIZE.checked_sub(self.base.saturating_add(span.max(self.len)));
        self.slide = room.and_then(|room| {
            let slots = room.checked_div(align)?.checked_add(1)?;
            random.checked_rem(slots)?.checked_mul(align)
        });
        self.slide.is_some()
    }

    /// Reads the ELF file into `slot` as it is in memory, and then what follows it.
    pub(super) fn pour(&mut self, from: &mut dyn Read, slot: &mut Slot) -> io::Result<()> {
        let mut at = 0_u64;
        for load in &self.loads {
            zeros(slot, load.to);
            if !pass(from, load.from.saturating_sub(at))? {
                return Ok(());
            }
            fill(&mut Read::take(&mut *from, load.len), 0, slot)?;
            at = load.from.saturating_add(load.len);
            if length(slot) < load.to.saturating_add(load.len) {
                return Ok(());
            }
        }
        zeros(slot, self.len);

        let mut tail = Vec::new();
        if let Some(slide) = self.slide
            && pass(from, self.end.saturating_sub(at))?
        {
            Read::take(&mut *from, RELOCS_MAX.saturating_add(1)).read_to_end(&mut tail)?;
            // One that goes on behind that is not whole: half a move would be none that runs.
            if u64::try_from(tail.len()).is_ok_and(|len| len <= RELOCS_MAX) {
                self.moved = relocs::apply(slot.filled_mut(), &tail, self.base, slide)?;
            }
        }
        // To the end, where a checksum may be.
        io::copy(from, &mut io::sink())?;
        Ok(())
    }
}

fn length(slot: &Slot) -> u64 {
    u64::try_from(slot.len()).unwrap_or(u64::MAX)
}

/// Passes `n` bytes; says whether there were as many.
fn pass(from: &mut dyn Read, n: u64) -> io::Result<bool> {
    Ok(io::copy(&mut Read::take(&mut *from, n), &mut io::sink())? == n)
}

/// Zeros up to `end`, as far as the slot goes.
fn zeros(slot: &mut Slot, end: u64) {
    loop {
        let room = usize::try_from(end.saturating_sub(length(slot))).unwrap_or(usize::MAX);
        let spare = slot.spare(room.min(1 << 20));
        let n = spare.len();
        if n == 0 {
            return;
        }
        spare.fill(0);
        slot.filled(n);
    }
}

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "small numbers in tests")]
mod tests;
