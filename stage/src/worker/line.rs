//! A serial line that PID 1 has lent: files over it, or a shell on it.
//!
//! Given the terminal's name; responsible for waiting on it with a bound, for what a sender may take of the memory, and for files
//! that are whole. What goes over the line is decided in [`ymodem`](crate::ymodem).

use std::convert::Infallible;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use config::paths::{RECEIVED, SHELL};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::termios::{InputFlags, LocalFlags, SetArg, cfmakeraw, tcgetattr, tcsetattr};
use nix::unistd::setsid;

use super::message::{MOST_RECEIVED, Received, ReceivedKind};
use crate::cause::{Cause, Failure};
use crate::deadlines::PROGRESS;
use crate::formats;
use crate::load::Free;
use crate::machine::Machine;
use crate::sys::tty::take_over;
use crate::ymodem::{CANCEL, Got, Receiver, Sender, YmodemError};

/// Why nothing came of it. Reads after `ttyS0: `.
#[derive(Debug, thiserror::Error)]
pub(super) enum LineError {
    #[error("{_0}")]
    Line(#[from] io::Error),
    #[error("{_0}")]
    Ymodem(#[from] YmodemError),
    #[error("{name}: {bytes} bytes, and no more than {most} of the memory can be used for it")]
    TooLarge { name: String, bytes: u64, most: u64 },
    #[error("more than {MOST_RECEIVED} files; send fewer at a time")]
    TooMany,
    #[error("{_0}: empty (0 bytes)")]
    Empty(String),
    #[error("it does not get quiet")]
    Babble,
    #[error("{name}: {error}")]
    File { name: String, error: io::Error },
    #[error("{SHELL}: {_0}")]
    Shell(io::Error),
}

impl From<LineError> for Failure {
    fn from(error: LineError) -> Self {
        let cause = match &error {
            LineError::TooLarge { .. } | LineError::TooMany => Cause::Memory,
            LineError::Babble => Cause::Timeout,
            _ => Cause::Io,
        };
        Self::new(cause, error.to_string())
    }
}

/// A terminal that passes every byte as it is.
struct Line {
    tty: File,
}

/// Silence after a transfer.
const QUIET: Duration = Duration::from_millis(500);
/// How long a byte may take to go out.
const SEND: Duration = Duration::from_secs(10);

fn timeout(time: Duration) -> PollTimeout {
    PollTimeout::try_from(time).unwrap_or(PollTimeout::MAX)
}

impl Line {
    fn open(name: &str) -> io::Result<Self> {
        let flags = libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_CLOEXEC;
        let path = Path::new("/dev").join(name);
        let tty = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(flags)
            .open(path)?;
        let mut mode = tcgetattr(&tty)?;
        cfmakeraw(&mut mode);
        tcsetattr(&tty, SetArg::TCSANOW, &mode)?;
        Ok(Self { tty })
    }

    /// What has come, within this time; nothing is silence.
    fn read(&mut self, within: Duration, bytes: &mut [u8]) -> io::Result<usize> {
        let until = Instant::now().checked_add(within).unwrap_or_else(Instant::now);
        loop {
            match self.tty.read(bytes) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                other => return other,
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(0);
            }
            poll(&mut [PollFd::new(self.tty.as_fd(), PollFlags::POLLIN)], timeout(left))?;
        }
    }

    /// What is left of a transfer is not for whoever reads the line next.
    fn end(&mut self, is_broken: bool) -> Result<(), LineError> {
        if is_broken {
            self.write(CANCEL)?;
        }
        let since = Instant::now();
        while self.read(QUIET, &mut [0; 256])? > 0 {
            if since.elapsed() > NOISE {
                return Err(LineError::Babble);
            }
        }
        Ok(())
    }

    fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.tty.write(bytes) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(n) => bytes = bytes.get(n..).unwrap_or_default(),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => {
                    let mut fds = [PollFd::new(self.tty.as_fd(), PollFlags::POLLOUT)];
                    if poll(&mut fds, timeout(SEND))? == 0 {
                        return Err(ErrorKind::TimedOut.into());
                    }
                }
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}

/// When the line is silent, or as good as that: bytes that come to nothing hold nobody up for ever.
struct Patience {
    /// The last byte, and the last that led further.
    heard: Instant,
    useful: Instant,
}

/// For bytes that come to nothing, besides what a silence may take.
const NOISE: Duration = Duration::from_secs(10);

impl Patience {
    fn new() -> Self {
        let now = Instant::now();
        Self {
            heard: now,
            useful: now,
        }
    }

