//! Single values: a source, a path, a digest, a command line, a time.
//!
//! Given one value as serde reads it from TOML; responsible for what it may be. Knows no file and no place.

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use serde::Deserialize;

use crate::diagnostic::quoted;
use crate::keys::nearest;
use crate::lookalike::named;
use crate::{Sha256, Source, Unbind};

/// Why a value can't be used: what a [`Diagnostic`](crate::Diagnostic) needs except for the place. Printed as message,
/// label and help on a line each, because serde passes an error on as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// What is wrong, in one sentence.
    pub message: String,
    /// What to write under the value.
    pub label: String,
    /// What to do about it.
    pub help: Option<String>,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n{}", self.message, self.label)?;
        self.help.iter().try_for_each(|help| write!(f, "\n{help}"))
    }
}

impl std::error::Error for Fault {}

impl Fault {
    pub(crate) fn new(message: impl Into<String>, label: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            label: label.into(),
            help: None,
        }
    }

    pub(crate) fn help(self, help: impl Into<String>) -> Self {
        Self {
            help: Some(help.into()),
            ..self
        }
    }

    /// From what it prints; `None` for the text of another error, which has one line.
    pub(crate) fn from_text(text: &str) -> Option<Self> {
        let mut lines = text.splitn(3, '\n');
        let fault = Self::new(lines.next()?, lines.next()?);
        Some(Self {
            help: lines.next().map(str::to_owned),
            ..fault
        })
    }
}

/// The version of the format this parser reads.
const VERSION: i128 = 1;
/// Bounds of `[console] countdown`, in seconds.
const COUNTDOWN: RangeInclusive<u64> = 0..=3600;
/// Bounds of `[console] retry`, in seconds.
const RETRY: RangeInclusive<u64> = 1..=86400;
/// Bounds of `[console] menu_timeout`, in seconds.
const MENU_TIMEOUT: RangeInclusive<u64> = 10..=86400;
/// Characters of `[console] stop`: one alone may be noise.
const STOP_CHARS: RangeInclusive<usize> = 2..=32;
/// The longest name of a terminal, bytes.
const TTY_BYTES: usize = 31;
/// Bounds of `[slots] tries`.
const TRIES: RangeInclusive<u8> = 1..=100;
/// Bounds of `[slots] trial`, in seconds.
const TRIAL: RangeInclusive<u64> = 10..=86400;
/// Bounds of `[watchdog] timeout`, in seconds, besides 0: what is shorter than that ends before the main kernel is up.
const WATCHDOG: RangeInclusive<u64> = 10..=3600;
/// The longest name of a driver, bus or device, and the longest path in a device tree, bytes.
const UNBIND_BYTES: usize = 255;
/// Longest command line in bytes. The kernel's own limit, mostly lower, is checked once the kernel is known.
const CMDLINE_BYTES: usize = 64 * 1024;
/// `PATH_MAX` of linux/limits.h, less the NUL.
const PATH_BYTES: usize = 4095;
/// `NAME_MAX` of linux/limits.h.
const NAME_BYTES: usize = 255;
/// Longest title in characters: one line of a wide console.
const TITLE_CHARS: usize = 120;
/// Longest entry name in characters.
const ENTRY_NAME_CHARS: usize = 32;
/// UEFI specification 2.10, 5.3.3: a partition name is 72 bytes of UTF-16.
const PARTLABEL_UNITS: usize = 36;
/// The longest label of a file system Linux mounts (btrfs: `BTRFS_LABEL_SIZE` less the NUL).
const LABEL_BYTES: usize = 255;

const TAGS: [&str; 4] = ["PARTLABEL", "PARTUUID", "LABEL", "UUID"];
const SOURCE_HELP: &str =
    "write PARTLABEL=, PARTUUID=, LABEL= or UUID= and a value, or the absolute path of a folder in the initramfs";

/// What to tell somebody whose backslash was taken for an escape.
pub(crate) const BACKSLASH_HELP: &str = "a backslash in \"…\" starts an escape; in '…' it is an ordinary character";

/// What to tell somebody whose text holds what nobody types.
pub(crate) const PASTED_HELP: &str = "was it pasted from a web page? type it again";

/// `version`.
#[derive(Debug, Deserialize)]
#[serde(try_from = "i128")]
pub(crate) struct Version;

/// `[console] countdown`.
#[derive(Debug, Deserialize)]
#[serde(try_from = "i128")]
pub(crate) struct Countdown(pub(crate) Duration);

