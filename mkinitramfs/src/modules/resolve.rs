//! What wanted modules need, and an order in which all of it can be loaded.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, bail, ensure};
use config::modules::{Index, Module, alias_matches, canonical_name};

use super::modinfo::ModInfo;
use super::usual::file_system;
use super::{Loaded, ModuleTree, Resolved};

/// How far a module is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Its needs are being resolved.
    Open,
    /// In the index.
    Placed,
}

/// A depth-first walk that puts each module into the index behind what it needs.
pub(super) struct Walk<'t> {
    tree: &'t ModuleTree,
    loaded: BTreeMap<String, Loaded>,
    state: BTreeMap<String, State>,
    index: Index,
    /// Modules wanted after another one: they are packed, but nothing waits for them.
    later: Vec<String>,
    /// What would replay a journal, and is not there.
    lacking: BTreeSet<&'static str>,
}

impl<'t> Walk<'t> {
    /// At the start, with nothing placed.
    pub(super) fn new(tree: &'t ModuleTree) -> Self {
        Self {
            tree,
            loaded: BTreeMap::new(),
            state: BTreeMap::new(),
            index: Index::default(),
            later: vec![],
            lacking: BTreeSet::new(),
        }
    }

    /// What was placed.
    pub(super) fn finish(mut self) -> Result<Resolved> {
        while let Some(name) = self.later.pop() {
            self.root(&name)?;
        }
        let (mut files, mut warnings) = (Vec::new(), Vec::new());
        if !self.lacking.is_empty() {
            let lacking: Vec<_> = self.lacking.iter().copied().collect();
            warnings.push(format!(
                "a file system with a journal can't be read after a power cut: that needs {}, {}",
                lacking.join(" and "),
                self.tree.absent()
            ));
        }
        for module in &self.index.modules {
            let Some(loaded) = self.loaded.remove(&module.name) else {
                continue;
            };
            if let Some(version) = loaded.info.kernel {
                let first = self.index.kernel.get_or_insert_with(|| version.clone());
                if *first != version {
                    warnings.push(format!(
                        "module {} is built for kernel {version}, others for {first}; the kernel may refuse one of them",
                        module.name
                    ));
                }
            }
            files.extend(module.path().map(|path| (path, loaded.bytes)));
        }
        Ok(Resolved {
            index: self.index,
            files,
            warnings,
        })
    }

    fn loaded(&mut self, name: &str) -> Result<Option<&Loaded>> {
        if !self.loaded.contains_key(name) {
            let Some(loaded) = self.tree.load(name)? else {
                return Ok(None);
            };
            self.loaded.insert(name.to_owned(), loaded);
        }
        Ok(self.loaded.get(name))
    }

    /// Places a module that something outside of the walk wants.
    ///
    /// # Errors
    /// When one that it depends on is neither there nor built in, one is damaged, or they form a circle.
    pub(super) fn root(&mut self, name: &str) -> Result<()> {
        ensure!(self.visit(name)?, "module {name}: circular dependency");
        Ok(())
    }

    /// Places `name` behind its needs. False when that would close a circle.
    fn visit(&mut self, name: &str) -> Result<bool> {
        match self.state.get(name) {
            Some(State::Placed) => return Ok(true),
            Some(State::Open) => return Ok(false),
            None => {}
        }
        let builtin = self.tree.is_builtin(name);
        let info = match self.loaded(name)? {
            Some(loaded) => loaded.info.clone(),
            None if builtin => ModInfo::default(),
            None => bail!("no module {name}"),
        };
        self.state.insert(name.to_owned(), State::Open);
        let mut needs: Vec<String> = Vec::new();
        for hard in &info.depends {
            if self.tree.is_builtin(hard) {
                continue;
            }
            if !self.tree.has_file(hard) {
                bail!("module {name} needs {hard}: {}", self.tree.absent());
            }
            if !self.visit(hard)? {
                self.state.remove(name);
                return Ok(false);
            }
            needs.push(hard.clone());
        }
        let usual = file_system(name);
        let at_mount = usual.into_iter().flat_map(|fs| fs.at_mount);
        let wanted: Vec<String> = info
            .before
            .iter()
            .cloned()
            .chain(at_mount.map(|&w| w.to_owned()))
            .collect();
        for soft in wanted {
            for found in self.providers(&soft)? {
                if self.visit(&found)? && !needs.contains(&found) {
                    needs.push(found);
                }
            }
        }
        for soft in &info.after {
            let found = self.providers(soft)?;
            self.later.extend(found);
        }
        for tool in usual.into_iter().flat_map(|fs| fs.for_replay) {
            if self.tree.has_file(tool) {
                self.later.push((*tool).to_owned());
            } else if !self.tree.is_builtin(tool) {
                self.lacking.insert(tool);
            }
        }
        self.state.insert(name.to_owned(), State::Placed);
        if !builtin || !needs.is_empty() {
            self.index.modules.push(Module {
                name: name.to_owned(),
                builtin,
                needs,
                watchdog: self.tree.is_watchdog(name),
                aliases: info.aliases,
            });
        }
        Ok(true)
    }

    /// The modules that a soft dependency means: one of that name, else those whose alias it is. None if it is built in.
    ///
    /// To find an alias without reading thousands of files, only modules are asked whose name begins as the alias does,
    /// without its kind and the size at its end: crypto-crc32c is served by crc32c_generic and crc32c_intel (which
    /// refuses to load on a processor that it is not for), blake2b-256 by blake2b_generic.
    fn providers(&mut self, wanted: &str) -> Result<Vec<String>> {
        let name = canonical_name(wanted);
        if self.tree.has_file(&name) {
            return Ok(vec![name]);
        }
        if self.tree.is_builtin(&name) || self.tree.has_builtin_alias(wanted) {
            return Ok(vec![]);
        }
        let stem = ["crypto_", "fs_", "nls_"]
            .iter()
            .find_map(|kind| name.strip_prefix(kind))
            .unwrap_or(&name)
            .trim_end_matches(|c: char| c.is_ascii_digit() || c == '_');
        let mut found: Vec<String> = Vec::new();
        for candidate in self.tree.names_from(stem) {
            let aliases = self.loaded(candidate)?.map_or(&[][..], |l| &l.info.aliases);
            if aliases.iter().any(|alias| alias_matches(alias, wanted)) {
                found.push(candidate.clone());
            }
        }
        // The portable one is enough: it fits every processor, and one module less is loaded at boot.
        if let Some(generic) = found.iter().position(|n| n.ends_with("_generic")) {
            found = vec![found.swap_remove(generic)];
        }
        Ok(found)
    }
}
