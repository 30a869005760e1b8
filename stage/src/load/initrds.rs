//! Several initrds become one, in the order of the config, because a later archive overwrites the files of an earlier one.
//!
//! Given open files and the memory for all of them; responsible for reading each once, for taking off what is not the
//! kernel's (U-Boot's header), for putting a bootconfig to the end of all, where alone the kernel looks for it, and for
//! refusing what the kernel would not read or would lose.

use std::io::{self, BufRead, Read};

use super::budget::InitrdFile;
use super::error::LoadError;
use super::payload::{Artefact, Note, Role, What};
use super::read::Meter;
use crate::formats::Kernel;
use crate::formats::initrd::{self, BuiltIn, Extent, InitrdError, bootconfig};
use crate::memory::{NoMemory, Slot};
use crate::text::cmdline;

/// The initrds so far.
pub(super) struct Joined<'a> {
    slot: Slot,
    kernel: &'a Kernel,
    /// The main kernel's.
    cmdline: &'a str,
    /// What the kernel unpacks, once it was asked.
    built_in: Option<BuiltIn>,
    /// Something compressed came already.
    packed: bool,
    /// What follows at once would be taken for a part of the last one.
    open: bool,
    /// Whose bootconfig it is, and the bootconfig.
    bootconfig: Option<(usize, Vec<u8>)>,
    added: usize,
    /// What is worth knowing about them.
    pub(super) notes: Vec<Note>,
}

impl<'a> Joined<'a> {
    /// None yet, for the memory `slot`, that `kernel` and its command line.
    pub(super) fn new(slot: Slot, kernel: &'a Kernel, cmdline: &'a str) -> Self {
        Self {
            slot,
            kernel,
            cmdline,
            built_in: None,
            packed: false,
            open: false,
            bootconfig: None,
            added: 0,
            notes: Vec::new(),
        }
    }

    /// Reads another one; `last` if there is none behind it.
    pub(super) fn add(
        &mut self,
        file: InitrdFile,
        last: bool,
        meter: &mut Meter<'_>,
        artefacts: &mut Vec<Artefact>,
    ) -> Result<(), LoadError> {
        let (skip, len) = file.span();
        let InitrdFile { mut stored, uboot } = file;
        // The reservation counted these zeros.
        let padding = initrd::padding(self.slot.len(), self.open);
        let _ = self.slot.push([0; 7].get(..padding).unwrap_or_default());
        let start = self.slot.len();

        let body = len.saturating_sub(bootconfig::TAIL);
        let mut tail = Vec::new();
        let mut behind = None;
        meter
            .pass(&mut stored, |from| {
                let end = skip.saturating_add(body);
                self.slot.fill(&mut Read::take(&mut *from, end), skip)?;
                Read::take(&mut *from, len.saturating_sub(body)).read_to_end(&mut tail)?;
                if uboot.is_some() {
                    behind = no_padding(from)?;
                }
                Ok(())
            })
            .map_err(|source| stored.failed(source))?;

        let mut config = &[][..];
        let mut archive = &*tail;
        let mut result = Ok(());
        // A file that changed its length while it was read is for `verify` to refuse, which says so.
        let whole = stored.whole();
        if whole {
            let body = self.slot.get(start..).unwrap_or_default();
            result = uboot.map_or(Ok(()), |uboot| uboot.check([body, &tail]));
            if let (Ok(()), Some(behind)) = (&result, behind) {
                let at = skip.saturating_add(len).saturating_add(behind);
                result = Err(InitrdError::UBootMore { at });
            }
            match bootconfig::find(&tail) {
                Ok(Some(range)) => {
                    archive = tail.get(..range.start).unwrap_or_default();
                    config = tail.get(range).unwrap_or_default();
                }
                Ok(None) if tail.iter().all(|byte| *byte == 0) && bootconfig::ends(body) => {
                    result = result.and(Err(InitrdError::Bootconfig {
                        what: "is followed by too many zeros for the kernel to find it",
                    }));
                }
                Ok(None) if bootconfig::is_hidden(&tail) => {
                    result = result.and(Err(InitrdError::Bootconfig {
                        what: "is followed by other data, so the kernel does not find it",
                    }));
                }
                Ok(None) => {}
                Err(error) => result = result.and(Err(error)),
            }
        }
        if !self.slot.push(archive) {
            return Err(no_room(stored.role, archive));
        }
        if whole {
            result = result.and_then(|()| self.examine(start, stored.role, &stored.path, last, config));
        }
        result.map_err(|source| LoadError::Initrd {
            role: stored.role,
            path: stored.path.clone(),
            source,
        })?;
        self.added = self.added.saturating_add(1);
        artefacts.push(stored.artefact());
        Ok(())
    }

