//! The main kernel's command line: the entry's, plus what the kernel needs to be heard and to be safe.
//!
//! Given the entry's text and the service kernel's own command line; responsible for adding only what is missing, where
//! the kernel still reads it, and for naming every word it added.

/// Seconds a panicked main kernel waits before it restarts the machine: long enough to read the screen, short enough
/// that an unattended machine comes back.
const PANIC: &str = "panic=30";

/// Longest command line of an arm64 kernel, bytes without NUL: `COMMAND_LINE_SIZE` of
/// arch/arm64/include/uapi/asm/setup.h is 2048 with it.
pub(crate) const ARM64_MOST: u64 = 2047;

/// Why a kernel would not read all of a command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CmdlineError {
    /// It does not fit.
    #[error(
        "{len} bytes, but the kernel takes at most {max}; shorten it, or set cmdline_extra = false to leave out what Cato adds"
    )]
    TooLong {
        /// What there is, bytes.
        len: u64,
        /// What the kernel takes, bytes without NUL.
        max: u64,
    },
    /// The kernel reads no further.
    #[error("NUL character at byte {at}; remove it")]
    Nul {
        /// Where, bytes from its start.
        at: usize,
    },
}

/// Whether a kernel that takes `max` bytes without NUL reads all of `text`.
///
/// # Errors
/// [`CmdlineError`]
pub(crate) fn check(text: &str, max: u64) -> Result<(), CmdlineError> {
    if let Some(at) = text.find('\0') {
        return Err(CmdlineError::Nul { at });
    }
    let len = u64::try_from(text.len()).unwrap_or(u64::MAX);
    if len > max {
        return Err(CmdlineError::TooLong { len, max });
    }
    Ok(())
}

/// A finished command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Completed {
    /// The whole command line, without NUL.
    pub text: String,
    /// The words that were added, in order.
    pub added: Vec<String>,
}

/// Words of Cato's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Own {
    /// Which boot this is: in any case, and in the place of the entry's own, as without them no slot can prove itself.
    pub identity: Vec<String>,
    /// What is added unless the entry wants nothing.
    pub safety: Vec<String>,
}

/// The entry's command line with what it lacks; only the first of these, where `extra` is off:
/// - what names this boot, for which the entry's own words of these keys are left out, and
/// - the running kernel's `console=` words when the entry has none;
/// - its `earlycon` and `earlyprintk` words when the entry has neither and no console of its own either;
/// - `panic=30` when the entry says nothing about panics;
/// - each word of our own, unless the entry has one with the same key.
///
/// Words are separated and quoted as in the kernel's `next_arg`; what follows a lone `--` is for init, so additions go
/// before it.
pub(crate) fn complete(entry: &str, running: &str, words_of_ours: &Own, extra: bool) -> Completed {
    let key = |word: &str| word.split('=').next().unwrap_or_default().to_owned();
    let identity: Vec<String> = words_of_ours.identity.iter().map(|word| key(word)).collect();
    let is_of_a_boot = |word: &Word<'_>| {
        let key = word.key();
        // In an entry they are an older boot's, copied from a main system.
        config::BOOT_WORDS.contains(&key) || identity.iter().any(|own| own == key)
    };
    let entry = without(entry.trim(), is_of_a_boot);
    let entry = entry.as_str();
    let own: Vec<Word<'_>> = words(entry).collect();
    let own_console = kernel_words(&own).any(|w| w.key() == "console");
    let own_early = kernel_words(&own).any(|w| is_early(w.key()));
    let running: Vec<Word<'_>> = words(running).collect();
    let mut added: Vec<String> = Vec::new();
    for word in kernel_words(&running).filter(|_| extra) {
        let wanted = match word.key() {
            "console" => !own_console,
            key if is_early(key) => !own_early && !own_console,
            _ => false,
        };
        if wanted && word.is_closed() && added.iter().all(|a| a != word.text) {
            added.push(word.text.to_owned());
        }
    }
    if extra && kernel_words(&own).all(|w| w.key() != "panic") {
        added.push(PANIC.to_owned());
    }
    let is_said = |word: &&String| kernel_words(&own).any(|w| w.key() == key(word));
    let safety = words_of_ours.safety.iter().filter(|_| extra);
    added.extend(words_of_ours.identity.iter().cloned());
    added.extend(safety.filter(|word| !is_said(word)).cloned());

    let separator = own.iter().find(|w| w.text == "--").map(|w| w.at);
    // After a quote that never closes everything is one word: then the additions go first.
    let at = if own.iter().all(Word::is_closed) {
        separator.unwrap_or(entry.len())
    } else {
        0
    };
    let (before, after) = entry.split_at_checked(at).unwrap_or((entry, ""));
    let mut text = before.trim_end().to_owned();
    for word in added
        .iter()
        .map(String::as_str)
        .chain((!after.is_empty()).then_some(after))
    {
        if !text.is_empty() {
            text.push(' ');
        }
        text.push_str(word);
    }
    Completed { text, added }
}

