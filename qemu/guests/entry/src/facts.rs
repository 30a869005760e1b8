//! Given everything a console printed, finds what the guest said.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::out::PREFIX;

/// What the guest said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    values: BTreeMap<String, Vec<String>>,
    done: bool,
}

/// A value whose kind the guest chose by its looks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// Printable, without the NUL that ended it.
    Text(String),
    /// Anything else, at most 256 bytes of it.
    Bytes(Vec<u8>),
}

/// A property of the device tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Property {
    /// Its name.
    pub name: String,
    /// Bytes in the tree.
    pub len: u64,
    /// Its value.
    pub value: Value,
}

/// An entry of the E820 map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct E820 {
    /// Physical addresses.
    pub span: Range<u64>,
    /// 1 is RAM.
    pub kind: u64,
}

/// A node of the `setup_data` list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetupData {
    /// Physical address.
    pub at: u64,
    /// Its type, as in `SETUP_RNG_SEED`.
    pub kind: u64,
    /// Bytes of its data.
    pub len: u64,
    /// [`crate::memory::sum_of`] its data.
    pub sum: u64,
}

impl Facts {
    /// Finds the guest's lines in a transcript. A line may have other text (a time stamp) before it.
    pub fn parse(transcript: &str) -> Self {
        let mut facts = Self::default();
        for line in transcript.lines() {
            let Some((_, rest)) = line.split_once(PREFIX) else {
                continue;
            };
            let rest = rest.trim_end_matches('\r');
            if rest == "done" {
                facts.done = true;
            } else if let Some((key, value)) = rest.split_once('=')
                && key
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            {
                facts.values.entry(key.to_owned()).or_default().push(value.to_owned());
            }
        }
        facts
    }

    /// Whether the guest came to its end.
    pub fn is_done(&self) -> bool {
        self.done
    }

    /// The fault the guest met, as it printed it.
    pub fn fault(&self) -> Option<&str> {
        self.get("fault")
    }

    /// The first value of `key` as printed.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.all(key).next()
    }

    /// All values of `key` as printed.
    pub fn all<'a>(&'a self, key: &str) -> impl Iterator<Item = &'a str> + use<'a> {
        self.values.get(key).into_iter().flatten().map(String::as_str)
    }

    /// The number at `key`.
    pub fn number(&self, key: &str) -> Option<u64> {
        number(self.get(key)?)
    }

    /// The text or bytes at `key`.
    pub fn value(&self, key: &str) -> Option<Value> {
        value(self.get(key)?)
    }

    /// The text at `key`.
    pub fn text(&self, key: &str) -> Option<String> {
        match self.value(key)? {
            Value::Text(text) => Some(text),
            Value::Bytes(_) => None,
        }
    }

    /// The device tree properties at `key`: `chosen`, `dtb-root`, `memory`, `reserved`.
    pub fn properties(&self, key: &str) -> Vec<Property> {
        self.all(key).filter_map(property).collect()
    }

    /// The property `name` of `/chosen`.
    pub fn chosen(&self, name: &str) -> Option<Property> {
        self.properties("chosen").into_iter().find(|p| p.name == name)
    }

    /// `/memreserve/` entries.
    pub fn reservations(&self) -> Vec<Range<u64>> {
        let entries = self.all("memreserve").filter_map(|line| {
            let (start, len) = line.split_once(' ')?;
            span(number(start)?, number(len)?)
        });
        entries.collect()
    }

    /// The banks of the `reg` properties of memory nodes, where addresses and sizes are of two cells.
    pub fn banks(&self) -> Vec<Range<u64>> {
        let mut banks = Vec::new();
        for property in self.properties("memory") {
            if let ("reg", Value::Bytes(bytes)) = (property.name.as_str(), &property.value) {
                for pair in bytes.chunks_exact(16) {
                    let number = |half: &[u8]| half.iter().fold(0_u64, |n, b| n << 8 | u64::from(*b));
                    let (start, len) = pair.split_at(8);
                    banks.extend(span(number(start), number(len)));
                }
            }
        }
        banks
    }

    /// The whole E820 map: the zero page's, then that of `setup_data`.
    pub fn e820(&self) -> Vec<E820> {
        let entries = self.all("e820").chain(self.all("e820-ext")).filter_map(|line| {
            let mut numbers = line.split(' ').map(number);
            let span = span(numbers.next()??, numbers.next()??)?;
            Some(E820 {
                span,
                kind: numbers.next()??,
            })
        });
        entries.collect()
    }

    /// The `setup_data` list.
    pub fn setup_data(&self) -> Vec<SetupData> {
        let nodes = self.all("setup-data").filter_map(|line| {
            let mut numbers = line.split(' ').map(number);
            Some(SetupData {
                at: numbers.next()??,
                kind: numbers.next()??,
                len: numbers.next()??,
                sum: numbers.next()??,
            })
        });
        nodes.collect()
    }

    /// Where the initrd is.
    pub fn initrd(&self) -> Option<Range<u64>> {
        span(self.number("initrd-at")?, self.number("initrd-size")?).filter(|s| !s.is_empty())
    }
}

