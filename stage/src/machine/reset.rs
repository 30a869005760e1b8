//! Why the machine was reset last.
//!
//! Given sysfs and the device tree; responsible for what the kernel, or the firmware, knows of it.

use std::cmp::Reverse;
use std::path::Path;

use super::files::Files;
use crate::handover;

/// What the kernel says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LastReset {
    /// Nothing.
    Unknown,
    /// A watchdog did it.
    Watchdog,
    /// The kernel before left a record of how it died.
    Panic,
    /// The power came, or came back.
    PowerOn,
}

/// `WDIOF_CARDRESET`, include/uapi/linux/watchdog.h: the card reset the CPU.
const CARD_RESET: u32 = 0x20;

/// Looks at the records of the kernel before, and at the watchdogs' status since the boot
/// (Documentation/ABI/testing/sysfs-class-watchdog), and at what the firmware says.
pub(crate) fn last_reset(root: &Path) -> LastReset {
    of(&root)
}

fn of(files: &dyn Files) -> LastReset {
    if panics(files).next().is_some() {
        return LastReset::Panic;
    }
    let watchdogs = files.names("/sys/class/watchdog").into_iter();
    let mut status = watchdogs.filter_map(|name| files.text(&format!("/sys/class/watchdog/{name}/bootstatus")));
    if status.any(|text| text.trim().parse::<u32>().is_ok_and(|status| status & CARD_RESET != 0)) {
        return LastReset::Watchdog;
    }
    of_firmware(files).unwrap_or(LastReset::Unknown)
}

const CHOSEN: &str = "/proc/device-tree/chosen";

/// `reset-source`, which barebox puts into `/chosen`. It is about an earlier boot where a kernel has jumped here since.
fn of_firmware(files: &dyn Files) -> Option<LastReset> {
    let has_jumped = files.names(CHOSEN).iter().any(|name| name == handover::PROPERTY);
    let source = files.text(&format!("{CHOSEN}/reset-source")).filter(|_| !has_jumped)?;
    match source.trim_end_matches('\0') {
        "WDG" => Some(LastReset::Watchdog),
        // Power-on, and brown-out.
        "POR" | "BOR" => Some(LastReset::PowerOn),
        _ => None,
    }
}

/// Records of a panic, not of an oops that was survived or of a jump: their names, which panic, which part, and what they hold.
fn panics<'f>(files: &'f (dyn Files + 'f)) -> impl Iterator<Item = (String, (u32, u32), Vec<u8>)> + 'f {
    let mut names = files.names("/sys/fs/pstore");
    names.retain(|name| name.starts_with("dmesg-"));
    names.sort();
    names.into_iter().take(MOST_RECORDS).filter_map(|name| {
        let bytes = files.bytes(&format!("/sys/fs/pstore/{name}"))?;
        // Its first line: "Panic#1 Part2".
        let head = str::from_utf8(bytes.split(|byte| *byte == b'\n').next()?).ok()?;
        let (count, part) = head.strip_prefix("Panic#")?.split_once(" Part")?;
        let place = (count.parse().ok()?, part.trim().parse().ok()?);
        Some((name, place, bytes))
    })
}

/// So many are looked at; a firmware's store may be full of them.
const MOST_RECORDS: usize = 512;

/// What the kernel before said as it died, the end of it, at most `most` bytes; and the names of all files that have such.
pub(crate) fn last_words(root: &Path, most: usize) -> Option<(Vec<String>, Vec<u8>)> {
    let mut all: Vec<_> = panics(&root).collect();
    // The latest panic; its first part is the end of the log.
    all.sort_by_key(|(_, (count, part), _)| (Reverse(*count), *part));
    let latest = all.first()?.1.0;
    let mut text = Vec::new();
    for (_, _, bytes) in all.iter().take_while(|(_, (count, _), _)| *count == latest) {
        if text.len() >= most {
            break;
        }
        text.splice(0..0, bytes.iter().copied());
    }
    let from = text.len().saturating_sub(most);
    let names = all.into_iter().map(|(name, _, _)| name).collect();
    Some((names, text.get(from..)?.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn the_firmware_s_word_is_taken_unless_a_kernel_jumped_here() {
        let root = tempfile::tempdir().unwrap();
        let chosen = root.path().join("proc/device-tree/chosen");
        fs::create_dir_all(&chosen).unwrap();
        for (source, reset) in [
            ("POR\0", LastReset::PowerOn),
            ("BOR\0", LastReset::PowerOn),
            ("WDG\0", LastReset::Watchdog),
            ("RST\0", LastReset::Unknown),
            ("unknown\0", LastReset::Unknown),
            ("", LastReset::Unknown),
        ] {
            fs::write(chosen.join("reset-source"), source).unwrap();
            assert_eq!(last_reset(root.path()), reset, "{source:?}");
        }
        fs::write(chosen.join("reset-source"), "POR\0").unwrap();
        // What a watchdog's own register says is surer.
        let watchdog = root.path().join("sys/class/watchdog/watchdog0");
        fs::create_dir_all(&watchdog).unwrap();
        fs::write(watchdog.join("bootstatus"), "32\n").unwrap();
        assert_eq!(last_reset(root.path()), LastReset::Watchdog);
        fs::write(watchdog.join("bootstatus"), "0\n").unwrap();
        fs::write(chosen.join(handover::PROPERTY), "record").unwrap();
        assert_eq!(last_reset(root.path()), LastReset::Unknown);
    }

    #[test]
    fn watchdogs_and_records_are_looked_at() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(last_reset(root.path()), LastReset::Unknown);
        for (watchdog, status) in [("watchdog0", "0\n"), ("watchdog1", "32\n")] {
            let folder = root.path().join("sys/class/watchdog").join(watchdog);
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("bootstatus"), status).unwrap();
        }
        assert_eq!(last_reset(root.path()), LastReset::Watchdog);
        fs::create_dir_all(root.path().join("sys/fs/pstore")).unwrap();
        let record = |n: u8, text: &str| fs::write(root.path().join(format!("sys/fs/pstore/dmesg-ramoops-{n}")), text);
        record(0, "Shutdown#1 Part1\n...").unwrap();
        record(1, "Oops#2 Part1\n...").unwrap();
        assert_eq!(last_reset(root.path()), LastReset::Watchdog);
        assert_eq!(last_words(root.path(), 100), None);
        record(2, "Panic#1 Part1\nlast words").unwrap();
        assert_eq!(last_reset(root.path()), LastReset::Panic);
        let words = (vec!["dmesg-ramoops-2".to_owned()], b"words".to_vec());
        assert_eq!(last_words(root.path(), 5), Some(words));
        record(3, "Panic#1 Part2\nbefore them\n").unwrap();
        record(4, "Panic#0 Part1\nolder").unwrap();
        let (names, text) = last_words(root.path(), 100).unwrap();
        assert_eq!(names.len(), 3);
        assert_eq!(text, b"Panic#1 Part2\nbefore them\nPanic#1 Part1\nlast words");
    }
}