/// The command line without those of its words for the kernel.
fn without(line: &str, is_unwanted: impl Fn(&Word<'_>) -> bool) -> String {
    let all: Vec<Word<'_>> = words(line).collect();
    let unwanted = kernel_words(&all).filter(|word| is_unwanted(word));
    let mut text = String::new();
    let mut from = 0;
    for word in unwanted {
        text.push_str(line.get(from..word.at).unwrap_or_default());
        from = word.at.saturating_add(word.text.len());
    }
    text.push_str(line.get(from..).unwrap_or_default());
    text.trim().to_owned()
}

/// Whether `cmdline` has the word for the kernel, with a value or without.
pub(crate) fn has_word(cmdline: &str, key: &str) -> bool {
    let all: Vec<Word<'_>> = words(cmdline).collect();
    kernel_words(&all).any(|word| word.key() == key)
}

/// The value of the last `key=value` word for the kernel in `cmdline`, unquoted.
pub(crate) fn value<'a>(cmdline: &'a str, key: &str) -> Option<&'a str> {
    let all: Vec<Word<'a>> = words(cmdline).collect();
    kernel_words(&all).rfind(|w| w.key() == key).and_then(Word::value)
}

/// Every value of `key=value` for the kernel in `cmdline`, in order, unquoted.
pub(crate) fn values<'a>(cmdline: &'a str, key: &str) -> Vec<&'a str> {
    let all: Vec<Word<'a>> = words(cmdline).collect();
    kernel_words(&all)
        .filter(|w| w.key() == key)
        .filter_map(Word::value)
        .collect()
}

/// What `cmdline` has for a module's own parameters, `module.parameter=value`, as the module takes them: the kernel hands them
/// only to what is built in. `-` and `_` are the same in the module's name.
pub(crate) fn module_parameters(cmdline: &str, module: &str) -> Vec<String> {
    let all: Vec<Word<'_>> = words(cmdline).collect();
    kernel_words(&all)
        .filter(|word| word.is_closed())
        .filter_map(|word| word.text.split_once('.'))
        .filter(|(name, _)| name.replace('-', "_") == module)
        .map(|(_, parameter)| parameter.to_owned())
        .collect()
}

/// Whether the bare word `key`, without a value, is there for the kernel.
pub(crate) fn flag(cmdline: &str, key: &str) -> bool {
    let all: Vec<Word<'_>> = words(cmdline).collect();
    kernel_words(&all).any(|w| w.key() == key && w.value().is_none())
}

/// Whether a boolean parameter is set, as the kernel's `kstrtobool` reads its last value; a bare word does not set it.
pub(crate) fn is_on(cmdline: &str, key: &str) -> bool {
    value(cmdline, key).is_some_and(|v| {
        v.starts_with(['1', 'y', 'Y', 't', 'T']) || v.get(..2).is_some_and(|v| v.eq_ignore_ascii_case("on"))
    })
}

fn is_early(key: &str) -> bool {
    matches!(key, "earlycon" | "earlyprintk")
}

/// The words before a lone `--`.
fn kernel_words<'w, 'a>(words: &'w [Word<'a>]) -> impl DoubleEndedIterator<Item = &'w Word<'a>> {
    let end = words.iter().position(|w| w.text == "--").unwrap_or(words.len());
    words.iter().take(end)
}

