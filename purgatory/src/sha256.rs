//! SHA-256 (FIPS 180-4) over a slice, with the compress function as a parameter: scalar here, the CPU's instructions
//! in the blob.

/// Something that can compress blocks: one pass over all of them is what makes it quick.
pub trait Blocks {
    /// Compresses every block into `state`, in order.
    fn compress(&self, state: &mut [u32; 8], blocks: &[[u8; 64]]);

    /// The same for two messages of equal length; at once where that is quicker.
    fn compress_pair(&self, states: [&mut [u32; 8]; 2], blocks: [&[[u8; 64]]; 2]) {
        for (state, blocks) in states.into_iter().zip(blocks) {
            self.compress(state, blocks);
        }
    }
}

const INITIAL: [u32; 8] = [
    0x6a09_e667,
    0xbb67_ae85,
    0x3c6e_f372,
    0xa54f_f53a,
    0x510e_527f,
    0x9b05_688c,
    0x1f83_d9ab,
    0x5be0_cd19,
];

/// The round constants, in groups of sixteen.
#[rustfmt::skip]
pub const K: [[u32; 16]; 4] = [
    [
        0x428a_2f98, 0x7137_4491, 0xb5c0_fbcf, 0xe9b5_dba5, 0x3956_c25b, 0x59f1_11f1, 0x923f_82a4, 0xab1c_5ed5,
        0xd807_aa98, 0x1283_5b01, 0x2431_85be, 0x550c_7dc3, 0x72be_5d74, 0x80de_b1fe, 0x9bdc_06a7, 0xc19b_f174,
    ],
    [
        0xe49b_69c1, 0xefbe_4786, 0x0fc1_9dc6, 0x240c_a1cc, 0x2de9_2c6f, 0x4a74_84aa, 0x5cb0_a9dc, 0x76f9_88da,
        0x983e_5152, 0xa831_c66d, 0xb003_27c8, 0xbf59_7fc7, 0xc6e0_0bf3, 0xd5a7_9147, 0x06ca_6351, 0x1429_2967,
    ],
    [
        0x27b7_0a85, 0x2e1b_2138, 0x4d2c_6dfc, 0x5338_0d13, 0x650a_7354, 0x766a_0abb, 0x81c2_c92e, 0x9272_2c85,
        0xa2bf_e8a1, 0xa81a_664b, 0xc24b_8b70, 0xc76c_51a3, 0xd192_e819, 0xd699_0624, 0xf40e_3585, 0x106a_a070,
    ],
    [
        0x19a4_c116, 0x1e37_6c08, 0x2748_774c, 0x34b0_bcb5, 0x391c_0cb3, 0x4ed8_aa4a, 0x5b9c_ca4f, 0x682e_6ff3,
        0x748f_82ee, 0x78a5_636f, 0x84c8_7814, 0x8cc7_0208, 0x90be_fffa, 0xa450_6ceb, 0xbef9_a3f7, 0xc671_78f2,
    ],
];

/// The digest of `data`.
pub fn sha256<B: Blocks>(engine: &B, data: &[u8]) -> [u8; 32] {
    let mut state = INITIAL;
    let (blocks, rest) = data.as_chunks::<64>();
    engine.compress(&mut state, blocks);
    finish(engine, state, rest, data.len())
}

/// The digests of two messages, which are best of equal length.
pub fn sha256_pair<B: Blocks>(engine: &B, data: [&[u8]; 2]) -> [[u8; 32]; 2] {
    let [(first, first_rest), (second, second_rest)] = data.map(|d| d.as_chunks::<64>());
    let [first_len, second_len] = data.map(<[u8]>::len);
    let (mut a, mut b) = (INITIAL, INITIAL);
    let both = first.len().min(second.len());
    let ((first, first_more), (second, second_more)) = (first.split_at(both), second.split_at(both));
    engine.compress_pair([&mut a, &mut b], [first, second]);
    engine.compress(&mut a, first_more);
    engine.compress(&mut b, second_more);
    [
        finish(engine, a, first_rest, first_len),
        finish(engine, b, second_rest, second_len),
    ]
}

/// The padding: the rest, a one bit, zeros, and the length in bits as the last 8 bytes of a block.
#[inline(never)]
fn finish<B: Blocks>(engine: &B, mut state: [u32; 8], rest: &[u8], len: usize) -> [u8; 32] {
    let mut tail = [[0_u8; 64]; 2];
    for (to, from) in tail
        .as_flattened_mut()
        .iter_mut()
        .zip(rest.iter().chain(core::iter::once(&0x80)))
    {
        *to = *from;
    }
    let bits = u64::try_from(len).unwrap_or(u64::MAX).wrapping_mul(8);
    let [first, second] = &mut tail;
    if rest.len() < 56 {
        set_length(first, bits);
        engine.compress(&mut state, core::slice::from_ref(first));
    } else {
        set_length(second, bits);
        engine.compress(&mut state, &tail);
    }

    let mut digest = [0; 32];
    for (to, word) in digest.as_chunks_mut::<4>().0.iter_mut().zip(state) {
        *to = word.to_be_bytes();
    }
    digest
}

fn set_length(block: &mut [u8; 64], bits: u64) {
    if let Some(slot) = block.last_chunk_mut::<8>() {
        *slot = bits.to_be_bytes();
    }
}

/// [`Blocks`] in plain Rust, for CPUs without the instructions.
#[derive(Debug, Clone, Copy, Default)]
pub struct Scalar;