    /// Looks at what was read from `start` on, and at the bootconfig behind it.
    fn examine(&mut self, start: usize, role: Role, path: &str, last: bool, config: &[u8]) -> Result<(), InitrdError> {
        let note = |what| Note {
            role,
            path: path.to_owned(),
            what,
        };
        let bytes = self.slot.get(start..).unwrap_or_default();
        if config.is_empty() || bytes.iter().any(|b| *b != 0) {
            let found = initrd::examine(bytes, if last { Extent::Last } else { Extent::Followed })?;
            let kernel = self.kernel;
            let built_in = self.built_in.get_or_insert_with(|| kernel.built_in());
            built_in.takes_initrds()?;
            found.packed.iter().try_for_each(|packing| built_in.unpacks(*packing))?;
            if found.sums {
                built_in.takes_sums()?;
            }
            if found.endless {
                self.notes.push(note(What::Endless));
            }
            if found.early && self.packed {
                self.notes.push(note(What::LateEarlyFiles));
            }
            match found.junk {
                Some(at) if last => self.notes.push(note(What::Junk { at })),
                Some(at) => return Err(InitrdError::Lost { at }),
                None => {}
            }
            self.packed |= !found.packed.is_empty();
            self.open = found.open;
        }
        if !config.is_empty() {
            if self.bootconfig.is_some() {
                return Err(InitrdError::Bootconfigs);
            }
            let kernel = self.kernel;
            if !self
                .built_in
                .get_or_insert_with(|| kernel.built_in())
                .may_have("CONFIG_BOOT_CONFIG")
            {
                self.notes.push(note(What::NoBootconfig));
            } else if !cmdline::has_word(self.cmdline, "bootconfig") {
                self.notes.push(note(What::NotAskedFor));
            }
            self.bootconfig = Some((self.added, config.to_vec()));
            if !last {
                self.notes.push(note(What::Bootconfig));
            }
        }
        Ok(())
    }

    /// All of them, and the bootconfig behind the last.
    pub(super) fn finish(mut self) -> Result<(Slot, Vec<Note>), LoadError> {
        if let Some((of, config)) = &self.bootconfig {
            // As the tool does, so that the whole ends at a multiple of 4.
            let moved = of.saturating_add(1) < self.added;
            let padding = initrd::padding(self.slot.len().saturating_add(config.len()), false);
            let padding = [0; 3].get(..padding).filter(|_| moved).unwrap_or_default();
            if !(self.slot.push(padding) && self.slot.push(config)) {
                return Err(no_room(Role::InitrdAt(*of), config));
            }
        }
        Ok((self.slot, self.notes))
    }
}

fn no_room(role: Role, bytes: &[u8]) -> LoadError {
    let source = NoMemory {
        bytes: u64::try_from(bytes.len()).unwrap_or(u64::MAX),
    };
    LoadError::NoMemory { role, source }
}

/// Where in `from` something begins that is neither zeros nor erased flash, bytes; none when nothing does.
fn no_padding(from: &mut dyn BufRead) -> io::Result<Option<u64>> {
    let mut passed = 0_u64;
    loop {
        let bytes = from.fill_buf()?;
        let padding = bytes.iter().take_while(|b| [0, 0xff].contains(*b)).count();
        let (all, none) = (padding == bytes.len(), bytes.is_empty());
        from.consume(padding);
        passed = passed.saturating_add(u64::try_from(padding).unwrap_or(0));
        match (all, none) {
            (_, true) => return Ok(None),
            (true, _) => {}
            (false, _) => return Ok(Some(passed)),
        }
    }
}
