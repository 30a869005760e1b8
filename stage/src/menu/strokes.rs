//! Keys as they come → what was pressed, and what was only pasted. Pure.

use super::Millis;
use super::keys::Key;

/// A terminal that says where a paste begins (xterm's mode 2004) may lose its end: it has ended so long after its last key, ms.
const ENDS: Millis = 1000;
/// Nobody presses two keys so close to each other, ms: they are pasted, or come back from a line that echoes, whether a terminal
/// says so or not.
const PRESSED: Millis = 20;
/// Whoever has held a key down has let it go after so long a pause, ms.
const LET_GO: Millis = 500;

/// A key, and where it came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stroke {
    pub key: Key,
    pub is_pasted: bool,
}

/// Follows a terminal's keys.
#[derive(Debug, Clone, Default)]
pub(super) struct Strokes {
    /// The terminal has said where a paste begins, and not yet where it ends.
    is_paste: bool,
    /// When the last key came.
    last: Option<Millis>,
    /// A key, and when it is believed, if nothing comes before.
    held: Option<(Key, Millis)>,
    /// None is believed before a pause.
    is_hushed: bool,
}

impl Strokes {
    /// What is known once this key has come, after [`idle`](Self::idle). One that would act `waits` until it is known to be pressed.
    pub(super) fn feed(&mut self, now: Millis, key: Key, waits: bool) -> impl Iterator<Item = Stroke> {
        let is_soon = |time: Millis| self.last.is_some_and(|last| now < last.saturating_add(time));
        let is_close = is_soon(PRESSED);
        self.is_paste = match key {
            Key::PasteBegin => true,
            Key::PasteEnd => false,
            _ => self.is_paste && is_soon(ENDS),
        };
        self.is_hushed &= is_soon(LET_GO);
        self.last = Some(now);
        let followed = self.held.take().map(|(key, _)| Stroke { key, is_pasted: true });
        let may_be_pasted = waits && !self.is_paste;
        if may_be_pasted && !is_close && !self.is_hushed {
            self.held = Some((key, now.saturating_add(PRESSED)));
        }
        let this = self.held.is_none().then_some(Stroke {
            key,
            is_pasted: self.is_paste || may_be_pasted,
        });
        followed.into_iter().chain(this)
    }

    /// The key that nothing has followed.
    pub(super) fn idle(&mut self, now: Millis) -> Option<Stroke> {
        let (key, _) = self.held.take_if(|(_, at)| now >= *at)?;
        Some(Stroke { key, is_pasted: false })
    }

    /// When [`idle`](Self::idle) is to be asked.
    pub(super) fn wake(&self) -> Option<Millis> {
        self.held.map(|(_, at)| at)
    }

    /// Whether what comes is pasted, as the terminal says.
    pub(super) fn is_paste(&self) -> bool {
        self.is_paste
    }

    /// What comes now was meant for something else, until there is a pause.
    pub(super) fn hush(&mut self) {
        self.is_hushed = true;
    }
}