/// One word with its quotes.
#[derive(Debug, Clone, Copy)]
struct Word<'a> {
    /// As written.
    text: &'a str,
    /// Offset in the command line.
    at: usize,
}

impl<'a> Word<'a> {
    /// What is before the `=`, without an opening quote.
    fn key(&self) -> &'a str {
        let text = self.text.strip_prefix('"').unwrap_or(self.text);
        text.split_once('=').map_or(text, |(key, _)| key)
    }

    /// What is after the first `=`, without quotes around it.
    fn value(&self) -> Option<&'a str> {
        let text = self.text.strip_prefix('"').unwrap_or(self.text);
        let (_, value) = text.split_once('=')?;
        let value = value.strip_prefix('"').unwrap_or(value);
        Some(value.strip_suffix('"').unwrap_or(value))
    }

    /// Whether its quotes come in pairs.
    fn is_closed(&self) -> bool {
        self.text.bytes().filter(|b| *b == b'"').count().is_multiple_of(2)
    }
}

fn words(line: &str) -> impl Iterator<Item = Word<'_>> {
    let mut rest = 0;
    std::iter::from_fn(move || {
        let tail = line.get(rest..)?;
        let skipped = tail.find(|c: char| !c.is_ascii_whitespace())?;
        let at = rest.saturating_add(skipped);
        let word = line.get(at..)?;
        let mut quoted = false;
        let len = word
            .find(|c: char| {
                quoted ^= c == '"';
                c.is_ascii_whitespace() && !quoted
            })
            .unwrap_or(word.len());
        rest = at.saturating_add(len);
        Some(Word {
            text: word.get(..len)?,
            at,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SERVICE: &str = "quiet console=tty0 console=ttyAMA0,115200 earlycon=pl011,0x9000000 nr_cpus=1 console=tty0";

    fn text(entry: &str) -> String {
        complete(entry, SERVICE, &Own::default(), true).text
    }

    #[test]
    fn a_modules_own_words_are_found() {
        let cmdline =
            "ramoops.mem_address=0x1000 a.b=1 ramoops.x=\"a b\" nvme-core.io_timeout=5 ramoops -- ramoops.no=1";
        assert_eq!(
            module_parameters(cmdline, "ramoops"),
            ["mem_address=0x1000", "x=\"a b\""]
        );
        assert_eq!(module_parameters(cmdline, "nvme_core"), ["io_timeout=5"]);
    }

    #[test]
    fn a_silent_entry_gets_the_service_console_in_its_order() {
        let done = complete("root=/dev/vda2 ro", SERVICE, &Own::default(), true);
        assert_eq!(
            done.text,
            "root=/dev/vda2 ro console=tty0 console=ttyAMA0,115200 earlycon=pl011,0x9000000 panic=30"
        );
        assert_eq!(
            done.added,
            [
                "console=tty0",
                "console=ttyAMA0,115200",
                "earlycon=pl011,0x9000000",
                "panic=30"
            ]
        );
        assert_eq!(
            text(""),
            "console=tty0 console=ttyAMA0,115200 earlycon=pl011,0x9000000 panic=30"
        );
    }

    #[test]
    fn what_the_entry_says_stands() {
        assert_eq!(text("console=hvc0 panic=0"), "console=hvc0 panic=0");
        assert_eq!(text("\"console=hvc0\" panic=-1"), "\"console=hvc0\" panic=-1");
        assert_eq!(
            text("earlyprintk=serial panic=5"),
            "earlyprintk=serial panic=5 console=tty0 console=ttyAMA0,115200"
        );
        // A word that only starts alike is another parameter.
        assert!(text("console_msg_format=syslog panic_on_oops=1").ends_with("panic=30"));
        assert!(text("console_msg_format=syslog").contains("console=tty0"));
    }

    /// `cat /proc/cmdline` of a main system, as an entry's.
    #[test]
    fn what_names_another_boot_is_left_out() {
        let own = Own {
            identity: ["cato.slot=A", "cato.nonce=2", "rauc.slot=A"]
                .map(str::to_owned)
                .to_vec(),
            safety: vec!["watchdog.open_timeout=120".to_owned()],
        };
        let copied =
            "cato.trial=600 ro cato.slot=B  cato.nonce=1 \"rauc.slot=B\" watchdog.open_timeout=60 -- cato.slot=C";
        let done = complete(copied, "", &own, true);
        assert_eq!(value(&done.text, "cato.trial"), None);
        for (key, wanted) in [
            ("cato.slot", "A"),
            ("cato.nonce", "2"),
            ("rauc.slot", "A"),
            ("watchdog.open_timeout", "60"),
        ] {
            assert_eq!(values(&done.text, key), [wanted], "{}", done.text);
        }
        assert!(
            done.text.starts_with("ro ") && done.text.ends_with(" -- cato.slot=C"),
            "{}",
            done.text
        );
        // An entry without a slot is no boot of one; RAUC's word is its own.
        let done = complete(copied, "", &Own::default(), true);
        assert_eq!(values(&done.text, "cato.slot"), [""; 0]);
        assert_eq!(values(&done.text, "rauc.slot"), ["B"]);
    }

    #[test]
    fn an_entry_can_opt_out() {
        let done = complete("  root=/dev/vda2 \n", SERVICE, &Own::default(), false);
        assert_eq!((done.text.as_str(), done.added.len()), ("root=/dev/vda2", 0));
    }

    #[test]
    fn additions_stay_before_what_is_for_init() {
        assert_eq!(
            complete("ro -- console=hvc0 single", "console=ttyS0", &Own::default(), true).text,
            "ro console=ttyS0 panic=30 -- console=hvc0 single"
        );
        assert_eq!(complete("-- a", "", &Own::default(), true).text, "panic=30 -- a");
        // Inside quotes, or with more to it, it is a word like any other; and the service's init words stay its own.
        assert_eq!(
            complete("a=\"x -- y\" --b", "-- console=ttyS0", &Own::default(), true).text,
            "a=\"x -- y\" --b panic=30"
        );
    }

    #[test]
    fn quotes_hold_words_together() {
        assert_eq!(
            complete("a=\"b panic=1\"", "", &Own::default(), true).text,
            "a=\"b panic=1\" panic=30"
        );
        assert_eq!(
            complete("a=\"never closed", "", &Own::default(), true).text,
            "panic=30 a=\"never closed"
        );
        assert_eq!(
            complete("", "console=\"ttyS0,115200 x\"", &Own::default(), true).added,
            ["console=\"ttyS0,115200 x\"", "panic=30"]
        );
        assert_eq!(value("a=1 b=\"x y\" a=2 -- a=3", "a"), Some("2"));
        assert_eq!(value("a=1 b=\"x y\"", "b"), Some("x y"));
        assert_eq!(value("a \"c=x y\"", "c"), Some("x y"));
        assert_eq!(value("a", "a"), None);
        assert_eq!(values(SERVICE, "console"), ["tty0", "ttyAMA0,115200", "tty0"]);
    }

    proptest! {
        #[test]
        fn the_kernel_reads_the_entry_and_the_additions(
            entry in r#"( ?[ab"= -]|--| console=x| panic=1){0,12}"#,
            running in r#"( ?[ab"= -]|--| console=y| earlycon){0,12}"#,
        ) {
            let done = complete(&entry, &running, &Own::default(), true);
            let read: Vec<String> = {
                let all: Vec<Word<'_>> = words(&done.text).collect();
                kernel_words(&all).map(|w| w.text.to_owned()).collect()
            };
            let own: Vec<Word<'_>> = words(entry.trim()).collect();
            let own: Vec<String> = kernel_words(&own).map(|w| w.text.to_owned()).collect();
            for word in own.iter().chain(&done.added) {
                prop_assert!(read.contains(word), "{word:?} is not read from {:?}", done.text);
            }
            prop_assert_eq!(read.len().checked_sub(own.len()), Some(done.added.len()));
            // Once is enough.
            prop_assert_eq!(complete(&done.text, &running, &Own::default(), true).text, done.text);
        }
    }
}
