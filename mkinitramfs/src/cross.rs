//! Cross builds: the only code that knows targets, sysroots and linkers.
//!
//! Given a package of this workspace; responsible for its executable for a board, either static musl or bare metal, built
//! with what the machine has: an installed target first, else Debian's compiler with the standard library from source.
//! The same sources and compiler give the same bytes in any folder.

use std::collections::BTreeMap;
use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, bail, ensure};
use config::Arch;
use goblin::elf::Elf;
use goblin::elf::program_header::{PT_INTERP, PT_LOAD};

use crate::apt;

/// What an executable runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TargetKind {
    /// Linux, statically linked with musl.
    Musl,
    /// No operating system.
    Bare,
}

/// Debian's compiler and cargo, by their full names: the ones in PATH may be rustup's.
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const DEBIAN_CARGO: &str = "/usr/bin/cargo";
/// The oldest compiler that builds the workspace (`rust-version` in Cargo.toml).
const OLDEST: (u32, u32) = (1, 95);

/// Rust's name of a target.
pub fn target(arch: Arch, kind: TargetKind) -> &'static str {
    match (arch, kind) {
        (Arch::Arm64, TargetKind::Musl) => "aarch64-unknown-linux-musl",
        (Arch::Arm64, TargetKind::Bare) => "aarch64-unknown-none",
        (Arch::X86_64, TargetKind::Musl) => "x86_64-unknown-linux-musl",
        (Arch::X86_64, TargetKind::Bare) => "x86_64-unknown-none",
    }
}

/// A way to build for one target.
#[derive(Debug)]
enum Toolchain {
    /// `cargo` and `rustc` from PATH, whose sysroot has the target.
    Installed,
    /// Debian's, with the standard library's source at the path given.
    Debian { source: PathBuf },
}

/// Builds binary `bin` of `package` and returns the executable.
///
/// For [`TargetKind::Musl`] the result is static and without symbols; the same file with symbols is beside it, named `BIN.sym`.
/// For [`TargetKind::Bare`] it is the linker's output as it is. `profile` is a cargo profile, `env` is added to the build's environment.
///
/// # Errors
/// When no toolchain can build for the target (the error names the command that helps), the build fails (the error says why),
/// or the executable wants an interpreter.
pub fn build(
    workspace: &Path,
    package: &str,
    bin: &str,
    arch: Arch,
    kind: TargetKind,
    profile: &str,
    env: &[(&str, &OsStr)],
) -> Result<PathBuf> {
    // A process builds each program once: cargo takes a second to say that it has nothing to do, and a run of the
    // scenarios asks some hundred times.
    static BUILT: Mutex<BTreeMap<String, PathBuf>> = Mutex::new(BTreeMap::new());
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    let workspace = fs::canonicalize(workspace).with_context(|| workspace.display().to_string())?;
    let key = format!(
        "{} {package} {bin} {} {profile} {env:?}",
        workspace.display(),
        target(arch, kind)
    );
    if let Some(program) = built.get(&key) {
        return Ok(program.clone());
    }
    let program = build_now(&workspace, package, bin, arch, kind, profile, env)?;
    built.insert(key, program.clone());
    Ok(program)
}

fn build_now(
    workspace: &Path,
    package: &str,
    bin: &str,
    arch: Arch,
    kind: TargetKind,
    profile: &str,
    env: &[(&str, &OsStr)],
) -> Result<PathBuf> {
    let target = target(arch, kind);
    let toolchain = find_toolchain(workspace, arch, kind)?;
    let (cargo, rustc) = match toolchain {
        Toolchain::Installed => ("cargo", None),
        Toolchain::Debian { .. } => (DEBIAN_CARGO, Some(DEBIAN_RUSTC)),
    };
    let mut command = clean(cargo, workspace);
    command.args([
        "build",
        "--package",
        package,
        "--bin",
        bin,
        "--target",
        target,
        "--profile",
        profile,
    ]);
    if let Some(rustc) = rustc {
        command.env("RUSTC", rustc).env("RUSTC_BOOTSTRAP", "1");
        match kind {
            TargetKind::Musl => command.args(["-Zbuild-std=std,panic_abort", "-Zbuild-std-features=optimize_for_size"]),
            TargetKind::Bare => command.args(["-Zbuild-std=core", "-Zbuild-std-features=compiler-builtins-mem"]),
        };
    }
    command
        .env("CARGO_TARGET_DIR", workspace.join("target/cross"))
        .env("CARGO_ENCODED_RUSTFLAGS", rustflags(workspace, &toolchain, arch, kind)?)
        .envs(env.iter().copied());
    let mut child = command
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("can't start {cargo}"))?;
    // What it says goes to standard error as it comes: a first build takes minutes. The error has it once more.
    let mut said = String::new();
    for line in child
        .stderr
        .take()
        .map(BufReader::new)
        .into_iter()
        .flat_map(BufRead::lines)
    {
        let Ok(line) = line else { break };
        eprintln!("{line}");
        said.push_str(&line);
        said.push('\n');
    }
    let status = child.wait().with_context(|| format!("can't wait for {cargo}"))?;
    ensure!(
        status.success(),
        "can't build {package} ({bin}) for {target}: cargo failed ({status}):\n{said}"
    );

    let folder = if profile == "dev" { "debug" } else { profile };
    let built = workspace.join("target/cross").join(target).join(folder).join(bin);
    match kind {
        TargetKind::Bare => Ok(built),
        TargetKind::Musl => ship(&built, &workspace.join("target/cross/ship").join(target), bin),
    }
}

