//! Kernel modules: from a kernel package's tree to the files and the index that the stage loads from.
//!
//! Given a folder of `.ko` files and wanted names; responsible for everything those need, in an order in which each
//! can be loaded. Debian's packages ship no `modules.dep`, so what depmod(8) and modprobe(8) would know comes from each
//! module's own `.modinfo` section: `depends`, `softdep`, `alias`. Only modules that are packed, and candidates for an
//! alias that one of them wants, are read.

pub mod modinfo;
mod resolve;
mod usual;

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use config::Arch;
use config::modules::{Index, alias_matches, canonical_name};

use self::modinfo::ModInfo;
use self::resolve::Walk;
use self::usual::{ALWAYS, DEFAULTS, WATCHDOG_PARENTS};
use crate::compression;

/// A module ready to be packed.
#[derive(Debug)]
struct Loaded {
    bytes: Vec<u8>,
    info: ModInfo,
}

/// A folder of modules, by name.
#[derive(Debug)]
pub struct ModuleTree {
    arch: Arch,
    root: PathBuf,
    files: BTreeMap<String, PathBuf>,
    /// What `modules.builtin` names; `None` without that file.
    builtin: Option<BTreeSet<String>>,
    /// Aliases of what is built in.
    builtin_aliases: Vec<String>,
}

/// The modules to pack.
#[derive(Debug)]
pub struct Resolved {
    /// For `/etc/cato/modules`.
    pub index: Index,
    /// Path and uncompressed bytes of each file, in the index's order.
    pub files: Vec<(String, Vec<u8>)>,
    /// What the person who packs should know.
    pub warnings: Vec<String>,
}

impl ModuleTree {
    /// Lists the modules below `dir`: the folder of one kernel version, or a root that holds `lib/modules/VERSION`
    /// or `usr/lib/modules/VERSION`.
    ///
    /// # Errors
    /// When there is no module, or there is more than one version.
    pub fn open(dir: &Path, arch: Arch) -> Result<Self> {
        let root = version_folder(dir)?;
        let mut files = BTreeMap::new();
        find(&root, &root.join(UPDATES), &mut files)?;
        ensure!(
            !files.is_empty(),
            "{}: no kernel modules found (.ko, .ko.xz, .ko.zst, .ko.gz)",
            root.display()
        );
        let builtin = optional(&root.join("modules.builtin"))?.map(|text| {
            let lines = String::from_utf8_lossy(&text).into_owned();
            lines
                .lines()
                .filter_map(|line| module_name(Path::new(line.trim())))
                .collect()
        });
        let modinfo = optional(&root.join("modules.builtin.modinfo"))?.unwrap_or_default();
        let builtin_aliases = modinfo
            .split(|&b| b == 0)
            .filter_map(|entry| Some(std::str::from_utf8(entry).ok()?.split_once(".alias=")?.1.to_owned()))
            .collect();
        Ok(Self {
            arch,
            root,
            files,
            builtin,
            builtin_aliases,
        })
    }

    fn has_file(&self, name: &str) -> bool {
        self.files.contains_key(name)
    }

    fn is_builtin(&self, name: &str) -> bool {
        self.builtin.as_ref().is_some_and(|names| names.contains(name))
    }

    fn has_builtin_alias(&self, wanted: &str) -> bool {
        self.builtin_aliases.iter().any(|alias| alias_matches(alias, wanted))
    }

    /// Whether it drives a watchdog, or brings forth the device of one.
    fn is_watchdog(&self, name: &str) -> bool {
        let is_in_folder = |path: &PathBuf| path.parent().is_some_and(|folder| folder.ends_with("drivers/watchdog"));
        WATCHDOG_PARENTS.contains(&name) || self.files.get(name).is_some_and(is_in_folder)
    }

