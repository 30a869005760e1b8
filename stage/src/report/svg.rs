//! The report as a picture: the whole chain as bars on one axis, and what is between the kernels once more, enlarged.
//!
//! One file without anything outside it, 1000 units wide, as high as it needs to be.

use std::fmt::Write as _;

use super::{Report, check, duration, entry, payload, total};
use crate::handover::decimal::Decimal;
use crate::handover::{Owner, Span, megabytes};

const WIDTH: f64 = 1000.0;
const MARGIN: f64 = 24.0;
/// The axis: from the end of the labels to the right margin.
const LEFT: f64 = 244.0;
const RIGHT: f64 = WIDTH - MARGIN;
const ROW: f64 = 23.0;
const BAR: f64 = 13.0;
/// The shortest phase is still this wide.
const LEAST: f64 = 2.5;

const INK: &str = "#1f2328";
const SOFT: &str = "#656d76";
const LINE: &str = "#e4e7eb";

/// The phases that are enlarged when they are a small part of the whole.
const CLOSE: [&str; 6] = ["leave", "hand-off", "between", "check", "exit", "early"];

fn colour(owner: Owner) -> &'static str {
    match owner {
        Owner::Firmware => "#9aa1a9",
        Owner::Service => "#4e79a7",
        Owner::Cato => "#f28e2b",
        Owner::Purgatory => "#d1373f",
        Owner::Main => "#4f9a52",
    }
}

/// The picture.
pub fn svg(report: &Report) -> String {
    let mut page = Page::default();
    let mut y = head(&mut page, report);
    let spans = &report.timeline.spans;
    if let (Some(first), Some(last)) = (spans.first(), spans.last()) {
        let whole = Axis::new(first.start_ms, last.end_ms);
        y = strip(&mut page, spans, &whole, y);
        let bottom = panel(&mut page, spans, &whole, y);
        let close: Vec<Span> = spans
            .iter()
            .filter(|s| CLOSE.contains(&s.name.as_str()))
            .cloned()
            .collect();
        let part = close
            .first()
            .zip(close.last())
            .map(|(a, b)| Axis::new(a.start_ms, b.end_ms));
        y = match part.filter(|part| close.len() > 1 && part.length() * 4.0 < whole.length()) {
            Some(part) => enlarged(&mut page, &close, &whole, &part, bottom),
            None => bottom,
        };
    }
    foot(&mut page, report, y)
}

/// Title, what was booted, and whose time it was; answers with where the rest begins.
fn head(page: &mut Page, report: &Report) -> f64 {
    let h = &report.handover;
    page.text(
        MARGIN,
        40.0,
        &Style::title(),
        &fit(&format!("Cato boots {}", entry(report)), 700.0, 20.0),
    );
    let whole = duration(report.timeline.total_ms());
    page.text(
        RIGHT,
        40.0,
        &Style {
            anchor: "end",
            ..Style::title()
        },
        &whole,
    );
    let soft = Style {
        fill: SOFT,
        ..Style::text()
    };
    let lines = [
        format!("{} · {} · {} · {}", report.arch, h.arena, payload(report), h.why),
        format!(
            "check {} · {} · {} copied by the service kernel",
            check(report),
            total(report),
            megabytes(h.copied)
        ),
    ];
    let mut y = 62.0;
    for line in lines {
        page.text(MARGIN, y, &soft, &fit(&line, RIGHT - MARGIN, soft.size));
        y += 17.0;
    }
    y += 12.0;
    let mut x = MARGIN;
    for owner in Owner::ALL {
        let took: Vec<f64> = report
            .timeline
            .spans
            .iter()
            .filter(|s| s.owner == owner)
            .map(Span::took_ms)
            .collect();
        if took.is_empty() {
            continue;
        }
        let text = format!("{}  {}", owner.name(), duration(took.iter().sum()));
        page.rect([x, y - 9.0, 11.0, 11.0], 2.0, colour(owner));
        page.text(x + 17.0, y, &Style::text(), &text);
        x += 17.0 + width(&text, Style::text().size) + 22.0;
    }
    y + 14.0
}

