//! A whole boot as a value: firmware, service kernel, Cato's initramfs, the disk, and the main system it leads to.
//!
//! Given what to boot; responsible for the files ([`Chain::prepare`]): initramfs, disk image, marked device tree, and
//! for knowing what the main system's report must say. The real thing throughout: nothing here is a stand-in.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use config::{Arch, Arena};
use mkinitramfs::bootable::{self, Kind, ServiceKernel};
use mkinitramfs::modules::ModuleTree;
use mkinitramfs::uki::efi_name;
use mkinitramfs::whole_disk;
use mkinitramfs::{Added, Compress, Recipe};
use stage::text::quoted;

use crate::board::board;
use crate::device_tree;
use crate::guests;
use crate::loader;
use crate::machine::{Bus, DirectKernel, Drive, Firmware, Machine};
use crate::service;
use crate::setup::Kernel;
use crate::verdict::{ArenaUsed, Wanted};
use crate::workspace;
use mkinitramfs::disk::{Disk, Files, Filesystem, Partition};

/// The service Linux.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Its kernel.
    pub image: PathBuf,
    /// Its modules; none when all it needs is built in.
    pub modules: Option<PathBuf>,
    /// Its whole command line.
    pub cmdline: String,
    /// Modules Cato finds in its initramfs; empty are the usual ones.
    pub module_names: Vec<String>,
    /// Further files of the initramfs.
    pub add: Vec<Added>,
    /// What the firmware is given; an initramfs is given with kernel and command line beside it.
    pub kind: Kind,
}

/// The main system's initrd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Initrd {
    /// Ours, which reports what it was booted with.
    Report,
    /// The same with `cato` in it, whose own report it adds.
    ReportWithCato,
    /// The user's.
    File(PathBuf),
    /// None.
    Without,
}

/// A boot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// The machine, without what it boots.
    pub machine: Machine,
    /// The service Linux.
    pub service: Service,
    /// The main kernel.
    pub kernel: PathBuf,
    /// Its release, where it is known: then the report must name it.
    pub release: Option<String>,
    /// Its initrd.
    pub initrd: Initrd,
    /// Where its modules are, and those that our initrd loads.
    pub main_modules: Option<(PathBuf, Vec<String>)>,
    /// The main kernel's command line.
    pub cmdline: String,
    /// The text of `boot.toml`; none is [`Chain::usual_config`].
    pub config: Option<String>,
    /// What is on the disk; none is [`Chain::usual_partitions`].
    pub partitions: Option<Vec<Partition>>,
    /// The user's disk instead of ours.
    pub disk: Option<Drive>,
    /// How our disk is attached.
    pub bus: Bus,
    /// The running device tree carries a mark the main system must see.
    pub mark_device_tree: bool,
    /// Memory that neither kernel may use, by address and length. Device tree (arm64) or service command line (x86_64) say
    /// so.
    pub reserved: Vec<(u64, u64)>,
    /// What each entry of the configuration asks for, whoever wrote it.
    pub arena: Arena,
    /// On this machine the payload can't be read in place, so Cato has to use segments by itself.
    pub falls_back: bool,
    /// Told apart from every other boot.
    pub nonce: String,
}

/// Everything on disk, ready to start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ready {
    /// The machine with all it boots.
    pub machine: Machine,
    /// What the report must say.
    pub wanted: Wanted,
    /// The `boot.toml` in the initramfs.
    pub config: String,
    /// What is in the initramfs, in one line.
    pub summary: String,
}

impl Chain {
    /// Debian's kernels, the board's default firmware and machine, the usual disk.
    pub fn new(service: &Kernel, main: &Kernel) -> Self {
        let arch = service.arch;
        let firmware = Firmware::default_for(arch);
        let nonce = nonce();
        Self {
            machine: Machine {
                firmware,
                ..Machine::new(arch)
            },
            service: Service {
                image: service.image.clone(),
                modules: Some(service.modules.clone()),
                cmdline: service::command_line(arch, &[]),
                module_names: Vec::new(),
                add: Vec::new(),
                kind: Kind::Initramfs,
            },
            kernel: main.image.clone(),
            release: Some(main.version.clone()),
            initrd: Initrd::Report,
            main_modules: None,
            cmdline: format!("{} cato-test.nonce={nonce}", board(arch).console),
            config: None,
            partitions: None,
            disk: None,
            bus: Bus::Virtio,
            mark_device_tree: true,
            reserved: Vec::new(),
            arena: Arena::Auto,
            falls_back: false,
            nonce,
        }
    }

    /// The instruction set.
    pub fn arch(&self) -> Arch {
        self.machine.arch
    }

    /// The files of a main system: `kernel` and, if there is one, `initrd`.
    pub fn main_files(&self, initrd: Option<&Path>) -> Files {
        let files = Files::new().with_file("kernel", &self.kernel);
        match initrd {
            Some(initrd) => files.with_file("initrd", initrd),
            None => files,
        }
    }

