//! The initramfs: what is in it, and where.
//!
//! Given a recipe; responsible for an archive that boots Cato: `/init`, its config, its modules with their index, the
//! folders it mounts on. The same recipe and sources give the same bytes.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use config::{Arch, Config, Source, paths};
use goblin::elf::Elf;
use goblin::elf::program_header::PT_LOAD;

use crate::added::Added;
use crate::compression::{Compress, compress};
use crate::cpio::{Entry, Node, archive};
use crate::cross;
use crate::modules::ModuleTree;

/// What an initramfs is made from.
#[derive(Debug, Clone)]
pub struct Recipe {
    /// The board.
    pub arch: Arch,
    /// The text of `boot.toml`.
    pub config_text: String,
    /// Where the service kernel's modules are (see [`ModuleTree::open`]); none are packed without.
    pub modules: Option<PathBuf>,
    /// The modules wanted; empty means the usual ones for booting from a disk.
    pub module_names: Vec<String>,
    /// Further files.
    pub add: Vec<Added>,
    /// How the archive is compressed.
    pub compress: Compress,
}

/// The largest an initramfs without modules and additions may get, compressed.
pub const BUDGET: usize = 1024 * 1024;

/// The sizes of what was packed, in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// `cato`, stripped, with the blob inside.
    pub cato: usize,
    /// What the purgatory takes in memory.
    pub purgatory: u64,
    /// File name and size of each module, in load order.
    pub modules: Vec<(String, usize)>,
    /// What was added.
    pub added: usize,
    /// The archive.
    pub raw: usize,
    /// The archive, compressed.
    pub packed: usize,
    /// How.
    pub compress: Compress,
    /// What the person who packs should know.
    pub warnings: Vec<String>,
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut row = |name: &str, size: usize| writeln!(f, "{size:>12}  {name}");
        row("cato", self.cato)?;
        row(
            "  of which the purgatory, in memory",
            usize::try_from(self.purgatory).unwrap_or(usize::MAX),
        )?;
        for (name, size) in &self.modules {
            row(name, *size)?;
        }
        if self.added > 0 {
            row("added files", self.added)?;
        }
        row("archive", self.raw)?;
        row(&format!("initramfs ({})", self.compress), self.packed)?;
        for warning in &self.warnings {
            writeln!(f, "warning: {warning}")?;
        }
        Ok(())
    }
}

/// An initramfs.
#[derive(Debug, Clone)]
pub struct Packed {
    /// The file, compressed as the recipe says.
    pub bytes: Vec<u8>,
    /// Its sizes.
    pub table: Table,
}

/// Builds `cato` and packs it.
///
/// # Errors
/// When the config has problems (the error is their text), a build fails (see [`cross`]), a module or an added file is
/// missing.
pub fn pack(workspace: &Path, recipe: &Recipe) -> Result<Packed> {
    // The quick checks first.
    let prepared = Prepared::new(recipe)?;
    let blob = cross::purgatory(workspace, recipe.arch)?;
    let cato = cross::stage(workspace, recipe.arch)?;
    let read = |path: &Path| fs::read(path).with_context(|| path.display().to_string());
    prepared.finish(read(&cato)?, &read(&blob)?)
}

/// Checks a `boot.toml`. Its warnings are a line each.
///
/// # Errors
/// All its problems, as text that names `file`.
pub fn check_config(file: &str, text: &[u8]) -> Result<(Config, Vec<String>)> {
    let reading = config::read(text);
    let drawn = reading.render(file);
    let config = reading.config.with_context(|| drawn.trim_end().to_owned())?;
    let place = |at: usize| config::line_column(&reading.text, at);
    let warnings = reading.diagnostics.iter().map(|warning| {
        let (line, column) = place(warning.span.start);
        format!("{file}:{line}:{column}: {warning}")
    });
    Ok((config, warnings.collect()))
}

/// A recipe with everything read but the programs.
struct Prepared<'r> {
    recipe: &'r Recipe,
    entries: Vec<Entry>,
    modules: Vec<(String, usize)>,
    added: usize,
    warnings: Vec<String>,
}

