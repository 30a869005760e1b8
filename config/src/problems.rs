//! The problems found so far.
//!
//! Given one at a time; responsible for the list of them: in the order of the text, without repetitions, of bounded
//! length, and without what only follows from a syntax error. Whoever looks for problems asks whether those at a place
//! are still listed, so that a long file costs no more than a short one.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::rc::Rc;

use crate::keys::{TableKind, nearest};
use crate::lines::Lines;
use crate::value::Fault;
use crate::{Diagnostic, DiagnosticKind};

/// More than this are not listed: nobody reads them, and a console is slow.
pub(crate) const MAX_LISTED: usize = 100;

/// What to say in a help that is not cheap: it is thought of when the list is complete.
#[derive(Debug)]
pub(crate) enum Advice {
    /// For a key that its table does not have.
    Key(TableKind, String),
    /// For a name in `order` that no entry has.
    Entry { name: String, defined: Rc<[String]> },
}

impl Advice {
    fn text(&self) -> String {
        match self {
            Self::Key(table, key) => table.advice(key),
            Self::Entry { name, defined } => {
                let meant = nearest(name, defined.iter().map(String::as_str));
                let meant = meant.map(|meant| format!("did you mean `{meant}`?"));
                meant.unwrap_or_else(|| {
                    let name: String = name.chars().take(40).collect();
                    format!("define it: [entry.{}]", name.escape_debug())
                })
            }
        }
    }
}

/// Problems by place, kind and message; one more than is listed, which says that there are more.
#[derive(Debug, Default)]
struct Listed(BTreeMap<(usize, DiagnosticKind, String), (Diagnostic, Option<Advice>)>);

impl Listed {
    /// Whether the list is full with problems in front of `at`.
    fn is_past(&self, at: usize) -> bool {
        let last = self.0.last_key_value().filter(|_| self.0.len() > MAX_LISTED);
        last.is_some_and(|((last, ..), _)| *last < at)
    }

    fn push(&mut self, diagnostic: Diagnostic, advice: Option<Advice>) {
        if self.is_past(diagnostic.span.start) {
            return;
        }
        let key = (diagnostic.span.start, diagnostic.kind, diagnostic.message.clone());
        self.0.entry(key).or_insert((diagnostic, advice));
        if self.0.len() > MAX_LISTED.saturating_add(1) {
            self.0.pop_last();
        }
    }
}

/// The problems found so far.
#[derive(Debug)]
pub(crate) struct Problems<'t> {
    lines: &'t Lines<'t>,
    /// The lines that have a syntax error.
    broken: BTreeSet<usize>,
    /// What is read now is the text from `.1` on, behind `.0` bytes of a header that is repeated there.
    piece: (usize, usize),
    /// Where the text is read no further.
    stop: usize,
    errors: Listed,
    warnings: Listed,
}

impl<'t> Problems<'t> {
    pub(crate) fn new(lines: &'t Lines<'t>) -> Self {
        Self {
            lines,
            broken: BTreeSet::new(),
            piece: (0, 0),
            stop: lines.text().len(),
            errors: Listed::default(),
            warnings: Listed::default(),
        }
    }

    pub(crate) fn lines(&self) -> &'t Lines<'t> {
        self.lines
    }

    /// The text is read no further than to `at`: there are too many errors.
    pub(crate) fn stop_at(&mut self, at: usize) {
        self.stop = at;
    }

    /// From now on, places count in the text from `start` on, behind `header` bytes of a repeated header.
    pub(crate) fn enter(&mut self, header: usize, start: usize) {
        self.piece = (header, start);
    }

    /// A place in the whole text; `None` for one in the repeated header.
    pub(crate) fn in_text(&self, span: &Range<usize>) -> Option<Range<usize>> {
        let (header, start) = self.piece;
        let moved = |at: usize| start.saturating_add(at.saturating_sub(header));
        (span.start >= header).then(|| moved(span.start)..moved(span.end))
    }