    /// `boot-a` on ext4 and `boot-b` on FAT, with the same files.
    pub fn usual_partitions(files: &Files) -> Vec<Partition> {
        vec![
            Partition::new("boot-a", Filesystem::Ext4, files.clone()),
            Partition::new("boot-b", Filesystem::Vfat, files.clone()),
        ]
    }

    /// Boots `boot-a`, and `boot-b` should that fail.
    pub fn usual_config(&self) -> String {
        let initrd = if self.initrd == Initrd::Without {
            ""
        } else {
            "initrd = [\"initrd\"]\n"
        };
        let cmdline = quoted(&self.cmdline);
        let mut text = "version = 1\norder = [\"a\", \"b\"]\n\n[console]\ncountdown = 0\nretry = 60\n".to_owned();
        for slot in ["a", "b"] {
            // A String takes every write.
            let _ = write!(
                text,
                "\n[entry.{slot}]\nsource = \"PARTLABEL=boot-{slot}\"\nkernel = \"kernel\"\n{initrd}cmdline = {cmdline}\n"
            );
        }
        text
    }

    /// Makes every file in `folder`.
    pub fn prepare(&self, folder: &Path) -> Result<Ready> {
        fs::create_dir_all(folder).with_context(|| format!("can't make {}", folder.display()))?;
        let mut machine = self.machine.clone();
        let arch = machine.arch;
        let mut service_cmdline = self.service.cmdline.clone();
        if arch == Arch::X86_64 {
            for (start, length) in &self.reserved {
                // A String takes every write.
                let _ = write!(service_cmdline, " memmap={length:#x}${start:#x}");
            }
        }

        let config = self.config.clone().unwrap_or_else(|| self.usual_config());
        let config = with_arena(&config, self.arena);
        let packed = mkinitramfs::pack(
            &workspace::root(),
            &Recipe {
                arch,
                config_text: config.clone(),
                modules: self.service.modules.clone(),
                module_names: self.service.module_names.clone(),
                add: self.service.add.clone(),
                compress: Compress::default(),
            },
        )
        .context("can't make the service initramfs")?;
        let mut partitions = self.serve(&mut machine, service_cmdline, &packed.bytes, folder)?;
        if self.disk.is_none() && self.service.kind != Kind::Disk {
            partitions.extend(match &self.partitions {
                Some(partitions) => partitions.clone(),
                None => Self::usual_partitions(&self.main_files(self.make_initrd(folder)?.as_deref())),
            });
        }
        if !partitions.is_empty() {
            let image = folder.join("disk.img");
            Disk {
                partitions,
                power_of_two: self.bus == Bus::Sd,
                ..Disk::default()
            }
            .write(&image)?;
            // U-Boot looks on virtio only.
            let bus = if machine.firmware == Firmware::UBoot {
                Bus::Virtio
            } else {
                self.bus
            };
            machine.drives.push(Drive {
                bus,
                ..Drive::raw(image)
            });
        }
        machine.drives.extend(self.disk.clone());

        // Under UEFI the kernel gets ACPI and a stub of a tree (design T15).
        let mut dtb_nonce = None;
        if self.mark_device_tree && arch == Arch::Arm64 && machine.firmware != Firmware::Uefi && machine.dtb.is_none() {
            let dtb = folder.join("machine.dtb");
            device_tree::write(&machine, &self.nonce, &self.reserved, &dtb)?;
            machine.dtb = Some(dtb);
            dtb_nonce = Some(self.nonce.clone());
        }
        let given = |names: &[&str]| machine.extra.iter().any(|word| names.contains(&word.as_str()));
        let wanted = Wanted {
            cmdline: self.cmdline.clone(),
            initrd_nonce: matches!(self.initrd, Initrd::Report | Initrd::ReportWithCato).then(|| self.nonce.clone()),
            dtb_nonce,
            release: self.release.clone(),
            cpus: (!given(&["-smp"])).then_some(machine.cpus),
            memory_mib: (!given(&["-m"])).then_some(machine.memory_mib),
            arena: match (self.arena, self.falls_back) {
                (Arena::Auto, false) => ArenaUsed::InPlace,
                (Arena::Auto, true) | (Arena::Segments, _) => ArenaUsed::Segments,
            },
        };
        Ok(Ready {
            machine,
            wanted,
            config,
            summary: summary(&packed.table),
        })
    }

