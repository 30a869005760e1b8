//! Where everything has failed: keys, and a timer that begins anew.

use std::time::Duration;

use super::{Action, Event, Millis, Phase, Policy, after};
use crate::deadlines;
use crate::select::Tried;
use crate::worker::message::Question;

impl Policy {
    /// Longer each time: what did not help after a minute may after an hour, and until then the machine is not worn out.
    pub(super) fn retry(&self) -> Duration {
        let Some(config) = &self.config else {
            return deadlines::RETRY_WITHOUT_CONFIG;
        };
        let first = config.console.retry;
        let factor = 2_u32.saturating_pow(self.retries);
        first.saturating_mul(factor).min(deadlines::LONGEST_RETRY.max(first))
    }

    /// Waits for a key or the timer, and begins anew then: whoever is there may have repaired what did not work.
    pub(super) fn prompt(&mut self, now: Millis, why: &str) -> Vec<Action> {
        self.tried = Tried {
            all_failed: true,
            ..Tried::default()
        };
        self.late.clear();
        self.again = None;
        let retry = self.retry();
        self.phase = Phase::Prompt {
            retry: after(now, retry),
        };
        let keys = self.keys(why, retry);
        // Why it came to this, for whoever reads nothing but the end of the log.
        let known = self.slots.told().into_iter().map(|line| Action::Log("slots", line));
        known.chain([keys]).collect()
    }

    /// The line of the prompt.
    fn keys(&self, why: &str, left: Duration) -> Action {
        let mut keys = String::new();
        for (entry, key) in self.config.iter().flat_map(|c| &c.entries).zip('1'..='9') {
            keys.extend([format!("{key} = {:?}, ", entry.name)]);
        }
        let (again, alone) = if self.config.is_some() {
            ("r = try again, ", "trying again")
        } else {
            ("", "resetting")
        };
        let text = format!(
            "{why}. Keys: {again}{keys}b = reboot; {alone} by itself in {} s",
            left.as_secs()
        );
        Action::Log("prompt", text)
    }

    /// Says again what there is to do. Whoever it was gets no more time: a line that babbles must not keep an unattended box here.
    fn again_at_prompt(&mut self, now: Millis, why: &str, retry: Millis) -> Vec<Action> {
        let left = Duration::from_millis(retry.saturating_sub(now));
        self.phase = Phase::Prompt { retry };
        vec![self.keys(why, left)]
    }

    pub(super) fn at_prompt(&mut self, now: Millis, event: &Event, retry: Millis) -> Vec<Action> {
        match event {
            Event::Key(b'b') => {
                let log = Action::Log("prompt", "rebooting".to_owned());
                vec![log, self.ask(now, Question::Reboot, false)]
            }
            Event::Key(b'r') if self.config.is_some() => {
                self.retries = 0;
                self.boot_next(now)
            }
            Event::Key(key @ b'1'..=b'9') => {
                let picked = usize::from(key.saturating_sub(b'1'));
                match self.config.as_ref().and_then(|c| c.entries.get(picked)) {
                    Some(entry) => {
                        self.retries = 0;
                        self.tried.picked = Some(entry.name.clone());
                        self.boot_next(now)
                    }
                    None => self.again_at_prompt(now, "no such entry", retry),
                }
            }
            Event::Key(b'\r' | b'\n' | b'?') if now < retry => self.again_at_prompt(now, "waiting", retry),
            _ if now >= retry && self.config.is_none() => Self::reset("there is no valid boot.toml"),
            _ if now >= retry => {
                self.retries = self.retries.saturating_add(1);
                self.boot_next(now)
            }
            // Any other key is noise: it must not keep an unattended box here.
            _ => self.stay(Phase::Prompt { retry }),
        }
    }
}
