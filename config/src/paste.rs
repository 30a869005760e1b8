//! What a text processor or a web page made of a value.
//!
//! Given the tree of a file; responsible for a word on each character that nobody typed, and for what the main kernel
//! will make of a command line. Such a file can be right: these are warnings, but for a quote that never closes.

use std::ops::Range;

use toml::de::{DeTable, DeValue};

use crate::BOOT_WORDS;
use crate::lookalike::{Lookalike, is_invisible, named, places};
use crate::problems::Problems;
use crate::reader::{Value, in_file_order};
use crate::value::{Fault, PASTED_HELP};
use crate::{Diagnostic, DiagnosticKind};

/// The characters of a value, each with its place.
type Characters = [(Range<usize>, char)];

/// Looks at every entry of `document`, which was read from `text`.
pub(crate) fn check(text: &str, document: &DeTable<'_>, problems: &mut Problems<'_>) {
    let entries = document.get("entry").and_then(|entries| entries.get_ref().as_table());
    for (_, entry) in entries.into_iter().flat_map(in_file_order) {
        for (key, value) in entry.get_ref().as_table().into_iter().flatten() {
            let key: &str = key.get_ref();
            match value.get_ref() {
                DeValue::Array(files) if key == "initrd" => {
                    files.iter().for_each(|file| check_value(text, key, file, problems));
                }
                _ if ["title", "source", "kernel", "initrd", "dtb", "cmdline"].contains(&key) => {
                    check_value(text, key, value, problems);
                }
                _ => {}
            }
        }
    }
}

fn check_value(text: &str, key: &str, value: &Value<'_>, problems: &mut Problems<'_>) {
    let DeValue::String(string) = value.get_ref() else {
        return;
    };
    let (is_cmdline, span) = (key == "cmdline", value.span());
    if problems.is_past(span.start) {
        return;
    }
    if is_cmdline {
        entities(string, &span, problems);
        copied(string, &span, problems);
    } else if key != "title" {
        edges(key, string, &span, problems);
    }
    // What is plain ASCII needs no second look, except for its quotes.
    if string.is_ascii() && !(is_cmdline && string.contains(['"', '\''])) {
        return;
    }
    let written = text.get(span.clone()).unwrap_or_default();
    let found: Vec<(Range<usize>, char)> = match places(written, string) {
        Some(places) => {
            let moved =
                |place: Range<usize>| span.start.saturating_add(place.start)..span.start.saturating_add(place.end);
            places.into_iter().map(|(place, c)| (moved(place), c)).collect()
        }
        None => string.chars().map(|c| (span.clone(), c)).collect(),
    };
    lookalikes(key, &found, problems);
    if is_cmdline {
        words(&found, problems);
        quotes(&found, problems);
    }
}

/// What HTML makes of the letters that mean something to it.
const ENTITIES: [&str; 5] = ["&quot;", "&amp;", "&lt;", "&gt;", "&nbsp;"];

/// What was pasted from the source of a web page.
fn entities(text: &str, span: &Range<usize>, problems: &mut Problems<'_>) {
    if let Some(entity) = ENTITIES.iter().find(|entity| text.contains(**entity)) {
        let message = format!("`cmdline` contains {entity}");
        let help = "write the character itself; was it pasted from the source of a web page?";
        warn(span, message, "the kernel takes it as it is", help, problems);
    }
}

/// What Cato has added to the command line of a system that runs.
fn copied(text: &str, span: &Range<usize>, problems: &mut Problems<'_>) {
    let mut keys = text
        .split_ascii_whitespace()
        .take_while(|word| *word != "--")
        .filter_map(|word| word.trim_start_matches('"').split('=').next());
    if let Some(key) = keys.find(|key| BOOT_WORDS.contains(key)) {
        let message = format!("`cmdline` contains {key}");
        let help = "remove it; was it copied from /proc/cmdline of a system that Cato has booted?";
        warn(
            span,
            message,
            "Cato names each boot itself, and leaves this out",
            help,
            problems,
        );
    }
}