/// `[console] retry`.
#[derive(Debug, Deserialize)]
#[serde(try_from = "i128")]
pub(crate) struct Retry(pub(crate) Duration);

/// One of `[console] devices`.
#[derive(Debug, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct TtyName(pub(crate) String);

/// `[console] stop`.
#[derive(Debug, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Stop(pub(crate) String);

/// `[console] menu_timeout`.
#[derive(Debug, Deserialize)]
#[serde(try_from = "i128")]
pub(crate) struct MenuTimeout(pub(crate) Duration);

/// `[console] password`.
#[derive(Debug, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct PasswordHash(pub(crate) String);

/// `[slots] tries`.
#[derive(Debug, Deserialize)]
#[serde(try_from = "i128")]
pub(crate) struct Tries(pub(crate) u8);

/// `[slots] trial`.
#[derive(Debug, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Trial(pub(crate) Duration);

/// `[watchdog] timeout`.
#[derive(Debug, Deserialize)]
#[serde(try_from = "i128")]
pub(crate) enum WatchdogTimeout {
    /// The file does not say.
    Usual,
    /// 0: watchdogs are left alone.
    Off,
    /// So long.
    After(Duration),
}

/// `title`.
#[derive(Debug, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Title(pub(crate) String);

/// `cmdline`.
#[derive(Debug, Default, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Cmdline(pub(crate) String);

/// One of `sha256.initrd`; an empty string stands for none.
#[derive(Debug, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct MaybeDigest(pub(crate) Option<Sha256>);

/// `kernel`, `dtb` or one `initrd`.
#[derive(Debug, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct FilePath {
    written: String,
    path: String,
}

/// `TryFrom`, for serde, by a function.
macro_rules! try_from {
    ($($from:ty => $to:ty: $read:expr;)*) => {$(
        impl TryFrom<$from> for $to {
            type Error = Fault;

            fn try_from(value: $from) -> Result<Self, Fault> {
                $read(value)
            }
        }
    )*};
}
pub(crate) use try_from;

try_from! {
    i128 => Version: version;
    i128 => Countdown: |n| seconds("countdown", n, COUNTDOWN).map(Countdown);
    i128 => Retry: |n| seconds("retry", n, RETRY).map(Retry);
    String => PasswordHash: |text| password(text).map(PasswordHash);
    String => TtyName: |text| tty(text).map(TtyName);
    String => Stop: |text| stop(text).map(Stop);
    i128 => MenuTimeout: |n| seconds("menu_timeout", n, MENU_TIMEOUT).map(MenuTimeout);
    i128 => Tries: |n| tries(n).map(Tries);
    i128 => WatchdogTimeout: watchdog;
    String => Trial: |text: String| trial(&text).map(Trial);
    String => Unbind: |text: String| unbind(&text);
    String => Title: |text| title(text).map(Title);
    String => Cmdline: |text| cmdline(text).map(Cmdline);
    String => Sha256: |text: String| digest(&text);
    String => MaybeDigest: |text: String| (!text.is_empty()).then(|| digest(&text)).transpose().map(MaybeDigest);
    String => FilePath: file;
    String => Source: |text: String| source(&text);
}

fn version(found: i128) -> Result<Version, Fault> {
    if found == VERSION {
        return Ok(Version);
    }
    let message = format!("version {found} of the format is not supported");
    Err(Fault::new(message, format!("expected {VERSION}"))
        .help("use the Cato that the file was written for, or rewrite it for version 1"))
}

fn seconds(key: &str, found: i128, range: RangeInclusive<u64>) -> Result<Duration, Fault> {
    let found = u64::try_from(found).ok().filter(|found| range.contains(found));
    found.map(Duration::from_secs).ok_or_else(|| {
        let label = format!("expected {} to {} seconds", range.start(), range.end());
        Fault::new(format!("`{key}` is out of range"), label)
    })
}

fn tty(text: String) -> Result<String, Fault> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    // `console` is another name of one of the others.
    if text.is_empty() || text.len() > TTY_BYTES || !text.chars().all(is_name) || text == "console" {
        let fault = Fault::new(
            format!("{} is no terminal's own name", quoted(&text)),
            "expected a name in /dev",
        );
        return Err(fault.help("write \"ttyS0\", \"ttyAMA0\" or \"hvc0\""));
    }
    Ok(text)
}

