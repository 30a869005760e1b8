//! A first look at a text, before a tree is made of it: how far it is worth reading, and what is defined where.
//!
//! Given a text; responsible for what the TOML parser does not say: it has no place for a key of too many parts, does
//! not read on behind such a key or one without a value, and does not tell what a duplicate is a duplicate of.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::ops::Range;

use toml_parser::parser::{Event, EventKind, RecursionGuard, ValidateWhitespace, parse_document};
use toml_parser::{ParseError, Source};

use crate::problems::MAX_LISTED;

/// How deep the TOML parser goes into keys and values.
const MAX_DEPTH: u32 = 80;

/// What a first look finds.
#[derive(Debug)]
pub(crate) struct Survey<'t> {
    text: &'t str,
    /// How much of the text is worth reading: behind it there are only problems that are not listed.
    pub(crate) readable: usize,
    /// Where a key without a value ends.
    pub(crate) no_value: Vec<Range<usize>>,
    events: Vec<Event>,
    definitions: OnceCell<Definitions>,
}

/// Where a key or a table got its meaning.
#[derive(Debug, Clone)]
pub(crate) struct Definition {
    /// All parts of the key, or the header with its brackets.
    pub(crate) written: Range<usize>,
    /// Whether it is a header.
    pub(crate) is_header: bool,
}

impl<'t> Survey<'t> {
    /// Most texts are read at once; a long one that is full of errors is not read to its end.
    pub(crate) fn new(text: &'t str) -> Self {
        let start = text.get(..text.floor_char_boundary(FIRST_LOOK)).unwrap_or(text);
        let survey = Self::of(start);
        if start.len() == text.len() || survey.readable < start.len() {
            return survey;
        }
        Self::of(text)
    }

    fn of(text: &'t str) -> Self {
        let source = Source::new(text);
        let tokens = source.lex().into_vec();
        let mut events = Vec::with_capacity(tokens.len());
        let mut errors = Vec::new();
        let mut no_value = Vec::new();
        let mut sink = |error: ParseError| {
            let span = error
                .unexpected()
                .map_or(text.len()..text.len(), |span| span.start()..span.end());
            errors.push(span.start);
            if error.description() == "key with no value" && no_value.len() < MAX_ERRORS {
                no_value.push(span);
            }
        };
        let mut kept = |event: Event| {
            if event.kind() != EventKind::Whitespace {
                events.push(event);
            }
        };
        let mut valid = ValidateWhitespace::new(&mut kept, source);
        parse_document(&tokens, &mut RecursionGuard::new(&mut valid, MAX_DEPTH), &mut sink);
        for (event, raw) in events.iter().filter_map(|event| Some((event, source.get(event)?))) {
            match event.kind() {
                EventKind::SimpleKey => raw.decode_key(&mut (), &mut sink),
                EventKind::Scalar => {
                    let _ = raw.decode_scalar(&mut (), &mut sink);
                }
                _ => {}
            }
        }
        let readable = if errors.len() > MAX_ERRORS {
            let (_, last, _) = errors.select_nth_unstable(MAX_ERRORS);
            text.floor_char_boundary(*last)
        } else {
            text.len()
        };
        no_value.retain(|span| span.end <= readable);
        events.retain(|event| event.span().end() <= readable);
        Self {
            text,
            readable,
            no_value,
            events,
            definitions: OnceCell::new(),
        }
    }

    /// Keys of so many parts that the TOML parser gives up.
    pub(crate) fn deep_keys(&self) -> Vec<Range<usize>> {
        let mut found = Vec::new();
        let limit = usize::try_from(MAX_DEPTH).unwrap_or(usize::MAX);
        let mut key = (0..0, 0_usize);
        let mut joined = false;
        for event in &self.events {
            match event.kind() {
                EventKind::KeySep => joined = true,
                EventKind::SimpleKey => {
                    let end = event.span().end();
                    key = if std::mem::take(&mut joined) {
                        (key.0.start..end, key.1.saturating_add(1))
                    } else {
                        (event.span().start()..end, 1)
                    };
                    if key.1 > limit {
                        match found.last_mut() {
                            Some(Range { start, end: last }) if *start == key.0.start => *last = end,
                            _ => found.push(key.0.clone()),
                        }
                    }
                }
                _ => joined = false,
            }
        }
        found
    }

