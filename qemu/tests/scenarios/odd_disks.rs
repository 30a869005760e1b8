//! Disks that are not what their tables, superblocks or kernel say, and those that come when nobody waits for them any more.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use config::Arch;
use mkinitramfs::disk::image::{self, MIB};
use mkinitramfs::disk::tools::{run, tool};
use mkinitramfs::disk::{Disk, Filesystem, Partition};
use qemu::chain::{Chain, Ready};
use qemu::machine::Drive;
use qemu::machine::Firmware::Direct;
use qemu::scenario::{Context, Scenario};
use qemu::setup::Suite::{Bookworm, Trixie};

use crate::disks::one_entry;
use crate::service_kernel;

const SOON: Duration = Duration::from_mins(1);

pub(crate) fn scenarios() -> Vec<Scenario> {
    let mut all = Vec::new();
    for arch in Arch::ALL {
        // Each on one arch every day, as nothing of it knows the arch.
        let mut add = |name: &str, everyday: Option<Arch>, body: fn(&Context, Arch) -> Result<()>| {
            let scenario = Scenario::new(format!("odd-disk/{arch}/{name}"), move |context| body(context, arch));
            all.push(scenario.long_if(everyday != Some(arch)));
        };
        add("backup-gpt", Some(Arch::X86_64), backup_gpt);
        add("backup-gpt-of-a-smaller-disk", None, grown);
        add("gpt-for-other-sectors", None, other_sectors);
        add("no-protective-mbr", None, no_mbr);
        add("mbr-logical", None, |context, arch| {
            logical(context, chain(context, arch)?)
        });
        add("stale-ext4-under-fat", Some(Arch::Arm64), stale);
        add("label-at-the-end-of-the-root-folder", None, label);
        add("mount-errors", Some(Arch::X86_64), mount_errors);
        add("read-error", Some(Arch::Arm64), read_error);
        add("card-while-searching", Some(Arch::Arm64), |context, arch| {
            card_while_searching(context, &chain(context, arch)?)
        });
        add("card-at-the-retry", None, card_at_the_retry);
        add("disk-that-grows", None, |context, arch| {
            grows(context, &chain(context, arch)?)
        });
        // With a kernel that reads no tables.
        add("mbr-logical-on-the-service-kernel", None, |context, arch| {
            logical(context, tuned(chain(context, arch)?)?)
        });
        add("disk-that-grows-on-the-service-kernel", None, |context, arch| {
            grows(context, &tuned(chain(context, arch)?)?)
        });
        add("card-while-searching-on-the-service-kernel", None, |context, arch| {
            card_while_searching(context, &tuned(chain(context, arch)?)?)
        });
    }
    all
}

fn tuned(mut chain: Chain) -> Result<Chain> {
    service_kernel::take(&mut chain)?;
    Ok(chain)
}

/// One entry, on the partition `boot-a`, and what happens to the image before the machine starts.
fn chain(context: &Context, arch: Arch) -> Result<Chain> {
    let mut chain = context.chain(arch, Bookworm, Trixie)?;
    chain.machine.firmware = Direct;
    chain.config = Some(one_entry(&chain));
    let files = chain.main_files(chain.make_initrd(&context.folder)?.as_deref());
    chain.partitions = Some(vec![Partition::new("boot-a", Filesystem::Ext4, files)]);
    Ok(chain)
}

fn image_of(ready: &Ready) -> Result<PathBuf> {
    let drive = ready.machine.drives.first().context("no drive")?;
    drive.file.clone().context("no image")
}

/// Changes the image, and boots; `said` must be on the console by then.
fn boots(context: &Context, chain: &Chain, said: &str, change: impl Fn(&Path) -> Result<()>) -> Result<()> {
    let ready = context.prepare(chain)?;
    change(&image_of(&ready)?)?;
    let mut vm = context.start(&ready.machine)?;
    vm.forbid(r"cato\[.*prompt: ")?;
    vm.wait_for(said, SOON)?;
    context.reports(&ready, &mut vm).map(drop)
}

const ADDED: &str = r"adding what the kernel does not have: partition 1 \(boot-a\)";

