//! What a kernel said as it died, kept behind the first copy of the state: one area, which a power cut may cost.

use crate::memory::crc::crc32;

/// Of the whole area, bytes.
pub(crate) const SIZE: usize = 16 << 10;
/// The longest text, bytes.
pub(crate) const MOST: usize = SIZE - HEAD;

const MAGIC: &[u8; 8] = b"catowrds";
/// Magic, checksum of the text, and its length.
const HEAD: usize = 16;

/// The area with as much of the end of `text` as there is room for.
pub(crate) fn encode(text: &[u8]) -> [u8; SIZE] {
    let text = text.get(text.len().saturating_sub(MOST)..).unwrap_or_default();
    let length = u32::try_from(text.len()).unwrap_or(0);
    let mut area = [0; SIZE];
    let head = MAGIC
        .iter()
        .copied()
        .chain(crc32([text]).to_le_bytes())
        .chain(length.to_le_bytes());
    for (to, from) in area.iter_mut().zip(head.chain(text.iter().copied())) {
        *to = from;
    }
    area
}

/// The text; `None` where none is kept, or only a part of it.
pub(crate) fn decode(area: &[u8; SIZE]) -> Option<Vec<u8>> {
    let (head, rest) = area.split_first_chunk::<HEAD>()?;
    let [_, _, _, _, _, _, _, _, c0, c1, c2, c3, l0, l1, l2, l3] = *head;
    let length = usize::try_from(u32::from_le_bytes([l0, l1, l2, l3])).ok()?;
    let text = rest.get(..length)?;
    let is_whole = head.starts_with(MAGIC) && crc32([text]) == u32::from_le_bytes([c0, c1, c2, c3]);
    is_whole.then(|| text.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_found_and_what_is_torn_is_not() {
        let long = vec![b'x'; SIZE];
        assert_eq!(decode(&encode(&long)), Some(vec![b'x'; MOST]));
        let mut area = encode(b"Panic#1 Part1");
        assert_eq!(decode(&area), Some(b"Panic#1 Part1".to_vec()));
        area[HEAD + 3] ^= 1;
        assert_eq!(decode(&area), None);
        assert_eq!(decode(&[0; SIZE]), None);
        area[12..16].fill(0xff);
        assert_eq!(decode(&area), None);
    }
}
