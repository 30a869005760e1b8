//! YMODEM batches, both ways: bytes and pauses of a serial line → files, and back. Pure.
//!
//! As in Chuck Forsberg's "XMODEM/YMODEM Protocol Reference" (1988), with CRC-16; a file without a length is refused, for nobody
//! knows how much memory it takes. Written here because no crate has it: `ymodem` 0.1 and `xmodem` 0.4 block on `Read` and
//! `Write`, `txmodems` 0.1 can't be built.

use std::time::Duration;

use crc::{CRC_16_XMODEM, Crc};

use crate::deadlines;

const SOH: u8 = 0x01;
const STX: u8 = 0x02;
const EOT: u8 = 0x04;
const ACK: u8 = 0x06;
const NAK: u8 = 0x15;
const BACKSPACE: u8 = 0x08;
const CAN: u8 = 0x18;
/// Wants CRC-16.
const WANT: u8 = b'C';
/// Fills what a block has too many bytes.
const PAD: u8 = 0x1a;

/// Ends the transfer: CAN, and backspaces over them where a person reads along.
pub(crate) const CANCEL: &[u8] = b"\x18\x18\x18\x18\x18\x18\x18\x18\x08\x08\x08\x08\x08\x08\x08\x08";

/// Between two invitations to begin.
const INVITE: Duration = Duration::from_secs(3);
/// How often somebody is invited: for a minute.
const INVITES: u8 = 20;
/// For the next block.
const BLOCK: Duration = Duration::from_secs(10);
/// For the next byte of a block, and for a damaged line to be silent.
const BYTE: Duration = Duration::from_secs(1);
/// So often in a row something is asked for, or sent, again.
const TRIES: u8 = 10;
/// The longest name of a file, bytes.
const NAME: usize = 128;

// The worker gives up before PID 1 gives up on it.
const _: () = {
    assert!(BLOCK.as_secs() * (TRIES as u64 + 2) < deadlines::TRANSFER.as_secs());
    assert!(INVITE.as_secs() * (INVITES as u64 + 2) < deadlines::TRANSFER.as_secs());
};

static CRC: Crc<u16> = Crc::<u16>::new(&CRC_16_XMODEM);

/// Why a transfer ended before its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum YmodemError {
    /// Nobody is there.
    #[error("nobody has begun within {} s", INVITE.as_secs().saturating_mul(INVITES.into()))]
    Nobody,
    /// CAN twice.
    #[error("the other side has stopped it")]
    Cancelled,
    /// Too many tries.
    #[error("the line is too bad: {TRIES} tries in a row have failed")]
    Line,
    /// No length in the header.
    #[error("the sender does not say how long the file is; send it with YMODEM, not XMODEM (sb, not sx)")]
    NoLength,
    /// A block that was not asked for.
    #[error("a block is missing, or one too many")]
    Order,
}

/// What a receiver has got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Got {
    /// A file begins. The name has no folder, and only letters that are harmless.
    File { name: String, bytes: u64 },
    /// More of it.
    Data(Vec<u8>),
    /// All of it.
    End,
    /// There are no more files.
    Over,
}

/// Counts tries in a row.
#[derive(Debug, Default)]
struct Tries(u8);

impl Tries {
    fn again(&mut self) -> Result<(), YmodemError> {
        self.0 = self.0.saturating_add(1);
        if self.0 >= TRIES {
            Err(YmodemError::Line)
        } else {
            Ok(())
        }
    }
}

/// Notices CAN CAN with nothing behind it but more of them and what takes them off a screen: in the middle of a block they are bytes
/// as others are.
#[derive(Debug, Default)]
struct Cancel(u8);

impl Cancel {
    fn take(&mut self, byte: u8) {
        self.0 = match byte {
            CAN => self.0.saturating_add(1),
            BACKSPACE if self.is_meant() => self.0,
            _ => 0,
        };
    }