/// The whole chain as one bar.
fn strip(page: &mut Page, spans: &[Span], axis: &Axis, y: f64) -> f64 {
    let whole = Axis {
        left: MARGIN,
        right: RIGHT,
        ..*axis
    };
    // In one piece as far as it is one owner's: no seams.
    for part in spans.chunk_by(|a, b| a.owner == b.owner) {
        if let (Some(first), Some(last)) = (part.first(), part.last()) {
            let (from, to) = (whole.x(first.start_ms), whole.x(last.end_ms));
            page.rect([from, y, (to - from).max(1.0), 16.0], 0.0, colour(first.owner));
        }
    }
    y + 16.0 + 20.0
}

/// One row a span, with its axis above; answers with where it ends.
fn panel(page: &mut Page, spans: &[Span], axis: &Axis, top: f64) -> f64 {
    let rows: f64 = spans.iter().map(|_| ROW).sum();
    let first = top + 22.0;
    let small = Style {
        fill: SOFT,
        size: 10.5,
        anchor: "middle",
        ..Style::text()
    };
    for (ms, label) in axis.ticks() {
        let x = axis.x(ms);
        page.line([x, first - 4.0, x, first + rows], LINE);
        page.text(x, first - 9.0, &small, &label);
    }
    let mut y = first;
    let mut owner = None;
    for span in spans {
        if owner.is_some_and(|o| o != span.owner) {
            page.line([MARGIN, y, RIGHT, y], LINE);
        }
        owner = Some(span.owner);
        row(page, span, axis, y);
        y += ROW;
    }
    page.line([axis.left, first, axis.left, y], "#b6bcc4");
    y
}

fn row(page: &mut Page, span: &Span, axis: &Axis, y: f64) {
    let base = y + ROW / 2.0 + 4.0;
    let name = Style {
        anchor: "end",
        ..Style::text()
    };
    page.text(
        axis.left - 12.0,
        base,
        &name,
        &fit(&span.label, axis.left - 12.0 - MARGIN, name.size),
    );
    let from = axis.x(span.start_ms).min(axis.right - LEAST);
    let to = axis.x(span.end_ms).max(from + LEAST);
    page.rect([from, y + (ROW - BAR) / 2.0, to - from, BAR], 2.0, colour(span.owner));

    // Behind the bar, else before it, else in it; the note only where there is room for it.
    let took = duration(span.took_ms());
    let bold = Style {
        weight: "600",
        size: 11.0,
        ..Style::text()
    };
    let soft = Style {
        fill: SOFT,
        size: 10.5,
        ..Style::text()
    };
    let long = width(&took, bold.size) * 1.14;
    let note = |room: f64| fit(&span.note, room - long - 8.0, soft.size);
    let whole = long + 8.0 + width(&span.note, soft.size);
    let (behind, before) = (axis.right - to - 7.0, from - axis.left - 7.0);
    if behind >= long && (behind >= whole || behind >= before) {
        page.text(to + 6.0, base, &bold, &took);
        page.text(to + 6.0 + long + 8.0, base, &soft, &note(behind));
    } else if before >= long {
        let note = note(before);
        let end = Style { anchor: "end", ..bold };
        page.text(from - 6.0, base, &end, &took);
        page.text(from - 6.0 - long - 8.0, base, &Style { anchor: "end", ..soft }, &note);
    } else {
        page.text(
            from + 7.0,
            base,
            &Style {
                fill: "#ffffff",
                ..bold
            },
            &took,
        );
        page.text(
            from + 7.0 + long + 8.0,
            base,
            &Style {
                fill: "#ffffff",
                ..soft
            },
            &note(to - from - 14.0),
        );
    }
}