    /// Gives the firmware the service Linux: in the machine itself, or on the partition that comes back.
    fn serve(&self, machine: &mut Machine, cmdline: String, initramfs: &[u8], folder: &Path) -> Result<Vec<Partition>> {
        let arch = machine.arch;
        let service = ServiceKernel {
            file: self.service.image.clone(),
            release: String::new(),
            cmdline,
            dtb: None,
        };
        let kind = self.service.kind;
        let made = folder.join(kind.to_string());
        let mut plan = whole_disk::Plan::default();
        if kind == Kind::Disk {
            let files = folder.join("files");
            self.main_files(self.make_initrd(folder)?.as_deref()).stage(&files)?;
            plan.files = Some(files);
        }
        let parts = bootable::Parts {
            arch,
            kernel: Some(&service),
            initramfs,
            disk: &plan,
        };
        bootable::write(&workspace::root(), kind, &parts, &made)?;

        Ok(match (kind, machine.firmware) {
            (Kind::Initramfs, Firmware::Direct | Firmware::Uefi) => {
                machine.kernel = Some(DirectKernel {
                    kernel: service.file,
                    initrd: Some(made),
                    cmdline: service.cmdline,
                });
                Vec::new()
            }
            (Kind::Initramfs | Kind::Fit, Firmware::UBoot) => {
                if board(arch).u_boot.is_none() {
                    bail!("{arch}: Debian's U-Boot can't start Linux on this machine; use --firmware direct or uefi");
                }
                let files = match kind {
                    Kind::Fit => loader::fit(&made, &service.cmdline),
                    _ => loader::extlinux(bootable::unpacked(&service.file)?, &made, &service.cmdline),
                };
                vec![loader::partition("SERVICE", Filesystem::Vfat, files)]
            }
            (Kind::Esp, Firmware::Uefi) => {
                let name = format!("EFI/BOOT/BOOT{}.EFI", efi_name(arch));
                let files = Files::new().with_file(&name, made.join(&name));
                vec![loader::partition("ESP", Filesystem::Vfat, files)]
            }
            (Kind::Disk, Firmware::Uefi | Firmware::UBoot) => {
                machine.drives.push(Drive::raw(made));
                Vec::new()
            }
            (kind, firmware) => bail!("the firmware {firmware} starts no {kind}"),
        })
    }

    /// The main system's initrd as a file, if it has one.
    pub fn make_initrd(&self, folder: &Path) -> Result<Option<PathBuf>> {
        match &self.initrd {
            Initrd::Without => Ok(None),
            Initrd::File(file) => Ok(Some(file.clone())),
            Initrd::Report | Initrd::ReportWithCato => {
                let file = folder.join("main-initrd");
                let cato = match self.initrd {
                    Initrd::ReportWithCato => Some(fs::read(guests::cato(self.arch())?)?),
                    _ => None,
                };
                let programs: Vec<(&str, &[u8])> = cato.iter().map(|bytes| ("/bin/cato", bytes.as_slice())).collect();
                let modules = match &self.main_modules {
                    Some((folder, names)) => ModuleTree::open(folder, self.arch())?.resolve(names)?.files,
                    None => Vec::new(),
                };
                guests::report_initrd(self.arch(), &self.nonce, &programs, &modules, &file)?;
                Ok(Some(file))
            }
        }
    }
}

/// The configuration with `arena` in each of its entries.
fn with_arena(config: &str, arena: Arena) -> String {
    let key = match arena {
        Arena::Auto => return config.to_owned(),
        Arena::Segments => "arena = \"segments\"\n",
    };
    config
        .split_inclusive('\n')
        .flat_map(|line| [line, if line.starts_with("[entry.") { key } else { "" }])
        .collect()
}

fn summary(table: &mkinitramfs::Table) -> String {
    let modules: usize = table.modules.iter().map(|(_, size)| size).sum();
    format!(
        "service initramfs: {} KiB packed; cato {} KiB with {} KiB of purgatory, {} modules {} KiB",
        table.packed / 1024,
        table.cato / 1024,
        table.purgatory.div_ceil(1024),
        table.modules.len(),
        modules / 1024
    )
}

/// Sixteen hex digits that no other boot has.
pub fn nonce() -> String {
    use std::hash::{BuildHasher as _, RandomState};
    format!("{:016x}", RandomState::new().hash_one(std::process::id()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::setup::Suite;

    fn kernel(version: &str) -> Kernel {
        Kernel {
            arch: Arch::Arm64,
            suite: Suite::Trixie,
            version: version.into(),
            image: "/k".into(),
            modules: "/m".into(),
        }
    }

    #[test]
    fn the_usual_config_is_valid_and_asks_for_what_was_given() {
        let mut chain = Chain::new(&kernel("6.1"), &kernel("6.12"));
        chain.cmdline = "root=LABEL=\"a b\" x=\\1".into();
        let config = config::parse(&chain.usual_config()).unwrap();
        assert_eq!(config.order, ["a", "b"]);
        let entry = config.entry("b").unwrap();
        assert_eq!(entry.cmdline, chain.cmdline);
        assert_eq!(entry.source.to_string(), "PARTLABEL=boot-b");
        assert_eq!(entry.initrd, ["initrd"]);
        assert_eq!(entry.arena, Arena::Auto);
        let segments = with_arena(&chain.usual_config(), Arena::Segments);
        let segments = config::parse(&segments).unwrap();
        assert_eq!(segments.entries.len(), 2);
        assert!(segments.entries.iter().all(|entry| entry.arena == Arena::Segments));
        chain.initrd = Initrd::Without;
        assert!(
            config::parse(&chain.usual_config())
                .unwrap()
                .entry("a")
                .unwrap()
                .initrd
                .is_empty()
        );
    }

    #[test]
    fn nonces_differ() {
        assert_ne!(nonce(), nonce());
        assert_eq!(nonce().len(), 16);
    }
}
