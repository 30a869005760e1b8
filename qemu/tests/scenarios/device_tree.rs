//! A device tree named in `boot.toml` that is wrong about the machine: firmware would have corrected it, so Cato does.

use std::fs;
use std::path::PathBuf;

use anyhow::{Result, ensure};
use config::Arch::Arm64;
use mkinitramfs::disk::{Filesystem, Partition};
use qemu::chain::Chain;
use qemu::device_tree::{self, with_cma, with_identity};
use qemu::machine::Firmware::Direct;
use qemu::machine::Machine;
use qemu::scenario::{Context, Scenario};
use qemu::setup::Suite::{Bookworm, Trixie};
use qemu::vm::Vm;

pub(crate) fn scenarios() -> Vec<Scenario> {
    // Too much memory: the main kernel's first page table is put at its end, and it dies in paging_init() without a word.
    // Too little: half of it is lost.
    let memory = [("2G-on-1G", 2048, "2 GiB"), ("512M-on-1G", 512, "512 MiB")];
    let memory = memory.map(|(name, memory_mib, memory)| {
        let scenario = Scenario::new(format!("dtb/arm64/{name}"), move |context| {
            let mut chain = direct(context)?;
            let wrong = Machine {
                memory_mib,
                ..chain.machine.clone()
            };
            let tree = tree_of(&wrong, context, &chain, &[])?;
            name_tree(tree, context, &mut chain)?;
            // The report's own check: the main kernel has all of the machine's memory, and no more.
            let (_, vm) = context.boots(&chain)?;
            says(
                &vm,
                &format!("describes {memory} of memory; corrected to this machine's 1 GiB"),
            )
        });
        scenario.long_if(memory_mib < 1024)
    });
    let identity = Scenario::new("dtb/arm64/firmware-s-own", |context| {
        let mut chain = direct(context)?;
        let address = [0x52, 0x54, 0, 1, 2, 3];
        let running = tree_of(&chain.machine, context, &chain, &[(0x7000_0000, 0x20_0000)])?;
        let bytes = with_identity(&fs::read(&running)?, Some("C-4711"), "port-as-firmware-has-it", address)?;
        let file = context.folder.join("running.dtb");
        fs::write(&file, bytes)?;
        chain.machine.dtb = Some(file);
        let tree = tree_of(&chain.machine, context, &chain, &[])?;
        fs::write(&tree, with_identity(&fs::read(&tree)?, None, "port", [0; 6])?)?;
        name_tree(tree, context, &mut chain)?;

        let (report, vm) = context.boots(&chain)?;
        for (key, wanted) in [
            ("serial-number", "C-4711"),
            ("mac-address", "525400010203"),
            ("reserved-memory", "cato-test"),
        ] {
            let got = report.get(key).unwrap_or("none");
            ensure!(
                got == wanted,
                vm.failure(&format!("{key} in the main kernel's tree: {got}, not {wanted}"))
            );
        }
        says(
            &vm,
            "copied from the running device tree: /reserved-memory/cato-test, serial-number, local-mac-address of ethernet0",
        )
    });
    // The main kernel wants half of memory in one piece, and takes it from the half in which the payload would be.
    let cma = Scenario::new("dtb/arm64/cma", |context| {
        const MIB: u64 = 1 << 20;
        let mut chain = direct(context)?;
        let tree = tree_of(&chain.machine, context, &chain, &[])?;
        let upper = (0x6000_0000, 512 * MIB);
        fs::write(&tree, with_cma(&fs::read(&tree)?, 500 * MIB, upper)?)?;
        name_tree(tree, context, &mut chain)?;
        let (_, vm) = context.boots(&chain)?;
        let lines = vm.lines();
        let is_there = lines.iter().any(|line| {
            let pool = line.text.split("created CMA memory pool at 0x00000000").nth(1);
            pool.is_some_and(|at| at.starts_with(['6', '7']) && at.ends_with("size 500 MiB"))
        });
        ensure!(
            is_there,
            vm.failure("the main kernel has no CMA area of 500 MiB in the upper half")
        );
        Ok(())
    });
    memory.into_iter().chain([identity, cma]).collect()
}

/// Whether Cato said that of the tree.
fn says(vm: &Vm, text: &str) -> Result<()> {
    let wanted = format!("dtb: board.dtb: {text}");
    let said = vm.lines().iter().any(|line| line.text.contains(&wanted));
    ensure!(said, vm.failure(&format!("Cato did not say {wanted:?}")));
    Ok(())
}

fn direct(context: &Context) -> Result<Chain> {
    let mut chain = context.chain(Arm64, Bookworm, Trixie)?;
    chain.machine.firmware = Direct;
    Ok(chain)
}

/// QEMU's tree for `machine`, in a file.
fn tree_of(machine: &Machine, context: &Context, chain: &Chain, reserved: &[(u64, u64)]) -> Result<PathBuf> {
    let file = context.folder.join("board.dtb");
    fs::create_dir_all(&context.folder)?;
    device_tree::write(machine, &chain.nonce, reserved, &file)?;
    Ok(file)
}

/// Puts the tree beside the kernel and into the only entry.
fn name_tree(tree: PathBuf, context: &Context, chain: &mut Chain) -> Result<()> {
    let initrd = chain.make_initrd(&context.folder)?;
    let files = chain.main_files(initrd.as_deref()).with_file("board.dtb", tree);
    chain.partitions = Some(vec![Partition::new("boot-a", Filesystem::Ext4, files)]);
    let config = chain.usual_config();
    let (one, _) = config.split_once("\n[entry.b]").unwrap_or((&config, ""));
    chain.config = Some(one.replace(", \"b\"", "") + "dtb = \"board.dtb\"\n");
    Ok(())
}
