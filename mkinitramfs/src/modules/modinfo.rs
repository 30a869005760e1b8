//! What a module says of itself: its `.modinfo` section. Pure, and linear in the file.

use anyhow::{Context, Result, ensure};
use config::Arch;
use config::modules::canonical_name;
use goblin::elf::Elf;
use goblin::elf::header::{EM_AARCH64, EM_X86_64};

/// What one module says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ModInfo {
    /// Modules it can't be without.
    pub depends: Vec<String>,
    /// Soft dependencies (modprobe.d(5), softdep): names and aliases, to be loaded before it.
    pub before: Vec<String>,
    /// The same, after it.
    pub after: Vec<String>,
    /// What it serves.
    pub aliases: Vec<String>,
    /// The version of the kernel it is built for: the first word of its `vermagic`.
    pub kernel: Option<String>,
}

impl ModInfo {
    /// Reads a module's file.
    ///
    /// # Errors
    /// When it is no module, or one for another machine than `arch`.
    pub fn read(file: &[u8], arch: Arch) -> Result<Self> {
        let elf = Elf::parse(file).context("not a kernel module")?;
        let machine = match arch {
            Arch::Arm64 => EM_AARCH64,
            Arch::X86_64 => EM_X86_64,
        };
        ensure!(
            elf.header.e_machine == machine,
            "not a module for {}, but for ELF machine {}",
            arch,
            elf.header.e_machine
        );
        let section = elf
            .section_headers
            .iter()
            .find(|s| elf.shdr_strtab.get_at(s.sh_name) == Some(".modinfo"))
            .and_then(|s| file.get(s.file_range()?))
            .context("not a kernel module: no .modinfo section")?;
        Ok(Self::parse(section))
    }

    /// Reads the section: `key=value` strings, each ended by a zero byte. What is none is skipped.
    pub fn parse(section: &[u8]) -> Self {
        let mut info = Self::default();
        for entry in section.split(|&b| b == 0) {
            let Some((key, value)) = std::str::from_utf8(entry).ok().and_then(|e| e.split_once('=')) else {
                continue;
            };
            match key {
                "depends" => info
                    .depends
                    .extend(value.split(',').filter(|d| !d.is_empty()).map(canonical_name)),
                "softdep" => info.softdep(value),
                // The index is made of lines.
                "alias" if !value.contains('\n') => info.aliases.push(value.trim().to_owned()),
                "vermagic" => info.kernel = value.split_whitespace().next().map(str::to_owned),
                _ => {}
            }
        }
        info
    }

    /// `pre: a b post: c`, modprobe.d(5).
    fn softdep(&mut self, text: &str) {
        let mut after = false;
        for word in text.split_whitespace() {
            match word {
                "pre:" => after = false,
                "post:" => after = true,
                name if after => self.after.push(name.to_owned()),
                name => self.before.push(name.to_owned()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::ko;
    use super::*;

    #[test]
    fn what_is_no_module_is_refused() {
        assert!(ModInfo::read(b"text", Arch::X86_64).is_err());
        let error = ModInfo::read(&ko(EM_AARCH64, &[]), Arch::X86_64)
            .unwrap_err()
            .to_string();
        assert!(error.contains("ELF machine"), "{error}");
        let whole = ko(EM_X86_64, &["depends=a", "vermagic=6.1.0 SMP"]);
        assert_eq!(
            ModInfo::read(&whole, Arch::X86_64).unwrap().kernel.as_deref(),
            Some("6.1.0")
        );
        for end in 0..whole.len() {
            // A file cut short is an error or a shorter list, never a panic.
            let _ = ModInfo::read(&whole[..end], Arch::X86_64);
        }
    }

    proptest! {
        #[test]
        fn no_section_panics(section in "((depends|softdep|alias|vermagic)=|pre: |post: |,|\0|\\PC){0,80}") {
            let _ = ModInfo::parse(section.as_bytes());
        }

        #[test]
        fn no_file_panics(at in 0..400_usize, byte: u8) {
            let mut file = ko(EM_X86_64, &["depends=a", "alias=b"]);
            if let Some(place) = file.get_mut(at) {
                *place = byte;
            }
            let _ = ModInfo::read(&file, Arch::X86_64);
        }
    }
}