    fn is_meant(&self) -> bool {
        self.0 >= 2
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Want {
    /// A header, for which somebody was invited so many times.
    Header(u8),
    /// The block of this number, of a file of which so many bytes are left, and some have come or not.
    Block { number: u8, left: u64, has_begun: bool },
}

/// Takes files.
#[derive(Debug)]
pub(crate) struct Receiver {
    want: Want,
    /// A block that has begun.
    block: Vec<u8>,
    /// What comes is thrown away until the line is silent.
    is_damaged: bool,
    has_begun: bool,
    /// The answer to the header may have been lost: there was silence since.
    may_be_lost: bool,
    tries: Tries,
    cancel: Cancel,
}

/// What is to be sent, and what has come.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Turn {
    pub send: Vec<u8>,
    pub got: Vec<Got>,
}

impl Receiver {
    pub(crate) fn new() -> Self {
        Self {
            want: Want::Header(0),
            block: Vec::new(),
            is_damaged: false,
            has_begun: false,
            may_be_lost: false,
            tries: Tries::default(),
            cancel: Cancel::default(),
        }
    }

    /// After so long without a byte, [`silent`](Self::silent) is to be called; and after [`BLOCK`] more with bytes that come to
    /// nothing.
    pub(crate) fn wait(&self) -> Duration {
        match self.want {
            _ if self.is_damaged || !self.block.is_empty() || self.cancel.is_meant() => BYTE,
            Want::Header(0) => Duration::ZERO,
            Want::Header(_) => INVITE,
            Want::Block { .. } => BLOCK,
        }
    }

    /// Nothing has come for as long as [`wait`](Self::wait) says. Gives what is to be sent.
    ///
    /// # Errors
    /// Nobody is there, or they have stopped it, or nothing gets through.
    pub(crate) fn silent(&mut self) -> Result<Vec<u8>, YmodemError> {
        if self.cancel.is_meant() {
            return Err(YmodemError::Cancelled);
        }
        let was_broken = std::mem::take(&mut self.is_damaged) || !std::mem::take(&mut self.block).is_empty();
        match &mut self.want {
            Want::Header(invites) if !was_broken => {
                *invites = invites.saturating_add(1);
                if *invites > INVITES {
                    return Err(YmodemError::Nobody);
                }
                Ok(vec![WANT])
            }
            Want::Block { has_begun: false, .. } => {
                self.tries.again()?;
                self.may_be_lost = true;
                Ok(vec![WANT])
            }
            _ => {
                self.tries.again()?;
                Ok(vec![NAK])
            }
        }
    }

    /// Bytes have come.
    ///
    /// # Errors
    /// See [`YmodemError`].
    pub(crate) fn take(&mut self, bytes: &[u8]) -> Result<Turn, YmodemError> {
        let mut turn = Turn::default();
        for byte in bytes {
            if !self.block.is_empty() {
                self.block.push(*byte);
                let is_short = self.block.first() == Some(&SOH);
                if self.block.len() == if is_short { 133 } else { 1029 } {
                    self.whole(&mut turn)?;
                }
                continue;
            }
            self.cancel.take(*byte);
            match *byte {
                _ if self.is_damaged => {}
                SOH | STX => self.block.push(*byte),
                EOT => self.end(&mut turn)?,
                CAN | BACKSPACE => {}
                // A block whose beginning was lost, or noise.
                _ if matches!(self.want, Want::Block { .. }) => self.is_damaged = true,
                // The echo of an invitation, or what somebody typed to start the sender.
                _ => {}
            }
        }
        Ok(turn)
    }

    fn end(&mut self, turn: &mut Turn) -> Result<(), YmodemError> {
        match self.want {
            Want::Block { left: 0, .. } => {
                turn.got.push(Got::End);
                turn.send.extend([ACK, WANT]);
                self.want = Want::Header(1);
                self.tries = Tries::default();
            }
            // The answer to the first one was lost.
            Want::Header(_) if self.has_begun => {
                self.tries.again()?;
                turn.send.extend([ACK, WANT]);
            }
            Want::Header(_) => {}
            // Not yet: it is noise, or blocks were lost.
            Want::Block { .. } => self.is_damaged = true,
        }
        Ok(())
    }

