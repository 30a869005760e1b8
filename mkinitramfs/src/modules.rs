//! Kernel modules: from a kernel package's tree to the files and the index that the stage loads from.
//!
//! Given a folder of `.ko` files and wanted names; responsible for everything those need, in an order in which each
//! can be loaded. Debian's packages ship no `modules.dep`, so what depmod(8) and modprobe(8) would know comes from each
//! module's own `.modinfo` section: `depends`, `softdep`, `alias`. Only modules that are packed, and candidates for an
//! alias that one of them wants, are read.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use config::Arch;
use config::modules::{Index, Module, alias_matches, canonical_name};
use goblin::elf::Elf;
use goblin::elf::header::{EM_AARCH64, EM_X86_64};

/// What is packed when no names are given: the buses, disks and file systems that Cato boots from. Those that a kernel
/// doesn't have, or has built in, are left out.
const DEFAULTS: &[&str] = &[
    "virtio_pci",
    "virtio_mmio",
    "virtio_blk",
    "virtio_scsi",
    "nvme",
    "ahci",
    "ahci_platform",
    "sd_mod",
    "xhci_pci",
    "xhci_pci_renesas",
    "xhci_plat_hcd",
    "ehci_pci",
    "ehci_platform",
    "usb_storage",
    "uas",
    "mmc_block",
    "sdhci",
    "sdhci_pci",
    "sdhci_acpi",
    "sdhci_iproc",
    "sdhci_brcmstb",
    "sdhci_cadence",
    "sdhci_msm",
    "sdhci_of_arasan",
    "sdhci_of_dwcmshc",
    "sdhci_of_esdhc",
    "sdhci_esdhc_imx",
    "sdhci_tegra",
    "sdhci_xenon_driver",
    "bcm2835",
    "dw_mmc_pltfm",
    "dw_mmc_rockchip",
    "dw_mmc_k3",
    "dw_mmc_pci",
    "meson_gx_mmc",
    "mmci",
    "mtk_sd",
    "sunxi_mmc",
    "ext4",
    "xfs",
    "btrfs",
    "vfat",
    "exfat",
    "squashfs",
    "erofs",
];

/// What a file system asks for by name when it is mounted, through a modprobe that is not there (T12 in the design).
/// vfat: its default code page and character set, and those that a `cmdline` or a kernel is often configured for.
const FILESYSTEM_WANTS: &[(&str, &[&str])] = &[("vfat", &["nls_cp437", "nls_ascii", "nls_iso8859_1", "nls_utf8"])];

/// File systems with a journal or a log. After a power cut it is replayed on a snapshot of the disk, so the snapshot's
/// modules are packed too; nothing waits for them.
const REPLAYED: &[&str] = &["ext4", "xfs", "btrfs"];

/// The snapshot, and what its changes are kept on in RAM.
const SNAPSHOT: &[&str] = &["dm_snapshot", "loop", "brd"];

/// What one module says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Info {
    depends: Vec<String>,
    before: Vec<String>,
    after: Vec<String>,
    aliases: Vec<String>,
}

/// A module ready to be packed.
#[derive(Debug)]
struct Loaded {
    bytes: Vec<u8>,
    info: Info,
}

/// A folder of modules, by name.
#[derive(Debug)]
pub struct Tree {
    arch: Arch,
    root: PathBuf,
    files: BTreeMap<String, PathBuf>,
    builtin: BTreeSet<String>,
    /// Aliases of what is built in.
    builtin_aliases: Vec<String>,
}

/// The modules to pack.
#[derive(Debug)]
pub struct Resolved {
    /// For [`config::paths::MODULE_INDEX`].
    pub index: Index,
    /// The uncompressed files, in the index's order.
    pub files: Vec<Vec<u8>>,
}

impl Tree {
    /// Lists the modules below `dir`: the folder of one kernel version, or a root that holds `lib/modules/VERSION`
    /// or `usr/lib/modules/VERSION`.
    ///
    /// # Errors
    /// When there is no module, or there is more than one version.
    pub fn open(dir: &Path, arch: Arch) -> Result<Self> {
        let root = version_folder(dir)?;
        let mut files = BTreeMap::new();
        find(&root, &mut files)?;
        ensure!(
            !files.is_empty(),
            "{}: no kernel module (.ko, .ko.xz, .ko.zst, .ko.gz) in it",
            root.display()
        );
        let builtin = fs::read_to_string(root.join("modules.builtin")).unwrap_or_default();
        let builtin = builtin
            .lines()
            .filter_map(|line| module_name(Path::new(line.trim())))
            .collect();
        let modinfo = fs::read(root.join("modules.builtin.modinfo")).unwrap_or_default();
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

    fn load(&self, name: &str) -> Result<Option<Loaded>> {
        let Some(path) = self.files.get(name) else {
            return Ok(None);
        };
        let show = || path.display().to_string();
        let bytes = unpack(path).with_context(show)?;
        let info = Info::of(&bytes, self.arch).with_context(show)?;
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
            format!("; near: {}", near.join(", "))
        }
    }

