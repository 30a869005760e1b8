//! What PID 1 and its children tell each other: a [`Job`] down the child's standard input, [`Message`]s back up its
//! standard output. Pure.
//!
//! Each is one frame (COBS, with a zero byte behind it) of the types below, so one that is damaged costs itself and no other.

use std::time::Duration;

use config::{Purgatory, ReasonStore, SlotName, Unbind};
use postcard::accumulator::{CobsAccumulator, FeedResult};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::cause::Failure;
use crate::menu::view::Told;
use crate::select::Choice;
use crate::state::Reset;
use crate::state::store::Stored;
use crate::step::Step;
use crate::text::cut;

/// What a child is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Job {
    /// Answer this, and wait for the next job.
    Ask(Question),
    /// Boot an entry.
    Boot(Box<Boot>),
}

/// What may hang or die with the one who looks, and so is not for PID 1 itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Question {
    /// Why the purgatory reset the machine, as left there. Reading may fault, and may never come back.
    LastJump(ReasonStore),
    /// Load the drivers of watchdogs, and have them bound.
    Watchdog,
    /// What is known of the slots: the state partition is looked for, and read.
    State,
    /// Write it down again.
    Keep(Box<Kept>),
    /// Say what a kernel said as it died, and keep it, on the state partition of this name in `/dev`.
    LastWords(Option<String>),
    /// `kexec_load` with nothing: drop what a dead worker may have loaded, before its pages are used again.
    Unload,
    /// `reboot(RB_AUTOBOOT)`: whoever is still there to answer was refused.
    Reboot,
    /// The same to switch the machine off.
    PowerOff,
    /// What machine this is, for somebody to read: in [`Message::Told`].
    Machine,
    /// Likewise what is there.
    Files {
        /// What a row leads to; empty are all volumes.
        at: String,
        /// As in [`Boot`].
        late: Vec<String>,
    },
    /// Use a console that PID 1 lends for it.
    Lend(Loan),
    /// Likewise what booting this would come to: all of it is done but the hand-off.
    Plan(Box<Boot>),
    /// Whether this password has that hash: it takes time and memory, as it should.
    Password {
        /// As it was typed.
        typed: String,
        /// argon2id, as a PHC string.
        hash: String,
    },
}

/// A console that a child has meanwhile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Loan {
    /// The terminal's name in `/dev`.
    pub tty: String,
    /// What for.
    pub what: Lent,
}

/// What a console is lent for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Lent {
    /// To take files that come over it, with YMODEM.
    Receive,
    /// To send the log over it: what Cato has said, and the kernel's.
    Send(String),
    /// For a shell, until that ends.
    Shell,
}

/// All that a worker has to know to boot an entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Boot {
    /// The entry, and why it was taken.
    pub choice: Choice,
    /// What the purgatory may use.
    pub purgatory: Purgatory,
    /// When PID 1 started, microseconds since boot: the record begins with it.
    pub began_us: u64,
    /// Devices that did not answer to an earlier worker, by the names it gave them.
    pub late: Vec<String>,
    /// What to write down before the jump, where a state is known.
    pub account: Option<Account>,
    /// A state is wanted and was not found: where its disk comes with the entry's, the entry is not booted.
    pub lacks_state: bool,
    /// The slot that was preferred to this entry and failed: for the hand-over record.
    pub passed_over: Option<String>,
    /// How long the main system has to open the watchdog, where one is left running.
    pub watchdog: Option<Duration>,
    /// How long it may be up without being marked good.
    pub trial: Option<Duration>,
    /// The watchdog is tested: the main system is to be reset by it.
    pub is_test: bool,
    /// What is taken from its driver before the jump.
    pub unbind: Vec<Unbind>,
}

/// A boot that is to be written down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Account {
    /// The state before it.
    pub kept: Kept,
    /// The slot whose attempt it is; none for an entry without one.
    pub slot: Option<SlotName>,
    /// It is a test of the watchdog.
    pub is_test: bool,
    /// Without it the slot is not booted: nobody has said that it is good.
    pub is_needed: bool,
    /// Writing has not come back before, so it is not tried.
    pub is_stuck: bool,
}

/// The state, and where it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Kept {
    /// The partition's name in `/dev`.
    pub device: String,
    /// Its GUID: the main system finds the same one by it.
    pub partuuid: Option<String>,
    /// What is there.
    pub stored: Stored,
}