fn stop(text: String) -> Result<String, Fault> {
    if let Some(bad) = text.chars().find(|c| !matches!(c, ' '..='~')) {
        return Err(Fault::new(
            format!("`stop` contains {}", named(bad)),
            "expected characters of a keyboard (ASCII)",
        ));
    }
    if !STOP_CHARS.contains(&text.len()) {
        let label = format!("expected {} to {} characters", STOP_CHARS.start(), STOP_CHARS.end());
        return Err(Fault::new("`stop` is too short or too long", label)
            .help("noise on a line can make one character, but not several in a row"));
    }
    Ok(text)
}

/// A PHC string (github.com/P-H-C/phc-string-format) of argon2id that costs a small machine little enough.
fn password(text: String) -> Result<String, Fault> {
    let fault = |label: &str| {
        Fault::new("`password` is not a hash that Cato takes", label).help("`cato password` makes one from a password")
    };
    let parts: Vec<&str> = text.split('$').collect();
    let ["", "argon2id", "v=19", costs, salt, hash] = parts.as_slice() else {
        return Err(fault("expected $argon2id$v=19$m=…,t=…,p=…$SALT$HASH"));
    };
    let is_base64 = |part: &str| {
        part.len() % 4 != 1
            && part
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'+' || b == b'/')
    };
    // 8 to 48 bytes, and 10 to 64.
    let fit = (11..=64).contains(&salt.len()) && (14..=86).contains(&hash.len());
    if !(fit && is_base64(salt) && is_base64(hash)) {
        return Err(fault("expected a salt and a hash in base64, without ="));
    }
    let number = |cost: &str| {
        let number = cost.parse::<u32>().ok()?;
        // The one way to write it.
        (number.to_string() == cost).then_some(number)
    };
    let costs: Option<Vec<u32>> = (costs.split(',').zip(["m=", "t=", "p=", ""]))
        .map(|(cost, name)| number(cost.strip_prefix(name)?))
        .collect();
    match costs.as_deref() {
        // RFC 9106, 3.1: 8 KiB for each lane at least.
        Some([m @ 8..=65536, 1..=16, p @ 1..=4]) if *m >= p.saturating_mul(8) => Ok(text),
        _ => Err(fault("expected m=8 to 65536 (KiB), t=1 to 16, p=1 to 4")),
    }
}

fn tries(found: i128) -> Result<u8, Fault> {
    let found = u8::try_from(found).ok().filter(|found| TRIES.contains(found));
    found.ok_or_else(|| {
        let label = format!("expected {} to {} boots", TRIES.start(), TRIES.end());
        Fault::new("`tries` is out of range", label)
    })
}

fn watchdog(found: i128) -> Result<WatchdogTimeout, Fault> {
    if found == 0 {
        return Ok(WatchdogTimeout::Off);
    }
    let time = seconds("timeout", found, WATCHDOG);
    time.map(WatchdogTimeout::After)
        .map_err(|fault| fault.help("0 leaves watchdogs alone"))
}

fn trial(text: &str) -> Result<Duration, Fault> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits).unwrap_or_default();
    let unit = match unit {
        "s" => Some(1_u64),
        "min" => Some(60),
        "h" => Some(3600),
        _ => None,
    };
    let seconds = number.parse::<u64>().ok().zip(unit);
    let seconds = seconds.and_then(|(number, unit)| number.checked_mul(unit));
    let Some(seconds) = seconds else {
        let fault = Fault::new("`trial` is not a time", "expected a number and s, min or h");
        return Err(fault.help("write for example \"10min\""));
    };
    if !TRIAL.contains(&seconds) {
        return Err(Fault::new("`trial` is out of range", "expected 10s to 24h"));
    }
    Ok(Duration::from_secs(seconds))
}

fn unbind(text: &str) -> Result<Unbind, Fault> {
    let fault = |message: &str, label: &str| {
        Err(Fault::new(message, label).help(
            "write driver:NAME, BUS:ADDRESS as below /sys/bus (pci:0000:00:04.0), or dt:/PATH of a device tree node",
        ))
    };
    let Some((kind, rest)) = text.split_once(':') else {
        return fault("the device to unbind has no kind", "no colon");
    };
    if text.len() > UNBIND_BYTES {
        return fault("the device to unbind is too long", "more than 255 bytes");
    }
    if let Some(bad) = text.chars().find(|c| !c.is_ascii_graphic() && *c != ' ') {
        return fault("the device to unbind is not valid", &format!("contains {}", named(bad)));
    }
    // It becomes a part of a path.
    let is_name = |name: &str| !name.is_empty() && !name.contains('/') && name != "." && name != "..";
    match kind {
        "dt" if rest.starts_with('/') && rest.split('/').all(|part| part != "..") => Ok(Unbind::Node(rest.to_owned())),
        "dt" => fault("the path in the device tree is not valid", "expected dt:/…, without .."),
        "driver" if is_name(rest) => Ok(Unbind::Driver(rest.to_owned())),
        bus if is_name(bus) && is_name(rest) => Ok(Unbind::Device {
            bus: bus.to_owned(),
            address: rest.to_owned(),
        }),
        _ => fault("the device to unbind is not valid", "expected a name"),
    }
}