fn backup_gpt(context: &Context, arch: Arch) -> Result<()> {
    let said = format!(r"cato\[.*vda: primary GPT: .*; using the backup in sector [0-9]+; {ADDED}");
    boots(context, &chain(context, arch)?, &said, |file| {
        image::zero(file, 512..1024)
    })
}

fn grown(context: &Context, arch: Arch) -> Result<()> {
    let said = format!(r"cato\[.*vda: primary GPT: .*; using the backup in sector [0-9]+; {ADDED}");
    boots(context, &chain(context, arch)?, &said, |file| {
        let size = fs::metadata(file)?.len();
        File::options().write(true).open(file)?.set_len(size + 64 * MIB)?;
        image::zero(file, 512..1024)
    })
}

fn no_mbr(context: &Context, arch: Arch) -> Result<()> {
    let said = format!(r"cato\[.*vda: no protective MBR; {ADDED}");
    boots(context, &chain(context, arch)?, &said, |file| image::zero(file, 0..512))
}

fn other_sectors(context: &Context, arch: Arch) -> Result<()> {
    let said = format!(r"cato\[.*vda: the GPT is for sectors of 4096 bytes, the disk has 512; {ADDED}");
    let chain = chain(context, arch)?;
    let partitions = chain.partitions.clone().unwrap_or_default();
    boots(context, &chain, &said, |file| {
        Disk {
            partitions: partitions.clone(),
            sectors_4k: true,
            ..Disk::default()
        }
        .write(file)
    })
}

/// A disk with an MBR: `boot-a` is its second logical partition.
fn logical(context: &Context, mut chain: Chain) -> Result<()> {
    let config = chain.config.take().unwrap_or_default();
    chain.config = Some(config.replace("PARTLABEL=boot-a", "PARTUUID=ca70ca70-06"));
    boots(context, &chain, r"cato\[.*vda6 \(ext4 ", |file| {
        let at = image::partition(file, "boot-a")?;
        let mut bytes = fs::read(file)?;
        let system = bytes
            .get(usize::try_from(at.start)?..usize::try_from(at.end)?)
            .context("a table beyond the disk")?
            .to_vec();
        bytes = vec![0; 8 << 20];
        bytes.extend(&system);
        fs::write(file, &bytes)?;
        let sectors = system.len() / 512;
        let record = |base: usize, slot: usize, kind: u8, start: u32, length: usize| -> Result<()> {
            let mut record = [0; 16];
            record[4] = kind;
            record[8..12].copy_from_slice(&start.to_le_bytes());
            record[12..].copy_from_slice(&u32::try_from(length)?.to_le_bytes());
            image::patch(file, (base * 512 + 446 + slot * 16) as u64, &record)?;
            image::patch(file, (base * 512 + 510) as u64, &[0x55, 0xAA])
        };
        image::patch(file, 440, &0xca70_ca70_u32.to_le_bytes())?;
        record(0, 0, 0x83, 2048, 2048)?;
        record(0, 1, 0x0F, 4096, 12288 + sectors)?;
        record(4096, 0, 0x83, 2048, 2048)?;
        record(4096, 1, 0x05, 8192, 4096 + sectors)?;
        record(12288, 0, 0x83, 4096, sectors)
    })
}

/// A FAT32 whose partition was an ext4 before: mformat leaves its superblock alone.
fn stale(context: &Context, arch: Arch) -> Result<()> {
    let mut chain = chain(context, arch)?;
    let image = context.folder.join("fat.img");
    image::blank(&image, 160 * MIB)?;
    run(tool("mke2fs").args(["-q", "-F", "-t", "ext4", "-L", "old"]).arg(&image))?;
    run(tool("mformat").arg("-i").arg(&image).args(["-F", "-v", "NEW", "::"]))?;
    let initrd = chain.make_initrd(&context.folder)?.context("no initrd")?;
    for (file, name) in [(&chain.kernel, "::kernel"), (&initrd, "::initrd")] {
        run(tool("mcopy").arg("-i").arg(&image).arg(file).arg(name))?;
    }
    chain.partitions = Some(vec![Partition::made("boot-a", image)]);
    boots(
        context,
        &chain,
        r"cato\[.*vda1 \(vfat LABEL=NEW .* or ext4 LABEL=old ",
        |_| Ok(()),
    )
}

