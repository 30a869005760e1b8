//! Given the address of a device tree, prints what a kernel would look at first: root properties, `/chosen`, memory, reservations.
//!
//! Responsible for surviving a tree that is none: everything is bounded by the header's size, and the size by [`LARGEST`].
//! Layout: Devicetree Specification 0.4, chapter 5.

use crate::memory::Memory;
use crate::out::{Out, Sink};

/// Largest tree that is walked, bytes; the kernel takes 2 MiB.
pub const LARGEST: u64 = 4 << 20;

const MAGIC: u32 = 0xd00d_feed;
const BEGIN_NODE: u32 = 1;
const END_NODE: u32 = 2;
const PROP: u32 = 3;
const NOP: u32 = 4;

/// How much of a property that is no text is printed, bytes.
const SHOWN: u64 = 256;

/// `linux,initrd-start` and `-end`, where there are both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Initrd {
    /// First byte.
    pub start: u64,
    /// One past the last byte.
    pub end: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Inside {
    Root,
    Chosen,
    Memory,
    Reserved,
    Other,
}

/// Prints the tree at `at`; answers where it says the initrd is.
pub fn print<S: Sink>(out: &mut Out<S>, memory: &impl Memory, at: u64) -> Option<Initrd> {
    let magic = memory.be32(at);
    out.word("dtb-magic", if magic == Some(MAGIC) { "ok" } else { "bad" });
    if magic != Some(MAGIC) {
        return None;
    }
    let size = u64::from(memory.be32(at.wrapping_add(4))?);
    out.number("dtb-size", size);
    out.number("dtb-version", u64::from(memory.be32(at.wrapping_add(20))?));
    if size > LARGEST {
        out.word("dtb-end", "too large");
        return None;
    }
    reservations(out, memory, at, size);
    let (initrd, end) = nodes(out, memory, at, size);
    out.word("dtb-end", end);
    initrd
}

fn reservations<S: Sink>(out: &mut Out<S>, memory: &impl Memory, at: u64, size: u64) {
    let Some(mut offset) = memory.be32(at.wrapping_add(16)).map(u64::from) else {
        return;
    };
    while offset.saturating_add(16) <= size {
        let entry = at.wrapping_add(offset);
        let (Some(start), Some(len)) = (memory.be64(entry), memory.be64(entry.wrapping_add(8))) else {
            return;
        };
        if start == 0 && len == 0 {
            return;
        }
        out.key("memreserve").hex(start).text(" ").hex(len).end();
        offset = offset.saturating_add(16);
    }
}

/// The walk: one pass over the tokens, remembering only how deep it is and in which node of interest.
fn nodes<S: Sink>(out: &mut Out<S>, memory: &impl Memory, at: u64, size: u64) -> (Option<Initrd>, &'static str) {
    const CUT: &str = "cut short";
    let (Some(structure), Some(strings)) = (memory.be32(at.wrapping_add(8)), memory.be32(at.wrapping_add(12))) else {
        return (None, CUT);
    };
    let strings = at.wrapping_add(u64::from(strings));
    let mut offset = u64::from(structure);
    let mut depth = 0_u32;
    let mut inside = Inside::Other;
    let (mut start, mut end) = (None, None);
    while offset.saturating_add(4) <= size {
        let Some(token) = memory.be32(at.wrapping_add(offset)) else {
            return (None, CUT);
        };
        offset = offset.saturating_add(4);
        match token {
            BEGIN_NODE => {
                let name = at.wrapping_add(offset);
                let Some(len) = memory.strlen(name, size.saturating_sub(offset)) else {
                    return (None, CUT);
                };
                offset = align(offset.saturating_add(len).saturating_add(1));
                depth = depth.saturating_add(1);
                inside = enter(out, memory, name, len, depth, inside);
            }
            END_NODE => {
                inside = match (depth, inside) {
                    (2, _) => Inside::Root,
                    (3, Inside::Reserved) => Inside::Reserved,
                    _ => Inside::Other,
                };
                depth = depth.saturating_sub(1);
            }
            PROP => {
                let header = at.wrapping_add(offset);
                let (Some(len), Some(name)) = (memory.be32(header), memory.be32(header.wrapping_add(4))) else {
                    return (None, CUT);
                };
                let (len, name) = (u64::from(len), strings.wrapping_add(u64::from(name)));
                let value = at.wrapping_add(offset).wrapping_add(8);
                if offset.saturating_add(8).saturating_add(len) > size {
                    return (None, CUT);
                }
                let key = match (inside, depth) {
                    (Inside::Root, 1) => "dtb-root",
                    (Inside::Chosen, 2) => "chosen",
                    (Inside::Memory, 2) => "memory",
                    (Inside::Reserved, 2 | 3) => "reserved",
                    _ => "",
                };
                if !key.is_empty() {
                    out.key(key).name(memory, name).text(" ").hex(len).text(" ");
                    out.value(memory, value, len, SHOWN).end();
                }
                if inside == Inside::Chosen && depth == 2 {
                    let number = match len {
                        4 => memory.be32(value).map(u64::from),
                        8 => memory.be64(value),
                        _ => None,
                    };
                    if is(memory, name, "linux,initrd-start") {
                        start = number;
                    } else if is(memory, name, "linux,initrd-end") {
                        end = number;
                    }
                }
                offset = align(offset.saturating_add(8).saturating_add(len));
            }
            NOP => {}
            9 if depth == 0 => {
                let initrd = start.zip(end).map(|(start, end)| Initrd { start, end });
                return (initrd, "ok");
            }
            _ => return (None, "bad token"),
        }
    }
    (None, CUT)
}

