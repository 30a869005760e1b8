//! What is packed for a board, as files: small, static, and the same from every folder.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use config::Arch;
use goblin::elf::Elf;
use goblin::elf::header::{EM_AARCH64, EM_X86_64, ET_EXEC};
use goblin::elf::program_header::{PT_DYNAMIC, PT_INTERP};
use mkinitramfs::{BUDGET, Compress, Recipe, cross, errata, repro};
use qemu::scenario::Scenario;
use qemu::workspace;

/// The largest `cato` may get, stripped, with the purgatory and the menu inside, bytes: 1.5 MiB.
const CATO: usize = 1_572_864;
/// The largest the purgatory may get in memory, without the tables, bytes.
const PURGATORY: u64 = 32 << 10;

pub(crate) fn scenarios() -> Vec<Scenario> {
    Arch::ALL
        .into_iter()
        .flat_map(|arch| [small_and_static(arch), two_folders(arch)])
        .collect()
}

/// The smallest initramfs there is: no modules, nothing added.
pub(crate) fn recipe(arch: Arch) -> Recipe {
    Recipe {
        arch,
        config_text: "version = 1\norder = [\"a\"]\n[entry.a]\nsource = \"LABEL=boot\"\nkernel = \"Image\"\n"
            .to_owned(),
        modules: None,
        module_names: Vec::new(),
        add: Vec::new(),
        compress: Compress::default(),
    }
}

fn small_and_static(arch: Arch) -> Scenario {
    Scenario::new(format!("packing/{arch}/small-and-static"), move |_| {
        let root = workspace::root();
        let packed = mkinitramfs::pack(&root, &recipe(arch))?;
        let sizes = &packed.table;
        println!(
            "{arch}: cato {} bytes of {CATO}, purgatory {} of {PURGATORY} in memory, initramfs {} of {BUDGET}",
            sizes.cato,
            sizes.purgatory,
            packed.bytes.len()
        );
        ensure!(sizes.cato <= CATO, "cato is too large");
        ensure!(sizes.purgatory <= PURGATORY, "the purgatory is too large");
        ensure!(
            packed.bytes.len() <= BUDGET,
            "the initramfs without modules is too large"
        );

        let cato = fs::read(cross::stage(&root, arch)?)?;
        ensure!(cato.len() == sizes.cato, "what was packed is not what was built");
        is_static(&cato, arch).context("cato")?;
        errata::none(&cato, arch).context("cato")
    })
}

/// Needs nothing but a kernel, and carries nothing for a debugger.
fn is_static(file: &[u8], arch: Arch) -> Result<()> {
    let elf = Elf::parse(file)?;
    let machine = match arch {
        Arch::Arm64 => EM_AARCH64,
        Arch::X86_64 => EM_X86_64,
    };
    ensure!(
        elf.header.e_machine == machine && elf.header.e_type == ET_EXEC,
        "is ELF type {} for machine {}",
        elf.header.e_type,
        elf.header.e_machine
    );
    for kind in [PT_INTERP, PT_DYNAMIC] {
        ensure!(
            elf.program_headers.iter().all(|header| header.p_type != kind),
            "has a program header of type {kind}: it is not static"
        );
    }
    ensure!(elf.libraries.is_empty(), "wants {}", elf.libraries.join(", "));
    ensure!(
        elf.syms.is_empty(),
        "has {} symbols: it is not stripped",
        elf.syms.len()
    );
    Ok(())
}

/// Builds everything a second time, with the standard library.
fn two_folders(arch: Arch) -> Scenario {
    Scenario::new(format!("packing/{arch}/two-folders-one-result"), move |context| {
        repro::check(&workspace::root(), &context.folder, &recipe(arch))
    })
    .long_if(true)
}