    /// What is left of a silence of this length.
    fn left(&self, wait: Duration) -> Duration {
        let silence = wait.saturating_sub(self.heard.elapsed());
        let noise = wait.saturating_add(NOISE).saturating_sub(self.useful.elapsed());
        silence.min(noise)
    }

    fn heard(&mut self, is_useful: bool) {
        self.heard = Instant::now();
        if is_useful {
            self.useful = self.heard;
        }
    }

    /// It was, and something was done about it.
    fn was_silent(&mut self) {
        *self = Self::new();
    }
}

/// Signs of life, not too many.
struct Alive<'a> {
    tell: &'a mut dyn FnMut(u64),
    bytes: u64,
    told: Instant,
}

impl Alive<'_> {
    fn moved(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_add(u64::try_from(bytes).unwrap_or(0));
        if self.told.elapsed() >= PROGRESS {
            self.told = Instant::now();
            (self.tell)(self.bytes);
        }
    }
}

/// A file that comes in: it gets its name when it is whole.
struct Incoming {
    name: String,
    bytes: u64,
    file: File,
}

const PART: &str = ".part";

/// Where files are taken to.
struct Folder<'m> {
    path: PathBuf,
    machine: Option<&'m Machine>,
    now: Option<Incoming>,
    whole: Vec<Received>,
    /// How many have begun.
    begun: usize,
}

impl Folder<'_> {
    fn take(&mut self, got: Got, free: impl Fn() -> u64) -> Result<(), LineError> {
        let named = |name: &str| {
            let name = name.to_owned();
            move |error| LineError::File { name, error }
        };
        match got {
            Got::File { name, bytes } => {
                // What is booted of it needs as much again.
                let most = if is_config(&name) { MAX_CONFIG } else { free() / 2 };
                if bytes > most {
                    return Err(LineError::TooLarge { name, bytes, most });
                }
                if bytes == 0 {
                    return Err(LineError::Empty(name));
                }
                self.begun = self.begun.saturating_add(1);
                if self.begun > MOST_RECEIVED {
                    return Err(LineError::TooMany);
                }
                fs::create_dir_all(&self.path).map_err(named(&name))?;
                let file = File::create(self.path.join(PART)).map_err(named(&name))?;
                self.now = Some(Incoming { name, bytes, file });
            }
            Got::Data(data) => {
                if let Some(now) = &mut self.now {
                    now.file.write_all(&data).map_err(named(&now.name))?;
                }
            }
            Got::End => {
                if let Some(Incoming { name, bytes, file }) = self.now.take() {
                    drop(file);
                    let path = self.path.join(&name);
                    fs::rename(self.path.join(PART), &path).map_err(named(&name))?;
                    let kind = kind(&path, &name, bytes, self.machine).map_err(named(&name))?;
                    self.whole.retain(|other| other.name != name);
                    self.whole.push(Received { name, bytes, kind });
                }
            }
            Got::Over => {}
        }
        Ok(())
    }
}

impl Drop for Folder<'_> {
    fn drop(&mut self) {
        // Where there is none, there is nothing to remove.
        let _ = fs::remove_file(self.path.join(PART));
    }
}

/// The first bytes of a kernel, as far as they are looked at.
const HEAD: u64 = 64 << 10;

/// A `boot.toml` that is longer is not read.
const MAX_CONFIG: u64 = config::MAX_BYTES as u64;

fn is_called(name: &str, end: &str) -> bool {
    Path::new(name)
        .extension()
        .is_some_and(|ext| ext.eq_ignore_ascii_case(end))
}

fn is_config(name: &str) -> bool {
    is_called(name, "toml")
}

