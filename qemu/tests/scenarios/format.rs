//! A main kernel in every form that is taken, made of Debian's: compressed, wrapped.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use config::Arch::{self, Arm64, X86_64};
use mkinitramfs::{Compress, compress};
use qemu::chain::Chain;
use qemu::machine::Firmware::Direct;
use qemu::scenario::{Context, Scenario};
use qemu::setup::Suite::{Bookworm, Trixie};
use qemu::vm::Vm;

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
        // Each compression once every day.
        packed(Arm64, "gzip", "gzip of Image", gzip).long_if(true),
        packed(Arm64, "zstd", "zstd of Image", zstd).long_if(true),
        packed(Arm64, "zboot-gzip", "EFI zboot of gzip of Image", |image| {
            Ok(zboot("gzip", &gzip(&padded(image)?)?))
        })
        .long_if(true),
        packed(Arm64, "zboot-zstd", "EFI zboot of zstd of Image", |image| {
            let mut payload = zstd(&padded(image)?)?;
            let size = u32::try_from(payload.len())?;
            payload.extend(size.to_le_bytes());
            Ok(zboot("zstd22", &payload))
        }),
        packed(X86_64, "gzip", "gzip of bzImage", gzip),
    ]
}

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
