//! The registry of kernel formats: one line here and one file beside it for each.
//!
//! Given the first bytes of a file; responsible for saying by content, never by name, what it is, how it is unpacked,
//! and what its header promises, or why this machine would crash silently with it.

mod bzimage;
mod embedded;
mod error;
mod gzip;
mod image;
pub(crate) mod initrd;
mod kernel;
mod object;
mod refused;
#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "small numbers in tests")]
mod tests;
mod zboot;
mod zstd;

use std::io::{self, BufRead, BufReader, Read};

use embedded::Embedded;
pub(crate) use error::{First, FormatError};

use crate::machine::Machine;
use crate::text::cmdline;
pub(crate) use kernel::{BzImage, Header, Image, Kernel, SETUP_HEADER};

/// Every format there is, in the order they are tried: what says precisely what it is comes first.
static FORMATS: &[Format] = &[
    image::FORMAT,
    bzimage::FORMAT,
    zboot::FORMAT,
    gzip::FORMAT,
    zstd::FORMAT,
    refused::FORMAT,
];

/// How deep a kernel may be wrapped: one is usual, two is an accident of some build system.
const DEPTH: usize = 4;

/// How much of a file is read to see what it is, bytes: more than a whole block of a zstd stream (128 KiB), so that the
/// header of the kernel inside can be seen.
pub(crate) const HEAD: usize = 256 << 10;

/// How much is unpacked to see the header inside a wrapper, bytes: as much as is read to see the wrapper's.
const PEEK: usize = HEAD;

/// One file format.
struct Format {
    /// As in messages.
    name: &'static str,
    /// Whether a file that begins like this is one.
    is: fn(&[u8]) -> bool,
    /// What to do with it.
    kind: FormatKind,
}

enum FormatKind {
    /// A kernel that can be booted: checks its header.
    Kernel(fn(&Head<'_>) -> Result<Plan, FormatError>),
    /// Another file, compressed.
    Stream(Stream),
    /// Another file, as it is, with something around it: checks the header.
    Embedded(fn(&Head<'_>) -> Result<Embedded, FormatError>),
    /// Something that is known and not taken: says so.
    Refused(fn(&Head<'_>) -> FormatError),
}

/// What is around a kernel.
#[derive(Clone, Copy)]
pub(crate) struct Wrapper {
    /// As in messages.
    pub(crate) name: &'static str,
    content: Content,
}

#[derive(Clone, Copy)]
enum Content {
    Stream(Stream),
    Embedded(Embedded),
}

/// A compressed file.
#[derive(Clone, Copy)]
struct Stream {
    /// Starts unpacking from the first byte.
    open: for<'a> fn(Box<dyn BufRead + 'a>) -> Box<dyn Read + 'a>,
    /// Unpacks as much as the first bytes give, at most [`PEEK`].
    peek: fn(&[u8]) -> Vec<u8>,
    /// Memory that unpacking takes beyond the result, bytes, from the first bytes.
    memory: fn(&[u8]) -> u64,
}

/// The first bytes of a file, and where it is to be booted.
struct Head<'a> {
    bytes: &'a [u8],
    /// Length of the file; unknown inside a wrapper.
    len: Option<u64>,
    machine: &'a Machine,
}

impl Head<'_> {
    fn le16(&self, at: usize) -> Option<u16> {
        le16(self.bytes, at)
    }

    fn le32(&self, at: usize) -> Option<u32> {
        le32(self.bytes, at)
    }

    fn le64(&self, at: usize) -> Option<u64> {
        self.bytes.get(at..)?.first_chunk().copied().map(u64::from_le_bytes)
    }

    /// The length of the file up to here, for "truncated" messages.
    fn have(&self) -> u64 {
        self.len
            .unwrap_or_else(|| u64::try_from(self.bytes.len()).unwrap_or(u64::MAX))
    }
}

fn le16(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().copied().map(u16::from_le_bytes)
}

fn le32(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().copied().map(u32::from_le_bytes)
}

/// What a kernel's header promises: which bytes of the unpacked file go to memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Bytes at the start that do not go to memory (the real-mode part of a bzImage).
    pub(crate) skip: u64,
    /// Bytes that must follow, or the file is truncated.
    pub(crate) least: u64,
    /// Bytes that may follow; more is refused.
    pub(crate) most: u64,
    /// What the placement needs.
    pub(crate) header: Header,
}

impl Header {
    /// As in messages.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Image(_) => image::FORMAT.name,
            Self::BzImage(_) => bzimage::FORMAT.name,
        }
    }

    /// Longest command line, bytes without NUL.
    pub(crate) fn cmdline_max(&self) -> u64 {
        match self {
            Self::Image(_) => cmdline::ARM64_MOST,
            Self::BzImage(header) => header.cmdline_size,
        }
    }

    /// Whether it has to be as near to the start of memory as it can be (Images from before 4.6).
    pub(crate) fn must_be_low(&self) -> bool {
        matches!(self, Self::Image(Image { anywhere: false, .. }))
    }
}

/// What a kernel file is, from the outside in.
pub(crate) struct Sniffed {
    /// The wrappers around the kernel, outermost first.
    pub(crate) wrappers: Vec<Wrapper>,
    /// The kernel inside.
    pub(crate) plan: Plan,
    /// Memory that unpacking takes beyond the result, bytes.
    pub(crate) memory: u64,
}

