//! The record's text: TOML, written by hand and read through the values that the config is read through, too. Deriving both
//! would be larger than all the rest of the record's code.
//!
//! Its length is fixed before its content is: the text ends at the first NUL.

use std::fmt::Write as _;

use toml::de::{DeTable, DeValue};

use purgatory::Record;
use zerocopy::IntoBytes as _;

use crate::text::quoted;

/// Text that is not known yet when the length is: the clocks, and the phases still to come.
const TO_COME: usize = 640;
/// Longer than any record: what is read of a made-up one.
const MOST: usize = 64 << 10;

/// Why bytes are no record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RecordError {
    /// Too short, or of something else.
    #[error("not a hand-over record of Cato ({0} bytes, no magic at the start)")]
    Magic(usize),
    /// The text is broken.
    #[error("damaged hand-over record: {0}")]
    Text(String),
}

/// What the stage says of its boot. Times are microseconds of the service kernel's `CLOCK_BOOTTIME`.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Handover {
    /// The version of Cato that wrote it.
    pub cato: String,
    /// The entry's name.
    pub entry: String,
    /// Its title; empty where it has none.
    pub title: String,
    /// Why it was taken.
    pub why: String,
    /// Its slot; empty where it has none, as are the next two.
    pub slot: String,
    /// Which boot of the slot this is, in hexadecimal: `cato mark-good` shows it.
    pub nonce: String,
    /// The slot that was preferred to this one and failed, and how.
    pub passed_over: String,
    /// Jumps since power-on, with this one.
    pub kexecs: u64,
    /// `in place`, or `segments: ` and why.
    pub arena: String,
    /// `fast`, `sha256` or `off`.
    pub check: String,
    /// What was handed over.
    pub payload: Payload,
    /// Bytes that the kernel copies on the way out.
    pub copied: u64,
    /// Bytes read from the source.
    pub read: u64,
    /// Ties the counter to the clock.
    pub counter: Option<Anchor>,
    /// What was before the service kernel's clock began, where the counter starts at power-on.
    pub firmware_us: Option<i64>,
    /// When each phase began.
    pub phases: Vec<Phase>,
}

/// Sizes in bytes, as handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Payload {
    /// The kernel.
    pub kernel: u64,
    /// The initrd.
    pub initrd: u64,
    /// The device tree.
    pub dtb: u64,
}

impl Payload {
    /// All of it.
    pub(crate) fn total(&self) -> u64 {
        self.kernel.saturating_add(self.initrd).saturating_add(self.dtb)
    }
}

/// One instant on both clocks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Anchor {
    /// The counter.
    pub at: u64,
    /// `CLOCK_BOOTTIME`.
    pub us: i64,
}

/// The start of a phase.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Phase {
    /// Its name; those of the worker's steps, and `service` and `start`.
    pub name: String,
    /// When.
    pub us: i64,
}

impl Handover {
    /// A length that holds this record and what is still to be added to it; a multiple of 8.
    pub(crate) fn room(&self) -> usize {
        let text = self.to_toml().len();
        Record::SIZE
            .saturating_add(text)
            .saturating_add(TO_COME)
            .next_multiple_of(8)
    }

    /// The record, `len` bytes long: stamps that are zero but for their magic, then the text and NULs. A text that does not
    /// fit is shortened, least wanted first; the stamps are always whole if `len` lets them.
    pub(crate) fn to_bytes(&self, len: usize) -> Vec<u8> {
        let mut out = Record::default().as_bytes().to_vec();
        let room = len.saturating_sub(Record::SIZE);
        let fits = |text: &String| text.len() <= room;
        let text = Some(self.to_toml()).filter(fits).or_else(|| {
            let mut less = Self {
                title: String::new(),
                why: String::new(),
                passed_over: String::new(),
                ..self.clone()
            };
            let first = less.to_toml();
            less.phases.clear();
            [first, less.to_toml()].into_iter().find(fits)
        });
        out.extend(text.unwrap_or_default().bytes());
        out.resize(len, 0);
        out
    }

    /// The text.
    pub(crate) fn to_toml(&self) -> String {
        let mut out = String::new();
        for (key, value) in [
            ("cato", &self.cato),
            ("entry", &self.entry),
            ("title", &self.title),
            ("why", &self.why),
            ("slot", &self.slot),
            ("nonce", &self.nonce),
            ("passed_over", &self.passed_over),
            ("arena", &self.arena),
            ("check", &self.check),
        ] {
            // A String takes every write.
            let _ = writeln!(out, "{key} = {}", quoted(value));
        }
        let Payload { kernel, initrd, dtb } = self.payload;
        // TOML's numbers have 63 bits.
        let most = |n: u64| n.min(i64::MAX.unsigned_abs());
        let _ = writeln!(
            out,
            "kexecs = {}\npayload = {{ kernel = {}, initrd = {}, dtb = {} }}\ncopied = {}\nread = {}",
            most(self.kexecs),
            most(kernel),
            most(initrd),
            most(dtb),
            most(self.copied),
            most(self.read)
        );
        if let Some(anchor) = self.counter.filter(|a| most(a.at) == a.at) {
            let _ = writeln!(out, "counter = {{ at = {}, us = {} }}", anchor.at, anchor.us);
        }
        if let Some(us) = self.firmware_us {
            let _ = writeln!(out, "firmware_us = {us}");
        }
        out.push_str("phases = [\n");
        for phase in &self.phases {
            let _ = writeln!(out, "  {{ name = {}, us = {} }},", quoted(&phase.name), phase.us);
        }
        out.push_str("]\n");
        out
    }
}

