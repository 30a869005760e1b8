//! The ratios that matter. Pure.

use super::contender::Contender::{
    self, CatoFast, CatoOff, CatoSha256, KexecTools, KexecToolsNoChecksDefault, KexecToolsNoChecksPlaced,
};
use super::figures::{Figures, ratio};

/// What is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// Dead time.
    Dead,
    /// Load time.
    Load,
    /// Load time, and what the payload's memory took before it: kexec-tools takes its memory while it loads.
    ReserveAndLoad,
    /// Both, one run's added.
    LoadAndDead,
    /// All three: how long a user waits.
    ReserveLoadAndDead,
}

impl What {
    fn of(self, figures: &Figures) -> f64 {
        match self {
            Self::Dead => figures.dead.median,
            Self::Load => figures.load.median,
            Self::ReserveAndLoad => figures.reserve.median + figures.load.median,
            Self::LoadAndDead => figures.load_and_dead.median,
            Self::ReserveLoadAndDead => figures.reserve.median + figures.load_and_dead.median,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Dead => "dead",
            Self::Load => "load",
            Self::ReserveAndLoad => "reserve + load",
            Self::LoadAndDead => "load + dead",
            Self::ReserveLoadAndDead => "reserve + load + dead",
        }
    }
}

/// A ratio of two contenders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// Of what.
    pub what: What,
    /// Ours.
    pub ours: Contender,
    /// Theirs; of several the one that is faster in this.
    pub theirs: &'static [Contender],
}

const CHECKED: &[Contender] = &[KexecTools];
/// kexec-tools without its check: no placement is the fastest in everything.
pub const UNCHECKED: &[Contender] = &[KexecToolsNoChecksPlaced, KexecToolsNoChecksDefault];

/// The rows, like for like first. kexec-tools without its check is taken where it is faster, row by row: the placement
/// that is loaded quickest is not the one with the least dead time.
pub const ROWS: [Row; 9] = {
    const fn row(what: What, ours: Contender, theirs: &'static [Contender]) -> Row {
        Row { what, ours, theirs }
    }
    [
        row(What::Dead, CatoSha256, CHECKED),
        row(What::Load, CatoSha256, CHECKED),
        row(What::LoadAndDead, CatoSha256, CHECKED),
        row(What::Dead, CatoFast, UNCHECKED),
        row(What::Dead, CatoOff, UNCHECKED),
        row(What::Load, CatoFast, UNCHECKED),
        row(What::ReserveAndLoad, CatoFast, UNCHECKED),
        row(What::LoadAndDead, CatoFast, UNCHECKED),
        row(What::ReserveLoadAndDead, CatoFast, UNCHECKED),
    ]
};

impl Row {
    /// The row's name.
    pub fn name(&self) -> String {
        let theirs = match self.theirs {
            [only] => only.to_string(),
            _ => "kexec-tools --no-checks".to_owned(),
        };
        format!("{}: {} ÷ {theirs}", self.what.name(), self.ours)
    }

    /// The ratio.
    pub fn value(&self, figures: impl Fn(Contender) -> Option<Figures>) -> Option<f64> {
        let theirs = self.theirs.iter().filter_map(|c| Some(self.what.of(&figures(*c)?)));
        ratio(self.what.of(&figures(self.ours)?), theirs.min_by(f64::total_cmp)?)
    }
}

#[cfg(test)]
mod tests {
    use super::super::contender::Contender::CatoFastSegments;
    use super::super::figures::Spread;
    use super::*;

    #[test]
    fn what_is_ours_is_divided_by_the_faster_of_theirs() {
        let flat = |seconds: f64| Spread::of([seconds]).unwrap();
        let figures = |dead, load| Figures {
            load: flat(load),
            dead: flat(dead),
            load_and_dead: flat(dead + load),
            stage: flat(load),
            reserve: flat(0.0),
            peak: 0,
            copied: 0,
        };
        let all = |contender| match contender {
            KexecToolsNoChecksPlaced => Some(figures(4.0, 1.0)),
            KexecToolsNoChecksDefault => Some(figures(2.0, 8.0)),
            KexecTools => Some(figures(100.0, 1.0)),
            CatoFastSegments => None,
            _ => Some(figures(1.0, 0.5)),
        };
        let ratios: Vec<_> = ROWS.iter().map(|row| row.value(all).unwrap()).collect();
        assert_eq!(ratios, [0.01, 0.5, 1.5 / 101.0, 0.5, 0.5, 0.5, 0.5, 0.3, 0.3]);
        assert_eq!(ROWS[0].value(|_| None), None);
    }
}
