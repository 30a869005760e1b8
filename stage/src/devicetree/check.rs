//! Whether bytes are a well-formed flattened device tree, so that the editing code needs no checks of its own.
//!
//! Given bytes from a disk, which may be hostile. dtoolkit's own check also demands the specification's 31-character names,
//! which real boards exceed (`snps,gfladj-refclk-lpm-sel-quirk`), and does not limit the depth of its recursion; so the
//! structure is checked here and names are left alone.
//! Layout: Devicetree Specification v0.4, chapter 5.

use super::DtbError;

/// "The device tree blob (dtb) must be placed on an 8-byte boundary and must not exceed 2 megabytes in size."
/// (Documentation/arch/arm64/booting.rst, section 2)
pub(crate) const MAX_SIZE: u64 = 2 << 20;
/// Deeper than any real tree (about 10); recursion follows it.
const MAX_DEPTH: usize = 32;
/// Longer than any real name of a node or property.
const MAX_NAME: usize = 255;
/// More than any real tree has (about 5000 and 40,000). In memory each takes a few hundred bytes, in the blob 12.
const MAX_NODES: usize = 1 << 14;
const MAX_PROPERTIES: usize = 1 << 17;

/// Devicetree Specification 0.4, 5.2; big-endian.
pub(crate) const MAGIC: u32 = 0xd00d_feed;
const HEADER: u64 = 40;
const VERSION: u32 = 17;

const BEGIN_NODE: u32 = 1;
const END_NODE: u32 = 2;
const PROP: u32 = 3;
const NOP: u32 = 4;
const END: u32 = 9;

fn word(data: &[u8], at: usize) -> Option<u32> {
    let bytes = data.get(at..)?.first_chunk::<4>()?;
    Some(u32::from_be_bytes(*bytes))
}

fn offset(data: &[u8], at: usize) -> Option<usize> {
    usize::try_from(word(data, at)?).ok()
}

/// Checks the header of a blob of `len` bytes that begins with `head`, and gives the length it says it has.
///
/// # Errors
/// What is wrong with the header, or how much is missing behind it.
pub(crate) fn check_header(head: &[u8], len: u64) -> Result<u64, DtbError> {
    if len > MAX_SIZE {
        return Err(DtbError::TooLong(len));
    }
    let word = |at: usize| {
        word(head, at).ok_or(DtbError::Truncated {
            have: len,
            need: HEADER,
        })
    };
    let magic = word(0)?;
    if magic != MAGIC {
        return Err(DtbError::Magic(magic));
    }
    let need = u64::from(word(4)?).max(HEADER);
    if len < need {
        return Err(DtbError::Truncated { have: len, need });
    }
    let (version, oldest) = (word(20)?, word(24)?);
    if version < VERSION || oldest > VERSION {
        return Err(DtbError::Version { version, oldest });
    }
    Ok(need)
}

/// The tree in `data`, cut to its own length.
pub(super) fn check(data: &[u8]) -> Result<&[u8], DtbError> {
    let have = u64::try_from(data.len()).unwrap_or(u64::MAX);
    let need = check_header(data, have)?;
    let tree = usize::try_from(need).ok().and_then(|need| data.get(..need));
    let tree = tree.ok_or(DtbError::Truncated { have, need })?;
    reservations(tree)?;
    structure(tree)?;
    Ok(tree)
}

fn is_in_header(at: usize) -> bool {
    u64::try_from(at).is_ok_and(|at| at < HEADER)
}

/// Checks that the memory reservation block has its end mark.
fn reservations(tree: &[u8]) -> Result<(), DtbError> {
    let start = offset(tree, 16).unwrap_or(usize::MAX);
    let bad = || DtbError::Malformed {
        what: "bad memory reservation block",
        at: start,
    };
    if is_in_header(start) || !start.is_multiple_of(8) {
        return Err(bad());
    }
    let (entries, _) = tree.get(start..).ok_or_else(bad)?.as_chunks::<16>();
    if entries.contains(&[0; 16]) { Ok(()) } else { Err(bad()) }
}

