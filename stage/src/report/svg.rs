//! The report as a picture: the whole chain as bars on one axis, and what is between the kernels once more, enlarged.
//!
//! One file without anything outside it, 1000 units wide, as high as it needs to be. Lengths are tenths of a unit.
#![expect(
    clippy::arithmetic_side_effects,
    reason = "a timeline's times have a bound, and a page is small"
)]

use std::fmt::Write as _;

use super::{Report, check, duration, entry, payload, total};
use crate::handover::{Owner, Span, megabytes, milliseconds};

const WIDTH: i64 = 10000;
const MARGIN: i64 = 240;
/// The axis: from the end of the labels to the right margin.
const LEFT: i64 = 2440;
const RIGHT: i64 = WIDTH - MARGIN;
const ROW: i64 = 230;
const BAR: i64 = 130;
/// The shortest phase is still this wide.
const LEAST: i64 = 25;

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
pub(crate) fn svg(report: &Report) -> String {
    let mut page = Page::default();
    let mut y = head(&mut page, report);
    let spans = &report.timeline.spans;
    if let (Some(first), Some(last)) = (spans.first(), spans.last()) {
        let whole = Axis::new(first.start_us, last.end_us);
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
            .map(|(a, b)| Axis::new(a.start_us, b.end_us));
        y = match part.filter(|part| close.len() > 1 && part.length() * 4 < whole.length()) {
            Some(part) => enlarged(&mut page, &close, &whole, &part, bottom),
            None => bottom,
        };
    }
    foot(&mut page, report, y)
}