/// What a file is: the name says it where there is a custom, else its first bytes.
fn kind(path: &Path, name: &str, bytes: u64, machine: Option<&Machine>) -> io::Result<ReceivedKind> {
    if is_config(name) {
        return Ok(ReceivedKind::Config);
    }
    if is_called(name, "dtb") {
        return Ok(ReceivedKind::DeviceTree);
    }
    let mut head = Vec::new();
    File::open(path)?.take(HEAD).read_to_end(&mut head)?;
    // Whatever is wrong with a kernel is said when it is booted.
    let is_kernel = machine.is_some_and(|machine| match formats::sniff(&head, bytes, machine) {
        Err(error) => error.is_of_a_kernel(),
        Ok(_) => true,
    });
    Ok(if is_kernel {
        ReceivedKind::Kernel
    } else {
        ReceivedKind::Initrd
    })
}

fn free() -> u64 {
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    Free::of(&meminfo).map_or(0, Free::available)
}

/// Takes files, in place of those that were taken before. Each is whole in [`RECEIVED`], or not there; those before one that is not
/// are given with the reason.
pub(super) fn receive(
    tty: &str,
    machine: Option<&Machine>,
    tell: &mut dyn FnMut(u64),
) -> Result<(Vec<Received>, Option<LineError>), LineError> {
    let mut line = Line::open(tty)?;
    match fs::remove_dir_all(RECEIVED) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    let mut folder = Folder {
        path: PathBuf::from(RECEIVED),
        machine,
        now: None,
        whole: Vec::new(),
        begun: 0,
    };
    let mut alive = Alive {
        tell,
        bytes: 0,
        told: Instant::now(),
    };
    let result = receive_all(&mut line, &mut folder, &mut alive);
    line.end(result.is_err())?;
    match result {
        Err(error) if folder.whole.is_empty() => Err(error),
        other => Ok((std::mem::take(&mut folder.whole), other.err())),
    }
}

fn receive_all(line: &mut Line, folder: &mut Folder<'_>, alive: &mut Alive<'_>) -> Result<(), LineError> {
    let mut receiver = Receiver::new();
    let mut patience = Patience::new();
    let mut bytes = [0; 4096];
    loop {
        let count = line.read(patience.left(receiver.wait()), &mut bytes)?;
        if count == 0 {
            patience.was_silent();
            line.write(&receiver.silent()?)?;
            continue;
        }
        let turn = receiver.take(bytes.get(..count).unwrap_or_default())?;
        patience.heard(!turn.got.is_empty());
        for got in turn.got {
            if let Got::Data(data) = &got {
                alive.moved(data.len());
            }
            let is_over = got == Got::Over;
            folder.take(got, free)?;
            if is_over {
                return Ok(line.write(&turn.send)?);
            }
        }
        line.write(&turn.send)?;
    }
}

/// Sends files.
pub(super) fn send(tty: &str, files: &[(String, Vec<u8>)], tell: &mut dyn FnMut(u64)) -> Result<(), LineError> {
    let mut line = Line::open(tty)?;
    let mut alive = Alive {
        tell,
        bytes: 0,
        told: Instant::now(),
    };
    let result = send_all(&mut line, files, &mut alive);
    line.end(result.is_err())?;
    result
}

fn send_all(line: &mut Line, files: &[(String, Vec<u8>)], alive: &mut Alive<'_>) -> Result<(), LineError> {
    let mut sender = Sender::new(files);
    let mut patience = Patience::new();
    let mut bytes = [0; 256];
    while !sender.is_over {
        let count = line.read(patience.left(sender.wait()), &mut bytes)?;
        let out = if count == 0 {
            patience.was_silent();
            sender.silent()?
        } else {
            let taken = sender.taken;
            let out = sender.take(bytes.get(..count).unwrap_or_default())?;
            let is_useful = sender.taken != taken;
            patience.heard(is_useful);
            if is_useful {
                alive.moved(out.len());
            }
            out
        };
        line.write(&out)?;
    }
    Ok(())
}

/// Becomes a shell on the terminal: its end is this process's, and then the kernel hangs up on whatever it has left there.
///
/// # Errors
/// It is none.
pub(super) fn shell(tty: &str) -> LineError {
    match become_shell(tty) {
        Ok(never) => match never {},
        Err(error) => LineError::Shell(error),
    }
}

