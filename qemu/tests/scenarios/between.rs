//! A machine that is stopped between the two kernels, and a byte that changes there.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use config::Arch;
use qemu::chain::Ready;
use qemu::gdb::Gdb;
use qemu::scenario::Context;
use qemu::vm::Vm;
use tempfile::TempDir;

/// For a step of a machine that is not stuck.
pub(crate) const WAIT: Duration = Duration::from_mins(2);

/// What the byte is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Kernel,
    Initrd,
    /// What tells the kernel about the machine: device tree (arm64), zero page and what belongs to it (x86_64).
    Info,
    /// The digests of all of it.
    Digests,
}

impl Part {
    pub(crate) const ALL: [Self; 4] = [Self::Kernel, Self::Initrd, Self::Info, Self::Digests];

    /// As its row in the layout is called.
    pub(crate) fn row(self, arch: Arch) -> &'static str {
        match (self, arch) {
            (Self::Kernel, _) => "kernel",
            (Self::Initrd, _) => "initrd",
            (Self::Info, Arch::Arm64) => "dtb",
            (Self::Info, Arch::X86_64) => "boot-data",
            (Self::Digests, _) => "digests",
        }
    }

    /// What the purgatory says of it.
    pub(crate) fn named(self, arch: Arch) -> String {
        match self {
            Self::Digests => r"purgatory: digest table: sha256 mismatch \(.*\); resetting".to_owned(),
            _ => format!(
                r#"purgatory: segment "{}" chunk [0-9]+ at 0x[0-9a-f]+: .*mismatch \(.*\); resetting"#,
                self.row(arch)
            ),
        }
    }
}

/// Which of its bytes that are checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum At {
    First,
    Last,
}

/// A machine with a way into it.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) vm: Vm,
    gdb: Gdb,
    arch: Arch,
    _folder: TempDir,
}

impl Opened {
    /// Starts the machine.
    pub(crate) fn start(context: &Context, ready: &Ready) -> Result<Self> {
        // A socket's path is short, whatever the checkout's is.
        let folder = tempfile::tempdir()?;
        let mut machine = ready.machine.clone();
        machine.gdb = Some(folder.path().join("gdb"));
        let vm = context.start(&machine)?;
        let mut gdb = Gdb::connect(&folder.path().join("gdb"), Duration::from_secs(10))?;
        gdb.go()?;
        Ok(Self {
            vm,
            gdb,
            arch: machine.arch,
            _folder: folder,
        })
    }

    /// Changes a byte when the purgatory is about to begin. Returns the byte's address.
    pub(crate) fn change(&mut self, part: Part, at: At) -> Result<u64> {
        // A payload in place is loaded in no time: the breakpoint has to be there soon after this line.
        let entry = self.vm.wait_for("layout: .*entry 0x[0-9a-f]+;", WAIT)?;
        self.gdb.interrupt()?;
        let entry = address_behind(&entry.text, "entry ").with_context(|| format!("no entry in {:?}", entry.text))?;
        self.gdb.break_at(entry)?;
        self.gdb.go()?;
        let stopped = self.gdb.wait_stop(WAIT);
        stopped.map_err(|error| self.vm.failure(&format!("{error:#}")))?;
        self.gdb.clear(entry)?;
        let (first, last) = self.checked(part)?;
        let address = if at == At::First { first } else { last };
        self.gdb.flip(address, 0x10)?;
        self.gdb.go()?;
        Ok(address)
    }

    /// The first and the last byte of a part that have digests.
    fn checked(&mut self, part: Part) -> Result<(u64, u64)> {
        let row = self.row(part.row(self.arch))?;
        let (start, bytes) = numbers(&row).with_context(|| format!("no addresses in {row:?}"))?;
        let end = start + bytes;
        let record = match part {
            Part::Info => self.record(start, bytes)?,
            _ => None,
        };
        // The record is written after the check, so nothing in it is checked.
        let first = match record {
            Some((from, to)) if from == start => to,
            _ => start,
        };
        let last = match record {
            Some((from, to)) if to == end => from - 1,
            _ => end - 1,
        };
        Ok((first, last))
    }

    /// The last such row of the layout.
    fn row(&self, name: &str) -> Result<String> {
        let began = Instant::now();
        let wanted = format!("layout: {name} ");
        loop {
            let row = self.vm.lines().into_iter().rfind(|line| line.text.contains(&wanted));
            match row {
                Some(line) => return Ok(line.text),
                // The machine stands still, but its last words may still be on their way.
                None if began.elapsed() < Duration::from_secs(2) => std::thread::sleep(Duration::from_millis(20)),
                None => return Err(self.vm.failure(&format!("the layout has no row {name:?}"))),
            }
        }
    }

    /// From where to where the hand-over record goes, if there is one.
    fn record(&mut self, start: u64, bytes: u64) -> Result<Option<(u64, u64)>> {
        let memory = self.gdb.read_physical(start, usize::try_from(bytes)?)?;
        let Some(at) = memory.windows(8).position(|bytes| bytes == b"CatoStmp") else {
            return Ok(None);
        };
        // It is the value of a property (FDT_PROP, length, name: big-endian), or the data of a node (next, type, length).
        let word = |back: usize| {
            let found = at.checked_sub(back).and_then(|from| memory.get(from..from + 4));
            let bytes = found.and_then(|bytes| bytes.first_chunk::<4>());
            bytes.copied().context("nothing in front of the hand-over record")
        };
        let length = match self.arch {
            Arch::Arm64 => u32::from_be_bytes(word(8)?),
            Arch::X86_64 => u32::from_le_bytes(word(4)?),
        };
        let from = start + u64::try_from(at)?;
        let to = from + u64::from(length);
        ensure!(
            length >= 64 && to <= start + bytes,
            "a hand-over record of {length} bytes at {from:#x}"
        );
        Ok(Some((from, to)))
    }
}

/// Start and number of bytes of a row of the layout.
fn numbers(row: &str) -> Option<(u64, u64)> {
    let mut words = row.split_whitespace().skip_while(|word| !word.starts_with("0x"));
    let start = u64::from_str_radix(words.next()?.strip_prefix("0x")?, 16).ok()?;
    let bytes = words.nth(1)?.parse().ok()?;
    Some((start, bytes))
}

/// The hex number behind `word`.
pub(crate) fn address_behind(text: &str, word: &str) -> Option<u64> {
    let (_, rest) = text.split_once(word)?;
    let digits = rest.strip_prefix("0x")?;
    let end = digits.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(digits.len());
    u64::from_str_radix(digits.get(..end)?, 16).ok()
}
