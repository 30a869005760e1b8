//! The service kernel: Linux's source, built with a configuration made for the job.
//!
//! Given fragments of configuration and a source tree (Debian's, where none is named); responsible for a kernel in which each
//! option is what its fragment says, and whose bytes are the same in any folder.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context as _, Result, bail, ensure};
use config::Arch;
use lzma_rust2::XzReader;
use sha2::{Digest as _, Sha256};

use crate::apt::{self, Apt};
use crate::progress::{during, during_with};

/// The Debian release whose source is taken, and the package that names the newest.
const SUITE: &str = "trixie";
const SOURCE: &str = "linux-source";

/// Fragments of this package that are taken when none is named, besides those that `always` names.
const USUAL: [&str; 8] = ["virtio", "nvme", "ahci", "usb", "mmc", "uefi", "pstore", "watchdog-pci"];

/// Fragments that every kernel of this arch has.
fn always(arch: Arch) -> &'static [&'static str] {
    match arch {
        Arch::Arm64 => &["base", "arm64", "errata-arm64"],
        Arch::X86_64 => &["base", "x86_64"],
    }
}

/// Fragments that are taken when none is named.
pub fn usual(arch: Arch) -> Vec<String> {
    let watchdogs = match arch {
        Arch::Arm64 => "watchdog-arm64",
        Arch::X86_64 => "watchdog-pc",
    };
    USUAL.into_iter().chain([watchdogs]).map(str::to_owned).collect()
}

/// An option, what it is set to, and where and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// `CONFIG_KEXEC`
    pub name: String,
    /// As in `.config`; `n` is off.
    pub value: String,
    /// For whoever wonders about it.
    pub reason: String,
    /// `FILE:LINE`
    pub place: String,
}

/// Reads a fragment: on each line an option, and its reason behind a `#`.
///
/// # Errors
/// On the first line that is neither, nor empty, nor a comment.
pub fn parse(text: &str, file: &str) -> Result<Vec<Setting>> {
    let mut all = Vec::new();
    for (n, line) in text.lines().enumerate() {
        let (line, place) = (line.trim(), format!("{file}:{}", n + 1));
        ensure!(
            !(line.starts_with("# CONFIG_") && line.ends_with(" is not set")),
            "{place}: write CONFIG_NAME=n and the reason behind a `#`; this line is a comment here"
        );
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (option, reason) = line
            .split_once('#')
            .with_context(|| format!("{place}: no reason; write it behind a `#`"))?;
        let (name, value) = option
            .trim()
            .split_once('=')
            .filter(|(name, value)| name.starts_with("CONFIG_") && !value.is_empty() && *value != "m")
            .with_context(|| format!("{place}: expected CONFIG_NAME=VALUE, and no modules: nothing here loads them"))?;
        ensure!(!reason.trim().is_empty(), "{place}: the reason is empty");
        all.push(Setting {
            name: name.to_owned(),
            value: value.to_owned(),
            reason: reason.trim().to_owned(),
            place,
        });
    }
    Ok(all)
}

/// All settings, each option once: the last fragment that has it decides.
fn merged(fragments: &[(String, String)]) -> Result<BTreeMap<String, Setting>> {
    let mut all = BTreeMap::new();
    for (file, text) in fragments {
        for setting in parse(text, file)? {
            all.insert(setting.name.clone(), setting);
        }
    }
    Ok(all)
}

/// What a kernel does not have as it was asked for, by `.config`.
fn refused<'s>(settings: &'s BTreeMap<String, Setting>, config: &str) -> Vec<&'s Setting> {
    let taken: BTreeMap<&str, &str> = config.lines().filter_map(|line| line.split_once('=')).collect();
    let is_taken = |setting: &&Setting| taken.get(setting.name.as_str()).copied().unwrap_or("n") == setting.value;
    settings.values().filter(|setting| !is_taken(setting)).collect()
}

/// A service kernel to be built.
#[derive(Debug, Clone)]
pub struct KernelRecipe {
    /// What it runs on.
    pub arch: Arch,
    /// Fragments: names of those of this package, or files; the last one that has an option decides. Empty: [`usual`].
    pub fragments: Vec<String>,
    /// A source tree; Debian's where there is none.
    pub source: Option<PathBuf>,
}

/// One that was built.
#[derive(Debug, Clone)]
pub struct Kernel {
    /// An Image, or a bzImage.
    pub image: PathBuf,
    /// Its whole configuration.
    pub config: PathBuf,
    /// As `uname -r` prints it.
    pub release: String,
}

impl KernelRecipe {
    /// Debian's source with the usual fragments.
    pub fn usual(arch: Arch) -> Self {
        Self {
            arch,
            fragments: Vec::new(),
            source: None,
        }
    }

