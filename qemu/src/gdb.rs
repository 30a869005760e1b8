//! A client of QEMU's gdb stub: stop a machine at an address and change its memory behind its back.
//!
//! The protocol is chapter "GDB Remote Serial Protocol" of gdb's manual. `Qqemu.PhyMemMode` is QEMU's own: addresses are
//! physical then, which a machine between two kernels needs.

use std::fmt::Write as _;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

/// Bytes a single packet carries: QEMU's limit is 4096 characters.
const CHUNK: usize = 1024;

/// How long the stub may take to answer what it answers at once.
const ANSWER: Duration = Duration::from_secs(10);

/// How long the stub may take to announce a stop once more.
const SETTLE: Duration = Duration::from_millis(50);

/// A connection to the stub. The machine stands still from the moment it is made until [`Gdb::go`].
#[derive(Debug)]
pub struct Gdb {
    stream: UnixStream,
    input: Vec<u8>,
}

impl Gdb {
    /// Connects to the socket given as [`crate::machine::Machine::gdb`], waiting for it to appear.
    pub fn connect(socket: &Path, within: Duration) -> Result<Self> {
        let deadline = Instant::now() + within;
        let stream = loop {
            match UnixStream::connect(socket) {
                Ok(stream) => break stream,
                Err(error) if Instant::now() >= deadline => {
                    return Err(error).with_context(|| format!("no gdb stub at {}", socket.display()));
                }
                Err(_) => std::thread::sleep(Duration::from_millis(10)),
            }
        };
        let mut gdb = Self {
            stream,
            input: Vec::new(),
        };
        // The first question also stops the machine.
        let halted = gdb.ask("?")?;
        ensure!(
            halted.starts_with(['T', 'S']),
            "the gdb stub answers {halted:?} to \"?\""
        );
        Ok(gdb)
    }

    /// Stops the machine when it is about to run the instruction at `address`, through a hardware breakpoint.
    pub fn break_at(&mut self, address: u64) -> Result<()> {
        self.expect_ok(&format!("Z1,{address:x},4"))
    }

    /// Takes that breakpoint away.
    pub fn clear(&mut self, address: u64) -> Result<()> {
        self.expect_ok(&format!("z1,{address:x},4"))
    }

    /// Lets the machine run.
    pub fn go(&mut self) -> Result<()> {
        // QEMU announces some stops twice. From here on the next announcement is of a new one.
        while self.receive(Instant::now() + SETTLE).is_ok() {}
        self.send("c")
    }

    /// Waits until a machine that runs stops at a breakpoint.
    pub fn wait_stop(&mut self, within: Duration) -> Result<()> {
        let deadline = Instant::now() + within;
        let said = self
            .receive(deadline)
            .context("the machine did not reach the breakpoint in time")?;
        ensure!(
            said.starts_with("T05") || said.starts_with("S05"),
            "the machine stopped with {said:?}"
        );
        Ok(())
    }

    /// Stops a machine that runs.
    pub fn interrupt(&mut self) -> Result<()> {
        self.stream.write_all(&[3])?;
        let said = self.receive(Instant::now() + ANSWER)?;
        ensure!(said.starts_with(['T', 'S']), "an interrupt was answered with {said:?}");
        Ok(())
    }

    /// Reads `length` bytes of physical memory.
    pub fn read_physical(&mut self, address: u64, length: usize) -> Result<Vec<u8>> {
        self.expect_ok("Qqemu.PhyMemMode:1")?;
        let mut bytes = Vec::with_capacity(length);
        while bytes.len() < length {
            let part = CHUNK.min(length - bytes.len());
            let said = self.ask(&format!("m{:x},{part:x}", address + bytes.len() as u64))?;
            let got = unhex(&said).with_context(|| format!("can't read {address:#x}: {said:?}"))?;
            ensure!(
                !got.is_empty() && got.len() <= part,
                "{} bytes instead of {part}",
                got.len()
            );
            bytes.extend(got);
        }
        self.expect_ok("Qqemu.PhyMemMode:0")?;
        Ok(bytes)
    }