/// What was found of the state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FoundState {
    /// The partition's name in `/dev`.
    pub device: String,
    /// Its GUID.
    pub partuuid: Option<String>,
    /// The partition for the console.
    pub describe: String,
    /// What it holds.
    pub stored: FoundStored,
    /// The running kernel's version, two numbers.
    pub kernel: [u8; 2],
    /// Jumps since power-on.
    pub kexecs: u16,
    /// Which machine this is, as a hash; 0 when nothing says.
    pub machine: u64,
    /// Why it was reset last, as far as the kernel knows.
    pub reset: Reset,
}

/// What a state partition holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum FoundStored {
    /// A state.
    Known(Stored),
    /// None any more, and why.
    Lost(String),
    /// Nothing that may be written to, or there is no such partition, and why.
    Nothing(String),
}

/// One message of a child.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Message {
    /// A step begins.
    Step(Step),
    /// A line for the log.
    Say(String),
    /// A row of a text that was asked for.
    Told(Told),
    /// Bytes handled so far, of the payload or over the line: a sign of life that moves the deadline.
    Progress(u64),
    /// The kernel is going to copy the payload, which may take as long as [`COPY`](crate::deadlines::COPY).
    Copying,
    /// This device did not answer in its time.
    Late(String),
    /// The state that the boot lacks is there now: PID 1 may choose another entry with it.
    StateIsThere,
    /// The attempt is written down.
    Accounted(Box<Stored>),
    /// What was asked.
    Answer(Answer),
    /// It can't be done, and why.
    Fail(Failure),
}

/// The answer to a [`Question`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Answer {
    /// To [`Question::LastJump`]: what is to be said of it, if something was left; and whether the power was off since, where that
    /// can be told.
    LastJump(Option<String>, Option<bool>),
    /// To [`Question::State`].
    State(Box<FoundState>),
    /// To [`Question::Keep`]: it is on the device; and what is wrong with the other copy.
    Kept(Box<Stored>, Option<String>),
    /// To [`Question::Watchdog`]: why the machine was reset last, as far as the watchdogs know.
    Watchdog(Reset),
    /// To [`Question::Password`].
    Fits(bool),
    /// To [`Lent::Receive`].
    Received(Vec<Received>),
    /// To [`Question::Unload`]: nothing is loaded; to others: all of it has been told, or done.
    Done,
}

/// A file that has come in, in [`RECEIVED`](config::paths::RECEIVED).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Received {
    /// Its name there.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// What it is.
    pub kind: ReceivedKind,
}

/// What a received file is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum ReceivedKind {
    /// It has a kernel's header.
    Kernel,
    /// `*.dtb`.
    DeviceTree,
    /// `*.toml`.
    Config,
    /// Anything else.
    Initrd,
}

impl std::fmt::Display for ReceivedKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Kernel => "a kernel",
            Self::DeviceTree => "a device tree",
            Self::Config => "a boot.toml",
            Self::Initrd => "an initrd",
        })
    }
}

/// The most files that are taken at a time.
pub(crate) const MOST_RECEIVED: usize = 8;

/// The frame of `value`.
///
/// # Errors
/// None that these types can have.
pub(crate) fn frame<T: Serialize>(value: &T) -> postcard::Result<Vec<u8>> {
    postcard::to_stdvec_cobs(value)
}

/// What is in a frame, with its zero byte or without; it is used up.
///
/// # Errors
/// It holds something else.
pub(crate) fn parse<T: DeserializeOwned>(frame: &mut [u8]) -> postcard::Result<T> {
    postcard::from_bytes_cobs(frame)
}

impl Message {
    /// Longest text, bytes: with it a frame is shorter than [`Frames::MOST`].
    pub(crate) const MOST: usize = 3072;

    /// A line for the log, cut where it is too long.
    pub(crate) fn say(text: &str) -> Self {
        Self::Say(cut(text, Self::MOST))
    }

    /// The same for what failed.
    pub(crate) fn fail(mut failure: Failure) -> Self {
        failure.text = cut(&failure.text, Self::MOST);
        Self::Fail(failure)
    }
}