/// The name in `[entry.NAME]`.
pub(crate) fn entry_name(name: &str) -> Result<(), Fault> {
    let help = "a name is 1 to 32 characters of A-Z a-z 0-9 . _ -";
    let fault = |label: &str| Err(Fault::new(format!("entry name {} is not valid", quoted(name)), label).help(help));
    if name.is_empty() {
        return Err(Fault::new("the entry has no name", "empty").help(help));
    }
    if let Some(bad) = name
        .chars()
        .find(|c| !(c.is_ascii_alphanumeric() || ".-_".contains(*c)))
    {
        return fault(&format!("contains {}", named(bad)));
    }
    if name.len() > ENTRY_NAME_CHARS {
        return fault(&format!("{} characters long", name.len()));
    }
    Ok(())
}

fn title(text: String) -> Result<String, Fault> {
    no_control("title", &text)?;
    let length = text.chars().count();
    if length > TITLE_CHARS {
        return Err(Fault::new(
            "the title is too long",
            format!("{length} characters, at most {TITLE_CHARS}"),
        ));
    }
    Ok(text)
}

fn cmdline(text: String) -> Result<String, Fault> {
    no_control("command line", &text).map_err(|fault| {
        fault.help("to write a long one on several lines, use \"\"\" and end each line with a backslash")
    })?;
    if text.len() > CMDLINE_BYTES {
        return Err(Fault::new(
            "the command line is too long",
            format!("{} bytes, at most {CMDLINE_BYTES}", text.len()),
        ));
    }
    Ok(text)
}

fn no_control(what: &str, text: &str) -> Result<(), Fault> {
    let Some((at, bad)) = text.chars().enumerate().find(|(_, c)| c.is_control()) else {
        return Ok(());
    };
    let name = match bad {
        '\0' => "a NUL".to_owned(),
        '\n' => "a line break".to_owned(),
        '\r' => "a carriage return".to_owned(),
        '\t' => "a tab".to_owned(),
        other => format!("the control character U+{:04X}", u32::from(other)),
    };
    let nth = at.saturating_add(1);
    let fault = Fault::new(
        format!("the {what} contains {name}"),
        format!("character {nth} of the value"),
    );
    Err(match bad {
        '\u{8}' | '\u{c}' | '\t' => fault.help(BACKSLASH_HELP),
        _ => fault,
    })
}

fn digest(text: &str) -> Result<Sha256, Fault> {
    let fault = |label: String| {
        Fault::new("the value is not a SHA-256 digest", label)
            .help("copy the 64 hex digits that `sha256sum FILE` prints")
    };
    if let Some(bad) = text.chars().find(|c| !c.is_ascii_hexdigit()) {
        return Err(fault(format!("{} is not a hex digit", named(bad))));
    }
    let mut out = [0; 32];
    if text.len() != 64 {
        return Err(fault(format!("{} digits, expected 64", text.len())));
    }
    for (byte, at) in out.iter_mut().zip((0_usize..).step_by(2)) {
        let pair = text.get(at..at.saturating_add(2)).unwrap_or_default();
        *byte = u8::from_str_radix(pair, 16).map_err(|_| fault("not hex".to_owned()))?;
    }
    Ok(Sha256(out))
}

fn file(text: String) -> Result<FilePath, Fault> {
    let path = components(&text)?;
    if path.is_empty() || text.ends_with('/') {
        let label = if text.is_empty() { "empty" } else { "a folder" };
        return Err(Fault::new("the path names no file", label));
    }
    Ok(FilePath { written: text, path })
}