fn span(start: u64, len: u64) -> Option<Range<u64>> {
    Some(start..start.checked_add(len)?)
}

fn number(text: &str) -> Option<u64> {
    u64::from_str_radix(text.strip_prefix("0x")?, 16).ok()
}

fn property(line: &str) -> Option<Property> {
    let mut parts = line.splitn(3, ' ');
    Some(Property {
        name: parts.next()?.to_owned(),
        len: number(parts.next()?)?,
        value: value(parts.next()?)?,
    })
}

fn value(text: &str) -> Option<Value> {
    if let Some(quoted) = text.strip_prefix('"') {
        return unquote(quoted.strip_suffix('"')?).map(Value::Text);
    }
    let digits = text.strip_prefix("hex:")?.trim_end_matches("...");
    bytes(digits).map(Value::Bytes)
}

fn bytes(digits: &str) -> Option<Vec<u8>> {
    let pairs = digits.as_bytes().chunks(2);
    pairs
        .map(|pair| u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok())
        .collect()
}

/// Undoes `\xNN`.
fn unquote(text: &str) -> Option<String> {
    let mut parts = text.split("\\x");
    let mut out = parts.next()?.as_bytes().to_vec();
    for part in parts {
        out.extend(bytes(part.get(..2)?)?);
        out.extend(part.get(2..)?.bytes());
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::tests::Ram;
    use crate::out::tests::printed;

    #[test]
    fn what_is_printed_reads_back() {
        let text = "root=\"a b\" c=\\ ü\ttail";
        let ram = Ram::new(0x1000, text.as_bytes());
        let printed = printed(|out| {
            out.number("el", 2);
            out.key("cmdline").quoted(&ram, 0x1000, text.len() as u64).end();
            out.key("head").bytes(&ram, 0x1000, 2).end();
        });
        let facts = Facts::parse(&format!("junk\n[ 1.2] {printed}1.0 entry: done\r\n"));
        assert_eq!(facts.number("el"), Some(2));
        assert_eq!(facts.text("cmdline").as_deref(), Some(text));
        assert_eq!(facts.value("head"), Some(Value::Bytes(b"ro".to_vec())));
        assert!(facts.is_done());
    }

    #[test]
    fn lines_of_others_are_left_alone() {
        let facts = Facts::parse("entry \"a\": kernel: x=1\nBad entry: the word=2\nentry: fault=0x4 esr 0x1\n");
        assert_eq!(facts.values.len(), 1);
        assert_eq!(facts.fault(), Some("0x4 esr 0x1"));
        assert!(!facts.is_done());
    }

    #[test]
    fn structured_lines() {
        let facts = Facts::parse(
            "entry: chosen=bootargs 0x5 \"a=\\x22\"\n\
             entry: chosen=rng-seed 0x200 hex:0102...\n\
             entry: memreserve=0x1000 0x20\n\
             entry: memory=reg 0x10 hex:00000000400000000000000020000000\n\
             entry: e820=0x0 0x9fc00 0x1\nentry: e820-ext=0x1000000 0x10 0x2\n\
             entry: setup-data=0x5000 0x9 0x20 0xabc\n\
             entry: initrd-at=0x1000\nentry: initrd-size=0x10\n",
        );
        assert_eq!(facts.chosen("bootargs").unwrap().value, Value::Text("a=\"".to_owned()));
        let seed = facts.chosen("rng-seed").unwrap();
        assert_eq!((seed.len, seed.value), (512, Value::Bytes(vec![1, 2])));
        assert_eq!(facts.reservations(), vec![0x1000..0x1020]);
        assert_eq!(facts.banks(), vec![0x4000_0000..0x6000_0000]);
        assert_eq!(facts.e820()[1].span, 0x100_0000..0x100_0010);
        assert_eq!(facts.setup_data()[0].len, 32);
        assert_eq!(facts.initrd(), Some(0x1000..0x1010));
    }
}
