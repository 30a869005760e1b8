//! `cato` called by name, as a tool on any Linux.
//!
//! Given the arguments; responsible for what goes to which stream and for the exit code: 0 for yes, 1 for no, 2 for wrong
//! usage.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use std::process::ExitCode;

use crate::report;

const USAGE: &str = "\
usage: cato check FILE     say whether FILE is a valid boot.toml: exit 0, or 1 and every problem on stderr
       cato report         on a system that Cato booted, as root: where the time from power-on to PID 1 went;
                           exit 1 when Cato did not boot it
            --json         the same as one JSON object
            --svg FILE     the same as a picture, `-` for stdout
       cato --help         this text
       cato --version      the version and the architecture
";

/// What a command ends with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Yes = 0,
    No = 1,
    Misused = 2,
}

/// Runs the command that `arguments`, without the program's own name, ask for.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    // Nobody is left to tell when stdout or stderr is closed; the exit code is still right.
    let outcome = execute(&arguments, &mut io::stdout().lock(), &mut io::stderr().lock());
    ExitCode::from(outcome.unwrap_or(Outcome::No) as u8)
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
        [] => misused(err, "no command given"),
        [word, ..] if is_option(word) => misused(err, &format!("unknown option `{}`", word.display())),
        [word, ..] => misused(err, &format!("unknown command `{}`", word.display())),
    }
}

fn is_option(word: &OsStr) -> bool {
    word.as_encoded_bytes().starts_with(b"-")
}

fn misused(err: &mut impl Write, why: &str) -> io::Result<Outcome> {
    write!(err, "cato: {why}\n{USAGE}")?;
    Ok(Outcome::Misused)
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

/// `cato report`: a table, unless another form is asked for.
fn report_on(forms: &Forms<'_>, out: &mut impl Write, err: &mut impl Write) -> io::Result<Outcome> {
    let root = Path::new("/");
    let report = match report::report(root, || report::running(root)) {
        Ok(report) => report,
        Err(error) => {
            writeln!(err, "error: {error}")?;
            return Ok(Outcome::No);
        }
    };
    if let Some(file) = forms.svg {
        let picture = report::svg(&report);
        if file == Path::new("-") {
            out.write_all(picture.as_bytes())?;
        } else if let Err(error) = std::fs::write(file, picture) {
            writeln!(err, "error: {}: {error}", file.display())?;
            return Ok(Outcome::No);
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
    let name = path.display();
    let bytes = match read(path) {
        Ok(bytes) => bytes,
        Err(error) => {
            writeln!(err, "error: {name}: {error}")?;
            return Ok(Outcome::No);
        }
    };
    let reading = config::read(&bytes);
    err.write_all(reading.render(&name.to_string()).as_bytes())?;
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