/// Looks at the first bytes of a kernel file of `len` bytes that is to be booted on `machine`.
pub(crate) fn sniff(head: &[u8], len: u64, machine: &Machine) -> Result<Sniffed, FormatError> {
    let mut wrappers = Vec::new();
    let mut memory = 0_u64;
    let mut peeked;
    let mut head = Head {
        bytes: head,
        len: Some(len),
        machine,
    };
    loop {
        let Some(format) = FORMATS.iter().find(|f| (f.is)(head.bytes)) else {
            return Err(inside(&wrappers, FormatError::unknown(head.bytes)));
        };
        match &format.kind {
            FormatKind::Kernel(parse) => {
                let plan = parse(&head).map_err(|e| inside(&wrappers, e))?;
                return Ok(Sniffed { wrappers, plan, memory });
            }
            FormatKind::Refused(why) => return Err(inside(&wrappers, why(&head))),
            FormatKind::Stream(_) | FormatKind::Embedded(_) if wrappers.len() >= DEPTH => {
                return Err(FormatError::TooDeep { most: DEPTH });
            }
            FormatKind::Stream(stream) => {
                memory = memory.saturating_add((stream.memory)(head.bytes));
                peeked = (stream.peek)(head.bytes);
                if peeked.is_empty() {
                    return Err(inside(&wrappers, FormatError::Nothing { wrapper: format.name }));
                }
                wrappers.push(Wrapper {
                    name: format.name,
                    content: Content::Stream(*stream),
                });
            }
            FormatKind::Embedded(find) => {
                let embedded = find(&head).map_err(|e| inside(&wrappers, e))?;
                let bytes = embedded.of(head.bytes);
                if bytes.is_empty() {
                    let truncated = FormatError::Truncated {
                        have: head.have(),
                        need: embedded.at.saturating_add(embedded.len),
                    };
                    return Err(inside(&wrappers, truncated));
                }
                peeked = bytes.to_vec();
                wrappers.push(Wrapper {
                    name: format.name,
                    content: Content::Embedded(embedded),
                });
            }
        }
        head = Head {
            bytes: &peeked,
            len: None,
            machine,
        };
    }
}

/// Says around what it was found.
fn inside(wrappers: &[Wrapper], error: FormatError) -> FormatError {
    wrappers.iter().rev().fold(error, |error, wrapper| FormatError::Inside {
        wrapper: wrapper.name,
        error: Box::new(error),
    })
}

/// The unpacked file, given the stored one.
pub(crate) fn unpack<'a>(wrappers: &[Wrapper], stored: Box<dyn BufRead + 'a>) -> Box<dyn Read + 'a> {
    let mut from = Opened::Buffered(stored);
    for wrapper in wrappers {
        let buffered = match from {
            Opened::Buffered(from) => from,
            Opened::Plain(from) => Box::new(BufReader::with_capacity(PEEK, from)),
        };
        from = match &wrapper.content {
            Content::Stream(stream) => Opened::Plain((stream.open)(buffered)),
            Content::Embedded(embedded) => Opened::Buffered(Box::new(embedded.open(buffered))),
        };
    }
    match from {
        Opened::Buffered(from) => Box::new(from),
        Opened::Plain(from) => from,
    }
}

/// The unpacked content of any compressed file that takes at most `memory` bytes to unpack.
#[cfg(feature = "fuzz")]
pub(crate) fn stream(stored: &[u8], memory: u64) -> Option<Box<dyn Read + '_>> {
    FORMATS.iter().find_map(|format| match &format.kind {
        FormatKind::Stream(stream) if (format.is)(stored) && (stream.memory)(stored) <= memory => {
            Some((stream.open)(Box::new(stored)))
        }
        _ => None,
    })
}

/// A file on its way through its wrappers. What has a buffer of its own gets no second one.
enum Opened<'a> {
    Buffered(Box<dyn BufRead + 'a>),
    Plain(Box<dyn Read + 'a>),
}

/// As many bytes as `from` gives before it ends or fails, at most [`PEEK`].
fn peek(from: impl Read) -> Vec<u8> {
    let mut bytes = Vec::new();
    // The head ends in the middle of the stream, so an error at its end is what is expected.
    let _ = from.take(u64::try_from(PEEK).unwrap_or(0)).read_to_end(&mut bytes);
    bytes
}

/// After the end of a compressed stream: whether another one follows that begins with `magic`.
///
/// Zeros up to the end of the file are padding, as storage writes it. Anything else would be silently left out, so it
/// is an error.
fn another_stream(from: &mut dyn BufRead, magic: &[u8]) -> io::Result<bool> {
    let mut padded = false;
    loop {
        let bytes = from.fill_buf()?;
        if bytes.is_empty() {
            return Ok(false);
        }
        let zeros = bytes.iter().take_while(|b| **b == 0).count();
        let rest = bytes.get(zeros..).unwrap_or_default();
        if let Some(first) = rest.first() {
            // One byte is enough: the decoder checks the others, which may not have been read yet.
            if !padded && zeros == 0 && magic.contains(first) {
                return Ok(true);
            }
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "data after the end of the stream (an appended device tree? name it as dtb)",
            ));
        }
        padded = true;
        from.consume(zeros);
    }
}
