//! `cargo mkinitramfs`: see README.md next to this crate.
#![forbid(unsafe_code)]

use std::fs;
use std::io::{self, Read as _, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, Parser, Subcommand};
use config::Arch;
use mkinitramfs::bootable::{self, Kind, Parts, ServiceKernel};
use mkinitramfs::kernel::{self, KernelRecipe};
use mkinitramfs::list::list;
use mkinitramfs::whole_disk::{BOOT_MIB, Plan};
use mkinitramfs::{Added, Compress, Recipe, check_config, pack, workspace};

/// Builds Cato for a board and packs the service initramfs.
#[derive(Debug, Parser)]
#[command(
    name = "cargo mkinitramfs",
    version,
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true
)]
struct Options {
    #[command(subcommand)]
    also: Option<Also>,
    /// The board: arm64 (aarch64) or x86_64 (amd64)
    #[arg(long, required_unless_present = "list")]
    arch: Option<Arch>,
    /// The boot.toml to pack; one with problems is refused
    #[arg(long, value_name = "FILE", required_unless_present = "list")]
    config: Option<PathBuf>,
    /// The service kernel's modules: lib/modules/VERSION, or a root that holds it
    #[arg(long, value_name = "DIR")]
    modules: Option<PathBuf>,
    /// A module to pack with all it needs, several times; default: the usual ones for booting from a disk
    #[arg(long = "module", value_name = "NAME", requires = "modules")]
    module_names: Vec<String>,
    /// A file or folder to add, several times; DEST is absolute
    #[arg(long, value_name = "SRC:DEST")]
    add: Vec<Added>,
    /// How the archive is compressed
    #[arg(long, value_enum, default_value = "zstd")]
    compress: Compress,
    /// What is written: for which firmware
    #[arg(long, value_enum, default_value_t)]
    output_kind: Kind,
    /// The service kernel in it: a file, or `auto` for the one that `cargo mkinitramfs kernel` builds
    #[arg(long, value_name = "auto|FILE", required_if_eq_any([("output_kind", "uki"), ("output_kind", "esp"), ("output_kind", "fit"), ("output_kind", "disk")]))]
    kernel: Option<PathBuf>,
    /// A fragment of configuration for `--kernel auto` besides the usual ones, several times: a name in mkinitramfs/kernel, or a file
    #[arg(long, value_name = "FRAGMENT", requires = "kernel")]
    kernel_config: Vec<String>,
    /// Words for the service kernel's command line, such as console=ttyS0; what Cato expects there is added
    #[arg(long, value_name = "WORDS", default_value = "")]
    cmdline: String,
    /// What boot-a and boot-b of a disk hold; without it they are empty
    #[arg(long, value_name = "DIR")]
    files: Option<PathBuf>,
    /// How large each of them is, MiB; default: 512
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u32).range(32..))]
    boot_size: Option<u32>,
    /// The board's device tree, for a FIT whose board has another one than U-Boot
    #[arg(long, value_name = "FILE")]
    dtb: Option<PathBuf>,
    /// Where it is written
    #[arg(short, long, value_name = "OUT", required_unless_present = "list")]
    output: Option<PathBuf>,
    /// Print what is in ARCHIVE, or, without a name, in the initramfs that was just packed
    #[arg(long, value_name = "ARCHIVE", num_args = 0..=1, default_missing_value = "-")]
    list: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Also {
    /// Builds a service kernel made for the job: no modules, nothing that a boot stage does not need.
    Kernel(KernelOptions),
}

#[derive(Debug, Args)]
struct KernelOptions {
    /// The board: arm64 (aarch64) or x86_64 (amd64)
    #[arg(long)]
    arch: Arch,
    /// A fragment of configuration, several times: a name in mkinitramfs/kernel, or a file; default: the usual ones for
    /// booting from a disk
    #[arg(long = "config", value_name = "FRAGMENT")]
    fragments: Vec<String>,
    /// A source tree of Linux instead of Debian's
    #[arg(long, value_name = "DIR")]
    source: Option<PathBuf>,
    /// A folder for the kernel and its .config, which become DIR/kernel and DIR/config
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
}

