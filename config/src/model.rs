//! What a valid `boot.toml` means, after every check: no spans, no strings left to interpret.

use std::fmt;
use std::time::Duration;

use purgatory::Check;
use serde::{Deserialize, Serialize};

use crate::SlotName;

/// A whole, valid `boot.toml`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Entry names in the order they are tried; never empty, no duplicates, each one in `entries`.
    pub order: Vec<String>,
    /// The console's times.
    pub console: Console,
    /// What the code between the kernels may use besides memory.
    pub purgatory: Purgatory,
    /// What holds for every slot.
    pub slots: Slots,
    /// Which time the main system has to feed the watchdog that Cato leaves running; none where Cato opens none.
    pub watchdog: Option<Duration>,
    /// What is taken from its driver before the jump, in this order.
    pub unbind: Vec<Unbind>,
    /// Every entry, in file order.
    pub entries: Vec<Entry>,
}

impl Config {
    /// The entry called `name`.
    pub fn entry(&self, name: &str) -> Option<&Entry> {
        self.entries.iter().find(|e| e.name == name)
    }

    /// The slots, the first choice of `order` first, those of no entry in `order` last; at most [`MAX_SLOTS`](crate::MAX_SLOTS).
    pub fn slot_names(&self) -> Vec<&SlotName> {
        let mut names: Vec<&SlotName> = Vec::new();
        let ordered = self.order.iter().filter_map(|name| self.entry(name));
        // Those that are only picked by hand are known as well.
        for slot in ordered.chain(&self.entries).filter_map(|entry| entry.slot.as_ref()) {
            if !names.contains(&slot) {
                names.push(slot);
            }
        }
        names
    }
}

/// `[slots]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slots {
    /// Boots that a new generation has to prove itself.
    pub tries: u8,
    /// How long a main system may be up without being marked good, before it reboots itself; none is for ever.
    pub trial: Option<Duration>,
}

/// `[console]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Console {
    /// How long the boot can be stopped before the first entry is tried; zero boots at once.
    pub countdown: Duration,
    /// After how long a failed boot is tried again by itself.
    pub retry: Duration,
    /// The terminals that are used, by their names in `/dev`; none are all consoles of the service kernel.
    pub devices: Vec<String>,
    /// What is typed for the menu: at least two characters of printable ASCII.
    pub stop: String,
    /// After how long without a key the menu goes back to that.
    pub menu_timeout: Duration,
    /// What the terminals are.
    pub terminal: Terminal,
    /// What somebody at a console may do.
    pub access: Access,
}

impl Default for Console {
    fn default() -> Self {
        Self {
            countdown: Duration::from_secs(3),
            retry: Duration::from_mins(1),
            devices: Vec::new(),
            stop: "   ".to_owned(),
            menu_timeout: Duration::from_mins(5),
            terminal: Terminal::default(),
            access: Access::Open,
        }
    }
}

/// What somebody at a console may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Access {
    /// All that the menu has.
    Open,
    /// Look at things, and boot what `boot.toml` has, as it has it, for one time.
    Menu,
    /// As [`Open`](Self::Open), with the password that has this hash: argon2id, as a PHC string.
    Password(String),
    /// Nothing.
    Locked,
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Open => "open",
            Self::Menu => "menu",
            Self::Password(_) => "password",
            Self::Locked => "locked",
        })
    }
}

/// What a terminal can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Terminal {
    /// What it answers when it is asked.
    #[default]
    Auto,
    /// Lines of text.
    Plain,
    /// It has a cursor that can be moved, as the VT100 and all that came after it.
    Vt100,
}

impl fmt::Display for Terminal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Auto => "auto",
            Self::Plain => "plain",
            Self::Vt100 => "vt100",
        })
    }
}

/// `[purgatory]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Purgatory {
    /// Whether it writes to the UART of the service kernel's console.
    pub console: bool,
    /// Where it leaves why it reset the machine.
    pub reason: Option<ReasonStore>,
}

/// A place whose content survives a reset of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum ReasonStore {
    /// The physical address of a page that neither kernel uses; a multiple of 4096, not zero.
    Memory(u64),
    /// The index of a byte of the real-time clock's memory (x86_64); 0x30 to 0x7f.
    Cmos(u8),
}

