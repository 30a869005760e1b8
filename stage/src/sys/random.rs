//! Random bytes from the kernel.
#![expect(
    unsafe_code,
    reason = "getrandom(2) with GRND_NONBLOCK is in no library that is linked anyway"
)]

/// Fills `bytes` from the kernel's generator; false when it is not seeded yet. Never blocks.
pub(crate) fn fill(bytes: &mut [u8]) -> bool {
    // SAFETY: the pointer and the length are of one live slice that nobody else can see, and the kernel writes no further.
    let got = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), libc::GRND_NONBLOCK) };
    // Up to 256 bytes come at once or not at all: random(7).
    usize::try_from(got).is_ok_and(|got| got == bytes.len() && got <= 256)
}

#[cfg(test)]
mod tests {
    #[test]
    fn two_draws_differ() {
        let (mut a, mut b) = ([0; 136], [0; 136]);
        assert!(super::fill(&mut a) && super::fill(&mut b));
        assert_ne!(a, b);
    }
}