/// The enlarged part, under the place that it is in.
fn enlarged(page: &mut Page, spans: &[Span], whole: &Axis, part: &Axis, top: f64) -> f64 {
    let head = top + 44.0;
    let (a, b) = (whole.x(part.from), whole.x(part.to).max(whole.x(part.from) + LEAST));
    let corner = |letter: char, x: f64, y: f64| format!("{letter}{} {}", one(x), one(y));
    page.path(
        &[
            corner('M', a, top),
            corner('L', b, top),
            corner('L', RIGHT, head),
            corner('L', LEFT, head),
        ]
        .concat(),
    );
    let rows: f64 = spans.iter().map(|_| ROW).sum();
    page.rect([LEFT, head, RIGHT - LEFT, rows + 30.0], 0.0, "#faf3f3");
    let title = Style {
        weight: "600",
        ..Style::text()
    };
    page.text(MARGIN, head + 17.0, &title, "between the kernels");
    panel(page, spans, part, head + 4.0) + 4.0
}

/// What is not known, and who drew this.
fn foot(page: &mut Page, report: &Report, top: f64) -> String {
    let mut y = top + 26.0;
    let soft = Style {
        fill: SOFT,
        size: 10.5,
        ..Style::text()
    };
    for missing in &report.timeline.missing {
        page.text(
            MARGIN,
            y,
            &soft,
            &fit(&format!("not known: {missing}"), RIGHT - MARGIN, soft.size),
        );
        y += 15.0;
    }
    let version = format!("cato {}", report.handover.cato);
    page.text(
        RIGHT,
        y,
        &Style { anchor: "end", ..soft },
        &fit(&version, 200.0, soft.size),
    );
    let (width, height) = (Decimal(WIDTH, 0), Decimal(y + 16.0, 0));
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" \
         font-family=\"'DejaVu Sans','Noto Sans','Helvetica Neue',Arial,sans-serif\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n{}</svg>\n",
        page.out
    )
}

fn one(value: f64) -> Decimal {
    Decimal(value, 1)
}

/// Milliseconds across the page.
#[derive(Debug, Clone, Copy)]
struct Axis {
    from: f64,
    to: f64,
    left: f64,
    right: f64,
}

impl Axis {
    fn new(from: f64, to: f64) -> Self {
        Self {
            from,
            to,
            left: LEFT,
            right: RIGHT,
        }
    }

    fn length(&self) -> f64 {
        (self.to - self.from).max(0.001)
    }

    fn x(&self, ms: f64) -> f64 {
        self.left + (ms - self.from) / self.length() * (self.right - self.left)
    }

    /// At most nine, at round numbers counted from the start.
    fn ticks(&self) -> Vec<(f64, String)> {
        let decades = (-4..12).map(|power| 10f64.powi(power));
        let step = decades
            .flat_map(|ten| [ten, 2.0 * ten, 5.0 * ten])
            .find(|step| self.length() / step <= 8.5)
            .unwrap_or(self.length());
        let in_seconds = self.length() >= 2000.0;
        (0..9)
            .map(|n| f64::from(n) * step)
            .take_while(|ms| *ms <= self.length() * 1.0001)
            .map(|ms| {
                let label = match ms {
                    ms if in_seconds && step >= 1000.0 => format!("{} s", Decimal(ms / 1000.0, 0)),
                    ms if in_seconds => format!("{} s", Decimal(ms / 1000.0, 1)),
                    ms if step >= 1.0 => format!("{} ms", Decimal(ms, 0)),
                    ms => format!("{} ms", Decimal(ms, 3)),
                };
                (self.from + ms, label)
            })
            .collect()
    }
}

/// How text looks.
#[derive(Debug, Clone, Copy)]
struct Style {
    size: f64,
    fill: &'static str,
    weight: &'static str,
    anchor: &'static str,
}

impl Style {
    fn text() -> Self {
        Self {
            size: 12.0,
            fill: INK,
            weight: "400",
            anchor: "start",
        }
    }