    /// Writes physical memory.
    pub fn write_physical(&mut self, address: u64, bytes: &[u8]) -> Result<()> {
        self.expect_ok("Qqemu.PhyMemMode:1")?;
        for (n, part) in bytes.chunks(CHUNK).enumerate() {
            let at = address + (n * CHUNK) as u64;
            let mut packet = format!("M{at:x},{:x}:", part.len());
            for byte in part {
                write!(packet, "{byte:02x}")?;
            }
            self.expect_ok(&packet)?;
        }
        self.expect_ok("Qqemu.PhyMemMode:0")
    }

    /// Flips the bits of `mask` in the byte at a physical address.
    pub fn flip(&mut self, address: u64, mask: u8) -> Result<()> {
        let was = self.read_physical(address, 1)?;
        let now: Vec<u8> = was.iter().map(|byte| byte ^ mask).collect();
        self.write_physical(address, &now)
    }

    fn expect_ok(&mut self, packet: &str) -> Result<()> {
        let said = self.ask(packet)?;
        ensure!(said == "OK", "the gdb stub answers {said:?} to {packet:?}");
        Ok(())
    }

    fn ask(&mut self, packet: &str) -> Result<String> {
        self.send(packet)?;
        let deadline = Instant::now() + ANSWER;
        loop {
            let said = self.receive(deadline)?;
            // A stop that is announced late answers no question but `?`.
            if packet == "?" || !said.starts_with(['T', 'S']) {
                return Ok(said);
            }
        }
    }

    fn send(&mut self, packet: &str) -> Result<()> {
        self.stream.write_all(framed(packet).as_bytes())?;
        Ok(())
    }