    /// The fragments with their text, in order.
    fn texts(&self, workspace: &Path) -> Result<Vec<(String, String)>> {
        let ours = |name: &str| format!("mkinitramfs/kernel/{name}.config");
        let own = if self.fragments.is_empty() {
            usual(self.arch)
        } else {
            self.fragments.clone()
        };
        let names = always(self.arch).iter().map(ToString::to_string).chain(own);
        let files = names.map(|name| {
            let file = ours(&name);
            if workspace.join(&file).exists() {
                (workspace.join(&file), file)
            } else {
                (PathBuf::from(&name), name)
            }
        });
        files
            .map(|(path, shown)| {
                let text = fs::read_to_string(&path).with_context(|| {
                    format!("fragment {shown}: neither a name in mkinitramfs/kernel nor a file that can be read")
                })?;
                Ok((shown, text))
            })
            .collect()
    }
}

/// Builds it below `target/service-kernel`, where one of the same recipe is found again.
///
/// # Errors
/// When a tool is missing (the error names the command that installs it), an option is not taken, or the build fails.
pub fn build(workspace: &Path, recipe: &KernelRecipe) -> Result<Kernel> {
    let settings = merged(&recipe.texts(workspace)?)?;
    let all = workspace.join("target/service-kernel");
    fs::create_dir_all(&all)?;
    // One at a time, whoever else runs.
    let lock = File::create(all.join(".lock"))?;
    lock.lock()?;
    let make = Make::of(recipe.arch)?;
    let source = match &recipe.source {
        Some(folder) => folder.canonicalize().with_context(|| folder.display().to_string())?,
        None => debian_source(&all, recipe.arch)?,
    };
    let out = all.join(recipe.arch.to_string());
    let lines: Vec<String> = settings
        .values()
        .map(|setting| format!("{}={}", setting.name, setting.value))
        .collect();
    let text = lines.join("\n") + "\n";
    let key = format!("{text}{}\n{}", source.display(), make.compiler_version()?);
    // Each recipe's result has a place of its own: whoever packs one is not disturbed by the next build.
    let result = all.join(format!("{}-{}", recipe.arch, short(&key)));
    let kernel = Kernel {
        image: result.join("kernel"),
        config: result.join("config"),
        release: String::new(),
    };
    let stamp = result.join("release");
    // A tree that is the user's own may have changed.
    let is_built = recipe.source.is_none() && stamp.exists();
    if !is_built {
        fs::create_dir_all(&out)?;
        let wanted = out.join("wanted.config");
        fs::write(&wanted, &text)?;
        make.run(&source, &out, "allnoconfig", Some(&wanted), &mut |_| {})?;
        let config = fs::read_to_string(out.join(".config"))?;
        if let Some(setting) = refused(&settings, &config).first() {
            let Setting { name, value, place, .. } = setting;
            bail!(
                "{place}: {name}={value} is not taken: this kernel has no such option, or one it depends on is off \
                 (look in {} and in the source's Kconfig)",
                out.join(".config").display()
            );
        }
        let count = AtomicU32::new(0);
        let what = format!("building the service kernel for {} (about {ABOUT} steps)", recipe.arch);
        during_with(
            &what,
            || format!("step {}", count.load(Ordering::Relaxed)),
            || {
                make.run(&source, &out, make.goal, None, &mut |_| {
                    count.fetch_add(1, Ordering::Relaxed);
                })
            },
        )?;
        // Beside it first: who sees it sees it whole.
        let whole = all.join("whole");
        if whole.exists() {
            fs::remove_dir_all(&whole)?;
        }
        fs::create_dir_all(&whole)?;
        for (from, to) in [
            (make.image, "kernel"),
            (".config", "config"),
            ("include/config/kernel.release", "release"),
        ] {
            fs::copy(out.join(from), whole.join(to)).with_context(|| out.join(from).display().to_string())?;
        }
        if result.exists() {
            fs::remove_dir_all(&result)?;
        }
        fs::rename(whole, &result)?;
    }
    let release = fs::read_to_string(stamp)?;
    Ok(Kernel {
        release: release.trim().to_owned(),
        ..kernel
    })
}

/// A name for a recipe.
fn short(key: &str) -> String {
    let digest: [u8; 32] = Sha256::digest(key.as_bytes()).into();
    let number = digest.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes));
    format!("{number:016x}")
}

/// Lines of make for one kernel; some fragments more or less are some hundreds.
const ABOUT: u32 = 2000;

/// make, for one arch.
struct Make {
    arch: &'static str,
    compiler: &'static str,
    prefix: &'static str,
    goal: &'static str,
    image: &'static str,
}