    fn title() -> Self {
        Self {
            size: 20.0,
            weight: "600",
            ..Self::text()
        }
    }
}

/// About how wide a text is: nobody knows which font it will be.
fn width(text: &str, size: f64) -> f64 {
    text.chars()
        .map(|c| if c.is_ascii_uppercase() { 0.68 } else { 0.59 })
        .sum::<f64>()
        * size
}

/// As much of a text as there is room for.
fn fit(text: &str, room: f64, size: f64) -> String {
    if width(text, size) <= room {
        return text.to_owned();
    }
    let mut out = String::new();
    for c in text.chars() {
        out.push(c);
        if width(&out, size) + size > room {
            out.pop();
            break;
        }
    }
    if out.chars().count() < 3 {
        String::new()
    } else {
        out + "…"
    }
}

/// What is drawn so far. A String takes every write.
#[derive(Debug, Default)]
struct Page {
    out: String,
}

impl Page {
    fn text(&mut self, x: f64, y: f64, style: &Style, text: &str) {
        if text.is_empty() {
            return;
        }
        let Style {
            fill, weight, anchor, ..
        } = style;
        let (x, y, size) = (one(x), one(y), one(style.size));
        let _ = writeln!(
            self.out,
            "<text x=\"{x}\" y=\"{y}\" font-size=\"{size}\" font-weight=\"{weight}\" text-anchor=\"{anchor}\" \
             fill=\"{fill}\">{}</text>",
            escape(text)
        );
    }

    fn rect(&mut self, [x, y, w, h]: [f64; 4], round: f64, fill: &str) {
        let (x, y, w, h, round) = (one(x), one(y), one(w), one(h), one(round));
        let _ = writeln!(
            self.out,
            "<rect x=\"{x}\" y=\"{y}\" width=\"{w}\" height=\"{h}\" rx=\"{round}\" fill=\"{fill}\"/>"
        );
    }

    fn line(&mut self, [x1, y1, x2, y2]: [f64; 4], stroke: &str) {
        let (x1, y1, x2, y2) = (one(x1), one(y1), one(x2), one(y2));
        let _ = writeln!(
            self.out,
            "<line x1=\"{x1}\" y1=\"{y1}\" x2=\"{x2}\" y2=\"{y2}\" stroke=\"{stroke}\"/>"
        );
    }

    fn path(&mut self, d: &str) {
        let _ = writeln!(self.out, "<path d=\"{d}\" fill=\"#f4e3e3\"/>");
    }
}

/// XML has names for five characters, and no place for the controls.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&apos;"),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_few() {
        for (length, first, last, count) in [
            (4165.0, "0.0 s", "4.0 s", 9),
            (10_000.0, "0 s", "10 s", 6),
            (145.0, "0 ms", "140 ms", 8),
            (1.0, "0.000 ms", "1.000 ms", 6),
            (0.0, "0.000 ms", "0.001 ms", 0),
        ] {
            let ticks = Axis::new(5.0, 5.0 + length).ticks();
            assert_eq!(ticks[0].1, first);
            if count > 0 {
                assert_eq!(
                    (ticks.len(), ticks[ticks.len() - 1].1.as_str()),
                    (count, last),
                    "{length}"
                );
            }
            assert!(ticks.len() <= 9);
        }
    }

    #[test]
    fn a_text_is_cut_where_the_room_ends() {
        assert_eq!(fit("short", 100.0, 12.0), "short");
        let cut = fit(&"long ".repeat(50), 100.0, 12.0);
        assert!(cut.ends_with('…') && width(&cut, 12.0) <= 112.0, "{cut}");
        assert_eq!(fit("anything", 5.0, 12.0), "");
    }

    #[test]
    fn texts_cannot_break_out() {
        assert_eq!(escape("<a b='\"'>&\u{7}\n"), "&lt;a b=&apos;&quot;&apos;&gt;&amp;  ");
    }
}