/// Reads a record, which may hold anything.
///
/// # Errors
/// [`RecordError`]
pub(crate) fn parse(bytes: &[u8]) -> Result<(Record, Handover), RecordError> {
    let stamps = Record::parse(bytes).ok_or(RecordError::Magic(bytes.len()))?;
    let text = bytes.get(Record::SIZE..).unwrap_or_default();
    let text = text.get(..MOST).unwrap_or(text);
    let text = text.split(|b| *b == 0).next().unwrap_or_default();
    let text = std::str::from_utf8(text).map_err(|error| RecordError::Text(error.to_string()))?;
    // The message alone: the place would be in a text that nobody has.
    let table = DeTable::parse(text).map_err(|error| RecordError::Text(error.message().to_owned()))?;
    let handover = read(table.get_ref()).map_err(|key| RecordError::Text(format!("`{key}` is not valid")))?;
    Ok((stamps, handover))
}

/// Keys that are not there are empty, those of a newer Cato are passed over; else the key that is wrong.
fn read(table: &DeTable<'_>) -> Result<Handover, &'static str> {
    let mut payload = Payload::default();
    if let Some(sizes) = item(table, "payload", DeValue::as_table)? {
        payload = Payload {
            kernel: size(sizes, "kernel")?,
            initrd: size(sizes, "initrd")?,
            dtb: size(sizes, "dtb")?,
        };
    }
    let mut counter = None;
    if let Some(anchor) = item(table, "counter", DeValue::as_table)? {
        counter = Some(Anchor {
            at: size(anchor, "at")?,
            us: item(anchor, "us", number)?.ok_or("us")?,
        });
    }
    let mut phases = Vec::new();
    for phase in item(table, "phases", DeValue::as_array)?.into_iter().flatten() {
        let phase = phase.get_ref().as_table().ok_or("phases")?;
        phases.push(Phase {
            name: text(phase, "name")?,
            us: item(phase, "us", number)?.ok_or("us")?,
        });
    }
    Ok(Handover {
        cato: text(table, "cato")?,
        entry: text(table, "entry")?,
        title: text(table, "title")?,
        why: text(table, "why")?,
        slot: text(table, "slot")?,
        nonce: text(table, "nonce")?,
        passed_over: text(table, "passed_over")?,
        kexecs: size(table, "kexecs")?,
        arena: text(table, "arena")?,
        check: text(table, "check")?,
        payload,
        copied: size(table, "copied")?,
        read: size(table, "read")?,
        counter,
        firmware_us: item(table, "firmware_us", number)?,
        phases,
    })
}

/// The value at `key`, if there is one, as what it must be.
fn item<'a, 't, T>(
    table: &'a DeTable<'t>,
    key: &'static str,
    as_wanted: impl Fn(&'a DeValue<'t>) -> Option<T>,
) -> Result<Option<T>, &'static str> {
    table
        .get(key)
        .map(|value| as_wanted(value.get_ref()).ok_or(key))
        .transpose()
}

fn text(table: &DeTable<'_>, key: &'static str) -> Result<String, &'static str> {
    Ok(item(table, key, DeValue::as_str)?.unwrap_or_default().to_owned())
}

fn size(table: &DeTable<'_>, key: &'static str) -> Result<u64, &'static str> {
    Ok(item(table, key, number)?.unwrap_or(0))
}

