//! Given the address of `struct boot_params`, prints what an x86_64 kernel takes from it.
//!
//! Offsets: Documentation/arch/x86/zero-page.rst and boot.rst. Read with the guest's own page tables: not all of it needs to be mapped by the
//! loader's.

use crate::memory::{Memory, Sum};
use crate::out::{Out, Sink};

/// `setup_data` nodes that are followed: a list that runs in a circle ends here.
const MOST_NODES: u32 = 64;
/// `SETUP_E820_EXT`
const E820_EXT: u32 = 1;
/// Longest command line that is printed.
const LONGEST: u64 = 64 << 10;

/// What else the guest looks at, as the zero page gives it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pointers {
    /// Address of the command line.
    pub cmdline: u64,
    /// Its length without NUL, 0 if it has no end.
    pub cmdline_len: u64,
    /// Address of the initrd.
    pub ramdisk: u64,
    /// Its size.
    pub ramdisk_size: u64,
    /// `init_size` of the setup header: memory that is the kernel's from its load address on.
    pub init_size: u64,
}

/// Prints the zero page at `at`.
pub fn print<S: Sink>(out: &mut Out<S>, memory: &impl Memory, at: u64) -> Option<Pointers> {
    let byte = |offset: u64| memory.byte(at.wrapping_add(offset)).map(u64::from);
    let half = |offset: u64| Some(byte(offset)? | byte(offset.wrapping_add(1))? << 8);
    let word = |offset: u64| memory.le32(at.wrapping_add(offset)).map(u64::from);
    let long = |offset: u64| memory.le64(at.wrapping_add(offset));

    out.number("zp-sentinel", byte(0x1ef)?);
    out.number("zp-boot-flag", half(0x1fe)?);
    out.key("zp-magic").quoted(memory, at.wrapping_add(0x202), 4).end();
    out.number("zp-version", half(0x206)?);
    out.number("zp-type-of-loader", byte(0x210)?);
    out.number("zp-loadflags", byte(0x211)?);
    out.number("zp-kernel-alignment", word(0x230)?);
    out.number("zp-relocatable", byte(0x234)?);
    out.number("zp-xloadflags", half(0x236)?);
    out.number("zp-cmdline-size", word(0x238)?);
    out.number("zp-subarch", word(0x23c)?);
    out.number("zp-pref-address", long(0x258)?);
    out.number("zp-init-size", word(0x260)?);
    out.number("zp-rsdp", long(0x70)?);
    out.number("zp-video", byte(0x0f)?);
    out.number("zp-cc-blob", word(0x13c)?);
    out.key("zp-efi").quoted(memory, at.wrapping_add(0x1c0), 4).end();
    out.number("zp-efi-systab", word(0x1c4)? | word(0x1d8)? << 32);
    out.number("zp-efi-memmap", word(0x1d0)? | word(0x1dc)? << 32);
    out.number("zp-efi-memmap-size", word(0x1d4)?);

    let cmdline = word(0x228)? | word(0xc8)? << 32;
    out.number("cmdline-at", cmdline);
    let len = memory.strlen(cmdline, LONGEST);
    if let (Some(len), true) = (len, cmdline != 0) {
        out.number("cmdline-len", len);
        out.key("cmdline").quoted(memory, cmdline, len).end();
    }
    let ramdisk = word(0x218)? | word(0xc0)? << 32;
    let ramdisk_size = word(0x21c)? | word(0xc4)? << 32;
    out.number("initrd-at", ramdisk);
    out.number("initrd-size", ramdisk_size);

    let count = byte(0x1e8)?;
    out.number("e820-count", count);
    for i in 0..count.min(128) {
        e820(
            out,
            memory,
            "e820",
            at.wrapping_add(0x2d0).wrapping_add(i.wrapping_mul(20)),
        )?;
    }
    setup_data(out, memory, long(0x250)?)?;
    Some(Pointers {
        cmdline,
        cmdline_len: len.unwrap_or(0),
        ramdisk,
        ramdisk_size,
        init_size: word(0x260)?,
    })
}

fn e820<S: Sink>(out: &mut Out<S>, memory: &impl Memory, key: &str, at: u64) -> Option<()> {
    out.key(key).hex(memory.le64(at)?).text(" ");
    out.hex(memory.le64(at.wrapping_add(8))?).text(" ");
    out.hex(u64::from(memory.le32(at.wrapping_add(16))?)).end();
    Some(())
}

