//! Zstandard around a kernel: RFC 8878, one or several frames, skippable frames between them.
//!
//! After the last frame zeros may follow, nothing else.

use std::io::{self, BufRead, Read};

use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

use super::{Format, FormatKind, PEEK, Stream, another_stream, peek};

pub(super) const FORMAT: Format = Format {
    name: "zstd",
    is: |bytes| bytes.starts_with(&MAGIC),
    kind: FormatKind::Stream(Stream {
        open: |stored| Box::new(Zstd::new(stored)),
        peek: |head| shortened(head).map_or_else(Vec::new, |frame| peek(Zstd::new(&*frame))),
        memory: |head| Frame::parse(head).map_or(0, |frame| frame.memory()),
    }),
};

const MAGIC: [u8; 4] = 0xfd2f_b528_u32.to_le_bytes();
/// A frame, or one of the sixteen kinds of skippable frame.
const FIRST_BYTES: [u8; 17] = [
    0x28, 0x50, 0x51, 0x52, 0x53, 0x54, 0x55, 0x56, 0x57, 0x58, 0x59, 0x5a, 0x5b, 0x5c, 0x5d, 0x5e, 0x5f,
];
/// The largest window that is taken, bytes: what `zstd --ultra -22` asks for.
const WINDOW_MAX: u64 = 128 << 20;
/// The largest window of a frame behind the first one, bytes, if that has a smaller one: memory is counted from what the
/// first one says. "It's recommended for decoders to support at least 8 MB."
const WINDOW_LATER: u64 = 8 << 20;

/// Frames one after another.
struct Zstd<R> {
    stored: R,
    frames: FrameDecoder,
    within: bool,
    ended: bool,
    /// The first frame has been opened.
    later: bool,
}

impl<R: BufRead> Zstd<R> {
    fn new(stored: R) -> Self {
        let mut frames = FrameDecoder::new();
        frames.set_max_window_size(WINDOW_MAX);
        Self {
            stored,
            frames,
            within: false,
            ended: false,
            later: false,
        }
    }

    /// Goes to the next frame, if there is one.
    fn next_frame(&mut self) -> io::Result<()> {
        if !another_stream(&mut self.stored, &FIRST_BYTES)? {
            self.ended = true;
            return Ok(());
        }
        let window = Frame::parse(self.stored.fill_buf()?).map_or(0, |frame| frame.window);
        match self.frames.reset(&mut self.stored) {
            Ok(()) => {
                self.within = true;
                if !self.later {
                    self.frames.set_max_window_size(window.max(WINDOW_LATER));
                    self.later = true;
                }
            }
            Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame { length, .. })) => {
                let length = u64::from(length);
                let skipped = io::copy(&mut (&mut self.stored).take(length), &mut io::sink())?;
                if skipped < length {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
            Err(error) => return Err(damaged(error)),
        }
        Ok(())
    }

    /// The frame's own checksum, where it has one: XXH64 of the content.
    fn end_of_frame(&mut self) -> io::Result<()> {
        self.within = false;
        match self.frames.get_checksum_from_data() {
            Some(want) if self.frames.get_calculated_checksum() != Some(want) => {
                Err(io::Error::new(io::ErrorKind::InvalidData, "content checksum mismatch"))
            }
            _ => Ok(()),
        }
    }
}

impl<R: BufRead> Read for Zstd<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while !self.ended && !buf.is_empty() {
            if !self.within {
                self.next_frame()?;
            } else if self.frames.can_collect() > 0 {
                return self.frames.read(buf);
            } else if self.frames.is_finished() {
                self.end_of_frame()?;
            } else {
                self.frames
                    .decode_blocks(&mut self.stored, BlockDecodingStrategy::UptoBlocks(1))
                    .map_err(damaged)?;
            }
        }
        Ok(0)
    }
}

