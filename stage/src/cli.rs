//! `cato` called by name, as a tool on any Linux.
//!
//! Given the arguments; responsible for what goes to which stream and for the exit code: 0 for yes, 1 for no, 2 for wrong
//! usage.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

mod menu;
mod password;
mod slots;
mod wdtest;

use crate::report;

const USAGE: &str = "\
usage: cato check FILE     say whether FILE is a valid boot.toml: exit 0, or 1 and every problem on stderr
       cato report         on a system that Cato booted, as root: where the time from power-on to PID 1 went;
                           exit 1 when Cato did not boot it
            --json         the same as one JSON object
            --svg FILE     the same as a picture, `-` for stdout
       cato state init PLACE [SLOT...]
                           make a new state on PLACE, a partition or an image of one, in which these slots are
                           good; over another one only with --force
       cato state show [PLACE]
       cato status         what is known of the slots; --json as one JSON object
       cato last-words [PLACE]
                           what the last kernel that panicked said, as far as pstore had it
       cato mark-good      this system is well (exit 3 when it is not the one that was booted)
       cato mark-good SLOT [PLACE] | mark-bad SLOT [PLACE]
                           the slot is well, or is not to be booted; the last one that can be only with --force
       cato set-next SLOT [PLACE]
                           the slot is the first choice from now on; with --once for one boot
       cato trial          wait for [slots] trial, then exit 4 when this system was not marked good by then:
                           the machine is to be rebooted
       cato menu --demo    the menu of the consoles, with a machine that is made up
            --failed       in which every entry has failed
            --plain        as a terminal without a cursor shows it
            --locked       behind a password: any
       cato password       asks for a password, or reads it from a pipe, and prints its hash for boot.toml
       cato wdtest         on a main system booted with cato.wdtest on the service kernel's command line: wait for
                           the watchdog to reset the machine, or say why it has not
       cato rauc REQUEST   RAUC's custom boot loader backend, also by a link called cato-rauc
       cato --help         this text
       cato --version      the version and the architecture
";

/// What a command ends with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Yes = 0,
    No = 1,
    Misused = 2,
    Refused = 3,
    TrialOver = 4,
}

/// Runs the command that `arguments`, without the program's own name, ask for.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut outcome = execute(&arguments, &mut out, &mut err).unwrap_or(Outcome::No);
    tell(err);
    let mut stdout = io::stdout().lock();
    if stdout.write_all(&out).and_then(|()| stdout.flush()).is_err() && outcome == Outcome::Yes {
        outcome = Outcome::No;
    }
    ExitCode::from(outcome as u8)
}

/// Longest wait for whoever reads stderr.
const PATIENCE: Duration = Duration::from_secs(1);

/// Says it on stderr, where somebody takes it. The exit code counts: a log that is full or hangs keeps no sick system up.
fn tell(text: Vec<u8>) {
    let (done, is_done) = mpsc::channel();
    // One that never comes back ends with the process.
    let writer = thread::Builder::new().spawn(move || {
        let _ = io::stderr().write_all(&text);
        let _ = done.send(());
    });
    if writer.is_ok() {
        let _ = is_done.recv_timeout(PATIENCE);
    }
}

/// What `cato state show --json` prints of an image, for whoever makes images.
///
/// # Errors
/// What it says instead.
pub fn state(place: &Path) -> Result<String, String> {
    let command = slots::Command::Show {
        place: Some(place),
        json: true,
    };
    slots::run(&command).map_err(|error| error.to_string())
}

/// What `cato state init` does to an image, for whoever makes images: every slot is still to be proven.
///
/// # Errors
/// What it says instead.
pub fn factory_state(place: &Path) -> Result<(), String> {
    let command = slots::Command::Init {
        place,
        good: Vec::new(),
        force: false,
    };
    slots::run(&command).map(drop).map_err(|error| error.to_string())
}

fn execute(arguments: &[OsString], out: &mut impl Write, err: &mut impl Write) -> io::Result<Outcome> {
    let words: Vec<&OsStr> = arguments.iter().map(OsString::as_os_str).collect();
    match words.as_slice() {
        [word, ..] | [_, word] if *word == "--help" || *word == "-h" => {
            out.write_all(USAGE.as_bytes())?;
            Ok(Outcome::Yes)
        }
        [word, ..] if *word == "--version" || *word == "-V" => {
            writeln!(out, "cato {} ({})", env!("CARGO_PKG_VERSION"), std::env::consts::ARCH)?;
            Ok(Outcome::Yes)
        }
        [command, file] if *command == "check" && !is_option(file) => check(Path::new(file), out, err),
        [command, rest @ ..] if *command == "check" => match rest {
            [] => misused(err, "check: no FILE given"),
            [option] => misused(err, &format!("check: unknown option `{}`", option.display())),
            _ => misused(err, "check: more than one FILE given"),
        },
        [command, rest @ ..] if *command == "report" => match Forms::of(rest) {
            Ok(forms) => report_on(&forms, out, err),
            Err(why) => misused(err, &format!("report: {why}")),
        },
        [command, rest @ ..] if *command == "menu" => match menu::Show::of(rest) {
            Ok(show) => match menu::run(&show) {
                Ok(end) => {
                    writeln!(out, "{end}")?;
                    Ok(Outcome::Yes)
                }
                Err(error) => failed(err, &format_args!("the terminal: {error}")),
            },
            Err(why) => misused(err, &format!("menu: {why}")),
        },
        [command] if *command == "password" => match password::run() {
            Ok(hash) => {
                writeln!(out, "{hash}")?;
                Ok(Outcome::Yes)
            }
            Err(why) => failed(err, &why),
        },
        [command, ..] if *command == "password" => misused(err, "password: too many words"),
        [command] if *command == "wdtest" => failed(err, &wdtest::run(Path::new("/"))),
        [command, ..] if *command == "wdtest" => misused(err, "wdtest: too many words"),
        [command, ..] if slots::WORDS.iter().any(|word| command == word) => on_slots(&words, out, err),
        [] => misused(err, "no command given"),
        [word, ..] if is_option(word) => misused(err, &format!("unknown option `{}`", word.display())),
        [word, ..] => misused(err, &format!("unknown command `{}`", word.display())),
    }
}