/// `LABEL` of a FAT whose volume entry comes after 40 files.
fn label(context: &Context, arch: Arch) -> Result<()> {
    let mut chain = chain(context, arch)?;
    let config = chain.config.take().unwrap_or_default();
    chain.config = Some(config.replace("PARTLABEL=boot-a", "LABEL=BOOT-L"));
    let mut files = chain.main_files(chain.make_initrd(&context.folder)?.as_deref());
    for n in 0..40 {
        files = files.with_bytes(&format!("f{n}"), "x");
    }
    let mut partition = Partition::new("boot-a", Filesystem::Vfat, files);
    partition.label = "NO NAME".into();
    chain.partitions = Some(vec![partition]);
    boots(context, &chain, r"cato\[.*vda1 \(vfat LABEL=BOOT-L ", |file| {
        let at = image::partition(file, "boot-a")?.start;
        run(tool("mlabel")
            .arg("-i")
            .arg(format!("{}@@{at}", file.display()))
            .args(["-c", "::"]))?;
        run(tool("mlabel")
            .arg("-i")
            .arg(format!("{}@@{at}", file.display()))
            .arg("::BOOT-L"))
    })
}

/// A sector in the middle of the kernel can't be read: the kernel's log says which, and the next entry boots.
fn read_error(context: &Context, arch: Arch) -> Result<()> {
    const SECTOR: usize = 512;
    let mut chain = context.chain(arch, Bookworm, Trixie)?;
    chain.machine.firmware = Direct;
    chain.service.cmdline.push_str(" quiet");
    let files = chain.main_files(chain.make_initrd(&context.folder)?.as_deref());
    chain.partitions = Some(vec![Partition::new("boot-b", Filesystem::Ext4, files.clone())]);
    let image = context.folder.join("bad.img");
    Disk {
        partitions: vec![Partition::new("boot-a", Filesystem::Ext4, files)],
        ..Disk::default()
    }
    .write(&image)?;
    let kernel = fs::read(&chain.kernel)?;
    let middle = kernel.chunks(SECTOR).nth(kernel.len() / SECTOR / 2);
    let sector = fs::read(&image)?
        .chunks(SECTOR)
        .position(|sector| Some(sector) == middle)
        .context("the kernel is not on the disk in one piece")?;
    let file = image.display().to_string().replace(',', ",,");
    let fault = "inject-error.0.event=none,inject-error.0.iotype=read,inject-error.0.errno=5";
    chain.machine.extra = [
        "-blockdev",
        &format!("driver=file,node-name=whole,filename={file}"),
        "-blockdev",
        &format!("driver=blkdebug,node-name=bad,image=whole,{fault},inject-error.0.sector={sector}"),
        "-device",
        "virtio-blk-pci,drive=bad,addr=0x1e",
    ]
    .map(str::to_owned)
    .to_vec();
    let ready = context.prepare(&chain)?;
    let mut vm = context.start(&ready.machine)?;
    vm.forbid(r"cato\[.*prompt: ")?;
    let said = r#"cato\[.*entry "a": kernel: .*: I/O error \(os error 5\); .*I/O error, dev vd[ab], sector [0-9]+ .*; trying "b""#;
    vm.wait_for(said, SOON)?;
    context.reports(&ready, &mut vm).map(drop)
}