    /// What the part of a key at `at` repeats: the first place of it, or of a table that it would be added to, and what
    /// is written there.
    pub(crate) fn before(&self, at: usize) -> Option<(&Definition, &'t str)> {
        let first = self.definitions.get_or_init(|| self.define()).before(at)?;
        Some((first, self.text.get(first.written.clone())?))
    }

    fn define(&self) -> Definitions {
        let mut all = Definitions::default();
        let mut names: HashMap<(usize, &str), usize> = HashMap::new();
        // The table that keys belong to: the last header's, or an inline table's; none for what is in an array.
        let mut header = ROOT;
        let mut inside: Vec<Option<usize>> = Vec::new();
        let mut opened: Option<usize> = None;
        let mut path: Vec<usize> = Vec::new();
        let mut key = 0..0;
        let mut joined = false;
        for event in &self.events {
            let span = event.span().start()..event.span().end();
            match event.kind() {
                EventKind::StdTableOpen | EventKind::ArrayTableOpen => {
                    inside.clear();
                    opened = Some(span.start);
                    path.clear();
                }
                EventKind::StdTableClose | EventKind::ArrayTableClose => {
                    let start = opened.take().unwrap_or(span.start);
                    header = path.last().copied().unwrap_or(ROOT);
                    if event.kind() == EventKind::StdTableClose {
                        all.define(header, start..span.end, true);
                    }
                }
                EventKind::KeySep => joined = true,
                EventKind::SimpleKey => {
                    if !std::mem::take(&mut joined) {
                        path.clear();
                        key = span.clone();
                    }
                    key.end = span.end;
                    let base = match (opened, inside.last()) {
                        (Some(_), _) => Some(ROOT),
                        (None, Some(table)) => *table,
                        (None, None) => Some(header),
                    };
                    let Some(parent) = path.last().copied().or(base) else {
                        continue;
                    };
                    let name = self.text.get(span.clone()).unwrap_or_default();
                    let name = name.trim_matches(if name.starts_with('\'') { '\'' } else { '"' });
                    let node = *names.entry((parent, name)).or_insert_with(|| all.add(parent));
                    all.at.push((span.start, node));
                    path.push(node);
                }
                EventKind::KeyValSep => {
                    for node in &path {
                        all.define(*node, key.clone(), false);
                    }
                }
                EventKind::InlineTableOpen => inside.push(path.last().copied()),
                EventKind::ArrayOpen => {
                    inside.push(None);
                    path.clear();
                }
                EventKind::InlineTableClose | EventKind::ArrayClose => {
                    inside.pop();
                }
                _ => {}
            }
        }
        all
    }
}

/// What is behind more errors than this is not read: several may be about one mistake, the others are not listed.
pub(crate) const MAX_ERRORS: usize = 2 * MAX_LISTED;

/// How much of a text is looked at first.
const FIRST_LOOK: usize = 16 * 1024;

/// The file itself.
const ROOT: usize = 0;

/// Every key and table of a text, with the place that defines it.
#[derive(Debug, Default)]
struct Definitions {
    /// For each node but the root, at one less than its number: what it is a part of, and the first place.
    nodes: Vec<(usize, Option<Definition>)>,
    /// The node that a part of a key stands for, behind where that part starts: in the order of the text.
    at: Vec<(usize, usize)>,
}

impl Definitions {
    fn add(&mut self, parent: usize) -> usize {
        self.nodes.push((parent, None));
        self.nodes.len()
    }

    fn define(&mut self, node: usize, written: Range<usize>, is_header: bool) {
        if let Some((_, first @ None)) = node.checked_sub(1).and_then(|at| self.nodes.get_mut(at)) {
            *first = Some(Definition { written, is_header });
        }
    }

    fn before(&self, at: usize) -> Option<&Definition> {
        let index = self.at.binary_search_by_key(&at, |(start, _)| *start).ok()?;
        let mut node = self.at.get(index)?.1;
        while let Some((parent, first)) = node.checked_sub(1).and_then(|index| self.nodes.get(index)) {
            match first {
                Some(first) if !first.written.contains(&at) => return (first.written.start < at).then_some(first),
                _ => node = *parent,
            }
        }
        None
    }
}
