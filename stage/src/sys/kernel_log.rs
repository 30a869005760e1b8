//! What the kernel said.
//!
//! Given `/dev/kmsg`; responsible for the kernel's own lines, at the start or since a moment: mount(2) gives a number, and they the
//! reason. They are there whatever reaches the console. Never waits; bounded in records and bytes.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use crate::text::printable;

const KMSG: &str = "/dev/kmsg";
/// Records that are looked at, lines and letters that are kept.
const RECORDS: usize = 1000;
const LINES: usize = 4;
const LETTERS: usize = 200;
/// The most of [`whole`], bytes, and of it and [`with`], records.
const WHOLE: usize = 1 << 20;
const WHOLE_RECORDS: usize = 100_000;
/// No record is longer (include/linux/printk.h, PRINTK_MESSAGE_MAX).
const RECORD: usize = 8192;

/// A place in the kernel's log.
#[derive(Debug)]
pub(crate) struct KernelLog(Option<File>);

impl KernelLog {
    /// Where it ends now. Without `/dev/kmsg` there is nothing to say later.
    pub(crate) fn from_now() -> Self {
        Self::at_its_end(Path::new(KMSG)).map_or(Self(None), |file| Self(Some(file)))
    }

    fn at_its_end(path: &Path) -> Option<File> {
        let mut file = open(path)?;
        file.seek(SeekFrom::End(0)).ok()?;
        Some(file)
    }

    /// The kernel's lines since then that have one of the `words` in them, the last few, ready to be shown.
    pub(crate) fn since(&self, words: &[String]) -> Vec<String> {
        let mut lines = Vec::new();
        let Some(file) = &self.0 else { return lines };
        records(file, RECORDS, |record| lines.extend(line(record)));
        lines.retain(|line| words.iter().any(|word| contains(line, word)));
        lines.dedup();
        lines.split_off(lines.len().saturating_sub(LINES))
    }
}

fn open(path: &Path) -> Option<File> {
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(libc::O_NONBLOCK).open(path).ok()
}

/// The next records, as many as there are: `most` at most, for more may come while it is read.
fn records(mut file: &File, most: usize, mut take: impl FnMut(&[u8])) {
    let mut record = [0; RECORD];
    for _ in 0..most {
        match file.read(&mut record) {
            Ok(0) => break,
            Ok(length) => take(record.get(..length).unwrap_or_default()),
            // Overwritten since, or a signal.
            Err(e) if e.kind() == ErrorKind::Interrupted || e.raw_os_error() == Some(libc::EPIPE) => {}
            Err(_) => break,
        }
    }
}

/// The kernel's own lines, of all that it remembers, that have one of the `words` in them.
pub(crate) fn with(words: &[&str]) -> String {
    let mut text = String::new();
    if let Some(file) = open(Path::new(KMSG)) {
        records(&file, WHOLE_RECORDS, |record| {
            let line = line(record).filter(|line| words.iter().any(|word| line.contains(word)));
            text.extend(line.map(|line| line + "\n"));
        });
    }
    text
}

/// All that the kernel remembers, its own lines and those of programs, each with its time.
pub(crate) fn whole() -> String {
    let mut text = String::new();
    let Some(file) = open(Path::new(KMSG)) else { return text };
    records(&file, WHOLE_RECORDS, |record| text.extend(timed(record)));
    // The latest of it.
    let from = text.len().saturating_sub(WHOLE);
    match text.get(from..) {
        Some(end) if from > 0 => end.to_owned(),
        _ => text,
    }
}

/// `6,339,5140900,-;text` as `[    5.140900] text`.
fn timed(record: &[u8]) -> Option<String> {
    let record = String::from_utf8_lossy(record);
    let (head, text) = record.split_once(';')?;
    let us: u64 = head.split(',').nth(2)?.parse().ok()?;
    let text = printable(text.lines().next()?);
    Some(format!("[{:>5}.{:06}] {text}\n", us / 1_000_000, us % 1_000_000))
}

/// Whether `line` has `word` in it, and not only as the start of a longer one: `vda1` is not in `vda12`.
fn contains(line: &str, word: &str) -> bool {
    let is_part = |c: char| c.is_ascii_alphanumeric();
    line.match_indices(word).any(|(at, _)| {
        let behind = line.get(at..).and_then(|rest| rest.strip_prefix(word));
        !(word.ends_with(is_part) && behind.is_some_and(|rest| rest.starts_with(is_part)))
    })
}

/// The text of a record, `PRIORITY,SEQUENCE,TIME,FLAGS;TEXT`, when the kernel itself wrote it (facility 0).
pub(crate) fn line(record: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(record);
    let (prefix, text) = text.split_once(';')?;
    let priority: u32 = prefix.split(',').next()?.parse().ok()?;
    let text = printable(text.lines().next()?);
    (priority < 8).then(|| text.chars().take(LETTERS).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn the_kernel_s_own_words_are_told_from_others() {
        let of = |record: &str| line(record.as_bytes());
        assert_eq!(
            of("3,5,7,-;EXT4-fs (vda1): bad\n SUBSYSTEM=block\n").unwrap(),
            "EXT4-fs (vda1): bad"
        );
        assert_eq!(of("12,5,7,-;cato: EXT4-fs"), None, "user space");
        assert_eq!(of("no record"), None);
        assert_eq!(of("3,1,1,-;a\u{1b}[2Jb").unwrap(), r"a\u{1b}[2Jb");
        assert_eq!(of(&format!("3,1,1,-;{}", "x".repeat(999))).unwrap().len(), LETTERS);
    }

    #[test]
    fn what_was_there_before_or_is_not_about_it_is_left_out() {
        let file = tempfile::NamedTempFile::new().unwrap();
        writeln!(file.as_file(), "3,1,1,-;vda1: old").unwrap();
        let log = KernelLog(KernelLog::at_its_end(file.path()));
        writeln!(file.as_file(), "3,2,1,-;FAT-fs (vda1): logical sector size too small").unwrap();
        assert_eq!(
            log.since(&["vda1".to_owned()]),
            ["FAT-fs (vda1): logical sector size too small"]
        );
        let log = KernelLog(KernelLog::at_its_end(file.path()));
        writeln!(file.as_file(), "3,3,1,-;usb 1-1: new device").unwrap();
        writeln!(file.as_file(), "3,4,1,-;I/O error, dev vda12, sector 0").unwrap();
        assert_eq!(log.since(&["vda1".to_owned()]), Vec::<String>::new());
        assert_eq!(KernelLog(None).since(&["vda1".to_owned()]), Vec::<String>::new());
    }

    proptest::proptest! {
        #[test]
        fn no_record_makes_it_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300)) {
            let _ = line(&bytes);
        }
    }
}