/// A FAT for sectors of 512 bytes on a disk with 4096, and an ext4 larger than its partition, on a quiet console: what the superblock
/// says and the kernel's own words are in the message. A third disk boots.
fn mount_errors(context: &Context, arch: Arch) -> Result<()> {
    let mut chain = chain(context, arch)?;
    chain.service.cmdline.push_str(" quiet");
    let entry =
        |name: &str| format!("[entry.{name}]\nsource = \"PARTLABEL={name}\"\nkernel = \"kernel\"\ncmdline = \"x\"\n");
    let config = chain.config.take().unwrap_or_default();
    let config = config.replace("[\"a\"]", "[\"fat\", \"large\", \"a\"]");
    chain.config = Some(format!("{config}\n{}{}", entry("fat"), entry("large")));
    let files = mkinitramfs::disk::Files::new().with_bytes("kernel", "x");
    let large = context.folder.join("large.img");
    image::blank(&large, 64 * MIB)?;
    run(tool("mke2fs")
        .args(["-q", "-F", "-t", "ext4", "-b", "4096"])
        .arg(&large))?;
    File::options().write(true).open(&large)?.set_len(32 * MIB)?;
    let odd = context.folder.join("odd.img");
    Disk {
        partitions: vec![
            Partition::new("fat", Filesystem::Vfat, files),
            Partition::made("large", large),
        ],
        sectors_4k: true,
        ..Disk::default()
    }
    .write(&odd)?;
    let mut drive = Drive::raw(odd);
    drive.properties = "logical_block_size=4096,physical_block_size=4096".into();
    chain.machine.drives.push(drive);
    let ready = context.prepare(&chain)?;
    let mut vm = context.start(&ready.machine)?;
    vm.forbid(r"cato\[.*prompt: ")?;
    let sectors = r#"entry "fat": .*: mount vfat on .*: [A-Z].*; made for sectors of 512 bytes, but the disk has sectors of 4096 bytes; .*FAT-fs \(vda1\): .*; trying"#;
    vm.wait_for(sectors, SOON)?;
    let cut = r#"entry "large": .*: mount ext4 on .*; the file system needs 67108864 bytes, but its volume has only 33554432; .*EXT4-fs \(vda2\): bad geometry.*; trying"#;
    vm.wait_for(cut, SOON)?;
    context.reports(&ready, &mut vm).map(drop)
}

/// A machine whose boot disk is a card that is not there yet, and the card.
fn with_reader(context: &Context, chain: &Chain) -> Result<(Ready, PathBuf)> {
    let mut ready = context.prepare(chain)?;
    let image = image_of(&ready)?;
    ready.machine.drives = vec![Drive::card_reader()];
    Ok((ready, image))
}

fn card_while_searching(context: &Context, chain: &Chain) -> Result<()> {
    let (ready, image) = with_reader(context, chain)?;
    let (mut vm, mut qmp) = context.start_with_monitor(&ready.machine)?;
    vm.forbid(r"cato\[.*prompt: ")?;
    vm.wait_for(r"sd [0-9:]+ \[sda\] .*removable disk", SOON)?;
    qmp.insert(0, &image)?;
    context.reports(&ready, &mut vm).map(drop)
}

/// It comes when Cato has given up for the moment.
fn card_at_the_retry(context: &Context, arch: Arch) -> Result<()> {
    let (ready, image) = with_reader(context, &chain(context, arch)?)?;
    let (mut vm, mut qmp) = context.start_with_monitor(&ready.machine)?;
    vm.wait_for(r"cato\[.*seen: sda \(no medium\)", SOON)?;
    vm.wait_for(r"cato\[.*prompt: no entry left", SOON)?;
    qmp.insert(0, &image)?;
    context.reports(&ready, &mut vm).map(drop)
}

/// A virtio disk without a size that gets one.
fn grows(context: &Context, chain: &Chain) -> Result<()> {
    let ready = context.prepare(chain)?;
    let image = image_of(&ready)?;
    let whole = fs::read(&image)?;
    image::blank(&image, 0)?;
    let (mut vm, mut qmp) = context.start_with_monitor(&ready.machine)?;
    vm.forbid(r"cato\[.*prompt: ")?;
    vm.wait_for(r"\[vda\] 0 512-byte logical blocks", SOON)?;
    fs::write(&image, &whole)?;
    qmp.resize(0, whole.len() as u64)?;
    // The kernel has not looked for its table again.
    vm.wait_for(r"cato\[.*probe: vda1 \(.*PARTLABEL=boot-a", SOON)?;
    context.reports(&ready, &mut vm).map(drop)
}
