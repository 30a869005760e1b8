//! Debian packages of another architecture or suite, unpacked into a folder; nothing on the host changes.
//!
//! Given the host's own apt sources; responsible for a private apt state (lists, cache, one source line) in which
//! `apt-get update` and `apt-get download` run, also without root.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use config::Arch;

/// A Debian archive, as the host's apt sources name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Archive {
    /// Base address, as in `URIs:` of sources.list(5).
    pub uri: String,
    /// Keyring or keys that sign it, as in `Signed-By:`, where the host names one.
    pub signed_by: Option<String>,
}

/// Debian's keyring, for archives whose source names no key of its own.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// One source of the host: an address, the suites and components it is used with, and its key.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Entry {
    uris: Vec<String>,
    suites: Vec<String>,
    components: Vec<String>,
    signed_by: Option<String>,
}

/// The archive from which the host takes `main` of its own Debian release.
///
/// # Errors
/// When the host isn't Debian or has no such source.
pub fn host_archive() -> Result<Archive> {
    let suite = host_suite()?;
    let mut files = vec![PathBuf::from("/etc/apt/sources.list")];
    if let Ok(dir) = fs::read_dir("/etc/apt/sources.list.d") {
        let mut parts: Vec<_> = dir.filter_map(|e| Some(e.ok()?.path())).collect();
        parts.sort();
        files.extend(parts);
    }
    let mut entries = Vec::new();
    for file in files {
        let Ok(text) = fs::read_to_string(&file) else { continue };
        match file.extension().and_then(OsStr::to_str) {
            Some("list") => entries.extend(text.lines().filter_map(one_line)),
            Some("sources") => entries.extend(deb822(&text)),
            _ => {}
        }
    }
    pick(&entries, &suite).with_context(|| {
        format!("no apt source of this machine offers {suite} main (looked in /etc/apt/sources.list and /etc/apt/sources.list.d)")
    })
}

/// The host's own Debian release, for example `bookworm`.
///
/// # Errors
/// When `/etc/os-release` names none.
pub fn host_suite() -> Result<String> {
    let text = fs::read_to_string("/etc/os-release").context("/etc/os-release")?;
    text.lines()
        .find_map(|l| l.strip_prefix("VERSION_CODENAME="))
        .map(|v| v.trim_matches('"').to_owned())
        .context("/etc/os-release has no VERSION_CODENAME: not a Debian release")
}

fn pick(entries: &[Entry], suite: &str) -> Option<Archive> {
    let has = |list: &[String], word: &str| list.iter().any(|x| x == word);
    let entry = entries
        .iter()
        .find(|e| has(&e.suites, suite) && has(&e.components, "main"))?;
    Some(Archive {
        uri: entry.uris.first()?.clone(),
        signed_by: entry.signed_by.clone(),
    })
}

/// `deb [signed-by=FILE arch=A] URI SUITE COMPONENT...`, sources.list(5), "one-line-style format".
fn one_line(line: &str) -> Option<Entry> {
    let rest = line.split('#').next()?.trim().strip_prefix("deb")?;
    let rest = rest.strip_prefix(|c: char| c.is_whitespace())?.trim_start();
    let (options, rest) = match rest.strip_prefix('[') {
        Some(r) => r.split_once(']')?,
        None => ("", rest),
    };
    let mut words = rest.split_whitespace().map(str::to_owned);
    Some(Entry {
        uris: vec![words.next()?],
        suites: vec![words.next()?],
        components: words.collect(),
        signed_by: options
            .split_whitespace()
            .find_map(|o| Some(o.strip_prefix("signed-by=")?.to_owned())),
    })
}

/// Stanzas of `Field: value`, sources.list(5), "deb822-style format". An embedded key (a `Signed-By` over several lines)
/// can't be put into the one-line format, so Debian's own keyring stands in for it.
fn deb822(text: &str) -> Vec<Entry> {
    let mut all = Vec::new();
    let stanza_end = std::iter::once("");
    let mut now = Entry::default();
    let mut binary = true;
    let mut field = String::new();
    for line in text.lines().chain(stanza_end) {
        if line.trim().is_empty() {
            let done = std::mem::take(&mut now);
            if std::mem::replace(&mut binary, true) && !done.uris.is_empty() {
                all.push(done);
            }
            continue;
        }
        if line.starts_with('#') {
            continue;
        }
        let value = if line.starts_with([' ', '\t']) {
            line
        } else {
            let Some((name, value)) = line.split_once(':') else {
                continue;
            };
            field = name.to_ascii_lowercase();
            value
        };
        let words = value.split_whitespace().map(str::to_owned);
        match field.as_str() {
            "types" => binary = words.into_iter().any(|w| w == "deb"),
            "enabled" => binary &= value.trim() != "no",
            "uris" => now.uris.extend(words),
            "suites" => now.suites.extend(words),
            "components" => now.components.extend(words),
            "signed-by" => now.signed_by = value.trim().starts_with('/').then(|| value.trim().to_owned()),
            _ => {}
        }
    }
    all
}