    /// The wanted modules and all they need. Without names, the usual ones for booting from a disk.
    ///
    /// # Errors
    /// When a module that was asked for, or that another depends on, is neither there nor built in; when one is damaged
    /// or for another machine.
    pub fn resolve(&self, names: &[String]) -> Result<Resolved> {
        let mut walk = Walk {
            tree: self,
            loaded: BTreeMap::new(),
            state: BTreeMap::new(),
            index: Index::default(),
            later: vec![],
        };
        if names.is_empty() {
            for name in DEFAULTS {
                if self.files.contains_key(*name) {
                    walk.root(name)?;
                }
            }
        }
        for asked in names {
            let name = canonical_name(asked);
            if self.files.contains_key(&name) {
                walk.root(&name)?;
            } else if !self.builtin.contains(&name) {
                bail!("{}: no module {asked}{}", self.root.display(), self.nearest(&name));
            }
        }
        while let Some(name) = walk.later.pop() {
            walk.root(&name)?;
        }
        let Walk { index, mut loaded, .. } = walk;
        let files = index
            .modules
            .iter()
            .filter_map(|m| Some(loaded.remove(&m.name)?.bytes))
            .collect();
        Ok(Resolved { index, files })
    }
}

/// How far a module is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Its needs are being resolved.
    Open,
    /// In the index.
    Placed,
}

/// A depth-first walk that puts each module into the index behind what it needs.
struct Walk<'t> {
    tree: &'t Tree,
    loaded: BTreeMap<String, Loaded>,
    state: BTreeMap<String, State>,
    index: Index,
    /// Modules wanted after another one: they are packed, but nothing waits for them.
    later: Vec<String>,
}

