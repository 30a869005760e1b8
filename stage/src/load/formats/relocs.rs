//! The relocations behind an x86_64 ELF kernel: where addresses stand that change when the kernel moves in virtual memory.
//!
//! The build appends them to the file before it compresses it (arch/x86/tools/relocs.c): 32-bit words, each the lower half of
//! the kernel address of a place, in sets with a zero before each: 64-bit places, 32-bit places that are subtracted from
//! (up to 6.14), 32-bit places.

use std::io;

/// `__START_KERNEL_map`: virtual address of physical address 0 in a kernel that did not move.
const START_KERNEL_MAP: u64 = 0xffff_ffff_8000_0000;

/// Moves the kernel in `image`, linked for physical address `base`, up by `slide` bytes. Says `false` and changes nothing
/// when `tail` is no set of relocations: the kernel has none, or a form that is not known.
pub(super) fn apply(image: &mut [u8], tail: &[u8], base: u64, slide: u64) -> io::Result<bool> {
    let (words, rest) = tail.as_chunks::<4>();
    let Some(([0, 0, 0, 0], words)) = words.split_first() else {
        return Ok(false);
    };
    let sets: Vec<&[[u8; 4]]> = words.split(|word| *word == [0; 4]).take(4).collect();
    let (wide, inverse, narrow) = match sets.as_slice() {
        _ if !rest.is_empty() => return Ok(false),
        [wide, narrow] => (*wide, &[][..], *narrow),
        [wide, inverse, narrow] => (*wide, *inverse, *narrow),
        _ => return Ok(false),
    };
    let mut image = Image { bytes: image, base };
    // Modulo 2^32, as an address in the upper half is.
    let [a, b, c, d, ..] = slide.to_le_bytes();
    let low = u32::from_le_bytes([a, b, c, d]);
    for word in narrow {
        let place = image.place::<4>(*word)?;
        *place = u32::from_le_bytes(*place).wrapping_add(low).to_le_bytes();
    }
    for word in inverse {
        let place = image.place::<4>(*word)?;
        *place = u32::from_le_bytes(*place).wrapping_sub(low).to_le_bytes();
    }
    for word in wide {
        let place = image.place::<8>(*word)?;
        *place = u64::from_le_bytes(*place).wrapping_add(slide).to_le_bytes();
    }
    Ok(true)
}

struct Image<'a> {
    bytes: &'a mut [u8],
    base: u64,
}

impl Image<'_> {
    /// The bytes a relocation is for.
    fn place<const N: usize>(&mut self, word: [u8; 4]) -> io::Result<&mut [u8; N]> {
        let address = i64::from(i32::from_le_bytes(word)).cast_unsigned();
        let offset = address.wrapping_sub(START_KERNEL_MAP).wrapping_sub(self.base);
        usize::try_from(offset)
            .ok()
            .and_then(|at| self.bytes.get_mut(at..))
            .and_then(|bytes| bytes.first_chunk_mut())
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "a relocation points outside of the kernel"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BASE: u64 = 0x100_0000;

    fn tail(sets: &[&[u32]]) -> Vec<u8> {
        let words = sets.iter().flat_map(|set| [0].into_iter().chain(set.iter().copied()));
        words.flat_map(u32::to_le_bytes).collect()
    }

    #[test]
    fn every_kind_moves_as_it_must() {
        let mut image = vec![0; 64];
        image[8..16].copy_from_slice(&0xffff_ffff_8123_4567_u64.to_le_bytes());
        image[20..24].copy_from_slice(&0x8123_4567_u32.to_le_bytes());
        image[33..37].copy_from_slice(&0x0010_0000_u32.to_le_bytes());
        let old = tail(&[&[0x8100_0008], &[0x8100_0021], &[0x8100_0014]]);
        let mut moved = image.clone();
        assert!(apply(&mut moved, &old, BASE, 0x20_0000).unwrap());
        let mut want = image.clone();
        want[8..16].copy_from_slice(&0xffff_ffff_8143_4567_u64.to_le_bytes());
        want[20..24].copy_from_slice(&0x8143_4567_u32.to_le_bytes());
        want[33..37].copy_from_slice(&0xfff0_0000_u32.to_le_bytes());
        assert_eq!(moved, want);
        // Without the subtracted ones.
        let new = tail(&[&[0x8100_0008], &[0x8100_0014]]);
        let mut moved = image.clone();
        assert!(apply(&mut moved, &new, BASE, 0x20_0000).unwrap());
        want[33..37].copy_from_slice(&image[33..37]);
        assert_eq!(moved, want);
    }

    #[test]
    fn what_is_no_set_of_relocations_moves_nothing() {
        let mut image = vec![7; 64];
        for tail in [
            vec![],
            vec![0; 4],
            tail(&[&[0x8100_0000]]),
            tail(&[&[], &[], &[], &[0x8100_0000]]),
            [tail(&[&[], &[], &[0x8100_0000]]), vec![0]].concat(),
            vec![1, 0, 0, 0, 0, 0, 0, 0],
        ] {
            assert!(!apply(&mut image, &tail, BASE, 0x20_0000).unwrap(), "{tail:?}");
            assert_eq!(image, [7; 64]);
        }
    }

    #[test]
    fn outside_is_an_error() {
        for word in [0x80ff_ffff_u32, 0x8100_003d, 1, 0x7fff_ffff, u32::MAX] {
            assert!(
                apply(&mut [0; 64], &tail(&[&[], &[], &[word]]), BASE, 0).is_err(),
                "{word:#x}"
            );
        }
        assert!(apply(&mut [0; 64], &tail(&[&[], &[], &[0x8100_003c]]), BASE, 0).is_ok());
        assert!(apply(&mut [0; 64], &tail(&[&[0x8100_003c], &[], &[]]), BASE, 0).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_panic(
            mut image in proptest::collection::vec(any::<u8>(), 0..64),
            mut bytes in proptest::collection::vec(any::<u8>(), 0..64),
            base: u64, slide: u64, zeros in proptest::collection::vec(0..16_usize, 0..4),
        ) {
            for at in zeros {
                if let Some(word) = bytes.as_chunks_mut::<4>().0.get_mut(at) {
                    word.fill(0);
                }
            }
            let _ = apply(&mut image, &bytes, base, slide);
        }
    }
}
