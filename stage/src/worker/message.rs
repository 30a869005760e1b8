//! What the worker tells PID 1: one line a message, on its standard output. Pure.

use std::fmt;

/// The steps of the flow, in order. PID 1 has a deadline for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Step {
    /// Process start, config, the machine's memory.
    Start,
    /// Finding the source: modules, devices, mount.
    Probe,
    /// Headers and sizes.
    Budget,
    /// Memory for the payload.
    Reserve,
    /// Reading and unpacking.
    Load,
    /// Sizes and digests against the config.
    Verify,
    /// Addresses, device tree or zero page, purgatory.
    Place,
    /// `kexec_load(2)`.
    Kexec,
    /// Loaded; waiting for PID 1's word.
    Loaded,
    /// `reboot(RB_KEXEC)`.
    Jump,
}

impl Step {
    const ALL: [Self; 10] = [
        Self::Start,
        Self::Probe,
        Self::Budget,
        Self::Reserve,
        Self::Load,
        Self::Verify,
        Self::Place,
        Self::Kexec,
        Self::Loaded,
        Self::Jump,
    ];

    /// The word in the log and in messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Probe => "probe",
            Self::Budget => "budget",
            Self::Reserve => "reserve",
            Self::Load => "load",
            Self::Verify => "verify",
            Self::Place => "place",
            Self::Kexec => "kexec",
            Self::Loaded => "loaded",
            Self::Jump => "jump",
        }
    }

    /// The step of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|s| s.name() == name)
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// A step begins.
    Step(Step),
    /// A line for the log.
    Say(String),
    /// Bytes of the payload handled so far: a sign of life that moves the step's deadline.
    Progress(u64),
    /// The entry can't be booted, and why.
    Fail(String),
}

impl Message {
    /// Reads one line, without its newline. `None` for anything the worker does not say.
    pub fn parse(line: &str) -> Option<Self> {
        let (word, rest) = line.split_once(' ')?;
        match word {
            "step" => Step::from_name(rest).map(Self::Step),
            "say" => Some(Self::Say(rest.to_owned())),
            "progress" => rest.parse().ok().map(Self::Progress),
            "fail" => Some(Self::Fail(rest.to_owned())),
            _ => None,
        }
    }
}

impl fmt::Display for Message {
    /// One line; control characters in texts (file names may hold any) become spaces.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let clean = |text: &str| text.replace(char::is_control, " ");
        match self {
            Self::Step(step) => write!(f, "step {step}"),
            Self::Say(text) => write!(f, "say {}", clean(text)),
            Self::Progress(bytes) => write!(f, "progress {bytes}"),
            Self::Fail(text) => write!(f, "fail {}", clean(text)),
        }
    }
}

/// Puts a byte stream back into lines, with a bound on a line's length.
#[derive(Debug, Default)]
pub struct Lines {
    partial: Vec<u8>,
}

impl Lines {
    /// Longest line kept, bytes; a longer one is cut, and says so.
    pub const MAX: usize = 4096;
    const CUT: &[u8] = b" [cut]";

    /// Takes more bytes and gives the lines they complete.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<String> {
        let mut lines = Vec::new();
        for &byte in bytes {
            if byte == b'\n' {
                lines.push(String::from_utf8_lossy(&self.partial).into_owned());
                self.partial.clear();
            } else if self.partial.len() < Self::MAX {
                self.partial.push(byte);
            } else if self.partial.len() == Self::MAX {
                self.partial.extend(Self::CUT);
            }
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_step_has_its_own_name() {
        for step in Step::ALL {
            assert_eq!(Step::from_name(step.name()), Some(step));
        }
    }

    #[test]
    fn a_text_with_a_newline_stays_one_message() {
        let line = Message::Fail("kernel \"a\nstep jump\": no".to_owned()).to_string();
        assert_eq!(line, "fail kernel \"a step jump\": no");
    }

    #[test]
    fn a_line_too_long_says_so() {
        let line = [b"say ".as_slice(), &[b'x'; 2 * Lines::MAX], b"\nstep load\n"].concat();
        let lines = Lines::default().push(&line);
        assert!(lines[0].ends_with("x [cut]"));
        assert_eq!(Message::parse(&lines[1]), Some(Message::Step(Step::Load)));
    }

    proptest! {
        #[test]
        fn messages_survive_the_pipe(text in "[^\\p{Cc}]{0,80}", bytes: u64, cut in 0usize..200) {
            let sent = [Message::Say(text.clone()), Message::Progress(bytes), Message::Step(Step::Load), Message::Fail(text)];
            let lines: Vec<String> = sent.iter().map(ToString::to_string).collect();
            let stream = lines.join("\n") + "\n";
            let (a, b) = stream.as_bytes().split_at(cut.min(stream.len()));
            let mut lines = Lines::default();
            let got: Vec<_> = [lines.push(a), lines.push(b)].concat().iter().map(|l| Message::parse(l)).collect();
            prop_assert_eq!(got, sent.into_iter().map(Some).collect::<Vec<_>>());
        }

        #[test]
        fn noise_is_never_a_panic(noise: Vec<u8>) {
            for line in Lines::default().push(&noise) {
                let _ = Message::parse(&line);
            }
        }
    }
}