/// apt with a state of its own, for one suite and one architecture.
#[derive(Debug)]
pub struct Apt {
    dir: PathBuf,
    options: Vec<OsString>,
}

impl Apt {
    /// Makes (or takes up again) the state in `dir` for `suite` (such as `trixie`) and `arch`, and runs `apt-get update` in it.
    ///
    /// # Errors
    /// When the host names no Debian archive, apt is missing, or the update fails; apt's own words are in the error.
    pub fn open(dir: &Path, suite: &str, arch: Arch) -> Result<Self> {
        let archive = host_archive()?;
        fs::create_dir_all(dir.join("lists/partial"))?;
        fs::create_dir_all(dir.join("cache/archives/partial"))?;
        let dir = fs::canonicalize(dir)?;
        let debian = match arch {
            Arch::Arm64 => "arm64",
            Arch::X86_64 => "amd64",
        };
        let list = dir.join("sources.list");
        let key = archive.signed_by.as_deref().unwrap_or(KEYRING);
        fs::write(&list, format!("deb [signed-by={key}] {} {suite} main\n", archive.uri))?;
        let mut options = vec![
            OsString::from("-q"),
            format!("-oAPT::Architecture={debian}").into(),
            format!("-oAPT::Architectures={debian}").into(),
            "-oDir::State::status=/dev/null".into(),
            "-oDir::Etc::SourceParts=/dev/null".into(),
            // The state may lie where apt's own user cannot go.
            "-oAPT::Sandbox::User=".into(),
        ];
        for (name, path) in [
            ("Dir::Etc::SourceList", &list),
            ("Dir::State::Lists", &dir.join("lists")),
            ("Dir::Cache", &dir.join("cache")),
        ] {
            let mut option = OsString::from(format!("-o{name}="));
            option.push(path);
            options.push(option);
        }
        let apt = Self { dir, options };
        apt.run("apt-get", &["update"], &apt.dir)?;
        Ok(apt)
    }

    /// For a system that has packages already: those in `status`, a `/var/lib/dpkg/status`.
    #[must_use]
    pub fn with_installed(mut self, status: &Path) -> Self {
        let mut option = OsString::from("-oDir::State::status=");
        option.push(status);
        // The last one counts.
        self.options.push(option);
        self
    }

    fn run(&self, program: &str, args: &[&str], cwd: &Path) -> Result<String> {
        run(Command::new(program).args(&self.options).args(args).current_dir(cwd))
    }

    /// One field of a package's newest version, for example `Depends` of `linux-image-arm64`.
    ///
    /// # Errors
    /// When the archive has no such package, or the package no such field.
    pub fn field(&self, package: &str, field: &str) -> Result<String> {
        let text = self.run("apt-cache", &["show", "--no-all-versions", package], &self.dir)?;
        text.lines()
            .find_map(|l| Some(l.strip_prefix(field)?.strip_prefix(':')?.trim().to_owned()))
            .with_context(|| format!("package {package} has no field {field}"))
    }

    /// Downloads the packages (apt checks them against the archive's signature) and returns the .deb files.
    ///
    /// # Errors
    /// What apt says.
    pub fn download(&self, packages: &[&str]) -> Result<Vec<PathBuf>> {
        let deb = self.dir.join("deb");
        fs::create_dir_all(&deb)?;
        let mut files = Vec::new();
        for package in packages {
            self.run("apt-get", &["download", package], &deb)?;
            let prefix = format!("{package}_");
            let mut found: Vec<_> = fs::read_dir(&deb)?
                .filter_map(|e| Some(e.ok()?.path()))
                .filter(|p| {
                    p.file_name()
                        .and_then(OsStr::to_str)
                        .is_some_and(|n| n.starts_with(&prefix))
                })
                .collect();
            found.sort_by_key(|p| p.metadata().and_then(|m| m.modified()).ok());
            let Some(newest) = found.pop() else {
                bail!("apt-get download {package} put no file into {}", deb.display())
            };
            files.push(newest);
        }
        Ok(files)
    }

    /// Downloads what installing `wanted` (names, or patterns such as `?essential`) takes on an empty system or on that of
    /// [`Apt::with_installed`], without what is only recommended, and returns the .deb files by name.
    ///
    /// # Errors
    /// What apt says.
    pub fn download_with_dependencies(&self, wanted: &[&str]) -> Result<Vec<PathBuf>> {
        let archives = self.dir.join("cache/archives");
        // Nothing is installed, so dpkg's lock is not wanted.
        let options = [
            "-oDebug::NoLocking=1",
            "--no-install-recommends",
            "--yes",
            "--download-only",
        ];
        let args: Vec<_> = options.iter().chain(&["install"]).chain(wanted).copied().collect();
        self.run("apt-get", &args, &self.dir)?;
        let mut files: Vec<_> = fs::read_dir(&archives)?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.extension().is_some_and(|extension| extension == "deb"))
            .collect();
        files.sort();
        ensure!(
            !files.is_empty(),
            "apt-get install {} fetched nothing",
            wanted.join(" ")
        );
        Ok(files)
    }
}