impl fmt::Display for ReasonStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory(address) => write!(f, "memory:{address:#x}"),
            Self::Cmos(index) => write!(f, "cmos:{index:#x}"),
        }
    }
}

/// What is taken from its driver: one of `[quiesce] unbind`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Unbind {
    /// All devices of the driver of that name.
    Driver(String),
    /// The device of that address on a bus, as sysfs has both: `pci:0000:00:04.0`.
    Device {
        /// `pci`, `platform`, `usb`, …
        bus: String,
        /// Its name there.
        address: String,
    },
    /// The device of that node of the device tree.
    Node(String),
}

impl fmt::Display for Unbind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Driver(name) => write!(f, "driver:{name}"),
            Self::Device { bus, address } => write!(f, "{bus}:{address}"),
            Self::Node(path) => write!(f, "dt:{path}"),
        }
    }
}

/// `[entry.NAME]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The table's name.
    pub name: String,
    /// For people; the name when the file gives none.
    pub title: String,
    /// The generation it is a part of; none is neither counted nor given up.
    pub slot: Option<SlotName>,
    /// Where the files below are.
    pub source: Source,
    /// Path of the kernel in the source. Paths are relative to the source's root, without `..`.
    pub kernel: String,
    /// Paths of the initrds, in the order they are joined.
    pub initrd: Vec<String>,
    /// Path of a device tree; none means the running one.
    pub dtb: Option<String>,
    /// The kernel command line as written.
    pub cmdline: String,
    /// Whether Cato adds to the command line what the main kernel needs to be heard and to be safe.
    pub cmdline_extra: bool,
    /// What the purgatory checks between the kernels.
    pub check: Check,
    /// Where the payload waits for the jump.
    pub arena: Arena,
    /// Digests the stored files must have.
    pub sha256: WantedDigests,
}

/// The file system (or the initramfs folder) an entry's files are on.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Source {
    /// GPT partition name.
    PartLabel(String),
    /// GPT partition GUID (`8-4-4-4-12`, lower case) or an MBR `SSSSSSSS-PP`.
    PartUuid(String),
    /// File system label.
    Label(String),
    /// File system UUID, lower case as written by the tools (`8-4-4-4-12`, or `xxxx-xxxx` for FAT).
    Uuid(String),
    /// A folder of the service initramfs.
    Initramfs(String),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PartLabel(v) => write!(f, "PARTLABEL={v}"),
            Self::PartUuid(v) => write!(f, "PARTUUID={v}"),
            Self::Label(v) => write!(f, "LABEL={v}"),
            Self::Uuid(v) => write!(f, "UUID={v}"),
            Self::Initramfs(v) => f.write_str(v),
        }
    }
}

/// The memory in which the payload waits for the jump.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Arena {
    /// At its final addresses in huge pages where that works, else as [`Segments`](Self::Segments).
    #[default]
    Auto,
    /// In ordinary memory, which the kernel copies.
    Segments,
}

impl fmt::Display for Arena {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Auto => "auto",
            Self::Segments => "segments",
        })
    }
}

/// A SHA-256 digest. Printed as 64 hex digits; `{:.4}` prints the first four and `..`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Sha256(pub [u8; 32]);

impl fmt::Display for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = f.precision().unwrap_or(64);
        for byte in self.0.iter().take(digits.div_ceil(2)) {
            write!(f, "{byte:02x}")?;
        }
        if digits < 64 { f.write_str("..") } else { Ok(()) }
    }
}

/// `sha256 = { … }`: of the files as stored, before any unpacking.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct WantedDigests {
    /// Of the kernel file.
    pub kernel: Option<Sha256>,
    /// Of the initrd files, by position; shorter than `Entry::initrd` when the rest has none.
    pub initrd: Vec<Option<Sha256>>,
    /// Of the device tree file.
    pub dtb: Option<Sha256>,
}

// What PID 1 hands to a worker is written as the file has it, and so is checked once more when it is read.
macro_rules! into_string {
    ($($name:ident)*) => {$(
        impl From<$name> for String {
            fn from(value: $name) -> Self {
                value.to_string()
            }
        }
    )*};
}
into_string!(ReasonStore Source Sha256 Unbind);
