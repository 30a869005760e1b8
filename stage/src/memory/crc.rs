//! The CRC-32 of zip, which GPT and U-Boot took over.

use flate2::Crc;

/// Of pieces that lie one behind the other.
pub(crate) fn crc32<const N: usize>(pieces: [&[u8]; N]) -> u32 {
    let mut crc = Crc::new();
    for piece in pieces {
        crc.update(piece);
    }
    crc.sum()
}