impl Make {
    fn of(arch: Arch) -> Result<Self> {
        let is_native = Arch::running() == Some(arch);
        let make = match arch {
            Arch::Arm64 => Self {
                arch: "arm64",
                compiler: if is_native { "gcc" } else { "aarch64-linux-gnu-gcc" },
                prefix: if is_native { "" } else { "aarch64-linux-gnu-" },
                goal: "Image",
                image: "arch/arm64/boot/Image",
            },
            Arch::X86_64 => Self {
                arch: "x86_64",
                compiler: if is_native { "gcc" } else { "x86_64-linux-gnu-gcc" },
                prefix: if is_native { "" } else { "x86_64-linux-gnu-" },
                goal: "bzImage",
                image: "arch/x86/boot/bzImage",
            },
        };
        let cross = match (is_native, arch) {
            (true, _) => "gcc",
            (false, Arch::Arm64) => "gcc-aarch64-linux-gnu",
            (false, Arch::X86_64) => "gcc-x86-64-linux-gnu",
        };
        let needs = [
            ("make", "make"),
            ("flex", "flex"),
            ("bison", "bison"),
            ("bc", "bc"),
            ("perl", "perl"),
            ("gcc", "gcc"),
            ("zstd", "zstd"),
            (make.compiler, cross),
        ];
        let folders: Vec<PathBuf> = std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).collect();
        let is_there = |program: &str| folders.iter().any(|folder| folder.join(program).exists());
        let mut missing: Vec<&str> = needs
            .into_iter()
            .filter(|(program, _)| !is_there(program))
            .map(|(_, package)| package)
            .collect();
        // What x86_64's objtool is linked with.
        if arch == Arch::X86_64 && !Path::new("/usr/include/gelf.h").exists() {
            missing.push("libelf-dev");
        }
        ensure!(
            missing.is_empty(),
            "a kernel can't be built without {0}; as root, run apt-get install --no-install-recommends {0}",
            missing.join(" ")
        );
        Ok(make)
    }

    fn compiler_version(&self) -> Result<String> {
        let output = Command::new(self.compiler).arg("--version").output()?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Runs it in `source` with all it writes in `out`, and hands on its lines. The last of them are in the error.
    fn run(
        &self,
        source: &Path,
        out: &Path,
        goal: &str,
        wanted: Option<&Path>,
        line: &mut dyn FnMut(&str),
    ) -> Result<()> {
        let jobs = std::thread::available_parallelism().map_or(1, usize::from);
        let mut command = Command::new("make");
        command
            .current_dir(source)
            .arg(format!("-j{jobs}"))
            .arg(format!("O={}", out.display()))
            .arg(format!("ARCH={}", self.arch))
            .arg(format!("CROSS_COMPILE={}", self.prefix))
            // What would differ from one build to the next (Documentation/kbuild/reproducible-builds.rst).
            .args([
                "KBUILD_BUILD_TIMESTAMP=1970-01-01",
                "KBUILD_BUILD_USER=cato",
                "KBUILD_BUILD_HOST=cato",
            ])
            .args(["KBUILD_BUILD_VERSION=1", "LOCALVERSION=-cato", goal])
            // Nothing of the user's: KCFLAGS, LLVM, a time zone in which 1970 is 1969.
            .env_clear()
            .envs(
                ["PATH", "HOME", "TMPDIR"]
                    .into_iter()
                    .filter_map(|name| Some((name, std::env::var_os(name)?))),
            )
            .env("LC_ALL", "C")
            .env("TZ", "UTC")
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        if let Some(wanted) = wanted {
            command.env("KCONFIG_ALLCONFIG", wanted);
        }
        // Both in one, in their order.
        let (reader, writer) = std::io::pipe()?;
        command.stdout(writer.try_clone()?).stderr(writer);
        let mut child = command.spawn().context("can't start make")?;
        drop(command);
        let mut last = std::collections::VecDeque::new();
        for said in BufReader::new(reader).lines() {
            let said = said?;
            line(&said);
            if last.len() == SHOWN {
                last.pop_front();
            }
            last.push_back(said);
        }
        ensure!(
            child.wait()?.success(),
            "make {goal} failed:\n{}",
            Vec::from(last).join("\n")
        );
        Ok(())
    }
}

/// Lines of a build that failed that are shown.
const SHOWN: usize = 25;

