//! The ratios that matter, with what each should be. Pure.

use config::Arch;

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
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Row {
    /// Of what.
    pub what: What,
    /// Ours.
    pub ours: Contender,
    /// Theirs; of several the one that is faster in this.
    pub theirs: &'static [Contender],
    /// What it must not be above, and what we would like; where there is such an aim for this architecture.
    pub aim: Option<Aim>,
}

/// What a figure should be at most.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Aim {
    /// Required.
    pub bar: f64,
    /// Wished for.
    pub wish: Option<f64>,
}

impl Aim {
    /// The same with a wish.
    const fn new(bar: f64, wish: f64) -> Self {
        Self { bar, wish: Some(wish) }
    }

    /// How a value stands to it.
    pub fn verdict(&self, value: f64) -> &'static str {
        match self.wish {
            Some(wish) if value <= wish => "wish met",
            _ if value <= self.bar => "bar met",
            _ => "bar missed",
        }
    }
}

/// Growth of dead time per byte between the larger sizes, divided by that between the smaller.
pub const GROWTH: Aim = Aim { bar: 1.2, wish: None };

/// Worst load over all layouts divided by the best.
pub const LAYOUTS: Aim = Aim::new(1.5, 1.2);

/// Peak memory beyond the payload, MiB.
pub const PEAK_MIB: Aim = Aim::new(32.0, 16.0);

const CHECKED: &[Contender] = &[KexecTools];
/// kexec-tools without its check: no placement is the fastest in everything.
pub const UNCHECKED: &[Contender] = &[KexecToolsNoChecksPlaced, KexecToolsNoChecksDefault];

/// The rows, like for like first. kexec-tools without its check is taken where it is faster, row by row: the placement
/// that is loaded quickest is not the one with the least dead time.
pub fn rows(arch: Arch) -> [Row; 9] {
    let row = |what, ours, theirs, aim| Row {
        what,
        ours,
        theirs,
        aim,
    };
    let on = |only, aim| (arch == only).then_some(aim);
    let (arm64, x86_64) = (Arch::Arm64, Arch::X86_64);
    [
        row(
            What::Dead,
            CatoSha256,
            CHECKED,
            on(arm64, Aim::new(1.0 / 20.0, 1.0 / 35.0)),
        ),
        row(What::Load, CatoSha256, CHECKED, None),
        row(What::LoadAndDead, CatoSha256, CHECKED, None),
        row(What::Dead, CatoFast, UNCHECKED, on(arm64, Aim::new(0.6, 0.4))),
        row(What::Dead, CatoOff, UNCHECKED, on(arm64, Aim::new(0.4, 0.2))),
        row(What::Load, CatoFast, UNCHECKED, Some(Aim::new(0.7, 0.3))),
        row(What::ReserveAndLoad, CatoFast, UNCHECKED, None),
        row(What::LoadAndDead, CatoFast, UNCHECKED, on(x86_64, Aim::new(0.6, 0.3))),
        row(What::ReserveLoadAndDead, CatoFast, UNCHECKED, None),
    ]
}

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
    fn a_value_meets_the_wish_the_bar_or_neither() {
        let aim = Aim::new(0.6, 0.4);
        let said: Vec<_> = [0.4, 0.5, 0.6, 0.61].map(|value| aim.verdict(value)).into();
        assert_eq!(said, ["wish met", "bar met", "bar met", "bar missed"]);
        assert_eq!(GROWTH.verdict(0.1), "bar met");
    }

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
        let ratios: Vec<_> = rows(Arch::Arm64).iter().map(|row| row.value(all).unwrap()).collect();
        assert_eq!(ratios, [0.01, 0.5, 1.5 / 101.0, 0.5, 0.5, 0.5, 0.5, 0.3, 0.3]);
        assert_eq!(rows(Arch::Arm64)[0].value(|_| None), None);
    }

    #[test]
    fn like_for_like_comes_first_and_each_arch_has_its_aims() {
        for arch in Arch::ALL {
            let rows = rows(arch);
            assert_eq!(
                (rows[0].what, rows[0].ours, rows[0].theirs),
                (What::Dead, CatoSha256, CHECKED)
            );
            let aims = rows.iter().filter(|row| row.aim.is_some()).count();
            assert_eq!(aims, if arch == Arch::Arm64 { 4 } else { 2 });
        }
    }
}
