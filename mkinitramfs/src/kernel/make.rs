//! Linux's own build: what it is started with, and what it says.

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use config::Arch;

/// make, for one arch.
pub(super) struct Make {
    arch: &'static str,
    prefix: &'static str,
    /// What is built.
    pub(super) goal: &'static str,
    /// Where it is then.
    pub(super) image: &'static str,
}

/// What the names of a cross compiler's programs begin with, and the package that brings it. Nothing, and the usual one, where
/// kernels for `arch` need none.
fn compiler(arch: Arch) -> (&'static str, &'static str) {
    match arch {
        _ if Arch::running() == Some(arch) => ("", "gcc"),
        Arch::Arm64 => ("aarch64-linux-gnu-", "gcc-aarch64-linux-gnu"),
        Arch::X86_64 => ("x86_64-linux-gnu-", "gcc-x86-64-linux-gnu"),
    }
}

/// The packages without which a kernel for `arch` can't be built and that are not there.
pub fn missing_packages(arch: Arch) -> Vec<&'static str> {
    let (prefix, package) = compiler(arch);
    let compiler = format!("{prefix}gcc");
    let needs = [
        ("make", "make"),
        ("flex", "flex"),
        ("bison", "bison"),
        ("bc", "bc"),
        ("perl", "perl"),
        ("gcc", "gcc"),
        ("zstd", "zstd"),
        (&compiler, package),
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
    missing.sort_unstable();
    missing.dedup();
    missing
}

impl Make {
    pub(super) fn of(arch: Arch) -> Result<Self> {
        let (prefix, _) = compiler(arch);
        let make = match arch {
            Arch::Arm64 => Self {
                arch: "arm64",
                prefix,
                goal: "Image",
                image: "arch/arm64/boot/Image",
            },
            Arch::X86_64 => Self {
                arch: "x86_64",
                prefix,
                goal: "bzImage",
                image: "arch/x86/boot/bzImage",
            },
        };
        let missing = missing_packages(arch);
        ensure!(
            missing.is_empty(),
            "a kernel can't be built without {0}; as root, run apt-get install --no-install-recommends {0}",
            missing.join(" ")
        );
        Ok(make)
    }

    pub(super) fn compiler_version(&self) -> Result<String> {
        let output = Command::new(format!("{}gcc", self.prefix)).arg("--version").output()?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Runs it in `source` with all it writes in `out`, and hands on its lines. The last of them are in the error.
    pub(super) fn run(
        &self,
        source: &Path,
        out: &Path,
        goal: &str,
        wanted: Option<&Path>,
        line: &mut dyn FnMut(&str),
    ) -> Result<()> {
        // One more than CPUs: some of them only wait for others.
        let jobs = std::thread::available_parallelism().map_or(1, usize::from) + 1;
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
        let mut last = VecDeque::new();
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