fn build_kernel(options: KernelOptions, out: &mut impl Write) -> Result<()> {
    let recipe = KernelRecipe {
        arch: options.arch,
        fragments: options.fragments,
        source: options.source,
    };
    let built = kernel::build(&workspace(), &recipe)?;
    fs::create_dir_all(&options.output).with_context(|| options.output.display().to_string())?;
    let to = options.output.join("kernel");
    let bytes = fs::copy(&built.image, &to).with_context(|| to.display().to_string())?;
    let config = options.output.join("config");
    fs::copy(&built.config, &config).with_context(|| config.display().to_string())?;
    writeln!(out, "Linux {}, {bytes} bytes: {}", built.release, to.display())?;
    Ok(())
}

/// The one that is named, or ours.
fn service_kernel(options: &Options, arch: Arch) -> Result<Option<ServiceKernel>> {
    let Some(file) = &options.kernel else {
        return Ok(None);
    };
    let (file, release) = if file.as_os_str() == "auto" {
        let mut fragments = kernel::usual(arch);
        fragments.extend(options.kernel_config.iter().cloned());
        let recipe = KernelRecipe {
            arch,
            fragments,
            source: None,
        };
        let built = kernel::build(&workspace(), &recipe)?;
        (built.image, built.release)
    } else {
        (file.clone(), String::new())
    };
    Ok(Some(ServiceKernel {
        file,
        release,
        cmdline: bootable::command_line(arch, &options.cmdline),
        dtb: options.dtb.clone(),
    }))
}

fn main() -> ExitCode {
    match run(Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever reads the list has seen enough of it.
        Err(error)
            if error
                .downcast_ref::<io::Error>()
                .is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe) =>
        {
            ExitCode::SUCCESS
        }
        Err(error) => {
            let _ = writeln!(io::stderr(), "error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// No archive that a machine unpacks into its memory is larger, but a device is.
const LARGEST: u64 = 4 << 30;

fn read(file: &Path, most: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    fs::File::open(file)?
        .take(most.saturating_add(1))
        .read_to_end(&mut bytes)?;
    ensure!(u64::try_from(bytes.len())? <= most, "more than {most} bytes");
    Ok(bytes)
}

fn run(options: Options) -> Result<()> {
    let mut out = io::stdout().lock();
    if let Some(Also::Kernel(options)) = options.also {
        return build_kernel(options, &mut out);
    }
    if let Some(archive) = options.list.as_ref().filter(|a| a.as_os_str() != "-") {
        let show = || archive.display().to_string();
        for line in list(&read(archive, LARGEST).with_context(show)?).with_context(show)? {
            writeln!(out, "{line}")?;
        }
        return Ok(());
    }
    let (Some(arch), Some(config), Some(output)) = (options.arch, &options.config, &options.output) else {
        bail!("--arch, --config and --output are required, or --list ARCHIVE");
    };
    let given: Vec<&str> = [
        ("--kernel", options.kernel.is_some()),
        ("--cmdline", !options.cmdline.is_empty()),
        ("--dtb", options.dtb.is_some()),
        ("--files", options.files.is_some()),
        ("--boot-size", options.boot_size.is_some()),
    ]
    .into_iter()
    .filter_map(|(option, is_given)| is_given.then_some(option))
    .collect();
    bootable::check(options.output_kind, arch, &given)?;
    let show = || config.display().to_string();
    let bytes = read(config, u64::try_from(config::MAX_BYTES)?).with_context(show)?;
    let (parsed, _) = check_config(&show(), &bytes)?;
    let config_text = String::from_utf8(bytes).with_context(show)?;
    let kernel = service_kernel(&options, arch)?;
    let recipe = Recipe {
        arch,
        config_text,
        modules: options.modules,
        module_names: options.module_names,
        add: options.add,
        compress: options.compress,
    };
    let packed = pack(&workspace(), &recipe)?;
    let parts = Parts {
        arch,
        kernel: kernel.as_ref(),
        initramfs: &packed.bytes,
        disk: &Plan {
            has_state: !parsed.slot_names().is_empty(),
            files: options.files,
            boot_mib: options.boot_size.unwrap_or(BOOT_MIB),
        },
    };
    bootable::write(&workspace(), options.output_kind, &parts, output)?;
    write!(out, "{}", packed.table)?;
    if options.list.is_some() {
        for line in list(&packed.bytes)? {
            writeln!(out, "{line}")?;
        }
    }
    Ok(())
}
