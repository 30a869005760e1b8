//! The two copies of the state on a disk whose power may fail in the middle of a write.

use super::*;

/// The two copies: what each holds, with how new it is; none where it is damaged.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Disk(pub(super) [Option<(State, u64)>; 2]);

impl Disk {
    pub(super) fn of(state: Option<State>) -> Self {
        let copy = state.map(|state| (state, 1));
        Self([copy.clone(), copy])
    }

    pub(super) fn medium(&self) -> Medium {
        let block = |copy: &Option<(State, u64)>| match copy {
            Some((state, sequence)) => block::encode(state, *sequence, BLOCKS),
            None => [0xa5; block::SIZE],
        };
        Medium {
            blocks: self.0.each_ref().map(block),
            writes_left: usize::MAX,
            torn: false,
        }
    }

    pub(super) fn load(&self) -> Result<Stored, LoadError> {
        store::load(&mut self.medium())
    }

    /// What [`load`](Self::load) finds, without reading blocks.
    pub(super) fn state(&self) -> Option<&State> {
        let [first, second] = &self.0;
        let newer = match (first, second) {
            (Some(first), Some(second)) if second.1 > first.1 => second,
            (Some(first), _) => first,
            (None, second) => second.as_ref()?,
        };
        Some(&newer.0)
    }

    /// What a program of the main system does to it; what it writes.
    pub(super) fn change(&mut self, change: impl FnOnce(&mut State) -> Result<(), Refusal>) -> Result<Stored, Refusal> {
        let mut medium = self.medium();
        let mut stored = store::load(&mut medium).map_err(|_| Refusal::Unknown)?;
        change(&mut stored.state)?;
        let written = stored.clone();
        stored.save(&mut medium).unwrap();
        *self = medium.disk();
        Ok(written)
    }

    /// What is left of it when the power fails in the middle of writing `stored`: at each write, which leaves nothing of itself, or
    /// a part.
    pub(super) fn cuts(&self, stored: &Stored) -> [Self; 5] {
        let old = self.state();
        let before = self.medium();
        [(0, false), (0, true), (1, false), (1, true), (2, false)].map(|(writes_left, torn)| {
            let mut medium = Medium {
                writes_left,
                torn,
                ..before.clone()
            };
            if has(Bug::WritesBothAtOnce) && torn {
                medium.blocks = [[0xff; block::SIZE]; 2];
            }
            let _ = stored.clone().save(&mut medium);
            // What was not written to need not be read again.
            let next = Self([0, 1].map(|copy| {
                if medium.blocks[copy] == before.blocks[copy] {
                    return self.0[copy].clone();
                }
                decoded(&medium.blocks[copy])
            }));
            let found = next.state();
            let new = Some(&stored.state);
            assert!(
                found == old || found == new,
                "a cut left something else: {self:?} {next:?}"
            );
            next
        })
    }
}

/// The disk while it is written to.
#[derive(Debug, Clone)]
pub(super) struct Medium {
    pub(super) blocks: [Block; 2],
    /// Then the power fails.
    pub(super) writes_left: usize,
    /// That write leaves a part of itself.
    pub(super) torn: bool,
}

impl Medium {
    pub(super) fn disk(&self) -> Disk {
        Disk(self.blocks.each_ref().map(decoded))
    }

    fn block(&mut self, copy: Copy) -> &mut Block {
        match copy {
            Copy::First => &mut self.blocks[0],
            Copy::Second => &mut self.blocks[1],
        }
    }
}

/// What any disk here has room for.
const BLOCKS: u64 = 256;

/// What is in a block, with how new it is.
pub(super) fn decoded(block: &Block) -> Option<(State, u64)> {
    let written = block::decode(block).ok()?;
    Some((written.state, written.sequence))
}

impl Copies for Medium {
    fn read(&mut self, copy: Copy) -> io::Result<Block> {
        Ok(*self.block(copy))
    }

    fn write(&mut self, copy: Copy, block: &Block) -> io::Result<()> {
        if self.writes_left == 0 {
            if std::mem::take(&mut self.torn) {
                self.block(copy)[..100].copy_from_slice(&block[..100]);
                self.block(copy)[100..].fill(0xff);
            }
            return Err(io::Error::other("no power"));
        }
        self.writes_left -= 1;
        *self.block(copy) = *block;
        Ok(())
    }

    fn blocks(&self) -> u64 {
        BLOCKS
    }
}