impl FilePath {
    /// The path in the source. With `on_disk`, one leading `/` means the disk's root, so it changes nothing.
    pub(crate) fn in_source(self, on_disk: bool) -> Result<String, Fault> {
        if on_disk || !self.written.starts_with('/') {
            return Ok(self.path);
        }
        Err(Fault::new(
            format!(
                "path {} is absolute, but the source is a folder of the initramfs",
                quoted(&self.written)
            ),
            "must be relative to the source",
        )
        .help("remove the leading `/` and the source's own path"))
    }
}

/// The path without doubled `/`, without `.`, without the leading and trailing `/`.
fn components(text: &str) -> Result<String, Fault> {
    no_control("path", text)?;
    if text.len() > PATH_BYTES {
        return Err(Fault::new(
            "the path is too long",
            format!("{} bytes, at most {PATH_BYTES}", text.len()),
        ));
    }
    let parts: Vec<&str> = text
        .split('/')
        .filter(|part| !part.is_empty() && *part != ".")
        .collect();
    if parts.contains(&"..") {
        return Err(Fault::new(
            format!("path {} contains `..`", quoted(text)),
            "a path must stay inside its source",
        ));
    }
    if let Some(long) = parts.iter().find(|part| part.len() > NAME_BYTES) {
        let label = format!("a name of {} bytes, at most {NAME_BYTES}", long.len());
        return Err(Fault::new("a name in the path is too long", label));
    }
    Ok(parts.join("/"))
}

fn source(text: &str) -> Result<Source, Fault> {
    if text.starts_with("/dev/") {
        return Err(Fault::new(
            format!("{} is not a source", quoted(text)),
            "device names change from boot to boot",
        )
        .help("name the partition by PARTLABEL=, PARTUUID=, LABEL= or UUID= (see `blkid`)"));
    }
    if text.starts_with('/') {
        return Ok(Source::Initramfs(format!("/{}", components(text)?)));
    }
    if text.is_empty() {
        return Err(Fault::new("the source is empty", "names neither a disk nor a folder").help(SOURCE_HELP));
    }
    let Some((tag, value)) = text.split_once('=') else {
        return Err(Fault::new(
            format!("{} is not a source", quoted(text)),
            "names neither a disk nor a folder",
        )
        .help(SOURCE_HELP));
    };
    if value.is_empty() && TAGS.contains(&tag) {
        return Err(Fault::new(format!("`{tag}=` has no value"), "nothing after the `=`"));
    }
    match tag {
        "PARTLABEL" => {
            no_control("partition label", value)?;
            let units = value.encode_utf16().count();
            if units > PARTLABEL_UNITS {
                let label = format!("{units} UTF-16 units, at most {PARTLABEL_UNITS} in a GPT");
                return Err(Fault::new("the partition label is too long", label));
            }
            Ok(Source::PartLabel(value.to_owned()))
        }
        "LABEL" => {
            no_control("label", value)?;
            if value.len() > LABEL_BYTES {
                let label = format!("{} bytes, at most {LABEL_BYTES}", value.len());
                return Err(Fault::new("the label is too long", label));
            }
            Ok(Source::Label(value.to_owned()))
        }
        "PARTUUID" if is_hex_groups(value, GUID) || is_hex_groups(value, MBR) => {
            Ok(Source::PartUuid(value.to_ascii_lowercase()))
        }
        "PARTUUID" => {
            let fault = Fault::new(
                format!("{} is not a PARTUUID", quoted(value)),
                "expected hex digits 8-4-4-4-12",
            )
            .help("on an MBR disk: 8 hex digits, `-`, 2 hex digits");
            Err(if is_hex_groups(value, FAT) {
                fault.help(format!(
                    "it looks like that of a FAT volume: did you mean `UUID={value}`?"
                ))
            } else {
                fault
            })
        }
        "UUID" if is_hex_groups(value, GUID) || is_hex_groups(value, FAT) => {
            Ok(Source::Uuid(value.to_ascii_lowercase()))
        }
        "UUID" => {
            let fault = Fault::new(
                format!("{} is not a UUID", quoted(value)),
                "expected hex digits 8-4-4-4-12",
            )
            .help("for FAT: 4 hex digits, `-`, 4 hex digits");
            Err(if is_hex_groups(value, MBR) {
                fault.help(format!(
                    "it looks like that of an MBR partition: did you mean `PARTUUID={value}`?"
                ))
            } else {
                fault
            })
        }
        _ => {
            let help = match nearest(tag, TAGS) {
                Some(meant) => format!("did you mean `{meant}=`?"),
                None => SOURCE_HELP.to_owned(),
            };
            Err(Fault::new(format!("unknown source {}", quoted(tag)), "not a way to name a disk").help(help))
        }
    }
}