impl Walk<'_> {
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
    fn root(&mut self, name: &str) -> Result<()> {
        ensure!(self.visit(name)?, "module {name}: its dependencies form a circle");
        Ok(())
    }

    /// Places `name` behind its needs. False when that would close a circle.
    fn visit(&mut self, name: &str) -> Result<bool> {
        match self.state.get(name) {
            Some(State::Placed) => return Ok(true),
            Some(State::Open) => return Ok(false),
            None => {}
        }
        let info = self
            .loaded(name)?
            .with_context(|| format!("no module {name}"))?
            .info
            .clone();
        self.state.insert(name.to_owned(), State::Open);
        let mut needs: Vec<String> = Vec::new();
        for hard in &info.depends {
            if self.tree.builtin.contains(hard) {
                continue;
            }
            if !self.tree.files.contains_key(hard) {
                bail!(
                    "module {name} needs {hard}: neither in {} nor built in",
                    self.tree.root.display()
                );
            }
            if !self.visit(hard)? {
                self.state.remove(name);
                return Ok(false);
            }
            needs.push(hard.clone());
        }
        let table = FILESYSTEM_WANTS
            .iter()
            .filter(|(fs, _)| *fs == name)
            .flat_map(|(_, wants)| wants.iter());
        let wanted: Vec<String> = info
            .before
            .iter()
            .cloned()
            .chain(table.map(|&w| w.to_owned()))
            .collect();
        for soft in wanted {
            for found in self.providers(&soft)? {
                if self.visit(&found)? && !needs.contains(&found) {
                    needs.push(found);
                }
            }
        }
        let snapshot = SNAPSHOT.iter().filter(|_| REPLAYED.contains(&name)).copied();
        for soft in info.after.iter().map(String::as_str).chain(snapshot) {
            let found = self.providers(soft)?;
            self.later.extend(found);
        }
        self.state.insert(name.to_owned(), State::Placed);
        let path = format!("{}/{name}.ko", config::paths::MODULE_FOLDER);
        self.index.modules.push(Module {
            name: name.to_owned(),
            path,
            needs,
            aliases: info.aliases,
        });
        Ok(true)
    }

    /// The modules that a soft dependency means: one of that name, else those whose alias it is. None if it is built in.
    ///
    /// To find an alias without reading thousands of files, only modules are asked whose name begins as the alias does,
    /// without its kind and the size at its end: crypto-crc32c is served by crc32c_generic and crc32c_intel (which
    /// refuses to load on a processor that it is not for), blake2b-256 by blake2b_generic.
    fn providers(&mut self, wanted: &str) -> Result<Vec<String>> {
        let name = canonical_name(wanted);
        if self.tree.files.contains_key(&name) {
            return Ok(vec![name]);
        }
        let builtin = self.tree.builtin.contains(&name);
        if builtin
            || self
                .tree
                .builtin_aliases
                .iter()
                .any(|alias| alias_matches(alias, wanted))
        {
            return Ok(vec![]);
        }
        let stem = ["crypto_", "fs_", "nls_"]
            .iter()
            .find_map(|kind| name.strip_prefix(kind))
            .unwrap_or(&name)
            .trim_end_matches(|c: char| c.is_ascii_digit() || c == '_');
        let mut found: Vec<String> = Vec::new();
        for (candidate, _) in self
            .tree
            .files
            .range(stem.to_owned()..)
            .take_while(|(n, _)| n.starts_with(stem))
        {
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

impl Info {
    /// Reads `.modinfo`: `key=value` strings, each ended by a zero byte.
    fn of(bytes: &[u8], arch: Arch) -> Result<Self> {
        let elf = Elf::parse(bytes).context("not a kernel module")?;
        let (machine, name) = match arch {
            Arch::Arm64 => (EM_AARCH64, "arm64"),
            Arch::X86_64 => (EM_X86_64, "x86_64"),
        };
        ensure!(
            elf.header.e_machine == machine,
            "a module for another machine (ELF machine {}), not for {name}",
            elf.header.e_machine
        );
        let section = elf
            .section_headers
            .iter()
            .find(|s| elf.shdr_strtab.get_at(s.sh_name) == Some(".modinfo"))
            .and_then(|s| bytes.get(s.file_range()?))
            .context("no .modinfo: not a kernel module")?;
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
                _ => {}
            }
        }
        Ok(info)
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
                    "{}: several kernel versions ({}): name the folder of one",
                    modules.display(),
                    names.join(", ")
                )
            }
        }
    }
    ensure!(dir.is_dir(), "{}: no such folder", dir.display());
    Ok(dir.to_owned())
}

/// Collects modules below `dir`. Links are not followed: `build` and `source` lead out of the tree.
fn find(dir: &Path, files: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    let mut entries: Vec<_> = fs::read_dir(dir)
        .with_context(|| dir.display().to_string())?
        .collect::<std::io::Result<_>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let (kind, path) = (entry.file_type()?, entry.path());
        if kind.is_dir() {
            find(&path, files)?;
        } else if let (true, Some(name)) = (kind.is_file(), module_name(&path))
            && let Some(other) = files.insert(name, path.clone())
        {
            bail!("{} and {}: two modules of one name", other.display(), path.display());
        }
    }
    Ok(())
}