/// One round; the caller rotates the names instead of the values.
macro_rules! round {
    ($a:ident $b:ident $c:ident $d:ident $e:ident $f:ident $g:ident $h:ident $k:expr, $w:expr) => {
        let t = $h
            .wrapping_add($e.rotate_right(6) ^ $e.rotate_right(11) ^ $e.rotate_right(25))
            .wrapping_add($g ^ ($e & ($f ^ $g)))
            .wrapping_add($k)
            .wrapping_add($w);
        $d = $d.wrapping_add(t);
        $h = t
            .wrapping_add($a.rotate_right(2) ^ $a.rotate_right(13) ^ $a.rotate_right(22))
            .wrapping_add(($a & $b) | ($c & ($a | $b)));
    };
}

/// Message word `$i` of the next sixteen, in place.
macro_rules! expand {
    ($w:ident $($i:literal $i1:literal $i9:literal $i14:literal),*) => {
        $(
            $w[$i] = $w[$i]
                .wrapping_add($w[$i1].rotate_right(7) ^ $w[$i1].rotate_right(18) ^ ($w[$i1] >> 3))
                .wrapping_add($w[$i9])
                .wrapping_add($w[$i14].rotate_right(17) ^ $w[$i14].rotate_right(19) ^ ($w[$i14] >> 10));
        )*
    };
}

impl Blocks for Scalar {
    fn compress(&self, state: &mut [u32; 8], blocks: &[[u8; 64]]) {
        for block in blocks {
            compress_one(state, block);
        }
    }
}

#[expect(clippy::many_single_char_names, reason = "the standard's own names")]
fn compress_one(state: &mut [u32; 8], block: &[u8; 64]) {
    let mut w = [0_u32; 16];
    for (word, bytes) in w.iter_mut().zip(block.as_chunks::<4>().0) {
        *word = u32::from_be_bytes(*bytes);
    }
    let [mut a, mut b, mut c, mut d, mut e, mut f, mut g, mut h] = *state;
    for (group, k) in K.iter().enumerate() {
        if group != 0 {
            expand!(w 0 1 9 14, 1 2 10 15, 2 3 11 0, 3 4 12 1, 4 5 13 2, 5 6 14 3, 6 7 15 4, 7 8 0 5,
                8 9 1 6, 9 10 2 7, 10 11 3 8, 11 12 4 9, 12 13 5 10, 13 14 6 11, 14 15 7 12, 15 0 8 13);
        }
        round!(a b c d e f g h k[0], w[0]);
        round!(h a b c d e f g k[1], w[1]);
        round!(g h a b c d e f k[2], w[2]);
        round!(f g h a b c d e k[3], w[3]);
        round!(e f g h a b c d k[4], w[4]);
        round!(d e f g h a b c k[5], w[5]);
        round!(c d e f g h a b k[6], w[6]);
        round!(b c d e f g h a k[7], w[7]);
        round!(a b c d e f g h k[8], w[8]);
        round!(h a b c d e f g k[9], w[9]);
        round!(g h a b c d e f k[10], w[10]);
        round!(f g h a b c d e k[11], w[11]);
        round!(e f g h a b c d k[12], w[12]);
        round!(d e f g h a b c k[13], w[13]);
        round!(c d e f g h a b k[14], w[14]);
        round!(b c d e f g h a k[15], w[15]);
    }
    for (word, add) in state.iter_mut().zip([a, b, c, d, e, f, g, h]) {
        *word = word.wrapping_add(add);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use sha2::Digest as _;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().fold(String::new(), |text, b| text + &format!("{b:02x}"))
    }

    #[test]
    fn nist_vectors() {
        let million = vec![b'a'; 1_000_000];
        let vectors: [(&[u8], &str); 4] = [
            (b"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
            (
                b"abc",
                "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
            ),
            (
                b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
                "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1",
            ),
            (
                &million,
                "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0",
            ),
        ];
        for (data, digest) in vectors {
            assert_eq!(hex(&sha256(&Scalar, data)), digest);
        }
    }

    #[test]
    fn every_length_around_a_block_agrees_with_the_crate() {
        let data: Vec<u8> = (0..300_u32).map(|i| i.to_le_bytes()[0] ^ 0x5a).collect();
        for len in 0..data.len() {
            assert_eq!(
                sha256(&Scalar, &data[..len])[..],
                sha2::Sha256::digest(&data[..len])[..],
                "{len} bytes"
            );
        }
    }

    #[test]
    fn pairs_of_any_lengths_agree_with_the_crate() {
        let data: Vec<u8> = (0..300_u32).map(|i| i.to_le_bytes()[0] ^ 0xc3).collect();
        for (a, b) in [(0, 0), (64, 64), (300, 300), (0, 300), (299, 128), (127, 129)] {
            let (a, b) = (&data[..a], &data[data.len().saturating_sub(b)..]);
            let both = sha256_pair(&Scalar, [a, b]);
            assert_eq!(both, [a, b].map(|d| <[u8; 32]>::from(sha2::Sha256::digest(d))));
        }
    }

    proptest! {
        #[test]
        fn agrees_with_the_crate(data in proptest::collection::vec(any::<u8>(), 0..5000)) {
            let want = sha2::Sha256::digest(&data);
            prop_assert_eq!(&sha256(&Scalar, &data)[..], &want[..]);
        }
    }
}