/// Builds the purgatory blob's ELF.
///
/// # Errors
/// As [`build`].
pub fn purgatory(workspace: &Path, arch: Arch) -> Result<PathBuf> {
    build(
        workspace,
        "purgatory",
        "purgatory",
        arch,
        TargetKind::Bare,
        "purgatory",
        &[],
    )
}

/// Builds `cato` with the purgatory of its architecture inside.
///
/// # Errors
/// As [`build`].
pub fn stage(workspace: &Path, arch: Arch) -> Result<PathBuf> {
    let blob = purgatory(workspace, arch)?;
    build(
        workspace,
        "stage",
        "cato",
        arch,
        TargetKind::Musl,
        "release",
        &[("CATO_PURGATORY", blob.as_os_str())],
    )
}

/// A command without what an outer `cargo run` put into the environment and without flags that would change the bytes.
fn clean(program: &str, workspace: &Path) -> Command {
    // Where cargo keeps its downloads and how it reaches them stay the user's.
    const KEPT: [&str; 6] = [
        "CARGO_HOME",
        "CARGO_HTTP_",
        "CARGO_NET_",
        "CARGO_REGISTRIES_",
        "CARGO_REGISTRY_",
        "CARGO_SOURCE_",
    ];
    const DROPPED: [&str; 5] = [
        "RUSTFLAGS",
        "RUSTDOCFLAGS",
        "LD_LIBRARY_PATH",
        "SOURCE_DATE_EPOCH",
        "RUSTUP_FORCE_ARG0",
    ];
    let mut command = Command::new(program);
    command.current_dir(workspace);
    for (name, _) in env::vars_os() {
        let Some(text) = name.to_str() else { continue };
        let cargo = text.starts_with("CARGO") && !KEPT.iter().any(|k| text.starts_with(k));
        if cargo || text.starts_with("RUSTC") || DROPPED.contains(&text) {
            command.env_remove(&name);
        }
    }
    command
}

fn output(command: &mut Command) -> Option<String> {
    let out = command.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    let text = String::from_utf8(out.stdout).ok()?;
    out.status.success().then(|| text.trim().to_owned())
}

fn find_toolchain(workspace: &Path, arch: Arch, kind: TargetKind) -> Result<Toolchain> {
    let target = target(arch, kind);
    let libdir = output(clean("rustc", workspace).args(["--print", "target-libdir", "--target", target]));
    let library = match kind {
        TargetKind::Musl => "libstd-",
        TargetKind::Bare => "libcore-",
    };
    if libdir.is_some_and(|dir| holds(Path::new(&dir), library)) {
        return Ok(Toolchain::Installed);
    }
    let mut missing = Vec::new();
    let version = output(clean(DEBIAN_RUSTC, workspace).arg("--version"));
    match version.as_deref().and_then(parse_version) {
        Some(v) if v >= OLDEST => {}
        Some((major, minor)) => missing.push(format!("{DEBIAN_RUSTC} is {major}.{minor}")),
        None => missing.push(format!("no {DEBIAN_RUSTC}")),
    }
    if !Path::new(DEBIAN_CARGO).exists() {
        missing.push(format!("no {DEBIAN_CARGO}"));
    }
    let source = output(clean(DEBIAN_RUSTC, workspace).args(["--print", "sysroot"]))
        .map(|root| Path::new(&root).join("lib/rustlib/src/rust"))
        .filter(|source| source.join("library/Cargo.lock").exists());
    if source.is_none() {
        missing.push("no standard library source".to_owned());
    }
    if output(clean("ld.lld", workspace).arg("--version")).is_none() {
        missing.push("no ld.lld".to_owned());
    }
    if let (Some(source), true) = (source, missing.is_empty()) {
        return Ok(Toolchain::Debian { source });
    }
    let remedy = if output(clean("rustup", workspace).arg("--version")).is_some() {
        let all: Vec<_> = Arch::ALL
            .iter()
            .flat_map(|&a| [TargetKind::Musl, TargetKind::Bare].map(|k| self::target(a, k)))
            .collect();
        format!("rustup target add {}", all.join(" "))
    } else {
        "apt-get install rustc-web cargo-web rust-web-src lld".to_owned()
    };
    bail!(
        "no toolchain for {target}: the Rust in PATH lacks the target, and Debian's Rust is incomplete ({}); run: {remedy}",
        missing.join(", ")
    )
}

