//! A main kernel in every form that is taken, made of Debian's: compressed, wrapped, unpacked.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use config::Arch::{self, Arm64, X86_64};
use mkinitramfs::{Compress, compress};
use qemu::chain::Chain;
use qemu::machine::Firmware::Direct;
use qemu::scenario::{Context, Scenario};
use qemu::setup::Suite::{Bookworm, Trixie};
use qemu::vm::Vm;

/// What a kernel that was not moved begins at: `__START_KERNEL_map` and CONFIG_PHYSICAL_START.
const UNMOVED: &str = "ffffffff81000000";

pub(crate) fn scenarios() -> Vec<Scenario> {
    let packed = |arch: Arch, name: &'static str, says: &'static str, pack: fn(&[u8]) -> Result<Vec<u8>>| {
        Scenario::new(format!("format/{arch}/{name}"), move |context| {
            let mut chain = direct(context, arch)?;
            let kernel = context.folder.join("kernel");
            fs::write(&kernel, pack(&fs::read(&chain.kernel)?)?)?;
            chain.kernel = kernel;
            let (_, vm) = context.boots(&chain)?;
            said(&vm, &[&format!(", {says})")])
        })
    };
    vec![
        packed(Arm64, "gzip", "gzip of Image", gzip),
        packed(Arm64, "zstd", "zstd of Image", zstd),
        packed(Arm64, "zboot-gzip", "EFI zboot of gzip of Image", |image| {
            Ok(zboot("gzip", &gzip(&padded(image)?)?))
        }),
        packed(Arm64, "zboot-zstd", "EFI zboot of zstd of Image", |image| {
            let mut payload = zstd(&padded(image)?)?;
            let size = u32::try_from(payload.len())?;
            payload.extend(size.to_le_bytes());
            Ok(zboot("zstd22", &payload))
        }),
        packed(X86_64, "gzip", "gzip of bzImage", gzip),
        Scenario::new("format/x86_64/unpacked", unpacked),
        Scenario::new("format/x86_64/unpacked-xz-is-refused", unpacked_xz),
    ]
}

const SOON: Duration = Duration::from_mins(1);

fn direct(context: &Context, arch: Arch) -> Result<Chain> {
    let mut chain = context.chain(arch, Bookworm, Trixie)?;
    chain.machine.firmware = Direct;
    Ok(chain)
}

/// Cato said each of `words` on its way.
fn said(vm: &Vm, words: &[&str]) -> Result<()> {
    let lines = vm.lines();
    for word in words {
        ensure!(
            lines
                .iter()
                .any(|line| line.text.contains("cato[") && line.text.contains(word)),
            vm.failure(&format!("Cato did not say {word:?}"))
        );
    }
    Ok(())
}

fn gzip(bytes: &[u8]) -> Result<Vec<u8>> {
    compress(bytes, Compress::Gzip)
}

fn zstd(bytes: &[u8]) -> Result<Vec<u8>> {
    compress(bytes, Compress::Zstd)
}

/// An Image as long as the memory it takes: what zboot packs (drivers/firmware/efi/libstub/Makefile.zboot).
fn padded(image: &[u8]) -> Result<Vec<u8>> {
    let size = image.get(16..24).context("no Image")?;
    let mut image = image.to_vec();
    image.resize(usize::try_from(u64::from_le_bytes(size.try_into()?))?, 0);
    Ok(image)
}

/// An EFI zboot image (drivers/firmware/efi/libstub/zboot-header.S), but for the program that unpacks it. `payload` ends
/// with the length of what was packed, which the header counts only in gzip.
fn zboot(comp_type: &str, payload: &[u8]) -> Vec<u8> {
    const PROGRAM: usize = 0x1_1000;
    let size = payload.len() - if comp_type == "gzip" { 0 } else { 4 };
    let offset = u32::try_from(PROGRAM).unwrap_or_default();
    let size = u32::try_from(size).unwrap_or_default();
    let mut file = vec![0xcc; PROGRAM];
    file.splice(0..0x1000, [0; 0x1000]);
    for (at, bytes) in [
        (0, &b"MZ\0\0zimg"[..]),
        (8, &offset.to_le_bytes()),
        (12, &size.to_le_bytes()),
        (24, comp_type.as_bytes()),
        (56, &0x8182_23cd_u32.to_le_bytes()),
        (60, &64_u32.to_le_bytes()),
        (64, b"PE\0\0\x64\xaa"),
    ] {
        file.splice(at..at + bytes.len(), bytes.iter().copied());
    }
    file.extend_from_slice(payload);
    // Read-only data and the program's own data follow.
    file.resize(file.len().next_multiple_of(4096) + 4096, 0xcc);
    file
}

/// The usual config with `unpack = true` in both entries.
fn unpacking(chain: &Chain) -> String {
    chain
        .usual_config()
        .replace("kernel = \"kernel\"\n", "kernel = \"kernel\"\nunpack = true\n")
}

/// Debian's own kernel without its decompressor, at a random virtual address, and at its own with `nokaslr`.
fn unpacked(context: &Context) -> Result<()> {
    let mut chain = direct(context, X86_64)?;
    chain.config = Some(unpacking(&chain));
    // One time in 481 it is moved by nothing.
    let mut moved = false;
    for _ in 0..2 {
        let (report, vm) = context.boots(&chain)?;
        let words = [
            ", bzImage of zstd of vmlinux)",
            "unpacked here: its physical address is not random",
            "  vmlinux, at a random virtual address",
        ];
        said(&vm, &words)?;
        let at = report.get("kernel-virtual").unwrap_or("unknown");
        ensure!(
            at.len() == 16 && at.starts_with("ffffffff") && at.ends_with("00000"),
            vm.failure(&format!("the kernel runs at {at}"))
        );
        moved = at != UNMOVED;
        if moved {
            break;
        }
    }
    if !moved {
        bail!("the kernel was not moved, twice");
    }
    chain.cmdline += " nokaslr";
    chain.config = Some(unpacking(&chain));
    let (report, vm) = context.boots(&chain)?;
    said(&vm, &["  vmlinux, without KASLR"])?;
    let at = report.get("kernel-virtual");
    ensure!(
        at == Some(UNMOVED),
        vm.failure(&format!("the kernel runs at {at:?} in spite of nokaslr"))
    );
    Ok(())
}

/// Debian 12's kernel is packed with xz, which only the kernel's own decompressor takes.
fn unpacked_xz(context: &Context) -> Result<()> {
    let mut chain = context.chain(X86_64, Bookworm, Bookworm)?;
    chain.machine.firmware = Direct;
    chain.config = Some(unpacking(&chain));
    let ready = context.prepare(&chain)?;
    let vm = context.start(&ready.machine)?;
    vm.wait_for(
        r#"cato\[.*entry "a": .*kernel: kernel: has a payload that is an xz stream; .*set unpack = false"#,
        SOON,
    )?;
    Ok(())
}