fn become_shell(tty: &str) -> io::Result<Infallible> {
    setsid()?;
    let tty = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NOCTTY)
        .open(Path::new("/dev").join(tty))?;
    take_over(&tty)?;
    let mut mode = tcgetattr(&tty)?;
    mode.local_flags
        .insert(LocalFlags::ICANON | LocalFlags::ECHO | LocalFlags::ECHOE | LocalFlags::ISIG | LocalFlags::IEXTEN);
    mode.input_flags.insert(InputFlags::ICRNL);
    tcsetattr(&tty, SetArg::TCSANOW, &mode)?;
    let error = Command::new(SHELL)
        .arg("-i")
        .env_clear()
        .envs([
            ("PATH", "/sbin:/bin:/usr/sbin:/usr/bin"),
            ("HOME", "/"),
            ("TERM", "vt100"),
        ])
        .stdin(tty.try_clone()?)
        .stdout(tty.try_clone()?)
        .stderr(tty)
        .exec();
    Err(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use config::Arch;

    fn folder(path: &Path) -> Folder<'static> {
        Folder {
            path: path.to_owned(),
            machine: None,
            now: None,
            whole: Vec::new(),
            begun: 0,
        }
    }

    fn begins(name: &str, bytes: u64) -> Got {
        let name = name.to_owned();
        Got::File { name, bytes }
    }

    #[test]
    fn a_file_has_its_name_when_it_is_whole() {
        let dir = tempfile::tempdir().unwrap();
        let mut into = folder(dir.path());
        into.take(begins("boot.toml", 3), || 100).unwrap();
        into.take(Got::Data(b"abc".to_vec()), || 100).unwrap();
        assert!(!dir.path().join("boot.toml").exists());
        into.take(Got::End, || 100).unwrap();
        assert_eq!(fs::read(dir.path().join("boot.toml")).unwrap(), b"abc");
        into.take(begins("rest", 3), || 100).unwrap();
        assert_eq!(into.whole.len(), 1);
        assert_eq!(into.whole[0].kind, ReceivedKind::Config);
        drop(into);
        let left: Vec<_> = fs::read_dir(dir.path())
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        assert_eq!(left, ["boot.toml"]);
    }

    #[test]
    fn what_a_file_is_its_first_bytes_say() {
        let dir = tempfile::tempdir().unwrap();
        let machine = crate::load::fakes::machine(Arch::Arm64);
        let is = |bytes: &[u8]| {
            let path = dir.path().join("f");
            fs::write(&path, bytes).unwrap();
            kind(&path, "f", bytes.len() as u64, Some(&machine)).unwrap()
        };
        let cpio = [b"070701".as_slice(), &[b'0'; 200]].concat();
        assert_eq!(is(&cpio), ReceivedKind::Initrd);
        assert_eq!(is(&crate::load::fakes::gzip(&cpio)), ReceivedKind::Initrd);
        let mut image = vec![0; 4096];
        image[56..60].copy_from_slice(b"ARM\x64");
        image[16..24].copy_from_slice(&4096_u64.to_le_bytes());
        assert_eq!(is(&image), ReceivedKind::Kernel);
        // That of a PC, which is said when it is to be booted.
        let mut other = vec![0; 4096];
        other[0x1fe..0x200].copy_from_slice(&[0x55, 0xaa]);
        other[0x202..0x206].copy_from_slice(b"HdrS");
        assert_eq!(is(&other), ReceivedKind::Kernel);
        assert_eq!(is(b"a text"), ReceivedKind::Initrd);
    }

    #[test]
    fn what_takes_too_much_is_refused_before_it_comes() {
        let dir = tempfile::tempdir().unwrap();
        let mut into = folder(dir.path());
        let refused = into.take(begins("Image", 51), || 100).unwrap_err().to_string();
        assert_eq!(
            refused,
            "Image: 51 bytes, and no more than 50 of the memory can be used for it"
        );
        let refused = into.take(begins("a.TOML", MAX_CONFIG + 1), || u64::MAX).unwrap_err();
        assert!(matches!(refused, LineError::TooLarge { .. }));
        for _ in 0..MOST_RECEIVED {
            // Whether they get through or not, and whatever they are called.
            into.take(begins("same", 1), || 100).unwrap();
        }
        assert!(matches!(into.take(begins("same", 1), || 100), Err(LineError::TooMany)));
        let empty = folder(dir.path()).take(begins("x", 0), || 100).unwrap_err();
        assert_eq!(empty.to_string(), "x: empty (0 bytes)");
    }
}