/// A library is there: a file that begins with `prefix` and ends as a Rust library.
fn holds(dir: &Path, prefix: &str) -> bool {
    fs::read_dir(dir).is_ok_and(|entries| {
        entries.filter_map(Result::ok).any(|e| {
            let name = e.file_name();
            let name = Path::new(&name);
            name.extension() == Some(OsStr::new("rlib")) && name.to_str().is_some_and(|n| n.starts_with(prefix))
        })
    })
}

/// Major and minor number of `rustc 1.96.0 (…)`.
fn parse_version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.strip_prefix("rustc ")?.split('.').map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// Flags for the target's code, in cargo's encoding.
///
/// No path that differs between two folders may be among them but in `--remap-path-prefix`: cargo mixes all other flags
/// into the symbol names. So what lies in the workspace is named relative to it, which is where cargo runs the linker.
fn rustflags(workspace: &Path, toolchain: &Toolchain, arch: Arch, kind: TargetKind) -> Result<OsString> {
    let mut flags: Vec<OsString> = Vec::new();
    let mut push = |flag: &str| flags.push(flag.into());
    if arch == Arch::Arm64 {
        // Cortex-A53: see errata.rs. The first is the compiler's to avoid, which does so and warns at each crate, each time, that it
        // knows no such feature; no other way turns that off. What is for arm64 alone is not warned of either then.
        // The second is the linker's.
        push("-Ctarget-feature=+fix-cortex-a53-835769");
        push("-Awarnings");
        push("-Clink-arg=--fix-cortex-a53-843419");
    }
    if kind == TargetKind::Musl {
        push("-Crelocation-model=static");
        push("-Ctarget-feature=+crt-static");
        // Nothing unwinds (panic = "abort"), and nobody reads a backtrace on a board: an eighth of the program.
        push("-Cforce-unwind-tables=no");
    }
    match (toolchain, kind) {
        (Toolchain::Installed, TargetKind::Musl) => {
            push("-Clinker=rust-lld");
            push("-Clink-self-contained=yes");
        }
        (Toolchain::Installed, TargetKind::Bare) => {}
        (Toolchain::Debian { .. }, TargetKind::Bare) => push("-Clinker=ld.lld"),
        (Toolchain::Debian { .. }, TargetKind::Musl) => {
            let musl = ensure_musl(workspace, arch)?;
            let musl = musl.strip_prefix(workspace).unwrap_or(&musl).display();
            push("-Clinker=ld.lld");
            push("-Clink-self-contained=no");
            push(&format!("-Lnative={musl}"));
            for object in ["crt1.o", "crti.o", "crtn.o"] {
                push(&format!("-Clink-arg={musl}/{object}"));
            }
            // The standard library names an unwinder. Nothing unwinds here (panic = "abort", no backtraces), so an empty
            // library is enough to find, and the two functions left over become one that takes nothing and does nothing.
            fs::create_dir_all(workspace.join("target/cross/lib"))?;
            fs::write(workspace.join("target/cross/lib/libunwind.a"), "!<arch>\n")?;
            push("-Lnative=target/cross/lib");
            push("-Clink-arg=--defsym=_Unwind_Backtrace=getpid");
            push("-Clink-arg=--defsym=_Unwind_GetIP=getpid");
        }
    }
    let mut remap = |from: &Path, to: &str| {
        let mut flag = OsString::from("--remap-path-prefix=");
        flag.push(from);
        flag.push("=");
        flag.push(to);
        flags.push(flag);
    };
    if let Toolchain::Debian { source } = toolchain {
        remap(source, "/rust");
        if let Ok(real) = fs::canonicalize(source) {
            remap(&real, "/rust");
        }
    }
    if let Some(home) = env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(env::home_dir()?.join(".cargo")))
    {
        remap(&home, "/cargo");
        // Each registry has a folder, named after it: `ruzstd-0.9.1/src/…` is as good everywhere, and shorter.
        for registry in fs::read_dir(home.join("registry/src")).into_iter().flatten().flatten() {
            remap(&registry.path(), "");
        }
    }
    // The last match wins: the workspace may lie inside another of these.
    remap(workspace, "/cato");
    Ok(flags.join(OsStr::new("\u{1f}")))
}

