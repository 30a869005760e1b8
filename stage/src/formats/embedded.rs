//! A file inside another one, at a known offset and of a known length.

use std::io::{self, BufRead, Read};

/// Where it is, bytes from the start of the file around it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Embedded {
    pub(super) at: u64,
    pub(super) len: u64,
}

impl Embedded {
    /// As much of it as `head` holds.
    pub(super) fn of(self, head: &[u8]) -> &[u8] {
        let start = usize::try_from(self.at).unwrap_or(usize::MAX);
        let len = usize::try_from(self.len).unwrap_or(usize::MAX);
        let bytes = head.get(start..).unwrap_or_default();
        bytes.get(..len).unwrap_or(bytes)
    }

    /// Reads it out of the file around it.
    pub(super) fn open<R: BufRead>(self, from: R) -> EmbeddedReader<R> {
        EmbeddedReader {
            from,
            before: self.at,
            left: self.len,
        }
    }
}

/// Reads an embedded file.
pub(super) struct EmbeddedReader<R> {
    from: R,
    /// Bytes before it that have not been passed yet.
    before: u64,
    /// Bytes of it that have not been read yet.
    left: u64,
}

impl<R: BufRead> EmbeddedReader<R> {
    /// Passes at most `most` bytes; says how many.
    fn pass(&mut self, most: u64) -> io::Result<u64> {
        let have = self.from.fill_buf()?.len();
        let n = have.min(usize::try_from(most).unwrap_or(usize::MAX));
        self.from.consume(n);
        Ok(u64::try_from(n).unwrap_or(0))
    }
}

impl<R: BufRead> Read for EmbeddedReader<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let n = self.fill_buf()?.read(into)?;
        self.consume(n);
        Ok(n)
    }
}

impl<R: BufRead> BufRead for EmbeddedReader<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.before > 0 {
            match self.pass(self.before)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                n => self.before = self.before.saturating_sub(n),
            }
        }
        if self.left == 0 {
            // What is behind it is of no use, but a stream around it has its checksum at the end.
            while self.pass(u64::MAX)? > 0 {}
            return Ok(&[]);
        }
        let bytes = self.from.fill_buf()?;
        if bytes.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let most = usize::try_from(self.left).unwrap_or(usize::MAX);
        Ok(bytes.get(..most).unwrap_or(bytes))
    }

    fn consume(&mut self, n: usize) {
        let n = n.min(usize::try_from(self.left).unwrap_or(usize::MAX));
        self.left = self.left.saturating_sub(u64::try_from(n).unwrap_or(0));
        self.from.consume(n);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::BufReader;

    proptest! {
        #[test]
        fn it_is_its_bytes_or_an_error(
            file in proptest::collection::vec(any::<u8>(), 0..600),
            at in 0..700_u64, len in 0..700_u64, buffer in 1..50_usize,
        ) {
            let embedded = Embedded { at, len };
            let mut got = Vec::new();
            let result = embedded.open(BufReader::with_capacity(buffer, &file[..])).read_to_end(&mut got);
            let (start, len) = (usize::try_from(at).unwrap(), usize::try_from(len).unwrap());
            if let Some(want) = file.get(start..).and_then(|rest| rest.get(..len)) {
                prop_assert!(result.is_ok() && got == want);
                prop_assert_eq!(embedded.of(&file), want);
            } else {
                prop_assert_eq!(result.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
                prop_assert_eq!(embedded.of(&file), &got[..]);
            }
        }
    }

    #[test]
    fn numbers_no_file_has_are_no_panic() {
        let embedded = Embedded {
            at: u64::MAX,
            len: u64::MAX,
        };
        assert!(embedded.of(b"file").is_empty());
        assert!(embedded.open(&b"file"[..]).read_to_end(&mut Vec::new()).is_err());
    }
}