    fn receive(&mut self, deadline: Instant) -> Result<String> {
        loop {
            if let Some(packet) = take_packet(&mut self.input)? {
                self.stream.write_all(b"+")?;
                // Console output of the stub (`O`) is not for us.
                if !packet.starts_with('O') || packet == "OK" {
                    return Ok(packet);
                }
                continue;
            }
            let Some(left) = deadline.checked_duration_since(Instant::now()).filter(|d| !d.is_zero()) else {
                bail!("the gdb stub did not answer in time");
            };
            self.stream.set_read_timeout(Some(left))?;
            let mut bytes = [0_u8; 4096];
            match self.stream.read(&mut bytes) {
                Ok(0) => bail!("the gdb stub is gone"),
                Ok(n) => self.input.extend(bytes.iter().take(n)),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// `$packet#checksum`.
fn framed(packet: &str) -> String {
    let sum = packet.bytes().fold(0_u8, u8::wrapping_add);
    format!("${packet}#{sum:02x}")
}

/// Takes the first whole packet out of `input`; acknowledgements before it are dropped.
fn take_packet(input: &mut Vec<u8>) -> Result<Option<String>> {
    let Some(start) = input.iter().position(|b| *b == b'$') else {
        input.clear();
        return Ok(None);
    };
    let rest = input.get(start + 1..).unwrap_or_default();
    let Some(end) = rest.iter().position(|b| *b == b'#') else {
        return Ok(None);
    };
    let (Some(body), Some(sum)) = (rest.get(..end), rest.get(end + 1..end + 3)) else {
        return Ok(None);
    };
    let wanted = body.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
    let body = String::from_utf8_lossy(body).into_owned();
    ensure!(
        sum == format!("{wanted:02x}").as_bytes(),
        "a packet of the gdb stub arrived damaged: {body:?}"
    );
    input.drain(..start + end + 4);
    Ok(Some(body))
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || text.starts_with('E') {
        return None;
    }
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::thread;

    use super::*;

    #[test]
    fn packets_are_framed_and_found() {
        assert_eq!(framed("OK"), "$OK#9a");
        let mut input = b"+$OK#9a+$T05thread:01;#07rest".to_vec();
        assert_eq!(take_packet(&mut input).unwrap().as_deref(), Some("OK"));
        assert_eq!(take_packet(&mut input).unwrap().as_deref(), Some("T05thread:01;"));
        assert_eq!(take_packet(&mut input).unwrap(), None);
        let mut half = b"$OK#9".to_vec();
        assert_eq!(take_packet(&mut half).unwrap(), None);
        half.push(b'a');
        assert_eq!(take_packet(&mut half).unwrap().as_deref(), Some("OK"));
        assert!(take_packet(&mut b"$OK#00".to_vec()).is_err());
    }

    #[test]
    fn hex_reads_back_and_errors_do_not() {
        assert_eq!(unhex("00ff10"), Some(vec![0, 255, 16]));
        for bad in ["0", "E14", "zz", "E1"] {
            assert_eq!(unhex(bad), None, "{bad}");
        }
    }

    /// A stub with four bytes of memory.
    #[test]
    fn a_byte_is_flipped() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("gdb");
        let listener = UnixListener::bind(&socket).unwrap();
        let stub = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut memory = [1_u8, 2, 3, 4];
            let mut input = Vec::new();
            let mut bytes = [0; 256];
            loop {
                match stream.read(&mut bytes) {
                    Ok(0) | Err(_) => return memory,
                    Ok(n) => input.extend_from_slice(&bytes[..n]),
                }
                while let Some(packet) = take_packet(&mut input).unwrap() {
                    let answer = if packet == "?" {
                        "T05".to_owned()
                    } else if let Some(address) = packet.strip_prefix('m') {
                        let at = usize::from_str_radix(address.split_once(',').unwrap().0, 16).unwrap();
                        format!("{:02x}", memory[at])
                    } else if let Some(rest) = packet.strip_prefix('M') {
                        let at = usize::from_str_radix(rest.split_once(',').unwrap().0, 16).unwrap();
                        memory[at] = unhex(rest.split_once(':').unwrap().1).unwrap()[0];
                        "OK".to_owned()
                    } else {
                        "OK".to_owned()
                    };
                    stream.write_all(format!("+{}", framed(&answer)).as_bytes()).unwrap();
                }
            }
        });
        let mut gdb = Gdb::connect(&socket, Duration::from_secs(5)).unwrap();
        gdb.break_at(0x4000_0000).unwrap();
        gdb.flip(2, 0x81).unwrap();
        drop(gdb);
        assert_eq!(stub.join().unwrap(), [1, 2, 0x82, 4]);
    }

    /// QEMU 7.2 stops the machine when someone connects, and says so besides answering `?`.
    #[test]
    fn a_stop_announced_twice_is_one_stop() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("gdb");
        let listener = UnixListener::bind(&socket).unwrap();
        let stub = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut bytes = [0; 256];
            let mut seen = String::new();
            let mut answered = 0;
            while let Ok(n @ 1..) = stream.read(&mut bytes) {
                seen.push_str(&String::from_utf8_lossy(&bytes[..n]));
                for (question, answers) in [
                    ("$?#", "$T02thread:01;#04+$T05thread:01;#07"),
                    ("$c#", ""),
                    ("\u{3}", "$T02thread:01;#04"),
                    ("$Z1", "$T02thread:01;#04$OK#9a"),
                ]
                .into_iter()
                .skip(answered)
                {
                    if seen.contains(question) {
                        stream.write_all(answers.as_bytes()).unwrap();
                        answered += 1;
                    }
                }
            }
            answered
        });
        let mut gdb = Gdb::connect(&socket, Duration::from_secs(5)).unwrap();
        gdb.go().unwrap();
        gdb.interrupt().unwrap();
        gdb.break_at(0x1000).unwrap();
        drop(gdb);
        assert_eq!(stub.join().unwrap(), 4);
    }
}
