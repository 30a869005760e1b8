//! A kernel that the user names: a suite's, or a file with its modules somewhere near.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use config::Arch;

use crate::setup::{Kernel, Suite, kernels, tuned};

/// The service kernel made for the job.
const OURS: &str = "cato";

/// A kernel from a suite or from a file.
#[derive(Debug)]
pub(super) struct Chosen {
    pub(super) kernel: Kernel,
    /// Its modules, where some were found.
    pub(super) modules: Option<PathBuf>,
    /// Where modules were looked for.
    looked: Vec<PathBuf>,
    /// Its release, where that is known: a file's name proves nothing about what is in it.
    pub(super) release: Option<String>,
}

impl Chosen {
    pub(super) fn of(given: &str, arch: Arch) -> Result<Self> {
        if let Ok(suite) = given.parse::<Suite>() {
            let kernel = kernels::kernel(arch, suite)?;
            return Ok(Self {
                modules: Some(kernel.modules.clone()),
                looked: Vec::new(),
                release: Some(kernel.version.clone()),
                kernel,
            });
        }
        if given == OURS {
            return Ok(Self::ours(tuned::kernel(arch)?, arch));
        }
        let file = Path::new(given);
        let image = existing(file)
            .with_context(|| format!("{given:?} is neither a suite (bookworm, trixie) nor `cato` nor a kernel file"))?;
        let looked = module_folders(file);
        let modules = looked.iter().find(|folder| folder.join("modules.dep").exists());
        Ok(Self {
            modules: modules.cloned(),
            kernel: Kernel {
                arch,
                suite: Suite::Trixie,
                version: String::new(),
                modules: modules.cloned().unwrap_or_default(),
                image,
            },
            looked,
            release: None,
        })
    }

    /// The service kernel. Where nothing is said: ours if it was built, else Debian's, which has modules for whatever may be on a
    /// disk of the user's own.
    pub(super) fn service(given: Option<&str>, has_own_disk: bool, arch: Arch) -> Result<Self> {
        if let Some(given) = given {
            return Self::of(given, arch);
        }
        match tuned::built(arch) {
            Some(built) if !has_own_disk => {
                eprintln!("the service kernel is the one made for the job; --service-kernel bookworm takes Debian's");
                Ok(Self::ours(built, arch))
            }
            _ => Self::of(&Suite::Bookworm.to_string(), arch),
        }
    }

    fn ours(built: mkinitramfs::kernel::Kernel, arch: Arch) -> Self {
        Self {
            modules: None,
            looked: Vec::new(),
            release: Some(built.release.clone()),
            kernel: Kernel {
                arch,
                suite: Suite::Trixie,
                version: built.release,
                image: built.image,
                modules: PathBuf::new(),
            },
        }
    }

    /// What to say when it has none.
    pub(super) fn why_no_modules(&self) -> String {
        let looked: Vec<_> = self.looked.iter().map(|folder| folder.display().to_string()).collect();
        format!(
            "service kernel {}: no modules found, none packed; looked for a modules.dep in {}. It must have all drivers built \
             in; else name it vmlinuz-RELEASE, with its modules in ../lib/modules/RELEASE",
            self.kernel.image.display(),
            looked.join(", ")
        )
    }
}

/// Where the modules of a kernel file can be: its own folder, as in `/usr/lib/modules/RELEASE/vmlinuz`, and
/// `../lib/modules/RELEASE` of `vmlinuz-RELEASE`; of the file that was given, and of each that its symbolic links lead to.
fn module_folders(file: &Path) -> Vec<PathBuf> {
    let mut folders = Vec::new();
    let mut name = file.to_owned();
    // As many links as the kernel follows.
    for _ in 0..40 {
        let folder = match name.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
            _ => PathBuf::from("."),
        };
        folders.push(folder.clone());
        if let Some(release) = release_in_name(&name) {
            folders.extend(["../lib/modules", "../usr/lib/modules"].map(|beside| folder.join(beside).join(&release)));
        }
        let Ok(target) = fs::read_link(&name) else { break };
        name = folder.join(target);
    }
    folders
}

/// `6.1.0-50-arm64` of `vmlinuz-6.1.0-50-arm64`.
fn release_in_name(image: &Path) -> Option<String> {
    let name = image.file_name()?.to_str()?;
    name.split_once('-').map(|(_, release)| release.to_owned())
}

/// The file itself, whatever links lead to it.
pub(super) fn existing(file: &Path) -> Result<PathBuf> {
    let found = fs::canonicalize(file).with_context(|| format!("can't read {}", file.display()))?;
    if !found.is_file() {
        bail!("{} is not a file", file.display());
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_read_from_names() {
        assert_eq!(
            release_in_name(Path::new("/boot/vmlinuz-6.1.0-50-arm64")).as_deref(),
            Some("6.1.0-50-arm64")
        );
        assert_eq!(release_in_name(Path::new("/x/Image")), None);
    }

    #[test]
    fn modules_are_found_beside_a_kernel_and_beside_what_its_links_lead_to() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        for folder in ["boot", "lib/modules/6.1-x", "elsewhere", "arch/modules/6.2"] {
            fs::create_dir_all(at(folder)).unwrap();
        }
        for file in [
            "boot/vmlinuz-6.1-x",
            "lib/modules/6.1-x/modules.dep",
            "elsewhere/Image",
            "arch/modules/6.2/vmlinuz",
            "arch/modules/6.2/modules.dep",
        ] {
            fs::write(at(file), "").unwrap();
        }
        for (link, target) in [
            ("vmlinuz", "boot/vmlinuz-6.1-x"),
            ("elsewhere/twice", "../vmlinuz"),
            // The name is the link's, the file has none.
            ("boot/vmlinuz-6.1-x.old", "vmlinuz-6.1-x"),
            ("elsewhere/loose", "Image"),
        ] {
            std::os::unix::fs::symlink(target, at(link)).unwrap();
        }
        let chosen = |name: &str| Chosen::of(at(name).to_str().unwrap(), Arch::Arm64).unwrap();
        for (name, folder) in [
            ("boot/vmlinuz-6.1-x", "lib/modules/6.1-x"),
            ("vmlinuz", "lib/modules/6.1-x"),
            ("elsewhere/twice", "lib/modules/6.1-x"),
            ("boot/vmlinuz-6.1-x.old", "lib/modules/6.1-x"),
            ("arch/modules/6.2/vmlinuz", "arch/modules/6.2"),
        ] {
            let found = chosen(name).modules.map(|found| fs::canonicalize(found).unwrap());
            assert_eq!(found, Some(fs::canonicalize(at(folder)).unwrap()), "{name}");
        }
        for name in ["elsewhere/Image", "elsewhere/loose"] {
            let none = chosen(name);
            assert_eq!(none.modules, None);
            let said = none.why_no_modules();
            let looked = at("elsewhere").display().to_string();
            assert!(said.contains("no modules found") && said.contains(&looked), "{said}");
        }
        let error = Chosen::of(at("missing").to_str().unwrap(), Arch::Arm64).unwrap_err();
        assert!(error.to_string().contains("neither a suite"), "{error:#}");
    }
}