    /// A block has as many bytes as it should.
    fn whole(&mut self, turn: &mut Turn) -> Result<(), YmodemError> {
        let block = std::mem::take(&mut self.block);
        let [_, number, complement, data @ .., high, low] = block.as_slice() else {
            return Ok(());
        };
        let is_good = *number == !*complement && CRC.checksum(data) == u16::from_be_bytes([*high, *low]);
        if !is_good {
            self.is_damaged = true;
            return Ok(());
        }
        match self.want {
            Want::Header(_) if *number == 0 => self.header(data, turn)?,
            // The end of the file was acknowledged, and the answer lost.
            Want::Header(_) => {
                self.tries.again()?;
                turn.send.push(ACK);
            }
            // Two invitations were waiting for it: the first answer counts, unless that was lost.
            Want::Block { has_begun: false, .. } if *number == 0 => {
                if std::mem::take(&mut self.may_be_lost) {
                    turn.send.extend([ACK, WANT]);
                }
            }
            Want::Block {
                number: wanted, left, ..
            } if *number == wanted && left > 0 => {
                let length = usize::try_from(left).unwrap_or(usize::MAX).min(data.len());
                turn.got.push(Got::Data(data.get(..length).unwrap_or(data).to_vec()));
                turn.send.push(ACK);
                self.want = Want::Block {
                    number: wanted.wrapping_add(1),
                    left: left.saturating_sub(u64::try_from(length).unwrap_or(0)),
                    has_begun: true,
                };
                self.tries = Tries::default();
            }
            // Sent once more.
            Want::Block { number: wanted, .. } if *number == wanted.wrapping_sub(1) => {
                self.tries.again()?;
                turn.send.push(ACK);
            }
            Want::Block { .. } => return Err(YmodemError::Order),
        }
        Ok(())
    }

    fn header(&mut self, data: &[u8], turn: &mut Turn) -> Result<(), YmodemError> {
        let mut fields = data.split(|byte| *byte == 0);
        let name = fields.next().unwrap_or_default();
        self.has_begun = true;
        self.tries = Tries::default();
        turn.send.push(ACK);
        if name.is_empty() {
            turn.got.push(Got::Over);
            return Ok(());
        }
        let facts = fields.next().unwrap_or_default();
        let length = facts.split(|byte| *byte == b' ').next().unwrap_or_default();
        let length = std::str::from_utf8(length).ok().and_then(|digits| digits.parse().ok());
        let bytes = length.ok_or(YmodemError::NoLength)?;
        turn.got.push(Got::File {
            name: harmless(name),
            bytes,
        });
        turn.send.push(WANT);
        self.may_be_lost = false;
        self.want = Want::Block {
            number: 1,
            left: bytes,
            has_begun: false,
        };
        Ok(())
    }
}

/// The last part of a path, of letters that a path in `boot.toml` may have.
fn harmless(name: &[u8]) -> String {
    let last = name
        .rsplit(|byte| matches!(byte, b'/' | b'\\'))
        .next()
        .unwrap_or_default();
    let each = last.iter().take(NAME).map(|byte| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' | b'_' | b'+' => char::from(*byte),
        _ => '_',
    });
    let name: String = each.collect();
    // No hidden file, no folder above.
    match name.trim_start_matches('.') {
        "" => "file".to_owned(),
        name => name.to_owned(),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sent {
    /// Nothing: the receiver invites.
    Nothing,
    /// The header of this file, or the one that says there are no more.
    Header,
    /// The header has its ACK: the receiver invites again.
    Accepted,
    /// The block that ends at this byte of the file.
    Block(usize),
    End,
    /// The end has its ACK.
    Between,
}

/// Gives files.
#[derive(Debug)]
pub(crate) struct Sender<'f> {
    files: std::slice::Iter<'f, (String, Vec<u8>)>,
    file: Option<&'f (String, Vec<u8>)>,
    sent: Sent,
    /// Its number.
    number: u8,
    last: Vec<u8>,
    /// The whole batch was taken.
    pub is_over: bool,
    /// How much was taken: it grows with each answer that leads further.
    pub taken: u64,
    tries: Tries,
    waited: u8,
    cancel: Cancel,
}

impl<'f> Sender<'f> {
    pub(crate) fn new(files: &'f [(String, Vec<u8>)]) -> Self {
        let mut files = files.iter();
        Self {
            file: files.next(),
            files,
            sent: Sent::Nothing,
            number: 0,
            last: Vec::new(),
            is_over: false,
            taken: 0,
            tries: Tries::default(),
            waited: 0,
            cancel: Cancel::default(),
        }
    }

