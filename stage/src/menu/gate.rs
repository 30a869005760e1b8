//! Who may use the menu: a person, not noise on the line. Pure.

use std::collections::VecDeque;

use super::Millis;
use super::keys::Key;

/// Nothing but the stop string may come for so long before it and after it, ms: a line that babbles, or echoes what Cato prints,
/// is never so quiet.
const QUIET: Millis = 300;
/// The string's keys follow each other within this, ms.
const SLOW: Millis = 2000;
/// So many keys that are noise, with no such pause between them, and the line is no person's.
const NOISE: u32 = 8;

/// Waits for the stop string.
#[derive(Debug, Clone)]
pub(crate) struct Gate {
    stop: VecDeque<char>,
    /// The last characters of it.
    typed: VecDeque<char>,
    last: Millis,
    /// When something else came.
    other: Option<Millis>,
    /// It opens then, if nothing else comes.
    opens: Option<Millis>,
    /// How much noise there was in a row.
    noise: u32,
}

impl Gate {
    pub(crate) fn new(stop: &str) -> Self {
        Self {
            stop: stop.chars().collect(),
            typed: VecDeque::new(),
            last: 0,
            other: None,
            opens: None,
            noise: 0,
        }
    }

    pub(crate) fn press(&mut self, now: Millis, key: Key) {
        let Key::Char(c) = key else { return self.other(now) };
        if !self.stop.contains(&c) {
            return self.other(now);
        }
        if now > self.last.saturating_add(SLOW) {
            self.typed.clear();
        }
        self.last = now;
        self.typed.push_back(c);
        if self.typed.len() > self.stop.len() {
            self.typed.pop_front();
        }
        let is_quiet = self.is_quiet(now, QUIET);
        if is_quiet && self.typed == self.stop && self.opens.is_none() {
            self.opens = Some(now.saturating_add(QUIET));
        }
    }

    fn is_quiet(&self, now: Millis, time: Millis) -> bool {
        self.other.is_none_or(|other| now >= other.saturating_add(time))
    }

    fn other(&mut self, now: Millis) {
        self.typed.clear();
        (self.other, self.opens) = (Some(now), None);
    }

    /// When [`is_open`](Self::is_open) may be.
    pub(crate) fn wake(&self) -> Option<Millis> {
        self.opens
    }

    /// Whether the string was typed, and nothing else. Once for each time.
    pub(crate) fn is_open(&mut self, now: Millis) -> bool {
        let is_open = self.opens.is_some_and(|at| now >= at);
        if is_open {
            self.typed.clear();
            (self.opens, self.noise) = (None, 0);
        }
        is_open
    }

    /// Whether whoever had got through has become noise.
    pub(crate) fn closes(&mut self, now: Millis, key: Key) -> bool {
        match key {
            // No terminal sends what Cato does.
            Key::Echo => true,
            Key::Noise => {
                let is_new = self.is_quiet(now, SLOW);
                self.noise = if is_new { 1 } else { self.noise.saturating_add(1) };
                self.other = Some(now);
                self.noise >= NOISE
            }
            _ => false,
        }
    }
}

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "small numbers")]
mod tests {
    use super::*;
    use crate::menu::keys::Decoder;
    use proptest::prelude::*;

    fn gate() -> Gate {
        Gate::new("   ")
    }

    fn types(gate: &mut Gate, now: Millis, text: &str) {
        text.chars().for_each(|c| gate.press(now, Key::Char(c)));
    }

    #[test]
    fn the_string_opens_it_and_less_does_not() {
        let mut gate = gate();
        types(&mut gate, 1000, "  ");
        types(&mut gate, 3001, "  ");
        assert_eq!(gate.wake(), None, "those before are long ago");
        types(&mut gate, 3100, " ");
        assert!(!gate.is_open(3399));
        assert!(gate.is_open(3400));
        assert!(!gate.is_open(3401), "once");
        let mut gate = Gate::new("stop");
        types(&mut gate, 1000, "stop");
        assert!(gate.is_open(1300));
        // Whoever hammers on it, after a wrong key, gets through.
        let mut gate = self::gate();
        types(&mut gate, 1000, "x   ");
        types(&mut gate, 1200, "   ");
        types(&mut gate, 1300, " ");
        types(&mut gate, 1400, " ");
        assert!(gate.is_open(1600));
        // Nothing else may follow.
        let mut gate = self::gate();
        types(&mut gate, 1000, "   ");
        types(&mut gate, 1299, "2");
        assert!(!gate.is_open(1300));
    }

    /// Read in any two pieces, with any pause between them, from any byte on.
    #[test]
    fn what_is_printed_does_not_open_it_when_it_comes_back() {
        for line in [
            "cato[   2.345] prompt: press Space 3 times within 3 s to stop\r\n",
            "[    2.345678] random: crng init done\r\n",
            "* 1  a       appliance 2.4.1             slot A, good\r\n",
        ] {
            for from in 0..line.len() {
                for cut in from..line.len() {
                    let mut gate = gate();
                    types(&mut gate, 1000, &line[from..cut]);
                    types(&mut gate, 1290, &line[cut..]);
                    assert!(
                        !gate.is_open(1_000_000),
                        "{:?}, then {:?}",
                        &line[from..cut],
                        &line[cut..]
                    );
                }
            }
        }
    }

    #[test]
    fn a_person_may_slip_and_a_line_that_babbles_is_shut_out() {
        let mut gate = gate();
        for now in 1..100 {
            assert!(!gate.closes(now * 2000, Key::Noise));
            assert!(!gate.closes(now * 2000, Key::Escape));
        }
        assert!((0..8).any(|now| gate.closes(300_000 + now * 100, Key::Noise)));
        assert!(self::gate().closes(0, Key::Echo));
    }

    proptest! {
        /// At 115200 baud, read a few bytes at a time; and a byte now and then.
        #[test]
        fn noise_does_not_open_it(bytes in prop::collection::vec(any::<u8>(), 4096), pause in prop_oneof![Just(1), 1_u64..5000]) {
            let (mut gate, mut decoder) = (gate(), Decoder::default());
            for (now, piece) in (0..).zip(bytes.chunks(if pause == 1 { 12 } else { 1 })) {
                for key in decoder.feed(now * pause, piece) {
                    gate.press(now * pause, key);
                }
                prop_assert!(!gate.is_open(now * pause));
            }
        }
    }
}