/// Title, what was booted, and whose time it was; answers with where the rest begins.
fn head(page: &mut Page, report: &Report) -> i64 {
    let h = &report.handover;
    page.text(
        MARGIN,
        400,
        &Style::title(),
        &fit(&format!("Cato boots {}", entry(report)), 7000, 200),
    );
    let whole = duration(report.timeline.total_us());
    page.text(
        RIGHT,
        400,
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
    let mut y = 620;
    for line in lines {
        page.text(MARGIN, y, &soft, &fit(&line, RIGHT - MARGIN, soft.size));
        y += 170;
    }
    y += 120;
    let mut x = MARGIN;
    for owner in Owner::ALL {
        let took: Vec<i64> = report
            .timeline
            .spans
            .iter()
            .filter(|s| s.owner == owner)
            .map(Span::took_us)
            .collect();
        if took.is_empty() {
            continue;
        }
        let text = format!("{}  {}", owner.name(), duration(took.iter().sum()));
        page.rect([x, y - 90, 110, 110], 20, colour(owner));
        page.text(x + 170, y, &Style::text(), &text);
        x += 170 + width(&text, Style::text().size) + 220;
    }
    y + 140
}

/// The whole chain as one bar.
fn strip(page: &mut Page, spans: &[Span], axis: &Axis, y: i64) -> i64 {
    let whole = Axis {
        left: MARGIN,
        right: RIGHT,
        ..*axis
    };
    // In one piece as far as it is one owner's: no seams.
    for part in spans.chunk_by(|a, b| a.owner == b.owner) {
        if let (Some(first), Some(last)) = (part.first(), part.last()) {
            let (from, to) = (whole.x(first.start_us), whole.x(last.end_us));
            page.rect([from, y, (to - from).max(10), 160], 0, colour(first.owner));
        }
    }
    y + 160 + 200
}

/// One row a span, with its axis above; answers with where it ends.
fn panel(page: &mut Page, spans: &[Span], axis: &Axis, top: i64) -> i64 {
    let rows: i64 = spans.iter().map(|_| ROW).sum();
    let first = top + 220;
    let small = Style {
        fill: SOFT,
        size: 105,
        anchor: "middle",
        ..Style::text()
    };
    for (us, label) in axis.ticks() {
        let x = axis.x(us);
        page.line([x, first - 40, x, first + rows], LINE);
        page.text(x, first - 90, &small, &label);
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

fn row(page: &mut Page, span: &Span, axis: &Axis, y: i64) {
    let base = y + ROW / 2 + 40;
    let name = Style {
        anchor: "end",
        ..Style::text()
    };
    page.text(
        axis.left - 120,
        base,
        &name,
        &fit(&span.label, axis.left - 120 - MARGIN, name.size),
    );
    let from = axis.x(span.start_us).min(axis.right - LEAST);
    let to = axis.x(span.end_us).max(from + LEAST);
    page.rect([from, y + (ROW - BAR) / 2, to - from, BAR], 20, colour(span.owner));

    // Behind the bar, else before it, else in it; the note only where there is room for it.
    let took = duration(span.took_us());
    let bold = Style {
        weight: "600",
        size: 110,
        ..Style::text()
    };
    let soft = Style {
        fill: SOFT,
        size: 105,
        ..Style::text()
    };
    let long = width(&took, bold.size) * 114 / 100;
    let note = |room: i64| fit(&span.note, room - long - 80, soft.size);
    let whole = long + 80 + width(&span.note, soft.size);
    let (behind, before) = (axis.right - to - 70, from - axis.left - 70);
    if behind >= long && (behind >= whole || behind >= before) {
        page.text(to + 60, base, &bold, &took);
        page.text(to + 60 + long + 80, base, &soft, &note(behind));
    } else if before >= long {
        let note = note(before);
        let end = Style { anchor: "end", ..bold };
        page.text(from - 60, base, &end, &took);
        page.text(from - 60 - long - 80, base, &Style { anchor: "end", ..soft }, &note);
    } else {
        page.text(
            from + 70,
            base,
            &Style {
                fill: "#ffffff",
                ..bold
            },
            &took,
        );
        page.text(
            from + 70 + long + 80,
            base,
            &Style {
                fill: "#ffffff",
                ..soft
            },
            &note(to - from - 140),
        );
    }
}

/// The enlarged part, under the place that it is in.
fn enlarged(page: &mut Page, spans: &[Span], whole: &Axis, part: &Axis, top: i64) -> i64 {
    let head = top + 440;
    let (a, b) = (whole.x(part.from), whole.x(part.to).max(whole.x(part.from) + LEAST));
    let corner = |letter: char, x: i64, y: i64| format!("{letter}{} {}", one(x), one(y));
    page.path(
        &[
            corner('M', a, top),
            corner('L', b, top),
            corner('L', RIGHT, head),
            corner('L', LEFT, head),
        ]
        .concat(),
    );
    let rows: i64 = spans.iter().map(|_| ROW).sum();
    page.rect([LEFT, head, RIGHT - LEFT, rows + 300], 0, "#faf3f3");
    let title = Style {
        weight: "600",
        ..Style::text()
    };
    page.text(MARGIN, head + 170, &title, "between the kernels");
    panel(page, spans, part, head + 40) + 40
}

/// What is not known, and who drew this.
fn foot(page: &mut Page, report: &Report, top: i64) -> String {
    let mut y = top + 260;
    let soft = Style {
        fill: SOFT,
        size: 105,
        ..Style::text()
    };
    for missing in &report.timeline.missing {
        page.text(
            MARGIN,
            y,
            &soft,
            &fit(&format!("not known: {missing}"), RIGHT - MARGIN, soft.size),
        );
        y += 150;
    }
    let version = format!("cato {}", report.handover.cato);
    page.text(
        RIGHT,
        y,
        &Style { anchor: "end", ..soft },
        &fit(&version, 2000, soft.size),
    );
    let (width, height) = (WIDTH / 10, y / 10 + 16);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" \
         font-family=\"'DejaVu Sans','Noto Sans','Helvetica Neue',Arial,sans-serif\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n{}</svg>\n",
        page.out
    )
}

/// Tenths of a unit with their point.
fn one(tenths: i64) -> String {
    let sign = if tenths < 0 { "-" } else { "" };
    format!("{sign}{}.{}", tenths.abs() / 10, tenths.abs() % 10)
}

/// Microseconds across the page.
#[derive(Debug, Clone, Copy)]
struct Axis {
    from: i64,
    to: i64,
    left: i64,
    right: i64,
}

impl Axis {
    fn new(from: i64, to: i64) -> Self {
        Self {
            from,
            to,
            left: LEFT,
            right: RIGHT,
        }
    }

    fn length(&self) -> i64 {
        (self.to - self.from).max(1)
    }

    fn x(&self, us: i64) -> i64 {
        self.left + (us - self.from) * (self.right - self.left) / self.length()
    }

    /// At most nine, at round numbers counted from the start.
    fn ticks(&self) -> Vec<(i64, String)> {
        let decades = (0..15).map(|power| 10_i64.pow(power));
        let step = decades
            .flat_map(|ten| [ten, 2 * ten, 5 * ten])
            .find(|step| self.length() * 2 <= step * 17)
            .unwrap_or(self.length());
        let in_seconds = self.length() >= 2_000_000;
        (0..9)
            .map(|n| n * step)
            .take_while(|us| *us <= self.length())
            .map(|us| {
                let label = match us {
                    us if in_seconds && step >= 1_000_000 => format!("{} s", us / 1_000_000),
                    us if in_seconds => format!("{}.{} s", us / 1_000_000, us / 100_000 % 10),
                    us if step >= 1000 => format!("{} ms", us / 1000),
                    us => format!("{} ms", milliseconds(us)),
                };
                (self.from + us, label)
            })
            .collect()
    }
}

/// How text looks.
#[derive(Debug, Clone, Copy)]
struct Style {
    size: i64,
    fill: &'static str,
    weight: &'static str,
    anchor: &'static str,
}

impl Style {
    fn text() -> Self {
        Self {
            size: 120,
            fill: INK,
            weight: "400",
            anchor: "start",
        }
    }

    fn title() -> Self {
        Self {
            size: 200,
            weight: "600",
            ..Self::text()
        }
    }
}

/// About how wide a text is: nobody knows which font it will be.
fn width(text: &str, size: i64) -> i64 {
    text.chars()
        .map(|c| if c.is_ascii_uppercase() { 68 } else { 59 })
        .sum::<i64>()
        * size
        / 100
}

/// As much of a text as there is room for.
fn fit(text: &str, room: i64, size: i64) -> String {
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
    fn text(&mut self, x: i64, y: i64, style: &Style, text: &str) {
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

    fn rect(&mut self, [x, y, w, h]: [i64; 4], round: i64, fill: &str) {
        let (x, y, w, h, round) = (one(x), one(y), one(w), one(h), one(round));
        let _ = writeln!(
            self.out,
            "<rect x=\"{x}\" y=\"{y}\" width=\"{w}\" height=\"{h}\" rx=\"{round}\" fill=\"{fill}\"/>"
        );
    }

    fn line(&mut self, [x1, y1, x2, y2]: [i64; 4], stroke: &str) {
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
            (4_165_000, "0.0 s", "4.0 s", 9),
            (10_000_000, "0 s", "10 s", 6),
            (145_000, "0 ms", "140 ms", 8),
            (1000, "0.000 ms", "1.000 ms", 6),
            (0, "0.000 ms", "0.001 ms", 0),
        ] {
            let ticks = Axis::new(5000, 5000 + length).ticks();
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
        assert_eq!(fit("short", 1000, 120), "short");
        let cut = fit(&"long ".repeat(50), 1000, 120);
        assert!(cut.ends_with('…') && width(&cut, 120) <= 1120, "{cut}");
        assert_eq!(fit("anything", 50, 120), "");
    }

    #[test]
    fn texts_cannot_break_out() {
        assert_eq!(escape("<a b='\"'>&\u{7}\n"), "&lt;a b=&apos;&quot;&apos;&gt;&amp;  ");
    }
}