/// `8-4-4-4-12`, RFC 9562.
const GUID: &[usize] = &[8, 4, 4, 4, 12];
/// Disk signature and partition number of an MBR.
const MBR: &[usize] = &[8, 2];
/// Volume serial number of a FAT file system.
const FAT: &[usize] = &[4, 4];

fn is_hex_groups(text: &str, digits: &[usize]) -> bool {
    text.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-') && text.split('-').map(str::len).eq(digits.iter().copied())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_in_all_their_forms() {
        for (text, expected) in [
            ("PARTLABEL=boot a", Source::PartLabel("boot a".into())),
            ("PARTLABEL=a=b", Source::PartLabel("a=b".into())),
            ("LABEL=Käse", Source::Label("Käse".into())),
            ("UUID=1A2B-3C4D", Source::Uuid("1a2b-3c4d".into())),
            (
                "UUID=0AC1D9A8-0000-4000-8000-00000000000F",
                Source::Uuid("0ac1d9a8-0000-4000-8000-00000000000f".into()),
            ),
            ("PARTUUID=DEADBEEF-02", Source::PartUuid("deadbeef-02".into())),
            ("/", Source::Initramfs("/".into())),
            ("//payload/./main/", Source::Initramfs("/payload/main".into())),
        ] {
            assert_eq!(source(text).unwrap(), expected, "{text}");
        }
        for text in [
            "",
            "boot",
            "=x",
            "PARTLABEL=",
            "partlabel=x",
            "UUID=deadbeef-02",
            "PARTUUID=1A2B-3C4D",
            "UUID=0ac1d9a8-0000-4000-8000-00000000000",
            "UUID=0ac1d9a8-0000-4000-8000-00000000000g",
            "UUID={0ac1d9a8-0000-4000-8000-000000000000}",
            "/dev/vda1",
            "/a/../b",
            "LABEL=a\nb",
            "PARTLABEL=0123456789012345678901234567890123456",
        ] {
            assert!(source(text).is_err(), "{text}");
        }
    }

    #[test]
    fn paths_stay_in_their_source_and_are_normal() {
        let file = |text: &str, on_disk| file(text.to_owned()).and_then(|file| file.in_source(on_disk));
        assert_eq!(file("/boot//./Image", true).unwrap(), "boot/Image");
        assert_eq!(file("boot/Image..old", false).unwrap(), "boot/Image..old");
        for text in ["", "/", ".", "a/..", "../a", "a/../b", "boot/", "a\0b", "a\nb"] {
            assert!(file(text, true).is_err(), "{text:?}");
        }
        assert!(file("/boot/Image", false).is_err());
        assert!(file(&"x".repeat(256), true).is_err());
        assert!(file(&"x/".repeat(2048), true).is_err());
    }

    #[test]
    fn a_fault_survives_being_text() {
        let fault = Fault::new("a", "");
        for fault in [fault.clone(), fault.help("b\nc")] {
            assert_eq!(Fault::from_text(&fault.to_string()), Some(fault));
        }
        assert_eq!(Fault::from_text("invalid type: integer `1`, expected a string"), None);
    }

    #[test]
    fn digests_are_read_whatever_their_case() {
        let text = "00ff".repeat(16);
        let expected: Vec<u8> = [0x00, 0xff].repeat(16);
        assert_eq!(digest(&text).unwrap().0.to_vec(), expected);
        assert_eq!(digest(&text.to_uppercase()).unwrap().to_string(), text);
        for text in [
            "",
            "00",
            &"0".repeat(63),
            &"0".repeat(65),
            &"g".repeat(64),
            &"é".repeat(32),
            &"+1".repeat(32),
        ] {
            assert!(digest(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_command_line_is_one_line() {
        let cmdline = |text: &str| cmdline(text.to_owned());
        assert_eq!(cmdline("root=/dev/vda \"a b\" ü").unwrap(), "root=/dev/vda \"a b\" ü");
        for bad in ['\0', '\n', '\r', '\t', '\u{1b}', '\u{7f}', '\u{85}'] {
            assert!(cmdline(&format!("a{bad}b")).is_err(), "{bad:?}");
        }
        assert!(cmdline(&"x".repeat(CMDLINE_BYTES)).is_ok());
        assert!(cmdline(&"x".repeat(CMDLINE_BYTES + 1)).is_err());
    }
}
