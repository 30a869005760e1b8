//! The service kernel: Linux's source, built with a configuration made for the job.
//!
//! Given fragments of configuration and a source tree (Debian's, where none is named); responsible for a kernel in which each
//! option is what its fragment says, and whose bytes are the same in any folder.

mod fragments;
mod make;
pub mod source;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context as _, Result, bail};
use config::Arch;
use sha2::{Digest as _, Sha256};

use crate::progress::during_with;
pub use fragments::usual;
use fragments::{Setting, always, merged, refused};
use make::Make;
pub use make::missing_packages;

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

/// The one that was built by this recipe, from Debian's source as it is here. Nothing is fetched or built.
pub fn built(workspace: &Path, recipe: &KernelRecipe) -> Option<Kernel> {
    let source = source::present(workspace)?;
    Build::of(workspace, recipe, &source).ok()?.result()
}

/// Builds it below `target/service-kernel`, where one of the same recipe is found again.
///
/// # Errors
/// When a tool is missing (the error names the command that installs it), an option is not taken, or the build fails.
pub fn build(workspace: &Path, recipe: &KernelRecipe) -> Result<Kernel> {
    let all = folder(workspace);
    fs::create_dir_all(&all)?;
    // One at a time, whoever else runs.
    let lock = File::create(all.join(".lock"))?;
    lock.lock()?;
    // Before anything is fetched.
    Make::of(recipe.arch)?;
    let source = match &recipe.source {
        Some(folder) => folder.canonicalize().with_context(|| folder.display().to_string())?,
        None => source::debian(workspace, recipe.arch)?,
    };
    let build = Build::of(workspace, recipe, &source)?;
    // A tree that is the user's own may have changed.
    if let (None, Some(there)) = (&recipe.source, build.result()) {
        return Ok(there);
    }
    build.run(&all)?;
    build.result().context("the kernel that was built is gone")
}

/// What is built from what, and where it is then.
struct Build {
    arch: Arch,
    settings: BTreeMap<String, Setting>,
    text: String,
    make: Make,
    source: PathBuf,
    /// Each recipe's result has a place of its own: whoever packs one is not disturbed by the next build.
    result: PathBuf,
}

impl Build {
    fn of(workspace: &Path, recipe: &KernelRecipe, source: &Path) -> Result<Self> {
        let settings = merged(&recipe.texts(workspace)?)?;
        let make = Make::of(recipe.arch)?;
        let lines: Vec<String> = settings
            .values()
            .map(|setting| format!("{}={}", setting.name, setting.value))
            .collect();
        let text = lines.join("\n") + "\n";
        let key = format!("{text}{}\n{}", source.display(), make.compiler_version()?);
        Ok(Self {
            arch: recipe.arch,
            settings,
            text,
            make,
            source: source.to_owned(),
            result: folder(workspace).join(format!("{}-{}", recipe.arch, short(&key))),
        })
    }

    /// What there is of it.
    fn result(&self) -> Option<Kernel> {
        let release = fs::read_to_string(self.result.join(RELEASE)).ok()?;
        Some(Kernel {
            image: self.result.join(IMAGE),
            config: self.result.join(CONFIG),
            release: release.trim().to_owned(),
        })
    }

    fn run(&self, all: &Path) -> Result<()> {
        let Self { make, source, .. } = self;
        let out = all.join(self.arch.to_string());
        fs::create_dir_all(&out)?;
        let wanted = out.join("wanted.config");
        fs::write(&wanted, &self.text)?;
        make.run(source, &out, "allnoconfig", Some(&wanted), &mut |_| {})?;
        let config = fs::read_to_string(out.join(".config"))?;
        if let Some(setting) = refused(&self.settings, &config).first() {
            let Setting { name, value, place, .. } = setting;
            bail!(
                "{place}: {name}={value} is not taken: this kernel has no such option, or one it depends on is off \
                 (look in {} and in the source's Kconfig)",
                out.join(".config").display()
            );
        }
        let count = AtomicU32::new(0);
        let what = format!("building the service kernel for {} (about {ABOUT} steps)", self.arch);
        during_with(
            &what,
            || format!("step {}", count.load(Ordering::Relaxed)),
            || {
                make.run(source, &out, make.goal, None, &mut |_| {
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
            (make.image, IMAGE),
            (".config", CONFIG),
            ("include/config/kernel.release", RELEASE),
        ] {
            fs::copy(out.join(from), whole.join(to)).with_context(|| out.join(from).display().to_string())?;
        }
        if self.result.exists() {
            fs::remove_dir_all(&self.result)?;
        }
        Ok(fs::rename(whole, &self.result)?)
    }
}

/// The files of a result.
const IMAGE: &str = "kernel";
const CONFIG: &str = "config";
const RELEASE: &str = "release";

/// Where sources and results are.
fn folder(workspace: &Path) -> PathBuf {
    workspace.join("target/service-kernel")
}

/// A name for a recipe.
fn short(key: &str) -> String {
    let digest: [u8; 32] = Sha256::digest(key.as_bytes()).into();
    let number = digest.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes));
    format!("{number:016x}")
}

/// Lines of make for one kernel; some fragments more or less are some hundreds.
const ABOUT: u32 = 2000;