fn number<T: std::str::FromStr>(value: &DeValue<'_>) -> Option<T> {
    value.as_integer()?.as_str().parse().ok()
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A boot with everything known.
    pub(in super::super) fn sample() -> Handover {
        let phase = |(name, us): (&str, i64)| Phase {
            name: name.to_owned(),
            us,
        };
        Handover {
            cato: "0.1.0".into(),
            entry: "a".into(),
            title: "appliance \"2.4.1\"\\\n".into(),
            why: "first in order".into(),
            slot: "B".into(),
            nonce: "00c0ffee00c0ffee".into(),
            passed_over: "slot A: bad: its tries are used up".into(),
            kexecs: 1,
            arena: "in place".into(),
            check: "fast".into(),
            payload: Payload {
                kernel: 37_700_000,
                initrd: 64_100_000,
                dtb: 65_536,
            },
            copied: 40_960,
            read: 80_000_000,
            counter: Some(Anchor {
                at: 62_500_000,
                us: 500_250,
            }),
            firmware_us: Some(499_750),
            phases: [
                ("service", 0),
                ("start", 1_500_125),
                ("select", 1_510_000),
                ("probe", 1_512_500),
                ("budget", 1_700_000),
                ("reserve", 1_702_000),
                ("load", 1_800_000),
                ("verify", 2_100_000),
                ("layout", 2_101_000),
                ("kexec", 2_110_000),
            ]
            .into_iter()
            .map(phase)
            .collect(),
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let handover = sample();
        let len = handover.room();
        assert!(len.is_multiple_of(8) && len < 2048, "{len}");
        let bytes = handover.to_bytes(len);
        assert_eq!(bytes.len(), len);
        assert_eq!(parse(&bytes), Ok((Record::default(), handover.clone())));
        // The text is plain TOML for any other reader.
        let text = std::str::from_utf8(&bytes[Record::SIZE..])
            .unwrap()
            .trim_end_matches('\0');
        let table: toml::Table = text.parse().unwrap();
        assert_eq!(table["payload"]["initrd"].as_integer(), Some(64_100_000));
        assert_eq!(table["phases"].as_array().unwrap().len(), 10);
    }

    #[test]
    fn the_room_holds_what_comes_later() {
        let whole = sample();
        let early = Handover {
            counter: None,
            firmware_us: None,
            phases: whole.phases[..6].to_vec(),
            ..whole.clone()
        };
        let mut late = whole;
        late.counter = Some(Anchor {
            at: u64::MAX >> 1,
            us: 1_000_000_000_000,
        });
        late.firmware_us = Some(1_000_000_000_000);
        late.phases.iter_mut().for_each(|p| p.us += 1_000_000_000_000);
        assert!(Record::SIZE + late.to_toml().len() <= early.room());
    }

    #[test]
    fn a_text_that_does_not_fit_is_shortened() {
        let whole = sample();
        let need = Record::SIZE + whole.to_toml().len();
        let read = |len: usize| {
            let bytes = whole.to_bytes(len);
            assert_eq!(bytes.len(), len);
            parse(&bytes).unwrap().1
        };
        assert_eq!(read(need), whole);
        let less = read(need - 1);
        assert_eq!((less.title.as_str(), less.phases.len()), ("", 10));
        assert_eq!((read(400).phases.len(), read(400).check.as_str()), (0, "fast"));
        assert_eq!(read(Record::SIZE), Handover::default());
        assert_eq!(whole.to_bytes(10).len(), 10);
    }

    #[test]
    fn whole_numbers_unknown_keys_and_missing_ones_are_fine() {
        let text = "new = 1\nphases = [{ name = \"x\", us = 3, why = \"y\" }]\ncounter = { at = 1, us = 2 }";
        let bytes = [Record::default().as_bytes(), text.as_bytes()].concat();
        let (_, handover) = parse(&bytes).unwrap();
        assert_eq!(handover.counter, Some(Anchor { at: 1, us: 2 }));
        assert!(handover.phases[0].us == 3);
    }

    #[test]
    fn what_is_wrong_is_said() {
        assert!(parse(b"").unwrap_err().to_string().contains("0 bytes"));
        let with = |text: &[u8]| {
            parse(&[Record::default().as_bytes(), text].concat())
                .unwrap_err()
                .to_string()
        };
        assert!(with(b"entry = 1").contains("`entry`"), "{}", with(b"entry = 1"));
        assert!(with(b"entry = \xff").contains("utf-8"), "{}", with(b"entry = \xff"));
        for (text, key) in [
            ("copied = -1", "copied"),
            ("payload = 1", "payload"),
            ("phases = [1]", "phases"),
            ("phases = [{ name = \"x\" }]", "us"),
            ("counter = { at = 1.5, us = 1 }", "at"),
            ("firmware_us = nan", "firmware_us"),
        ] {
            let said = with(text.as_bytes());
            assert!(said.contains(&format!("`{key}`")), "{text}: {said}");
        }
    }

    proptest! {
        #[test]
        fn any_text_and_number_comes_back(
            texts in prop::array::uniform4(any::<String>()),
            sizes in prop::array::uniform4(0..=i64::MAX.unsigned_abs()),
            anchor in prop::option::of((0..=i64::MAX.unsigned_abs(), 0u32..)),
            phases in prop::collection::vec((any::<String>(), any::<u32>()), 0..12),
        ) {
            let [entry, title, why, arena] = texts;
            let handover = Handover {
                entry, title, why, arena,
                payload: Payload { kernel: sizes[0], initrd: sizes[1], dtb: sizes[2] },
                copied: sizes[3],
                counter: anchor.map(|(at, us)| Anchor { at, us: us.into() }),
                phases: phases.into_iter().map(|(name, us)| Phase { name, us: us.into() }).collect(),
                ..Handover::default()
            };
            prop_assert_eq!(parse(&handover.to_bytes(handover.room())), Ok((Record::default(), handover)));
        }

        #[test]
        fn garbage_is_never_a_panic(
            noise: Vec<u8>,
            flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
            cut: prop::sample::Index,
        ) {
            let _ = parse(&noise);
            let _ = parse(&[Record::default().as_bytes(), &noise].concat());
            let mut bytes = sample().to_bytes(sample().room());
            for (at, value) in flips {
                let at = at.index(bytes.len());
                bytes[at] = value;
            }
            bytes.truncate(cut.index(bytes.len().max(1)));
            let _ = parse(&bytes);
        }
    }
}