/// Reads a module, unpacked as its name says.
fn unpack(path: &Path) -> Result<Vec<u8>> {
    let packed = fs::read(path)?;
    let mut bytes = Vec::new();
    match path.extension().and_then(OsStr::to_str) {
        Some("xz") => lzma_rust2::XzReader::new(packed.as_slice(), true).read_to_end(&mut bytes)?,
        Some("zst") => zstd::Decoder::new(packed.as_slice())?.read_to_end(&mut bytes)?,
        Some("gz") => flate2::read::MultiGzDecoder::new(packed.as_slice()).read_to_end(&mut bytes)?,
        _ => return Ok(packed),
    };
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A relocatable ELF file with nothing but a `.modinfo` section.
    fn ko(machine: u16, modinfo: &[&str]) -> Vec<u8> {
        let text: Vec<u8> = modinfo.iter().flat_map(|e| e.bytes().chain([0])).collect();
        let names = b"\0.modinfo\0.shstrtab\0";
        let section = |name: u32, kind: u32, offset: usize, size: usize| {
            let mut s = Vec::new();
            s.extend(name.to_le_bytes());
            s.extend(kind.to_le_bytes());
            s.extend([0; 16]); // flags, address
            s.extend(offset.to_le_bytes());
            s.extend(size.to_le_bytes());
            s.extend([0; 8]); // link, info
            s.extend([1, 0, 0, 0, 0, 0, 0, 0]); // alignment
            s.extend([0; 8]);
            s
        };
        let mut out = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        out.extend(1u16.to_le_bytes()); // ET_REL
        out.extend(machine.to_le_bytes());
        out.extend(1u32.to_le_bytes());
        out.extend([0; 16]); // entry, program headers
        out.extend((64 + names.len() + text.len()).to_le_bytes());
        out.extend([0; 4]);
        for half in [64u16, 0, 0, 64, 3, 2] {
            out.extend(half.to_le_bytes());
        }
        assert_eq!(out.len(), 64);
        out.extend(names);
        out.extend(&text);
        out.extend(section(0, 0, 0, 0));
        out.extend(section(1, 1, 64 + names.len(), text.len()));
        out.extend(section(10, 3, 64, names.len()));
        out
    }

    fn tree(files: &[(&str, &[&str])]) -> (tempfile::TempDir, Tree) {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("lib/modules/1.2.3");
        for (path, modinfo) in files {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            let bytes = ko(EM_X86_64, modinfo);
            let packed = match path.extension().unwrap().to_str().unwrap() {
                "zst" => zstd::encode_all(bytes.as_slice(), 3).unwrap(),
                "gz" => {
                    let mut packed = Vec::new();
                    flate2::read::GzEncoder::new(bytes.as_slice(), flate2::Compression::fast())
                        .read_to_end(&mut packed)
                        .unwrap();
                    packed
                }
                "xz" => {
                    let mut writer =
                        lzma_rust2::XzWriter::new(Vec::new(), lzma_rust2::XzOptions::with_preset(1)).unwrap();
                    std::io::Write::write_all(&mut writer, &bytes).unwrap();
                    writer.finish().unwrap()
                }
                _ => bytes,
            };
            fs::write(path, packed).unwrap();
        }
        fs::write(
            root.join("modules.builtin"),
            "kernel/drivers/virtio/virtio.ko\nkernel/lib/crc16.ko\n",
        )
        .unwrap();
        fs::write(
            root.join("modules.builtin.modinfo"),
            b"crc32_generic.alias=crypto-crc32\0crc32_generic.license=GPL\0",
        )
        .unwrap();
        let tree = Tree::open(dir.path(), Arch::X86_64).unwrap();
        (dir, tree)
    }

    fn names(resolved: &Resolved) -> Vec<&str> {
        resolved.index.modules.iter().map(|m| m.name.as_str()).collect()
    }

    fn debian_like() -> (tempfile::TempDir, Tree) {
        tree(&[
            (
                "kernel/fs/ext4/ext4.ko.xz",
                &["alias=fs-ext4", "softdep=pre: crypto-crc32c", "depends=jbd2,crc16"],
            ),
            ("kernel/fs/jbd2/jbd2.ko.gz", &["depends=", "softdep=pre: crypto-crc32"]),
            ("kernel/fs/fat/vfat.ko", &["alias=fs-vfat", "depends=fat"]),
            ("kernel/fs/fat/fat.ko.zst", &[]),
            ("kernel/fs/nls/nls_ascii.ko", &[]),
            ("kernel/fs/nls/nls_iso8859-1.ko", &[]),
            (
                "kernel/crypto/crc32c_generic.ko",
                &["alias=crc32c", "alias=crypto-crc32c"],
            ),
            (
                "kernel/arch/x86/crypto/crc32c-intel.ko",
                &["alias=crypto-crc32c", "alias=cpu:type:x86,*"],
            ),
            ("kernel/crypto/crc32c_other.ko", &["alias=crypto-else"]),
            (
                "kernel/drivers/block/virtio_blk.ko",
                &["alias=virtio:d00000002v*", "depends=virtio"],
            ),
            ("kernel/a.ko", &["softdep=pre: b post: c"]),
            ("kernel/b.ko", &["depends=a"]),
            ("kernel/c.ko", &[]),
            ("kernel/broken.ko", &["depends=gone"]),
        ])
    }

    #[test]
    fn dependencies_of_every_kind_come_first() {
        let (_dir, tree) = debian_like();
        let resolved = tree.resolve(&["ext4".into()]).unwrap();
        assert_eq!(names(&resolved), ["jbd2", "crc32c_generic", "ext4"]);
        let ext4 = resolved.index.for_filesystem("ext4").unwrap();
        assert_eq!(ext4.needs, ["jbd2", "crc32c_generic"]);
        // The text the stage reads says the same, and every file is an unpacked module.
        assert_eq!(Index::parse(&resolved.index.to_string()).unwrap(), resolved.index);
        assert_eq!(resolved.files.len(), 3);
        assert!(resolved.files.iter().all(|f| f.starts_with(b"\x7fELF")));
    }

    #[test]
    fn a_filesystem_gets_the_tables_it_asks_for_at_mount() {
        let (_dir, tree) = debian_like();
        let resolved = tree.resolve(&["vfat".into()]).unwrap();
        assert_eq!(names(&resolved), ["fat", "nls_ascii", "nls_iso8859_1", "vfat"]);
    }

    #[test]
    fn a_filesystem_gets_its_checksums_and_what_replays_its_log() {
        let (_dir, tree) = tree(&[
            ("btrfs.ko", &["softdep=pre: blake2b-256", "softdep=pre: xxhash64"]),
            ("blake2b_generic.ko", &["alias=crypto-blake2b-256", "alias=blake2b-256"]),
            ("xxhash_generic.ko", &["alias=xxhash64"]),
            ("xxhash_other.ko", &["alias=xxhash32"]),
            ("dm-snapshot.ko", &["depends=dm-mod"]),
            ("dm-mod.ko", &[]),
            ("loop.ko", &[]),
        ]);
        let resolved = tree.resolve(&["btrfs".into()]).unwrap();
        let index = &resolved.index;
        let closure = |name| -> Vec<_> { index.closure(name).iter().map(|m| m.name.as_str()).collect() };
        assert_eq!(closure("btrfs"), ["blake2b_generic", "xxhash_generic", "btrfs"]);
        assert_eq!(closure("dm-snapshot"), ["dm_mod", "dm_snapshot"]);
        assert_eq!(names(&resolved).len(), 6);
    }

    #[test]
    fn a_soft_circle_is_cut_and_what_comes_after_is_packed() {
        let (_dir, tree) = debian_like();
        let resolved = tree.resolve(&["a".into()]).unwrap();
        assert_eq!(names(&resolved), ["a", "c"]);
        assert!(resolved.index.modules[0].needs.is_empty());
        assert_eq!(names(&tree.resolve(&["b".into()]).unwrap()), ["a", "b", "c"]);
    }

    #[test]
    fn defaults_that_are_not_there_are_left_out_and_names_that_are_not_there_refused() {
        let (_dir, tree) = debian_like();
        let resolved = tree.resolve(&[]).unwrap();
        assert!(names(&resolved).contains(&"virtio_blk") && names(&resolved).contains(&"ext4"));
        let error = tree.resolve(&["virtio-blx".into()]).unwrap_err().to_string();
        assert!(error.contains("no module virtio-blx; near: virtio_blk"), "{error}");
        let error = tree.resolve(&["broken".into()]).unwrap_err().to_string();
        assert!(error.contains("module broken needs gone"), "{error}");
        assert!(tree.resolve(&["virtio".into()]).unwrap().files.is_empty());
    }

    #[test]
    fn a_circle_of_hard_dependencies_does_not_hang() {
        let (_dir, tree) = tree(&[("x.ko", &["depends=y"]), ("y.ko", &["depends=x"])]);
        assert!(tree.resolve(&["x".into()]).is_err());
    }

    #[test]
    fn what_is_no_module_is_refused() {
        assert!(Info::of(b"text", Arch::X86_64).is_err());
        let error = Info::of(&ko(EM_AARCH64, &[]), Arch::X86_64).unwrap_err().to_string();
        assert!(error.contains("another machine"), "{error}");
        let whole = ko(EM_X86_64, &["depends=a"]);
        for end in 0..whole.len() {
            // A file cut short is an error or a shorter list, never a panic.
            let _ = Info::of(&whole[..end], Arch::X86_64);
        }
    }

    #[test]
    fn two_kernels_in_one_root_are_ambiguous() {
        let (dir, _) = debian_like();
        fs::create_dir(dir.path().join("lib/modules/1.2.4")).unwrap();
        let error = Tree::open(dir.path(), Arch::X86_64).unwrap_err().to_string();
        assert!(error.contains("1.2.3, 1.2.4"), "{error}");
    }
}
