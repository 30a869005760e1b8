//! Keys as they come → what was pressed, and what was only pasted. Pure.

use super::Millis;
use super::keys::Key;

/// A terminal that says where a paste begins (xterm's mode 2004) may lose its end: it has ended so long after its last key, ms.
const ENDS: Millis = 1000;
/// Nobody presses two keys so close to each other, ms: a line end with another key so close to it is pasted, whether a terminal
/// says so or not.
const PRESSED: Millis = 20;

/// A key, and where it came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stroke {
    pub key: Key,
    pub is_pasted: bool,
}

/// Follows a terminal's keys.
#[derive(Debug, Clone, Default)]
pub(super) struct Paste {
    /// The terminal has said where it begins, and not yet where it ends.
    is_open: bool,
    /// When the last key came.
    last: Option<Millis>,
    /// An Enter is believed then, if nothing comes before.
    enter: Option<Millis>,
}

impl Paste {
    /// What is known once this key has come, after [`idle`](Self::idle). Where Enter does what a line end must not, it `waits`.
    pub(super) fn feed(&mut self, now: Millis, key: Key, waits: bool) -> impl Iterator<Item = Stroke> {
        let is_soon = |time: Millis| self.last.is_some_and(|last| now < last.saturating_add(time));
        let is_close = is_soon(PRESSED);
        self.is_open = match key {
            Key::PasteBegin => true,
            Key::PasteEnd => false,
            _ => self.is_open && is_soon(ENDS),
        };
        self.last = Some(now);
        let followed = self.enter.take().map(|_| Stroke {
            key: Key::Enter,
            is_pasted: true,
        });
        let may_be_pasted = waits && key == Key::Enter && !self.is_open;
        if may_be_pasted && !is_close {
            self.enter = Some(now.saturating_add(PRESSED));
        }
        let this = self.enter.is_none().then_some(Stroke {
            key,
            is_pasted: self.is_open || may_be_pasted,
        });
        followed.into_iter().chain(this)
    }

    /// The Enter that nothing has followed.
    pub(super) fn idle(&mut self, now: Millis) -> Option<Stroke> {
        self.enter.take_if(|at| now >= *at).map(|_| Stroke {
            key: Key::Enter,
            is_pasted: false,
        })
    }

    /// When [`idle`](Self::idle) is to be asked.
    pub(super) fn wake(&self) -> Option<Millis> {
        self.enter
    }

    /// Whether what comes is pasted, as the terminal says.
    pub(super) fn is_open(&self) -> bool {
        self.is_open
    }
}
