//! The packed modules: into the kernel in the right order, and what it means when it takes none.
//!
//! Given the index and the running kernel's version; responsible for trying each module once. What is built in needs no
//! module, so a refusal is no failure: it is kept, and explains the failure of whoever needed it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use config::modules::{Index, Module};
use nix::errno::Errno;

use crate::sys::module::{self, ModuleError};

/// So many refused modules are named; the others are counted.
const NAMED: usize = 4;

/// The packed modules, and what became of them.
pub(super) struct Modules<'a> {
    pub(super) index: &'a Index,
    /// As `uname -r` says it.
    running: String,
    load: fn(&Module) -> Result<(), ModuleError>,
    tried: BTreeSet<String>,
    refused: Vec<ModuleError>,
}

impl<'a> Modules<'a> {
    /// Those of `index`, none tried yet.
    pub(super) fn new(index: &'a Index) -> Self {
        let running = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        Self {
            index,
            running: running.trim().to_owned(),
            load: module::load,
            tried: BTreeSet::new(),
            refused: Vec::new(),
        }
    }

    /// Loads one that was not tried before. True when the kernel took it; when the reason why it did not is its own,
    /// `say` hears of it.
    pub(super) fn load_one(&mut self, module: &Module, say: &mut dyn FnMut(&str)) -> bool {
        if !self.tried.insert(module.name.clone()) {
            return false;
        }
        let Err(error) = (self.load)(module) else { return true };
        if !self.is_of_all(&error) {
            say(&error.to_string());
        }
        self.refused.push(error);
        false
    }

    /// Loads a module after all that it needs. A needed one that is refused may be built in: the last one finds out.
    pub(super) fn load(&mut self, name: &str, say: &mut dyn FnMut(&str)) {
        for module in self.index.closure(name) {
            let _ = self.load_one(module, say);
        }
    }

    /// Whether a module is packed and may be taken, is loaded or built in: one with parameters is in sysfs then.
    pub(super) fn has(&self, name: &str) -> bool {
        let is_packed = self.index.find(name).is_some() && self.doubt().is_none();
        is_packed || Path::new("/sys/module").join(name).exists()
    }

    /// Why `name` or something that it needs is not in the kernel; `None` when nothing of it was refused.
    pub(super) fn take_refusal(&mut self, name: &str) -> Option<ModuleError> {
        let needed = self.index.closure(name);
        let at = self
            .refused
            .iter()
            .position(|e| needed.iter().any(|m| m.name == e.name()))?;
        (!self.is_of_all(self.refused.get(at)?)).then(|| self.refused.remove(at))
    }

    /// Whether the kernel would say the same of every module.
    fn is_of_all(&self, error: &ModuleError) -> bool {
        match error.errno() {
            Some(Errno::ENOSYS | Errno::EPERM) => true,
            // A layout or a symbol's checksum that differs, a symbol that is not there.
            Some(Errno::ENOEXEC | Errno::EINVAL | Errno::ENOENT) => self.built_for_another().is_some(),
            _ => false,
        }
    }

    fn built_for_another(&self) -> Option<&str> {
        let packed = self.index.kernel.as_deref()?;
        (packed != self.running).then_some(packed)
    }