fn setup_data<S: Sink>(out: &mut Out<S>, memory: &impl Memory, first: u64) -> Option<()> {
    let mut node = first;
    for _ in 0..MOST_NODES {
        if node == 0 {
            out.word("setup-data-end", "ok");
            return Some(());
        }
        let kind = memory.le32(node.wrapping_add(8))?;
        let len = u64::from(memory.le32(node.wrapping_add(12))?);
        let data = node.wrapping_add(16);
        let mut sum = Sum::new();
        memory.add_to(&mut sum, data, len.min(LONGEST))?;
        out.key("setup-data")
            .hex(node)
            .text(" ")
            .hex(u64::from(kind))
            .text(" ")
            .hex(len);
        out.text(" ").hex(sum.finish()).end();
        if kind == E820_EXT {
            for i in 0..len.min(LONGEST) / 20 {
                e820(out, memory, "e820-ext", data.wrapping_add(i.wrapping_mul(20)))?;
            }
        }
        node = memory.le64(node)?;
    }
    out.word("setup-data-end", "too long");
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::sum_of;
    use crate::memory::tests::Ram;
    use crate::out::tests::printed;

    fn page() -> Vec<u8> {
        let mut page = vec![0; 4096];
        let mut put = |at: usize, bytes: &[u8]| page[at..at + bytes.len()].copy_from_slice(bytes);
        put(0x70, &0x7fe_0014_u64.to_le_bytes());
        put(0xc0, &1_u32.to_le_bytes());
        put(0xc8, &2_u32.to_le_bytes());
        put(0x1e8, &[2]);
        put(0x1fe, &[0x55, 0xaa]);
        put(0x202, b"HdrS");
        put(0x206, &0x20f_u16.to_le_bytes());
        put(0x210, &[0xd0, 1]);
        put(0x218, &0x4000_0000_u32.to_le_bytes());
        put(0x21c, &100_u32.to_le_bytes());
        put(0x228, &0x3000_u32.to_le_bytes());
        put(0x250, &0x5000_u64.to_le_bytes());
        put(0x260, &0x10_0000_u32.to_le_bytes());
        for (i, (start, len, kind)) in [(0_u64, 0x9_fc00_u64, 1_u32), (0xf_0000, 0x1_0000, 2)]
            .iter()
            .enumerate()
        {
            let entry: Vec<u8> = start
                .to_le_bytes()
                .iter()
                .chain(&len.to_le_bytes())
                .chain(&kind.to_le_bytes())
                .copied()
                .collect();
            put(0x2d0 + i * 20, &entry);
        }
        page
    }

    fn node(next: u64, kind: u32, data: &[u8]) -> Vec<u8> {
        let mut out = next.to_le_bytes().to_vec();
        out.extend(kind.to_le_bytes());
        out.extend(u32::try_from(data.len()).unwrap().to_le_bytes());
        out.extend(data);
        out
    }

    #[test]
    fn prints_both_halves_of_addresses_and_follows_the_list() {
        let mut ram = Ram::new(0x1000, &page());
        ram.put(0x2_0000_3000, b"a=\"b\"\0");
        let more: Vec<u8> = [7_u64, 8]
            .iter()
            .flat_map(|n| n.to_le_bytes())
            .chain([1, 0, 0, 0])
            .collect();
        ram.put(0x5000, &node(0x6004, 9, b"seed"));
        ram.put(0x6004, &node(0, 1, &more));
        let mut pointers = None;
        let text = printed(|out| pointers = print(out, &ram, 0x1000));
        let want = Pointers {
            cmdline: 0x2_0000_3000,
            cmdline_len: 5,
            ramdisk: 0x1_4000_0000,
            ramdisk_size: 100,
            init_size: 0x10_0000,
        };
        assert_eq!(pointers, Some(want));
        for line in [
            "zp-magic=\"HdrS\"",
            "zp-version=0x20f",
            "zp-rsdp=0x7fe0014",
            "cmdline=\"a=\\x22b\\x22\"",
            "e820=0xf0000 0x10000 0x2",
            &format!("setup-data=0x5000 0x9 0x4 {:#x}", sum_of(b"seed")),
            "e820-ext=0x7 0x8 0x1",
            "setup-data-end=ok",
        ] {
            assert!(text.contains(&format!("entry: {line}\r\n")), "{line} in {text}");
        }
    }

    #[test]
    fn a_list_in_a_circle_ends() {
        let mut ram = Ram::new(0x1000, &page());
        ram.put(0x2_0000_3000, b"\0");
        ram.put(0x5000, &node(0x5000, 9, b"seed"));
        let text = printed(|out| assert!(print(out, &ram, 0x1000).is_some()));
        assert!(text.ends_with("entry: setup-data-end=too long\r\n"));
    }

    #[test]
    fn a_page_that_is_not_there_is_none() {
        let text = printed(|out| assert_eq!(print(out, &Ram::default(), 0x1000), None));
        assert_eq!(text, "");
    }
}