/// The kernel's command line. Firmware may put any bytes into it.
fn running(root: &Path) -> String {
    let bytes = std::fs::read(root.join("proc/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

fn is_option(word: &OsStr) -> bool {
    word.as_encoded_bytes().starts_with(b"-")
}

/// What somebody has typed, or called a file, drives no terminal; letters stay as they are.
fn shown(text: &str) -> String {
    let each = text.chars().map(|c| match c {
        '"' | '\'' | '\\' => c.to_string(),
        c => c.escape_debug().to_string(),
    });
    each.collect()
}

fn misused(err: &mut impl Write, why: &str) -> io::Result<Outcome> {
    write!(err, "cato: {}\n{USAGE}", shown(why))?;
    Ok(Outcome::Misused)
}

/// One line, whatever a file is called.
fn failed(err: &mut impl Write, why: &dyn fmt::Display) -> io::Result<Outcome> {
    writeln!(err, "error: {}", shown(&why.to_string()))?;
    Ok(Outcome::No)
}

/// What `cato report` is to give.
#[derive(Debug, Default, PartialEq, Eq)]
struct Forms<'a> {
    json: bool,
    svg: Option<&'a Path>,
}

impl<'a> Forms<'a> {
    fn of(words: &[&'a OsStr]) -> Result<Self, String> {
        let mut forms = Self::default();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            match word.to_str() {
                Some("--json") => forms.json = true,
                Some("--svg") => {
                    let file = words
                        .next()
                        .filter(|file| **file == OsStr::new("-") || !is_option(file));
                    forms.svg = Some(Path::new(*file.ok_or("--svg: no FILE given")?));
                }
                _ if is_option(word) => return Err(format!("unknown option `{}`", word.display())),
                _ => return Err(format!("unexpected `{}`", word.display())),
            }
        }
        Ok(forms)
    }
}

fn on_slots(words: &[&OsStr], out: &mut impl Write, err: &mut impl Write) -> io::Result<Outcome> {
    let command = match slots::Command::of(words) {
        Ok(command) => command,
        Err(why) => return misused(err, &why),
    };
    match slots::run(&command) {
        Ok(said) => {
            // A kernel's words are all for whoever asks for them.
            let is_theirs = matches!(command, slots::Command::LastWords(_));
            for line in said.lines() {
                if line.starts_with("warning: ") && !is_theirs {
                    writeln!(err, "{}", shown(line))?;
                } else {
                    writeln!(out, "{line}")?;
                }
            }
            Ok(Outcome::Yes)
        }
        Err(error) => {
            let failed = failed(err, &error)?;
            Ok(match error {
                slots::SlotsError::TrialOver { .. } => Outcome::TrialOver,
                error if error.is_refusal() => Outcome::Refused,
                _ => failed,
            })
        }
    }
}

/// `cato report`: a table, unless another form is asked for.
fn report_on(forms: &Forms<'_>, out: &mut impl Write, err: &mut impl Write) -> io::Result<Outcome> {
    let root = Path::new("/");
    let report = match report::report(root, || report::running(root)) {
        Ok(report) => report,
        Err(error) => return failed(err, &error),
    };
    if let Some(file) = forms.svg {
        let picture = report::svg(&report);
        if file == Path::new("-") {
            out.write_all(picture.as_bytes())?;
        } else if let Err(error) = std::fs::write(file, picture) {
            return failed(err, &format_args!("{}: {error}", file.display()));
        }
    }
    if forms.json {
        writeln!(out, "{}", report::json(&report))?;
    } else if forms.svg.is_none() {
        out.write_all(report::text(&report).as_bytes())?;
    }
    Ok(Outcome::Yes)
}

/// `cato check FILE`.
fn check(path: &Path, out: &mut impl Write, err: &mut impl Write) -> io::Result<Outcome> {
    let name = shown(&path.display().to_string());
    let bytes = match read(path) {
        Ok(bytes) => bytes,
        Err(error) => return failed(err, &format_args!("{name}: {error}")),
    };
    let reading = config::read(&bytes);
    err.write_all(reading.render(&name).as_bytes())?;
    let counted = |count: usize, one: &str, many: &str| format!("{count} {}", if count == 1 { one } else { many });
    let warnings = reading.diagnostics.iter().filter(|d| d.is_warning()).count();
    let also = match warnings {
        0 => String::new(),
        _ => format!(", {}", counted(warnings, "warning", "warnings")),
    };
    if !reading.diagnostics.is_empty() {
        writeln!(err)?;
    }
    let Some(config) = reading.config else {
        let count = reading.diagnostics.len().saturating_sub(warnings);
        writeln!(err, "{name}: {}{also}", counted(count, "problem", "problems"))?;
        return Ok(Outcome::No);
    };
    writeln!(
        out,
        "{name}: ok, {}{also}",
        counted(config.entries.len(), "entry", "entries")
    )?;
    Ok(Outcome::Yes)
}

/// The file, up to one byte more than a configuration may have, so that a device or a log file ends too.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let limit = u64::try_from(config::MAX_BYTES).unwrap_or(u64::MAX).saturating_add(1);
    let mut bytes = Vec::new();
    File::open(path)?.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}