fn enter<S: Sink>(out: &mut Out<S>, memory: &impl Memory, name: u64, len: u64, depth: u32, inside: Inside) -> Inside {
    match (depth, inside) {
        (1, _) => return Inside::Root,
        (2, _) => {}
        (3, Inside::Reserved) => {
            out.key("reserved-node").name(memory, name).end();
            return Inside::Reserved;
        }
        _ => return Inside::Other,
    }
    out.key("dtb-node").name(memory, name).end();
    if len == 6 && is(memory, name, "chosen") {
        Inside::Chosen
    } else if len == 15 && is(memory, name, "reserved-memory") {
        Inside::Reserved
    } else if is_memory(memory, name) {
        Inside::Memory
    } else {
        Inside::Other
    }
}

fn is_memory(memory: &impl Memory, name: u64) -> bool {
    starts(memory, name, "memory") && matches!(memory.byte(name.wrapping_add(6)), Some(0 | b'@'))
}

fn is(memory: &impl Memory, at: u64, text: &str) -> bool {
    starts(memory, at, text) && memory.byte(at.wrapping_add(text.len() as u64)) == Some(0)
}

fn starts(memory: &impl Memory, at: u64, text: &str) -> bool {
    (at..).zip(text.bytes()).all(|(at, byte)| memory.byte(at) == Some(byte))
}