/// The name at the start of `bytes`: NUL-terminated UTF-8 of a sane length.
fn name(bytes: Option<&[u8]>) -> Option<&str> {
    let bytes = bytes?;
    let len = bytes.iter().take(MAX_NAME.saturating_add(1)).position(|b| *b == 0)?;
    std::str::from_utf8(bytes.get(..len)?).ok()
}

/// The structure block is one root node with properties before children, inside its bounds.
fn structure(tree: &[u8]) -> Result<(), DtbError> {
    let bounds = |from: usize, size: usize| {
        let start = offset(tree, from)?;
        let end = start.checked_add(offset(tree, size)?)?;
        (!is_in_header(start) && end <= tree.len()).then_some((start, end))
    };
    let (start, end) = bounds(8, 36)
        .filter(|(s, _)| s.is_multiple_of(4))
        .ok_or(DtbError::Malformed {
            what: "bad structure block offset or size",
            at: 8,
        })?;
    let (strings_start, strings_end) = bounds(12, 32).ok_or(DtbError::Malformed {
        what: "bad strings block offset or size",
        at: 12,
    })?;
    let block = tree.get(..end).unwrap_or_default();
    let strings = tree.get(strings_start..strings_end).unwrap_or_default();

    let mut at = start;
    // For each open node: whether a child of it has begun, after which it has no more properties.
    let mut open: Vec<bool> = Vec::new();
    let mut rooted = false;
    let (mut nodes, mut properties) = (0..MAX_NODES, 0..MAX_PROPERTIES);
    let many = |what, limit| DtbError::TooMany { what, limit };
    loop {
        let bad = |what| DtbError::Malformed { what, at };
        let next = at.saturating_add(4);
        match word(block, at).ok_or_else(|| bad("structure block without FDT_END"))? {
            NOP => at = next,
            BEGIN_NODE => {
                let name = name(block.get(next..)).ok_or_else(|| bad("bad node name"))?;
                match open.last_mut() {
                    Some(children) => *children = true,
                    None if rooted => return Err(bad("second root node")),
                    None => rooted = true,
                }
                if open.is_empty() != name.is_empty() || name.contains('/') {
                    return Err(bad("bad node name"));
                }
                nodes.next().ok_or_else(|| many("nodes", MAX_NODES))?;
                if open.len() >= MAX_DEPTH {
                    return Err(DtbError::TooDeep { limit: MAX_DEPTH, at });
                }
                open.push(false);
                at = after(next, name.len().saturating_add(1));
            }
            PROP => {
                properties.next().ok_or_else(|| many("properties", MAX_PROPERTIES))?;
                if open.last() != Some(&false) {
                    return Err(bad("property after a subnode or outside any node"));
                }
                let len = offset(block, next).ok_or_else(|| bad("bad property"))?;
                let nameoff = offset(block, next.saturating_add(4)).ok_or_else(|| bad("bad property"))?;
                name(strings.get(nameoff..))
                    .filter(|n| !n.is_empty())
                    .ok_or_else(|| bad("bad property name"))?;
                let value = next.saturating_add(8);
                if value.checked_add(len).is_none_or(|e| e > block.len()) {
                    return Err(bad("bad property length"));
                }
                at = after(value, len);
            }
            END_NODE => {
                open.pop().ok_or_else(|| bad("FDT_END_NODE without a node"))?;
                at = next;
            }
            END if rooted && open.is_empty() => return Ok(()),
            _ => return Err(bad("bad token")),
        }
    }
}

/// Where the next token is after `len` bytes at `start`.
fn after(start: usize, len: usize) -> usize {
    start
        .saturating_add(len)
        .checked_next_multiple_of(4)
        .unwrap_or(usize::MAX)
}