/// The folder that holds musl's libc.a and crt files: the machine's own, else Debian's package unpacked below `target/sysroot`.
///
/// # Errors
/// When the package can't be fetched.
pub fn ensure_musl(workspace: &Path, arch: Arch) -> Result<PathBuf> {
    let triple = match arch {
        Arch::Arm64 => "aarch64-linux-musl",
        Arch::X86_64 => "x86_64-linux-musl",
    };
    let own = Path::new("/usr/lib").join(triple);
    if own.join("crt1.o").exists() {
        return Ok(own);
    }
    let root = workspace.join("target/sysroot").join(arch.to_string());
    let folder = root.join("usr/lib").join(triple);
    if !folder.join("crt1.o").exists() {
        let fetch = || -> Result<()> {
            let apt = apt::Apt::open(&root.join("apt"), &apt::host_suite()?, arch)?;
            for deb in apt.download(&["musl-dev"])? {
                apt::unpack(&deb, &root)?;
            }
            Ok(())
        };
        fetch().with_context(|| {
            format!(
                "musl-dev for {arch}; without Debian's packages, run: rustup target add {}",
                target(arch, TargetKind::Musl)
            )
        })?;
        ensure!(
            folder.join("crt1.o").exists(),
            "musl-dev for {arch} has no {}",
            folder.display()
        );
    }
    Ok(folder)
}

/// Checks that an executable is static, and writes it without symbols to `folder`, with the symbols beside it.
fn ship(built: &Path, folder: &Path, bin: &str) -> Result<PathBuf> {
    let bytes = fs::read(built).with_context(|| built.display().to_string())?;
    let stripped = strip(&bytes).with_context(|| built.display().to_string())?;
    fs::create_dir_all(folder)?;
    let out = folder.join(bin);
    write_atomic(&folder.join(format!("{bin}.sym")), &bytes)?;
    write_atomic(&out, &stripped)?;
    Ok(out)
}

/// Another build may be reading the file: it sees the old one or the new one, whole.
fn write_atomic(path: &Path, bytes: &[u8]) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    if fs::read(path).is_ok_and(|old| old == bytes) {
        return Ok(());
    }
    let mut new = path.as_os_str().to_owned();
    new.push(format!(".{}", std::process::id()));
    fs::write(&new, bytes).with_context(|| path.display().to_string())?;
    fs::set_permissions(&new, fs::Permissions::from_mode(0o755))?;
    fs::rename(&new, path).with_context(|| path.display().to_string())
}

/// What the kernel loads of a static executable: the file up to the end of its last segment, without section headers.
/// Every linker puts symbols and section headers behind the segments; no `strip` for a foreign machine is needed.
fn strip(bytes: &[u8]) -> Result<Vec<u8>> {
    let elf = Elf::parse(bytes)?;
    if elf.program_headers.iter().any(|p| p.p_type == PT_INTERP) {
        bail!("not static: it asks for an interpreter");
    }
    ensure!(elf.is_64 && elf.little_endian, "not a 64-bit little-endian executable");
    let loads = elf.program_headers.iter().filter(|p| p.p_type == PT_LOAD);
    let end = loads.map(|p| p.file_range().end).max().context("no PT_LOAD segment")?;
    let mut out = bytes
        .get(..end)
        .context("a segment ends beyond the end of the file")?
        .to_vec();
    // Elf64_Ehdr: e_shoff at 0x28; e_shnum and e_shstrndx at 0x3c (ELF-64 object file format, figure 2).
    for range in [0x28..0x30, 0x3c..0x40] {
        out.get_mut(range).context("shorter than an ELF header")?.fill(0);
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        assert_eq!(
            parse_version("rustc 1.96.0 (abc 2026-05-01) (built from a source tarball)"),
            Some((1, 96))
        );
        assert!(parse_version("rustc 1.63.0").unwrap() < OLDEST);
        assert!(parse_version("rustc 1.100.0").unwrap() > OLDEST);
        assert_eq!(parse_version("clang 14"), None);
    }

    #[test]
    fn the_test_itself_is_not_static() {
        let own = fs::read(env::current_exe().unwrap()).unwrap();
        assert!(strip(&own).unwrap_err().to_string().contains("interpreter"));
    }
}