/// What was pasted along with a name.
fn edges(key: &str, text: &str, span: &Range<usize>, problems: &mut Problems<'_>) {
    // Of a source, the name behind `LABEL=`.
    let name = match text.split_once('=') {
        Some((_, name)) if key == "source" => name,
        _ => text,
    };
    if key == "source" && name.len() > 1 && name.starts_with(['"', '\'']) && name.ends_with(['"', '\'']) {
        let message = "`source` names something in quotes".to_owned();
        let help = "remove the inner quotes: blkid prints them around each name";
        warn(span, message, "the quotes count as part of the name", help, problems);
    } else if name.starts_with(' ') || name.ends_with(' ') {
        let message = format!("`{key}` has a space at its start or end");
        let help = "remove it, unless the name really has it";
        warn(span, message, "the space counts as part of the name", help, problems);
    }
}

fn warn(span: &Range<usize>, message: String, label: &str, help: &str, problems: &mut Problems<'_>) {
    problems.push(Diagnostic {
        kind: DiagnosticKind::Doubtful,
        message,
        span: span.clone(),
        label: label.to_owned(),
        help: Some(help.to_owned()),
    });
}

fn lookalikes(key: &str, characters: &Characters, problems: &mut Problems<'_>) {
    for (place, c) in characters {
        if problems.is_past_warnings(place.start) {
            return;
        }
        let Some(found) = Lookalike::of(*c).filter(|_| key != "title" || is_invisible(*c)) else {
            continue;
        };
        let label = match found.meant {
            "" => "this should not be here".to_owned(),
            " " => "expected an ordinary space".to_owned(),
            meant => format!("expected `{meant}`"),
        };
        let help = match key {
            "cmdline" | "title" => PASTED_HELP,
            "source" => "type it again, unless the label on the disk has this character",
            _ => "type it again, unless the name of the file has this character",
        };
        let message = format!("`{key}` contains {}", named(*c));
        warn(place, message, &label, help, problems);
    }
}

/// The byte that the kernel's `isspace` takes for a space as it does 0x20: in Latin-1 it is the no-break space. It is a
/// part of some characters in UTF-8.
const NO_BREAK_SPACE: u8 = 0xa0;

fn has_no_break_space(c: char) -> bool {
    !c.is_ascii() && c.encode_utf8(&mut [0; 4]).bytes().any(|byte| byte == NO_BREAK_SPACE)
}

/// What the kernel makes of each word (`next_arg` in lib/cmdline.c): words end at a space outside of double quotes,
/// and what is in front of the first `=` is the name. After the word `--`, all is for init.
fn words(characters: &Characters, problems: &mut Problems<'_>) {
    let (mut in_quotes, mut in_name, mut for_init) = (false, true, false);
    let mut word = String::new();
    for (place, c) in characters {
        if problems.is_past_warnings(place.start) {
            return;
        }
        if *c == '"' {
            in_quotes = !in_quotes;
        }
        let is_known = Lookalike::of(*c).is_some();
        if has_no_break_space(*c) && !in_quotes && !is_known {
            let message = format!("{} splits a word of `cmdline`", named(*c));
            let help = "put the value between double quotes: name=\"value\"";
            warn(
                place,
                message,
                "the kernel takes its byte 0xA0 for a space",
                help,
                problems,
            );
        } else if !c.is_ascii() && in_name && !for_init && !is_known {
            let message = format!("{} in the name of a kernel parameter", named(*c));
            warn(place, message, "not an ASCII letter", "type the name again", problems);
        }
        if !in_quotes && (*c == ' ' || has_no_break_space(*c)) {
            for_init |= word == "--";
            word.clear();
            in_name = true;
            continue;
        }
        if *c == '\'' && !in_quotes && (word.is_empty() || word.ends_with('=')) && !for_init {
            let message = "`cmdline` has a single quote at the start of a value".to_owned();
            let label = "an ordinary character for the kernel";
            warn(
                place,
                message,
                label,
                "use double quotes to keep words together",
                problems,
            );
        }
        in_name &= *c != '=';
        word.push(*c);
    }
}

/// Every `"` opens or closes, wherever it is: there is no escape for it.
fn quotes(characters: &Characters, problems: &mut Problems<'_>) {
    let mut quotes = characters.iter().filter(|(_, c)| *c == '"');
    if let Some((place, _)) = quotes.next_back().filter(|_| quotes.count() % 2 == 0) {
        let fault = Fault::new(
            "`cmdline` has a `\"` that nothing closes",
            "the kernel takes all that follows for one word",
        );
        problems.bad(
            place.clone(),
            fault.help("add the other `\"`, or remove this one; the kernel knows no escape"),
        );
    }
}