/// How long another apt or dpkg is waited for.
const PATIENCE: Duration = Duration::from_mins(10);

/// Runs a program of apt and returns what it printed. When another one holds a lock, waits until that is free: apt itself
/// can wait for dpkg's lock (`DPkg::Lock::Timeout`) but not for those of its lists and its cache.
///
/// # Errors
/// When it can't be started, fails, or a lock is held for ten minutes; all that it printed is in the error.
pub fn run(command: &mut Command) -> Result<String> {
    run_within(command, PATIENCE, Duration::from_secs(2))
}

fn run_within(command: &mut Command, patience: Duration, pause: Duration) -> Result<String> {
    command.env("LC_ALL", "C").stdin(Stdio::null());
    let name = command.get_program().to_string_lossy().into_owned();
    let began = Instant::now();
    let mut told = false;
    loop {
        let out = command.output().with_context(|| format!("can't start {name}"))?;
        let (said, errors) = (
            String::from_utf8_lossy(&out.stdout),
            String::from_utf8_lossy(&out.stderr),
        );
        if out.status.success() {
            return Ok(said.into_owned());
        }
        match errors.lines().find(|line| line.contains("Could not get lock")) {
            Some(line) if began.elapsed() < patience => {
                if !told {
                    eprintln!("another apt is running, waiting for it: {line}");
                    told = true;
                }
                std::thread::sleep(pause);
            }
            _ => {
                let args: Vec<_> = command.get_args().map(OsStr::to_string_lossy).collect();
                let words = format!("{}\n{}", said.trim(), errors.trim());
                bail!("{name} {} failed ({})\n{}", args.join(" "), out.status, words.trim());
            }
        }
    }
}

/// Unpacks a .deb's files below `root`; no maintainer script runs.
///
/// # Errors
/// What dpkg-deb says.
pub fn unpack(deb: &Path, root: &Path) -> Result<()> {
    fs::create_dir_all(root)?;
    let status = Command::new("dpkg-deb")
        .arg("-x")
        .args([deb, root])
        .status()
        .context("can't start dpkg-deb")?;
    ensure!(status.success(), "dpkg-deb -x {}: {status}", deb.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_formats_of_sources_are_read() {
        let one =
            one_line("deb [arch=amd64 signed-by=/k.gpg] http://mirror.test/debian bookworm main contrib # c").unwrap();
        let two = deb822(
            "Types: deb-src\nURIs: http://src.test/debian\nSuites: bookworm\nComponents: main\n\n\
             # comment\nTypes: deb\n# c\nURIs: http://mirror.test/debian\nSuites: bookworm bookworm-updates\n\
             Components: main\n contrib\nSigned-By: /k.gpg\n\n\
             Types: deb\nEnabled: no\nURIs: http://off.test/debian\nSuites: sid\nComponents: main\n",
        );
        let want = Some(Archive {
            uri: "http://mirror.test/debian".into(),
            signed_by: Some("/k.gpg".into()),
        });
        assert_eq!(pick(&[one], "bookworm"), want);
        assert_eq!(pick(&two, "bookworm"), want);
        assert_eq!(pick(&two, "sid"), None);
        assert_eq!(one_line("deb-src http://x bookworm main"), None);
        assert_eq!(one_line("# deb http://x bookworm main"), None);
    }

    #[test]
    fn a_lock_is_waited_for_and_a_failure_says_all_it_printed() {
        let folder = tempfile::tempdir().unwrap();
        let lock = folder.path().join("lock");
        fs::write(&lock, "").unwrap();
        // Busy at the first try, and free after it.
        let script = r#"[ -e "$0" ] || { echo done; exit; }; [ $1 = held ] || rm "$0"
            echo Reading; echo "E: Could not get lock $0. It is held by process 7" >&2; exit 100"#;
        let run = |how: &str, patience| {
            let mut command = Command::new("sh");
            command.args(["-c", script]).arg(&lock).arg(how);
            run_within(&mut command, patience, Duration::from_millis(1))
        };
        assert_eq!(run("freed", Duration::from_mins(1)).unwrap(), "done\n");
        fs::write(&lock, "").unwrap();
        let error = run("held", Duration::from_millis(20)).unwrap_err().to_string();
        assert!(error.contains("Reading\nE: Could not get lock"), "{error}");
    }

    #[test]
    fn an_embedded_key_is_not_taken_for_a_file() {
        let all =
            deb822("Types: deb\nURIs: http://x\nSuites: s\nComponents: main\nSigned-By:\n -----BEGIN\n .\n abc\n");
        assert_eq!(all.first().unwrap().signed_by, None);
    }
}
