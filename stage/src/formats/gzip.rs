//! gzip around a kernel: RFC 1952, one or several members.
//!
//! After the last member zeros may follow, nothing else.

use std::io::{self, BufRead, Read};

use flate2::bufread::GzDecoder;

use super::{Format, FormatKind, Stream, another_stream, peek};

pub(super) const FORMAT: Format = Format {
    name: "gzip",
    // Two bytes of magic, and the only method there is.
    is: |bytes| bytes.starts_with(&[0x1f, 0x8b, 8]),
    kind: FormatKind::Stream(Stream {
        open: |stored| {
            Box::new(Gzip {
                member: Some(GzDecoder::new(stored)),
            })
        },
        peek: |head| peek(GzDecoder::new(head)),
        // The window is 32 KiB.
        memory: |_| 1 << 16,
    }),
};

/// Members one after another. The decoder owns the file while a member lasts; after the last one there is none.
struct Gzip<R> {
    member: Option<GzDecoder<R>>,
}

impl<R: BufRead> Read for Gzip<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while let Some(member) = &mut self.member {
            let n = member.read(buf)?;
            if n > 0 || buf.is_empty() {
                return Ok(n);
            }
            // The member's CRC and length have been checked.
            let Some(mut stored) = self.member.take().map(GzDecoder::into_inner) else {
                break;
            };
            if another_stream(&mut stored, &[0x1f])? {
                self.member = Some(GzDecoder::new(stored));
            }
        }
        Ok(0)
    }
}