    /// What may be behind any failure from here on, for the end of its message.
    pub(super) fn doubt(&self) -> Option<String> {
        let of_all: Vec<&ModuleError> = self.refused.iter().filter(|e| self.is_of_all(e)).collect();
        let why = match of_all.first()?.errno() {
            Some(Errno::ENOSYS) => "this kernel has no module support (CONFIG_MODULES)".to_owned(),
            Some(Errno::EPERM) => {
                "this kernel lets no modules in (kernel.modules_disabled, or lockdown and modules that \
                                   are not signed for it)"
                    .to_owned()
            }
            _ => format!(
                "kernel {} is running, but the modules are built for {}; pack those of the running kernel \
                 (mkinitramfs --modules)",
                self.running,
                self.built_for_another()?
            ),
        };
        let names: Vec<&str> = of_all.iter().take(NAMED).map(|e| e.name()).collect();
        let more = of_all.len().saturating_sub(names.len());
        let more = if more > 0 {
            format!(" and {more} more")
        } else {
            String::new()
        };
        let verb = if of_all.len() == 1 { "was" } else { "were" };
        Some(format!(
            "{why}; {}{more} {verb} packed as a module and refused",
            names.join(", ")
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(kernel: &str) -> Index {
        let text = format!(
            "cato-modules 2\nkernel {kernel}\nmodule crc\nmodule jbd2\nneeds crc\nmodule ext4\nneeds jbd2 crc\n\
             module a\nmodule b\n"
        );
        Index::parse(&text).unwrap()
    }

    fn refusing(index: &Index, load: fn(&Module) -> Result<(), ModuleError>) -> Modules<'_> {
        Modules {
            running: "6.12.1-test".to_owned(),
            load,
            ..Modules::new(index)
        }
    }

    fn refused(module: &Module, cause: Errno) -> Result<(), ModuleError> {
        let name = module.name.clone();
        Err(ModuleError::Refused { name, cause })
    }

    /// What was said, what is left to say, and why there is no ext4.
    fn outcome(modules: &mut Modules<'_>) -> (Vec<String>, Option<String>, Option<String>) {
        let mut said = Vec::new();
        modules.load("ext4", &mut |line| said.push(line.to_owned()));
        let doubt = modules.doubt();
        let refusal = modules.take_refusal("ext4").map(|e| e.to_string());
        (said, doubt, refusal)
    }

    #[test]
    fn a_kernel_without_module_support_is_no_failure_but_a_possible_cause() {
        let index = index("6.12.1-test");
        let mut modules = refusing(&index, |m| refused(m, Errno::ENOSYS));
        let doubt =
            "this kernel has no module support (CONFIG_MODULES); crc, jbd2, ext4 were packed as a module and refused";
        assert_eq!(outcome(&mut modules), (vec![], Some(doubt.to_owned()), None));
        modules.load("a", &mut |_| ());
        modules.load("b", &mut |_| ());
        let doubt = modules.doubt().unwrap();
        assert!(doubt.contains("crc, jbd2, ext4, a and 1 more were packed"), "{doubt}");
    }

    #[test]
    fn modules_that_are_switched_off_are_told_the_same_way() {
        let index = index("6.12.1-test");
        let (said, doubt, refusal) = outcome(&mut refusing(&index, |m| refused(m, Errno::EPERM)));
        assert!(said.is_empty() && refusal.is_none());
        assert!(doubt.unwrap().contains("kernel.modules_disabled"));
    }

    #[test]
    fn both_versions_are_named_when_they_differ() {
        let index = index("6.1.0-50-amd64");
        for errno in [Errno::ENOEXEC, Errno::EINVAL, Errno::ENOENT] {
            let load = match errno {
                Errno::ENOEXEC => |m: &Module| refused(m, Errno::ENOEXEC),
                Errno::EINVAL => |m: &Module| refused(m, Errno::EINVAL),
                _ => |m: &Module| refused(m, Errno::ENOENT),
            };
            let (said, doubt, refusal) = outcome(&mut refusing(&index, load));
            assert!(said.is_empty() && refusal.is_none(), "{said:?} {refusal:?}");
            let doubt = doubt.unwrap();
            for part in ["6.12.1-test", "6.1.0-50-amd64", "mkinitramfs --modules"] {
                assert!(doubt.contains(part), "{doubt}");
            }
        }
        // With modversions, modules of another version may be taken all the same.
        assert_eq!(outcome(&mut refusing(&index, |_| Ok(()))), (vec![], None, None));
    }

    #[test]
    fn a_module_with_a_fault_of_its_own_is_said_and_explains_who_needs_it() {
        let index = index("6.12.1-test");
        let mut modules = refusing(&index, |m| match m.name.as_str() {
            "jbd2" => refused(m, Errno::EKEYREJECTED),
            _ => Ok(()),
        });
        let (said, doubt, refusal) = outcome(&mut modules);
        assert_eq!((said.len(), doubt), (1, None));
        assert!(refusal.unwrap().starts_with("module jbd2 has no signature"));
        // Tried once.
        modules.load("ext4", &mut |line| panic!("{line}"));
    }
}