impl<'r> Prepared<'r> {
    fn new(recipe: &'r Recipe) -> Result<Self> {
        let (config, mut warnings) = check_config("boot.toml", recipe.config_text.as_bytes())?;
        let mut entries = vec![Entry::dir(paths::MODULE_FOLDER)];
        entries.extend(paths::FOLDERS.into_iter().map(Entry::dir));
        entries.push(Entry::char("dev/console", 5, 1));
        // A program without standard streams, as PID 1 is where no console works, opens this one in their place.
        entries.push(Entry::char("dev/null", 1, 3));
        entries.push(Entry::file(paths::CONFIG, recipe.config_text.as_str()));
        let mut modules = Vec::new();
        match &recipe.modules {
            Some(dir) => {
                let resolved = ModuleTree::open(dir, recipe.arch)?.resolve_for_service(&recipe.module_names)?;
                entries.push(Entry::file(paths::MODULE_INDEX, resolved.index.to_string()));
                for (path, bytes) in resolved.files {
                    let file = path.rsplit('/').next().unwrap_or_default();
                    modules.push((file.to_owned(), bytes.len()));
                    entries.push(Entry::file(&path, bytes));
                }
                warnings.extend(resolved.warnings);
            }
            None if recipe.module_names.is_empty() => {
                entries.push(Entry::file(
                    paths::MODULE_INDEX,
                    config::modules::Index::default().to_string(),
                ));
            }
            None => bail!(
                "modules given ({}), but no folder to take them from; add --modules DIR",
                recipe.module_names.join(", ")
            ),
        }
        let own = entries.len();
        for added in &recipe.add {
            added.entries(&mut entries)?;
        }
        let added = entries
            .iter()
            .skip(own)
            .map(|e| {
                if let Node::File { data, .. } = &e.node {
                    data.len()
                } else {
                    0
                }
            })
            .sum();
        if config.console.access == config::Access::Locked {
            let added = entries.iter().skip(own);
            if let Some(shell) = added.map(|entry| entry.path.as_str()).find(|path| is_interpreter(path)) {
                bail!(
                    "{shell}: an interpreter, and [console] access is \"locked\"; leave it out, or unlock the console"
                );
            }
        }
        warnings.extend(missing(&config, &entries));
        Ok(Self {
            recipe,
            entries,
            modules,
            added,
            warnings,
        })
    }

    fn finish(self, cato: Vec<u8>, blob: &[u8]) -> Result<Packed> {
        let Self {
            recipe,
            mut entries,
            modules,
            added,
            mut warnings,
        } = self;
        let size = cato.len();
        entries.push(Entry::program(paths::INIT, cato));
        let archive = archive(entries)?;
        let bytes = compress(&archive, recipe.compress)?;
        if modules.is_empty() && added == 0 && recipe.compress != Compress::None && bytes.len() > BUDGET {
            warnings.push(format!(
                "{} bytes without any modules, over the budget of {BUDGET}",
                bytes.len()
            ));
        }
        let table = Table {
            cato: size,
            purgatory: loaded(blob)?,
            modules,
            added,
            raw: archive.len(),
            packed: bytes.len(),
            compress: recipe.compress,
            warnings,
        };
        Ok(Packed { bytes, table })
    }
}

/// What an ELF file takes in memory, from the first byte of its segments to the last.
fn loaded(elf: &[u8]) -> Result<u64> {
    let elf = Elf::parse(elf).context("purgatory")?;
    let loads = || elf.program_headers.iter().filter(|p| p.p_type == PT_LOAD);
    let start = loads()
        .map(|p| p.p_vaddr)
        .min()
        .context("purgatory: no PT_LOAD segment")?;
    let end = loads()
        .map(|p| p.p_vaddr.saturating_add(p.p_memsz))
        .max()
        .unwrap_or(start);
    Ok(end.saturating_sub(start))
}

/// What boot entries take from the initramfs, but nobody put there.
fn missing(config: &Config, entries: &[Entry]) -> Vec<String> {
    let path = |p: &str| {
        p.split('/')
            .filter(|x| !x.is_empty() && *x != ".")
            .collect::<Vec<_>>()
            .join("/")
    };
    let there: Vec<_> = entries.iter().map(|e| path(&e.path)).collect();
    let mut warnings = Vec::new();
    for entry in &config.entries {
        let Source::Initramfs(folder) = &entry.source else {
            continue;
        };
        for file in std::iter::once(&entry.kernel).chain(&entry.initrd).chain(&entry.dtb) {
            let wanted = path(&format!("{folder}/{file}"));
            if !there.contains(&wanted) {
                warnings.push(format!(
                    "entry {:?} needs /{wanted}, which is not in the initramfs; add it with --add",
                    entry.name
                ));
            }
        }
    }
    warnings
}

/// Programs that do what is typed, by their names, whatever version stands behind those.
const INTERPRETERS: &[&str] = &[
    "sh",
    "ash",
    "bash",
    "dash",
    "ksh",
    "mksh",
    "zsh",
    "fish",
    "tcsh",
    "csh",
    "busybox",
    "toybox",
    "python",
    "perl",
    "lua",
    "tclsh",
    "ruby",
    "node",
    "awk",
    "gawk",
    "mawk",
    "getty",
    "agetty",
    "login",
    "sulogin",
    "dropbear",
    "sshd",
    "gdb",
    "gdbserver",
];