/// Debian's source, unpacked; fetched where it is not there.
fn debian_source(all: &Path, arch: Arch) -> Result<PathBuf> {
    let known = all.join("source-version");
    if let Ok(name) = fs::read_to_string(&known) {
        let folder = all.join(name.trim());
        if folder.join("Makefile").exists() {
            return Ok(folder);
        }
    }
    let (state, root) = (all.join("apt"), all.join("package"));
    let (package, version) = during("fetching Linux's source from Debian (150 MB)", || {
        let apt = Apt::open(&state, SUITE, arch)?;
        let depends = apt.field(SOURCE, "Depends")?;
        let package = depends
            .split([' ', ','])
            .find(|word| word.starts_with("linux-source-"))
            .with_context(|| format!("{SOURCE} depends on {depends}"))?
            .to_owned();
        let version = apt.field(&package, "Version")?;
        for deb in apt.download(&[&package])? {
            apt::unpack(&deb, &root)?;
        }
        anyhow::Ok((package, version))
    })?;
    let archive = root.join(format!("usr/src/{package}.tar.xz"));
    // What an unpacking that was stopped has left.
    if all.join(&package).exists() {
        fs::remove_dir_all(all.join(&package))?;
    }
    during("unpacking it (1.7 GB)", || unpack_tar(&archive, all))?;
    // Each version has a folder of its own.
    let name = format!("linux-{}", version.replace(':', "-"));
    let folder = all.join(&name);
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::rename(all.join(&package), &folder)?;
    for done in [root, state] {
        fs::remove_dir_all(done)?;
    }
    // Written last, so what it names is whole.
    fs::write(&known, format!("{name}\n"))?;
    Ok(folder)
}

fn unpack_tar(archive: &Path, to: &Path) -> Result<()> {
    let file = File::open(archive).with_context(|| archive.display().to_string())?;
    let mut tar = Command::new("tar")
        .arg("-x")
        .arg("-C")
        .arg(to)
        .stdin(Stdio::piped())
        .spawn()
        .context("can't start tar")?;
    if let Some(mut input) = tar.stdin.take() {
        std::io::copy(&mut XzReader::new(file, true), &mut input).context("can't unpack it")?;
    }
    ensure!(tar.wait()?.success(), "tar failed");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_option_has_a_value_and_a_reason() {
        let text = "# Why.\n\nCONFIG_KEXEC=y   # the job\nCONFIG_PANIC_TIMEOUT=10 # a # b\n";
        let all = parse(text, "f").unwrap();
        let shown: Vec<_> = all
            .iter()
            .map(|s| (&*s.name, &*s.value, &*s.reason, &*s.place))
            .collect();
        assert_eq!(
            shown,
            [
                ("CONFIG_KEXEC", "y", "the job", "f:3"),
                ("CONFIG_PANIC_TIMEOUT", "10", "a # b", "f:4")
            ]
        );
        for wrong in [
            "CONFIG_X=y",
            "CONFIG_X=y #",
            "CONFIG_X=m # no",
            "X=y # no",
            "CONFIG_X= # no",
            "# CONFIG_X is not set",
        ] {
            assert!(parse(wrong, "f").is_err(), "{wrong}");
        }
    }

    /// What is shipped can be read, and two fragments that have the same option agree.
    #[test]
    fn the_shipped_fragments_agree() {
        let folder = crate::workspace().join("mkinitramfs/kernel");
        let mut names: Vec<String> = fs::read_dir(&folder)
            .unwrap()
            .map(|file| file.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        let mut all: BTreeMap<String, Setting> = BTreeMap::new();
        for name in &names {
            for setting in parse(&fs::read_to_string(folder.join(name)).unwrap(), name).unwrap() {
                if let Some(other) = all.insert(setting.name.clone(), setting.clone()) {
                    assert_eq!(other.value, setting.value, "{} and {}", other.place, setting.place);
                    assert_ne!(other.place.split(':').next(), setting.place.split(':').next());
                }
            }
        }
        assert!(all.contains_key("CONFIG_KEXEC"));
        for arch in Arch::ALL {
            for name in usual(arch)
                .iter()
                .map(String::as_str)
                .chain(always(arch).iter().copied())
            {
                assert!(names.contains(&format!("{name}.config")), "{name}");
            }
        }
    }

    #[test]
    fn what_is_not_taken_is_found() {
        let fragments = [
            (
                "a".to_owned(),
                "CONFIG_A=y # a\nCONFIG_B=y # b\nCONFIG_C=n # c\n".to_owned(),
            ),
            ("b".to_owned(), "CONFIG_B=3 # b\n".to_owned()),
        ];
        let settings = merged(&fragments).unwrap();
        let of = |config| {
            refused(&settings, config)
                .iter()
                .map(|s| s.name.clone())
                .collect::<Vec<_>>()
        };
        assert!(of("CONFIG_A=y\nCONFIG_B=3\n# CONFIG_C is not set\n").is_empty());
        assert_eq!(of("CONFIG_A=y\nCONFIG_B=y\nCONFIG_C=y\n"), ["CONFIG_B", "CONFIG_C"]);
    }
}