/// Puts a byte stream back into messages, with a bound on what it keeps.
pub(crate) struct Frames(CobsAccumulator<{ Frames::MOST }>);

impl std::fmt::Debug for Frames {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Frames").finish_non_exhaustive()
    }
}

impl Default for Frames {
    fn default() -> Self {
        Self(CobsAccumulator::new())
    }
}

impl Frames {
    /// Longest frame kept, bytes.
    pub(crate) const MOST: usize = 4096;

    /// Takes more bytes and gives the messages they complete; `None` for what is not one.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Vec<Option<Message>> {
        let mut messages = Vec::new();
        let mut rest = bytes;
        while !rest.is_empty() {
            rest = match self.0.feed(rest) {
                FeedResult::Consumed => break,
                FeedResult::OverFull(rest) | FeedResult::DeserError(rest) => {
                    messages.push(None);
                    rest
                }
                FeedResult::Success { data, remaining } => {
                    messages.push(Some(data));
                    remaining
                }
            };
        }
        messages
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cause::Cause;
    use crate::select::tests::config;
    use crate::select::{Tried, select};
    use proptest::prelude::*;

    #[test]
    fn an_entry_is_handed_over_as_it_is() {
        let config = config(&["a", "b"]);
        let mut choice = select(&config, &Tried::default(), None).unwrap();
        choice.entry.source = config::Source::PartUuid("8cb7c4dc-4a10-4e4e-8ebb-0a2c7c3e6e0e".to_owned());
        choice.entry.sha256.initrd = vec![None, Some(config::Sha256([7; 32]))];
        for reason in [None, Some(ReasonStore::Cmos(0x30)), Some(ReasonStore::Memory(0x1000))] {
            let job = Job::Boot(Box::new(Boot {
                account: None,
                lacks_state: true,
                passed_over: None,
                watchdog: Some(Duration::from_mins(1)),
                trial: None,
                is_test: false,
                unbind: vec![Unbind::Driver("xhci_hcd".to_owned())],
                choice: choice.clone(),
                purgatory: Purgatory { console: true, reason },
                began_us: u64::MAX,
                late: vec!["virtio virtio1".to_owned()],
            }));
            assert_eq!(parse(&mut frame(&job).unwrap()), Ok(job));
        }
    }

    #[test]
    fn a_text_too_long_is_cut_and_says_so() {
        let long = "\u{e9}".repeat(Message::MOST);
        let bytes = [
            frame(&Message::say(&long)).unwrap(),
            frame(&Message::fail(Failure::new(Cause::Io, long))).unwrap(),
        ]
        .concat();
        let got = Frames::default().push(&bytes);
        assert!(matches!(got.as_slice(), [Some(Message::Say(a)), Some(Message::Fail(b))]
            if a.ends_with("\u{e9} [cut]") && b.text == *a));
    }

    #[test]
    fn noise_costs_itself_and_no_other_message() {
        let step = frame(&Message::Step(Step::Load)).unwrap();
        for noise in [
            b"\xff\xff\x00".as_slice(),
            b"\x00",
            &[1; 3 * Frames::MOST],
            &[step.as_slice(), &[7]].concat(),
        ] {
            let mut frames = Frames::default();
            let got = frames.push(&[noise, b"\x00", &step].concat());
            assert_eq!(got.last(), Some(&Some(Message::Step(Step::Load))));
        }
    }

    proptest! {
        #[test]
        fn messages_survive_the_pipe(text: String, bytes: u64, cut in 0usize..2000) {
            let sent = [
                Message::say(&text),
                Message::Progress(bytes),
                Message::Step(Step::Load),
                Message::Answer(Answer::LastJump(Some(text.clone()), None)),
                Message::fail(Failure::new(Cause::Placement, text)),
            ];
            let stream: Vec<u8> = sent.iter().flat_map(|m| frame(m).unwrap()).collect();
            let (a, b) = stream.split_at(cut.min(stream.len()));
            let mut frames = Frames::default();
            let got = [frames.push(a), frames.push(b)].concat();
            prop_assert_eq!(got, sent.into_iter().map(Some).collect::<Vec<_>>());
        }

        #[test]
        fn noise_is_never_a_panic(noise: Vec<u8>) {
            let _ = Frames::default().push(&noise);
            let _ = parse::<Job>(&mut noise.clone());
        }
    }
}