/// Whether what lies there would let somebody type commands.
fn is_interpreter(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or_default();
    let name = name.trim_end_matches(".static").trim_end_matches("-static");
    let plain = name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.' || c == '-');
    INTERPRETERS.contains(&plain) || plain.starts_with("busybox")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::list::list;

    const CONFIG: &str =
        "version = 1\norder = [\"a\"]\n[entry.a]\nsource = \"/boot\"\nkernel = \"Image\"\ncmdline = \"x\"\n";

    fn recipe() -> Recipe {
        Recipe {
            arch: Arch::X86_64,
            config_text: CONFIG.to_owned(),
            modules: None,
            module_names: vec![],
            add: vec![],
            compress: Compress::Zstd,
        }
    }

    /// Any ELF file will do for the blob: this test.
    fn finish(recipe: &Recipe) -> Result<Packed> {
        let own = fs::read(std::env::current_exe().unwrap()).unwrap();
        Prepared::new(recipe)?.finish(b"cato".to_vec(), &own)
    }

    #[test]
    fn the_layout_is_the_one_the_stage_expects() {
        let lines = list(&finish(&recipe()).unwrap().bytes).unwrap();
        let paths: Vec<_> = lines.iter().map(|l| l.path.as_str()).collect();
        let want = [
            "dev",
            "dev/console",
            "dev/null",
            "etc",
            "etc/cato",
            "etc/cato/boot.toml",
            "etc/cato/modules",
            "init",
            "lib",
            "lib/modules",
            "mnt",
            "proc",
            "run",
            "sys",
            "tmp",
        ];
        assert_eq!(paths, want);
        let init = lines.iter().find(|l| l.path == "init").unwrap();
        assert_eq!((init.mode, init.size), (0o100_755, 4));
    }

    #[test]
    fn every_compression_holds_the_same_and_twice_the_same() {
        let mut lists = Vec::new();
        for how in [Compress::Zstd, Compress::Gzip, Compress::None] {
            let recipe = Recipe {
                compress: how,
                ..recipe()
            };
            let one = finish(&recipe).unwrap().bytes;
            assert!(one == finish(&recipe).unwrap().bytes, "{how}");
            lists.push(list(&one).unwrap());
        }
        assert_eq!(lists[0], lists[1]);
        assert_eq!(lists[0], lists[2]);
    }

    #[test]
    fn added_files_keep_whether_they_are_programs() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("boot/sub")).unwrap();
        fs::write(dir.path().join("boot/Image"), "kernel").unwrap();
        fs::write(dir.path().join("boot/sub/tool"), "tool").unwrap();
        fs::set_permissions(dir.path().join("boot/sub/tool"), fs::Permissions::from_mode(0o700)).unwrap();
        std::os::unix::fs::symlink("tool", dir.path().join("boot/sub/link")).unwrap();
        let add = vec![
            Added {
                source: dir.path().join("boot"),
                dest: "/boot".into(),
            },
            Added {
                source: dir.path().join("boot/Image"),
                dest: "/other/".into(),
            },
        ];
        let packed = finish(&Recipe { add, ..recipe() }).unwrap();
        assert!(packed.table.warnings.is_empty());
        assert_eq!(packed.table.added, 16);
        let lines = list(&packed.bytes).unwrap();
        let mode = |path: &str| lines.iter().find(|l| l.path == path).map(|l| l.mode);
        assert_eq!(mode("boot/Image"), Some(0o100_644));
        assert_eq!(mode("boot/sub/tool"), Some(0o100_755));
        assert_eq!(mode("boot/sub/link"), Some(0o120_777));
        assert_eq!(mode("other/Image"), Some(0o100_644));
    }

    #[test]
    fn a_file_that_an_entry_wants_and_nobody_adds_is_a_warning() {
        let table = finish(&recipe()).unwrap().table;
        assert!(table.warnings[0].contains("/boot/Image"), "{table}");
    }

    #[test]
    fn a_wrong_config_is_refused_with_its_place() {
        let recipe = Recipe {
            config_text: CONFIG.replace("kernel", "kernl"),
            ..recipe()
        };
        let error = finish(&recipe).unwrap_err().to_string();
        assert!(error.contains("boot.toml") && error.contains("kernl"), "{error}");
    }

    #[test]
    fn a_locked_console_has_no_shell_behind_it() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("python3.11"), "x").unwrap();
        let add = vec![Added {
            source: folder.path().into(),
            dest: "/usr/bin".into(),
        }];
        let open = Recipe { add, ..recipe() };
        finish(&open).unwrap();
        let config_text = format!("{}\n[console]\naccess = \"locked\"\n", open.config_text);
        let locked = Recipe { config_text, ..open };
        let error = finish(&locked).unwrap_err().to_string();
        assert!(
            error.starts_with("/usr/bin/python3.11: an interpreter, and [console] access"),
            "{error}"
        );
        for (path, is_one) in [
            ("/bin/busybox", true),
            ("/bin/busybox.static", true),
            ("/bin/zsh-5.9", true),
            ("/boot/Image", false),
        ] {
            assert_eq!(is_interpreter(path), is_one, "{path}");
        }
    }

    #[test]
    fn adding_over_init_is_refused() {
        let add = vec![Added {
            source: std::env::current_exe().unwrap(),
            dest: paths::INIT.into(),
        }];
        assert!(
            finish(&Recipe { add, ..recipe() })
                .unwrap_err()
                .to_string()
                .contains("twice")
        );
    }

    #[test]
    fn a_config_is_read_whatever_its_bytes() {
        for (bytes, says) in [
            (b"\xff".as_slice(), "byte 0xff at offset 0 is not UTF-8"),
            (b"v\0e\0", "as in UTF-16"),
        ] {
            let error = check_config("boot.toml", bytes).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}