    /// Whether a problem at `at` would not be listed any more.
    pub(crate) fn is_past(&self, at: usize) -> bool {
        self.in_text(&(at..at))
            .is_some_and(|span| self.errors.is_past(span.start))
    }

    /// Whether a warning about `at` would not be listed any more.
    pub(crate) fn is_past_warnings(&self, at: usize) -> bool {
        self.in_text(&(at..at))
            .is_some_and(|span| self.warnings.is_past(span.start))
    }

    /// Something that is no TOML, or not even text.
    pub(crate) fn syntax(&mut self, diagnostic: Diagnostic) {
        let Some(span) = self.in_text(&diagnostic.span) else {
            return;
        };
        if diagnostic.kind == DiagnosticKind::Syntax {
            self.broken.insert(self.lines.index(span.start));
        }
        self.errors.push(Diagnostic { span, ..diagnostic }, None);
    }

    pub(crate) fn push(&mut self, diagnostic: Diagnostic) {
        self.push_with(diagnostic, None);
    }

    /// A problem of what the TOML means. Where the text is not TOML, the tree has holes and stand-ins: nothing then
    /// counts as missing, and nothing is said about a line that has a syntax error.
    pub(crate) fn push_with(&mut self, diagnostic: Diagnostic, advice: Option<Advice>) {
        let Some(span) = self.in_text(&diagnostic.span) else {
            return;
        };
        if !self.broken.is_empty() {
            let lines = self.lines.index(span.start)..=self.lines.index(span.end);
            let missing = diagnostic.kind == DiagnosticKind::MissingKey || span.is_empty();
            if missing || self.broken.range(lines).next().is_some() {
                return;
            }
        }
        let list = if diagnostic.is_warning() {
            &mut self.warnings
        } else {
            &mut self.errors
        };
        list.push(Diagnostic { span, ..diagnostic }, advice);
    }

    /// A value that can't be used.
    pub(crate) fn bad(&mut self, span: Range<usize>, fault: Fault) {
        let Fault { message, label, help } = fault;
        self.push(Diagnostic {
            kind: DiagnosticKind::BadValue,
            message,
            span,
            label,
            help,
        });
    }

    /// What a check of a single value says, at the place of that value.
    pub(crate) fn check<T>(&mut self, span: Range<usize>, result: Result<T, Fault>) -> Option<T> {
        result.map_err(|fault| self.bad(span, fault)).ok()
    }

    /// `value`, if there is no error, and all problems in the order of the text.
    pub(crate) fn finish<T>(self, value: Option<T>) -> (Option<T>, Vec<Diagnostic>) {
        let value = value.filter(|_| self.errors.0.is_empty());
        let mut all = Vec::new();
        for (what, kind, Listed(list)) in [
            ("errors", DiagnosticKind::TooMany, self.errors),
            ("warnings", DiagnosticKind::Doubtful, self.warnings),
        ] {
            let next = list.last_key_value().filter(|_| list.len() > MAX_LISTED);
            let ends = match next {
                Some(((at, ..), _)) => Some((*at, "there are more from here on")),
                None if kind == DiagnosticKind::TooMany && self.stop < self.lines.text().len() => {
                    Some((self.stop, "nothing is read from here on"))
                }
                None => None,
            };
            all.extend(ends.map(|(at, label)| Diagnostic {
                kind,
                message: format!("only the first {} {what} are listed", list.len().min(MAX_LISTED)),
                span: at..at,
                label: label.to_owned(),
                help: None,
            }));
            all.extend(list.into_values().take(MAX_LISTED).map(|(diagnostic, advice)| {
                let advised = advice.map(|advice| advice.text());
                Diagnostic {
                    help: advised.or(diagnostic.help),
                    ..diagnostic
                }
            }));
        }
        all.sort_by_key(|diagnostic| (diagnostic.span.start, diagnostic.kind));
        (value, all)
    }
}