    /// As [`Receiver::wait`].
    pub(crate) fn wait(&self) -> Duration {
        match self.sent {
            _ if self.cancel.is_meant() => BYTE,
            Sent::Nothing => INVITE,
            _ => BLOCK,
        }
    }

    /// As [`Receiver::silent`].
    ///
    /// # Errors
    /// Nobody is there, or they have stopped it, or nothing gets through.
    pub(crate) fn silent(&mut self) -> Result<Vec<u8>, YmodemError> {
        if self.cancel.is_meant() {
            return Err(YmodemError::Cancelled);
        }
        if self.sent == Sent::Nothing {
            self.waited = self.waited.saturating_add(1);
            return if self.waited > INVITES {
                Err(YmodemError::Nobody)
            } else {
                Ok(Vec::new())
            };
        }
        let last = self.again()?;
        // It has that, and will ask for what follows.
        let is_taken = matches!(self.sent, Sent::Accepted | Sent::Between);
        Ok(if is_taken { Vec::new() } else { last })
    }

    fn again(&mut self) -> Result<Vec<u8>, YmodemError> {
        self.tries.again()?;
        Ok(self.last.clone())
    }

    /// Bytes have come. Gives what is to be sent.
    ///
    /// # Errors
    /// See [`YmodemError`].
    pub(crate) fn take(&mut self, bytes: &[u8]) -> Result<Vec<u8>, YmodemError> {
        for byte in bytes {
            self.cancel.take(*byte);
            let leads_on = match (*byte, self.sent) {
                // NAK is that of a receiver whose invitation was lost.
                (WANT, Sent::Nothing | Sent::Between) | (WANT | NAK, Sent::Accepted) | (ACK, Sent::Block(_)) => true,
                (ACK, Sent::Header) if self.file.is_none() => {
                    self.is_over = true;
                    return Ok(Vec::new());
                }
                (ACK, Sent::Header) => {
                    self.sent = Sent::Accepted;
                    false
                }
                (ACK, Sent::End) => {
                    self.file = self.files.next();
                    self.sent = Sent::Between;
                    false
                }
                // What has come of it was damaged. The first block is asked for as the header is.
                (NAK | WANT, Sent::Header | Sent::End) | (NAK, Sent::Block(_)) => return self.again(),
                (WANT, Sent::Block(_)) if self.number == 1 => return self.again(),
                _ => false,
            };
            if leads_on {
                self.tries = Tries::default();
                self.taken = self.taken.saturating_add(1);
                self.last = self.next();
                // What else has come is older than that.
                return Ok(self.last.clone());
            }
        }
        Ok(Vec::new())
    }