fn damaged(error: FrameDecoderError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// Frame_Header, RFC 8878 section 3.1.1.1.
pub(super) struct Frame {
    /// Length of magic and header, bytes.
    header: usize,
    /// Window_Size, bytes.
    pub(super) window: u64,
    /// It needs a dictionary.
    pub(super) dictionary: bool,
    /// XXH64 of the content follows the last block.
    checksum: bool,
}

impl Frame {
    pub(super) fn parse(head: &[u8]) -> Option<Self> {
        if !head.starts_with(&MAGIC) {
            return None;
        }
        let descriptor = *head.get(4)?;
        let single_segment = descriptor & 0x20 != 0;
        let window_bytes = usize::from(!single_segment);
        let dictionary_bytes = [0_usize, 1, 2, 4].into_iter().nth((descriptor & 3).into())?;
        let content_bytes = match descriptor >> 6 {
            0 => usize::from(single_segment),
            1 => 2,
            2 => 4,
            _ => 8,
        };
        let content_at = 5_usize.checked_add(window_bytes)?.checked_add(dictionary_bytes)?;
        let header = content_at.checked_add(content_bytes)?;
        let window = if single_segment {
            let content = head.get(content_at..header)?;
            let size = content.iter().rev().fold(0, |n, byte| n << 8 | u64::from(*byte));
            // "When Frame_Content_Size_Field is 2 bytes, an offset of 256 is added."
            size.saturating_add(if content_bytes == 2 { 256 } else { 0 })
        } else {
            let byte = *head.get(5)?;
            let base = 1_u64 << (10_u8.saturating_add(byte >> 3));
            base.saturating_add((base >> 3).saturating_mul(u64::from(byte & 7)))
        };
        Some(Self {
            header,
            window,
            dictionary: dictionary_bytes > 0,
            checksum: descriptor & 4 != 0,
        })
    }

    /// The decoder keeps a window and a block in a ring that it doubles while it grows. A later frame may have the larger
    /// window.
    fn memory(&self) -> u64 {
        let window = self.window.clamp(WINDOW_LATER, WINDOW_MAX);
        window.saturating_add(BLOCK_MAX).saturating_mul(2)
    }

    /// Where it ends, if that is in `bytes`.
    pub(super) fn end(&self, bytes: &[u8]) -> Option<usize> {
        let mut at = self.header;
        loop {
            let block = Block::parse(bytes, at)?;
            at = block.end;
            if block.last {
                let end = at.checked_add(if self.checksum { 4 } else { 0 })?;
                return Some(end).filter(|end| *end <= bytes.len());
            }
        }
    }
}

/// Block_Header, RFC 8878 section 3.1.1.2: Last_Block, Block_Type, Block_Size in three bytes.
struct Block {
    last: bool,
    /// What it unpacks to, bytes; none where the header does not say.
    gives: Option<usize>,
    /// Where the next one begins.
    end: usize,
}

impl Block {
    fn parse(bytes: &[u8], at: usize) -> Option<Self> {
        let [low, middle, high] = bytes.get(at..)?.first_chunk().copied()?;
        let header = u32::from_le_bytes([low, middle, high, 0]);
        let size = usize::try_from(header >> 3).ok()?;
        let (stored, gives) = match header >> 1 & 3 {
            0 => (size, Some(size)),
            1 => (1, Some(size)),
            2 => (size, None),
            _ => return None,
        };
        Some(Self {
            last: header & 1 != 0,
            gives,
            end: at.checked_add(3)?.checked_add(stored)?,
        })
    }
}

/// "Block_Maximum_Size is the smallest of: Window_Size, 128 KB"
const BLOCK_MAX: u64 = 128 << 10;

/// The first frame, cut after as many whole blocks as `head` holds and [`PEEK`] needs.
///
/// The decoder gives nothing away before it has a whole window, which may be the whole kernel: so the last block that is
/// there is marked as the last one there is.
fn shortened(head: &[u8]) -> Option<Vec<u8>> {
    let frame = Frame::parse(head)?;
    let mut last = None;
    let mut at = frame.header;
    let mut unpacked = 0_usize;
    while unpacked < PEEK {
        let Some(block) = Block::parse(head, at).filter(|block| block.end <= head.len()) else {
            break;
        };
        last = Some((at, block.end));
        if block.last {
            break;
        }
        // What a compressed block unpacks to is not in its header. One is enough to see a kernel's header in.
        unpacked = unpacked.saturating_add(block.gives.unwrap_or(PEEK));
        at = block.end;
    }
    let (block, end) = last?;
    let mut frame = head.get(..end)?.to_vec();
    // Last_Block.
    *frame.get_mut(block)? |= 1;
    // Without Content_Checksum_Flag: the checksum is not there.
    *frame.get_mut(4)? &= !4;
    Some(frame)
}