fn align(offset: u64) -> u64 {
    offset.saturating_add(3) & !3
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::memory::tests::Ram;
    use crate::out::tests::printed;

    /// A tree written by hand: tokens, then strings.
    #[derive(Default)]
    pub(crate) struct Tree {
        structure: Vec<u8>,
        strings: Vec<u8>,
        reserved: Vec<u8>,
    }

    impl Tree {
        fn token(&mut self, token: u32) {
            self.structure.extend(token.to_be_bytes());
        }

        fn pad(&mut self) {
            while !self.structure.len().is_multiple_of(4) {
                self.structure.push(0);
            }
        }

        fn open(&mut self, name: &str) {
            self.token(BEGIN_NODE);
            self.structure.extend(name.bytes().chain([0]));
            self.pad();
        }

        fn close(&mut self) {
            self.token(END_NODE);
        }

        fn prop(&mut self, name: &str, value: &[u8]) {
            self.token(PROP);
            self.token(u32::try_from(value.len()).unwrap());
            self.token(u32::try_from(self.strings.len()).unwrap());
            self.strings.extend(name.bytes().chain([0]));
            self.structure.extend(value);
            self.pad();
        }

        fn finish(mut self) -> Vec<u8> {
            self.token(9);
            self.reserved.extend([0; 16]);
            let structure = 40 + self.reserved.len();
            let strings = structure + self.structure.len();
            let total = strings + self.strings.len();
            let words = [
                MAGIC as usize,
                total,
                structure,
                strings,
                40,
                17,
                16,
                0,
                self.strings.len(),
                self.structure.len(),
            ];
            let mut out: Vec<u8> = words
                .iter()
                .flat_map(|w| u32::try_from(*w).unwrap().to_be_bytes())
                .collect();
            out.extend(self.reserved);
            out.extend(self.structure);
            out.extend(self.strings);
            out
        }
    }

    fn sample() -> Vec<u8> {
        let mut tree = Tree::default();
        tree.reserved.extend(0x4800_0000_u64.to_be_bytes());
        tree.reserved.extend(0x10_0000_u64.to_be_bytes());
        tree.open("");
        tree.prop("model", b"linux,dummy-virt\0");
        tree.open("cpus");
        tree.open("chosen");
        tree.prop("bootargs", b"not this one\0");
        tree.close();
        tree.close();
        tree.open("memory@40000000");
        tree.prop("reg", &[0, 0, 0, 0, 0x40, 0, 0, 0, 0, 0, 0, 0, 0x20, 0, 0, 0]);
        tree.close();
        tree.open("chosen");
        tree.prop("bootargs", b"a=b ro\0");
        tree.token(NOP);
        tree.prop("linux,initrd-start", &0x1_4800_0000_u64.to_be_bytes());
        tree.prop("linux,initrd-end", &0x4900_0000_u32.to_be_bytes());
        tree.prop("empty", &[]);
        tree.close();
        tree.open("reserved-memory");
        tree.open("optee@e100000");
        tree.prop("no-map", &[]);
        tree.close();
        tree.prop("late", &[]);
        tree.close();
        tree.prop("after", b"1");
        tree.close();
        tree.finish()
    }

    #[test]
    fn prints_what_a_kernel_looks_at() {
        let ram = Ram::new(0x1004, &sample());
        let mut initrd = None;
        let text = printed(|out| initrd = print(out, &ram, 0x1004))
            .replace("entry: ", "")
            .replace('\r', "");
        let want = "dtb-magic=ok\n\
            dtb-size=SIZE\n\
            dtb-version=0x11\n\
            memreserve=0x48000000 0x100000\n\
            dtb-root=model 0x11 \"linux,dummy-virt\"\n\
            dtb-node=cpus\n\
            dtb-node=memory@40000000\n\
            memory=reg 0x10 hex:00000000400000000000000020000000\n\
            dtb-node=chosen\n\
            chosen=bootargs 0x7 \"a=b ro\"\n\
            chosen=linux,initrd-start 0x8 hex:0000000148000000\n\
            chosen=linux,initrd-end 0x4 hex:49000000\n\
            chosen=empty 0x0 hex:\n\
            dtb-node=reserved-memory\n\
            reserved-node=optee@e100000\n\
            reserved=no-map 0x0 hex:\n\
            reserved=late 0x0 hex:\n\
            dtb-root=after 0x1 hex:31\n\
            dtb-end=ok\n";
        assert_eq!(text, want.replace("SIZE", &format!("{:#x}", sample().len())));
        assert_eq!(
            initrd,
            Some(Initrd {
                start: 0x1_4800_0000,
                end: 0x4900_0000
            })
        );
    }

    #[test]
    fn no_tree_is_said() {
        for bytes in [&[0_u8; 64][..], &[]] {
            let text = printed(|out| assert_eq!(print(out, &Ram::new(0x1000, bytes), 0x1000), None));
            assert_eq!(text, "entry: dtb-magic=bad\r\n");
        }
    }

    proptest! {
        #[test]
        fn a_damaged_tree_ends_the_walk_and_nothing_else(at in 0_usize..sample().len(), byte: u8, cut in 0_usize..sample().len()) {
            let mut bytes = sample();
            bytes[at] = byte;
            let _ = printed(|out| { print(out, &Ram::new(0x1000, &bytes), 0x1000); });
            bytes.truncate(cut);
            let _ = printed(|out| { print(out, &Ram::new(0x1000, &bytes), 0x1000); });
        }
    }
}