    fn next(&mut self) -> Vec<u8> {
        let Some((name, bytes)) = self.file else {
            self.sent = Sent::Header;
            return block(0, &[]);
        };
        let from = match self.sent {
            Sent::Nothing | Sent::Between => {
                (self.sent, self.number) = (Sent::Header, 0);
                let header = format!("{name}\0{}", bytes.len());
                return block(0, header.as_bytes());
            }
            Sent::Block(end) => end,
            _ => 0,
        };
        let rest = bytes.get(from..).unwrap_or_default();
        if rest.is_empty() {
            self.sent = Sent::End;
            return vec![EOT];
        }
        let data = rest.get(..1024).unwrap_or(rest);
        self.sent = Sent::Block(from.saturating_add(data.len()));
        self.number = self.number.wrapping_add(1);
        block(self.number, data)
    }
}

/// At most 1024 bytes as a block. A header is filled with zeroes.
fn block(number: u8, data: &[u8]) -> Vec<u8> {
    let (kind, size) = if data.len() > 128 { (STX, 1024) } else { (SOH, 128) };
    let mut data = data.to_vec();
    data.resize(size, if number == 0 && size == 128 { 0 } else { PAD });
    let mut block = vec![kind, number, !number];
    let sum = CRC.checksum(&data);
    block.extend(data);
    block.extend(sum.to_be_bytes());
    block
}

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "small numbers")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Files = Vec<(String, Vec<u8>)>;

    /// Both ends of a line that does something to the bytes: what came through, or why not.
    fn over(files: &Files, mut line: impl FnMut(Vec<u8>, bool) -> Vec<u8>) -> Result<Files, YmodemError> {
        let (mut sender, mut receiver) = (Sender::new(files), Receiver::new());
        let (mut there, mut is_over): (Files, bool) = (Vec::new(), false);
        let mut down = Vec::new();
        for _ in 0..200_000 {
            let up = if down.is_empty() {
                receiver.silent()?
            } else {
                let turn = receiver.take(&down)?;
                for got in turn.got {
                    match got {
                        Got::File { name, bytes } => {
                            there.push((name, Vec::with_capacity(usize::try_from(bytes).unwrap())));
                        }
                        Got::Data(data) => there.last_mut().unwrap().1.extend(data),
                        Got::End => {}
                        Got::Over => is_over = true,
                    }
                }
                turn.send
            };
            let up = line(up, false);
            down = if !up.is_empty() || is_over {
                sender.take(&up)?
            } else if receiver.wait() <= sender.wait() {
                // Its time is over first.
                sender.take(&line(receiver.silent()?, false))?
            } else {
                sender.silent()?
            };
            if is_over && sender.is_over {
                return Ok(there);
            }
            down = line(down, true);
        }
        panic!("neither ends");
    }

    fn file(name: &str, bytes: usize) -> (String, Vec<u8>) {
        let bytes = (0..bytes).map(|n| u8::try_from(n * 7 % 256).unwrap());
        (name.to_owned(), bytes.collect())
    }

    #[test]
    fn files_of_any_length_arrive_as_they_are() {
        for length in [0, 1, 127, 128, 129, 1023, 1024, 1025, 300_000] {
            let files = vec![file("Image", length), file("boot.toml", 5)];
            assert_eq!(over(&files, |bytes, _| bytes), Ok(files.clone()), "{length}");
        }
        assert_eq!(over(&Vec::new(), |bytes, _| bytes), Ok(Vec::new()));
    }

    #[test]
    fn a_name_is_no_path() {
        for (name, is) in [
            ("../../etc/passwd", "passwd"),
            ("C:\\boot\\Image", "Image"),
            (".hidden", "hidden"),
            ("..", "file"),
            ("a b\u{1b}[2J", "a_b__2J"),
            ("/", "file"),
        ] {
            assert_eq!(harmless(name.as_bytes()), is);
        }
        assert_eq!(harmless(&[b'x'; 500]).len(), NAME);
    }

    #[test]
    fn who_is_not_there_and_who_stops_is_told_apart() {
        let mut receiver = Receiver::new();
        let invites = std::iter::from_fn(|| receiver.silent().ok()).count();
        assert_eq!(invites, usize::from(INVITES));
        assert_eq!(receiver.silent(), Err(YmodemError::Nobody));
        let mut receiver = Receiver::new();
        receiver.take(b"x\x18\x18\x18\x08\x08").unwrap();
        assert_eq!(receiver.wait(), BYTE);
        assert_eq!(receiver.silent(), Err(YmodemError::Cancelled));
        let files = vec![file("log", 5)];
        let mut sender = Sender::new(&files);
        sender.take(b"C").unwrap();
        sender.take(b"\x18\x18").unwrap();
        assert_eq!(sender.silent(), Err(YmodemError::Cancelled));
        let mut sender = Sender::new(&files);
        assert_eq!(
            std::iter::from_fn(|| sender.silent().ok()).count(),
            usize::from(INVITES)
        );
        // What an XMODEM sender begins with.
        let header = block(0, b"name");
        assert_eq!(Receiver::new().take(&header), Err(YmodemError::NoLength));
        // One that goes silent in the middle.
        let mut receiver = Receiver::new();
        receiver.take(&block(0, b"name\x005000 0 0")).unwrap();
        let naks = std::iter::from_fn(|| receiver.silent().ok()).count();
        assert_eq!(naks, usize::from(TRIES) - 1);
    }

    #[test]
    fn nothing_is_written_beyond_the_length_and_no_block_is_left_out() {
        let mut receiver = Receiver::new();
        receiver.take(&block(0, b"name\x00130")).unwrap();
        let got = receiver.take(&block(1, &[7; 1024])).unwrap().got;
        assert_eq!(got, [Got::Data(vec![7; 130])]);
        assert_eq!(receiver.take(&block(2, &[7; 1024])), Err(YmodemError::Order));
        let mut receiver = Receiver::new();
        receiver.take(&block(0, b"name\x009000")).unwrap();
        assert_eq!(receiver.take(&block(9, &[7; 1024])), Err(YmodemError::Order));
    }

    /// lrzsz's `rb` asks for the header and the first block with C, and answers a header that comes twice with NAK from then on.
    #[test]
    fn a_receiver_that_asks_again_gets_the_same_again() {
        let files = vec![file("log", 2000)];
        let mut sender = Sender::new(&files);
        let header = sender.take(b"CC").unwrap();
        assert_eq!(header.len(), 133, "two invitations are one header");
        assert_eq!(sender.take(b"C").unwrap(), header);
        assert!(sender.take(&[ACK]).unwrap().is_empty());
        let first = sender.take(&[NAK]).unwrap();
        assert_eq!(first.get(..2), Some([STX, 1].as_slice()));
        assert_eq!(sender.take(b"C").unwrap(), first);
        let second = sender.take(&[ACK]).unwrap();
        assert_eq!(second.get(1), Some(&2));
        assert!(sender.take(b"C").unwrap().is_empty(), "not in the middle of a file");
        assert_eq!(sender.taken, 3);
    }

    #[test]
    fn a_header_that_comes_twice_is_answered_once_unless_the_answer_was_lost() {
        let header = block(0, b"name\x002000");
        let mut receiver = Receiver::new();
        assert_eq!(receiver.take(&header).unwrap().send, [ACK, WANT]);
        assert_eq!(receiver.take(&header).unwrap(), Turn::default());
        assert_eq!(receiver.silent(), Ok(vec![WANT]));
        assert_eq!(receiver.take(&header).unwrap().send, [ACK, WANT]);
    }

    #[test]
    fn a_block_without_its_beginning_is_no_cancellation_and_no_end() {
        let mut receiver = Receiver::new();
        receiver.take(&block(0, b"name\x002000")).unwrap();
        let mut lost = block(1, &[&[EOT, CAN, CAN, 7], [9; 1000].as_slice()].concat());
        lost.remove(0);
        assert_eq!(receiver.take(&lost).unwrap(), Turn::default());
        assert_eq!(receiver.silent(), Ok(vec![WANT]));
        assert_eq!(receiver.take(&block(1, &[9; 1004])).unwrap().send, [ACK]);
    }

    proptest! {
        /// Damaged, lost and additional bytes, kernel messages among the answers: all of it arrives, or, where there is too much of
        /// that, it ends with an error.
        #[test]
        fn a_bad_line_costs_time_and_no_byte(
            // An empty file has ended with its header: a single byte of noise may end it once more.
            lengths in prop::collection::vec(1_usize..5000, 1..3),
            faults in prop::collection::vec((0_usize..60, 0_u8..5, any::<u8>()), 0..12),
        ) {
            let files: Files = lengths.iter().map(|length| file("f", *length)).collect();
            let mut turn = 0;
            let result = over(&files, |mut bytes, _| {
                turn += 1;
                for (_, kind, value) in faults.iter().filter(|(at, ..)| *at == turn) {
                    let at = usize::from(*value) % bytes.len().max(1);
                    match kind {
                        0 => bytes.clear(),
                        1 if !bytes.is_empty() => bytes[at] ^= value | 1,
                        2 if !bytes.is_empty() => drop(bytes.remove(at)),
                        3 => bytes.insert(at.min(bytes.len()), *value),
                        _ => bytes.splice(..0, *b"[ 1.2] usb 1-1: reset\r\n").for_each(drop),
                    }
                }
                bytes
            });
            match result {
                Ok(there) => prop_assert_eq!(there, files),
                Err(error) => prop_assert!(faults.len() > 1, "{error}, of {faults:?}"),
            }
        }

        #[test]
        fn any_bytes_are_no_panic(pieces: Vec<Vec<u8>>) {
            let (mut receiver, files) = (Receiver::new(), vec![file("f", 3000)]);
            let mut sender = Sender::new(&files);
            for piece in pieces {
                let _ = receiver.take(&piece).map(|turn| turn.got.len());
                let _ = sender.take(&piece);
            }
        }
    }
}