    /// The modules whose name begins with `stem`.
    fn names_from<'t>(&'t self, stem: &str) -> impl Iterator<Item = &'t String> + use<'t> {
        let stem = stem.to_owned();
        let names = self.files.range(stem.clone()..).map(|(name, _)| name);
        names.take_while(move |name| name.starts_with(&stem))
    }

    /// Where a module was looked for that is not there.
    fn absent(&self) -> String {
        let root = self.root.display();
        match self.builtin {
            Some(_) => format!("neither in {root} nor built in"),
            None => format!("not in {root}, and perhaps built in: {root} has no modules.builtin to tell"),
        }
    }

    fn load(&self, name: &str) -> Result<Option<Loaded>> {
        let Some(path) = self.files.get(name) else {
            return Ok(None);
        };
        let show = || path.display().to_string();
        let bytes = compression::whole(fs::read(path).with_context(show)?).with_context(show)?;
        let info = ModInfo::read(&bytes, self.arch).with_context(show)?;
        Ok(Some(Loaded { bytes, info }))
    }

    /// The names most like one that is not there.
    fn nearest(&self, name: &str) -> String {
        let mut all: Vec<_> = self
            .files
            .keys()
            .map(|k| (strsim::damerau_levenshtein(k, name), k))
            .collect();
        all.sort();
        let near: Vec<_> = all
            .iter()
            .filter(|(d, _)| *d <= 3)
            .take(3)
            .map(|(_, k)| k.as_str())
            .collect();
        if near.is_empty() {
            String::new()
        } else {
            format!("; did you mean {}?", near.join(", "))
        }
    }

    /// The modules of these names, and all they need.
    ///
    /// # Errors
    /// When a module that was asked for, or that another depends on, is neither there nor built in; when one is damaged
    /// or for another machine.
    pub fn resolve(&self, names: &[String]) -> Result<Resolved> {
        let mut walk = Walk::new(self);
        self.add(&mut walk, names)?;
        walk.finish()
    }

    /// The same for a service kernel: without names, the usual ones for booting from a disk; watchdogs, and what keeps a kernel's last
    /// words, in any case.
    ///
    /// # Errors
    /// As above.
    pub fn resolve_for_service(&self, names: &[String]) -> Result<Resolved> {
        let mut walk = Walk::new(self);
        let is_there = |name: &&&str| self.has_file(name) || self.is_builtin(name);
        for name in DEFAULTS.iter().filter(|_| names.is_empty()).filter(is_there) {
            walk.root(name)?;
        }
        // Nobody asked for these: what is wrong with one is no reason to pack nothing.
        let mut warnings = Vec::new();
        for name in ALWAYS.iter().filter(is_there) {
            let mut alone = Walk::new(self);
            match alone.root(name).and_then(|()| alone.finish()) {
                Ok(_) => walk.root(name)?,
                Err(error) => warnings.push(format!("module {name} is left out: {error:#}")),
            }
        }
        self.add(&mut walk, names)?;
        let mut resolved = walk.finish()?;
        resolved.warnings.extend(warnings);
        Ok(resolved)
    }

    fn add(&self, walk: &mut Walk<'_>, names: &[String]) -> Result<()> {
        for asked in names {
            let name = canonical_name(asked);
            if !self.has_file(&name) && !self.is_builtin(&name) {
                bail!("no module {asked}: {}{}", self.absent(), self.nearest(&name));
            }
            walk.root(&name)?;
        }
        Ok(())
    }
}

/// The module's name from its file's: `kernel/fs/nls/nls_iso8859-1.ko.xz` is `nls_iso8859_1`.
fn module_name(path: &Path) -> Option<String> {
    let file = path.file_name()?.to_str()?;
    let stem = [".ko", ".ko.xz", ".ko.zst", ".ko.gz"]
        .iter()
        .find_map(|end| file.strip_suffix(end))?;
    Some(canonical_name(stem))
}

fn version_folder(dir: &Path) -> Result<PathBuf> {
    for sub in ["lib/modules", "usr/lib/modules"] {
        let modules = dir.join(sub);
        let Ok(entries) = fs::read_dir(&modules) else { continue };
        let mut versions: Vec<_> = entries
            .filter_map(|e| Some(e.ok()?.path()))
            .filter(|p| p.is_dir())
            .collect();
        versions.sort();
        match versions.len() {
            0 => {}
            1 => return Ok(versions.remove(0)),
            _ => {
                let names: Vec<_> = versions.iter().filter_map(|v| v.file_name()?.to_str()).collect();
                bail!(
                    "{}: several kernel versions ({}); name the folder of one",
                    modules.display(),
                    names.join(", ")
                )
            }
        }
    }
    ensure!(dir.is_dir(), "{}: no such folder", dir.display());
    Ok(dir.to_owned())
}

/// What is in this folder is taken instead of the kernel's own, by modprobe as well: depmod.d(5), `search`.
const UPDATES: &str = "updates";

/// Collects modules below `dir`. Links are not followed: `build` and `source` lead out of the tree.
fn find(dir: &Path, updates: &Path, files: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    let mut entries: Vec<_> = fs::read_dir(dir)
        .with_context(|| dir.display().to_string())?
        .collect::<std::io::Result<_>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let (kind, path) = (entry.file_type()?, entry.path());
        if kind.is_dir() {
            find(&path, updates, files)?;
        } else if let (true, Some(name)) = (kind.is_file(), module_name(&path)) {
            match files.entry(name) {
                Entry::Vacant(place) => _ = place.insert(path),
                Entry::Occupied(mut other) => match (other.get().starts_with(updates), path.starts_with(updates)) {
                    (true, false) => {}
                    (false, true) => _ = other.insert(path),
                    _ => bail!(
                        "{} and {}: two modules with the same name",
                        other.get().display(),
                        path.display()
                    ),
                },
            }
        }
    }
    Ok(())
}

/// The bytes of a file that may be absent.
fn optional(path: &Path) -> Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e).with_context(|| path.display().to_string()),
    }
}

#[cfg(test)]
mod tests;
