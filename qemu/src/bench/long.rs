//! What `--long` adds: how dead time grows with the payload, and how load time differs between layouts of memory.

use std::fmt;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::contender::Contender::{CatoFast, KexecTools, KexecToolsNoChecksPlaced};
use super::figures::{Spread, growth, millions, ratio, rounded};
use super::once::Bench;
use super::payload;
use super::read::Times;
use crate::setup::{Suite, kernels};

/// Sizes of the initrd, millions of bytes.
const SIZES: [u32; 4] = [16, 64, 256, 700];

/// Memory of the machine for all of them, MiB: room for the largest three times, as it is in the initramfs, in
/// kexec-tools' hands and in the kernel's copy.
const SWEEP_MEMORY: u32 = 4096;

/// How long kexec-tools' check may take.
const CAP: Duration = Duration::from_mins(2);

/// The initrd of all layouts, millions of bytes.
const LAYOUT_MB: u32 = 64;

/// What decides which memory is free when the payload is loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// Memory of the machine, MiB.
    pub memory_mib: u32,
    /// Its CPUs.
    pub cpus: u32,
    /// Whose kernel the service Linux is.
    pub service: Suite,
    /// Further bytes in the service initramfs, millions.
    pub ballast_mb: u32,
}

/// Ten machines, from one that the payload just fits into to one that is mostly empty.
pub const LAYOUTS_TRIED: [Layout; 10] = {
    const fn layout(memory_mib: u32, cpus: u32, service: Suite, ballast_mb: u32) -> Layout {
        Layout {
            memory_mib,
            cpus,
            service,
            ballast_mb,
        }
    }
    [
        layout(768, 2, Suite::Bookworm, 0),
        layout(768, 2, Suite::Trixie, 0),
        layout(1024, 2, Suite::Bookworm, 50),
        layout(1024, 1, Suite::Trixie, 0),
        layout(1536, 2, Suite::Bookworm, 0),
        layout(1536, 2, Suite::Trixie, 150),
        layout(2048, 4, Suite::Trixie, 0),
        layout(3072, 2, Suite::Bookworm, 100),
        layout(3072, 2, Suite::Trixie, 0),
        layout(4096, 2, Suite::Trixie, 0),
    ]
};

/// One size of the sweep.
#[derive(Debug, Clone, PartialEq)]
pub struct Size {
    /// The initrd, millions of bytes.
    pub mb: u32,
    /// Kernel and initrd, bytes.
    pub payload: u64,
    /// Load and dead time of Cato with `fast`, in place.
    pub cato: [Spread; 2],
    /// The same of kexec-tools without its check.
    pub no_checks: [Spread; 2],
    /// One boot of kexec-tools with its check; nothing when that took longer than the cap.
    pub verified: Option<Times>,
}

/// The figures.
#[derive(Debug, Clone, PartialEq)]
pub struct Long {
    /// By size.
    pub sweep: Vec<Size>,
    /// Load time of Cato with `fast`, in place, in each layout; and the same with the time to take the memory, which is
    /// what depends on the layout.
    pub layouts: Vec<(Layout, [Spread; 2])>,
}

impl Long {
    /// Measures; leaves `bench` with another machine and service kernel than before.
    pub fn measure(bench: &mut Bench, runs: u32) -> Result<Self> {
        bench.machine.memory_mib = SWEEP_MEMORY;
        let sweep = SIZES.iter().map(|mb| size(bench, *mb, runs)).collect::<Result<_>>()?;
        let payload = payload::make(&bench.main, LAYOUT_MB)?;
        let mut layouts = Vec::new();
        for (n, layout) in LAYOUTS_TRIED.into_iter().enumerate() {
            bench.machine.memory_mib = layout.memory_mib;
            bench.machine.cpus = layout.cpus;
            bench.ballast_mb = layout.ballast_mb;
            bench.service = kernels::kernel(bench.arch(), layout.service)?;
            let (mut loads, mut wholes) = (Vec::new(), Vec::new());
            for _ in 0..runs {
                let times = bench.times(CatoFast, &payload).with_context(|| format!("{layout}"))?;
                loads.push(times.load.as_secs_f64());
                wholes.push((times.reserve + times.load).as_secs_f64());
            }
            let load = Spread::of(loads).context("no run")?;
            let whole = Spread::of(wholes).context("no run")?;
            let of = LAYOUTS_TRIED.len();
            eprintln!(
                "{}: layout {} of {of}: {layout}: load {} s, with taking memory {} s",
                bench.arch(),
                n + 1,
                load,
                whole
            );
            layouts.push((layout, [load, whole]));
        }
        Ok(Self { sweep, layouts })
    }

    /// How dead time grows, of what `dead` picks.
    fn growth(&self, dead: impl Fn(&Size) -> f64) -> Option<f64> {
        let mut points = self
            .sweep
            .iter()
            .skip(1)
            .map(|size| (millions(size.payload), dead(size)));
        growth([points.next()?, points.next()?, points.next()?])
    }

    /// Of the load times, or of those with taking memory.
    fn worst_by_best(&self, of: impl Fn(&[Spread; 2]) -> &Spread) -> Option<f64> {
        let medians = self.layouts.iter().map(|(_, times)| of(times).median);
        let all = Spread::of(medians)?;
        ratio(all.max, all.min)
    }

    /// The keys `--long` adds.
    pub fn json(&self) -> [(&'static str, Value); 5] {
        let seconds =
            |[load, dead]: &[Spread; 2]| json!({ "load_s": rounded(load.median), "dead_s": rounded(dead.median) });
        let sweep: Vec<_> = self
            .sweep
            .iter()
            .map(|size| {
                let verified = size.verified.map(|times| {
                    json!({
                        "load_s": rounded(times.load.as_secs_f64()),
                        "dead_s": rounded(times.dead.as_secs_f64()),
                    })
                });
                json!({
                    "initrd_mb": size.mb,
                    "payload_bytes": size.payload,
                    CatoFast.key(): seconds(&size.cato),
                    KexecToolsNoChecksPlaced.key(): seconds(&size.no_checks),
                    KexecTools.key(): verified,
                })
            })
            .collect();
        let layouts: Vec<_> = self
            .layouts
            .iter()
            .map(|(layout, [load, whole])| {
                json!({
                    "memory_mib": layout.memory_mib,
                    "cpus": layout.cpus,
                    "service": layout.service.series(),
                    "ballast_mb": layout.ballast_mb,
                    "load_s": rounded(load.median),
                    "reserve_and_load_s": rounded(whole.median),
                })
            })
            .collect();
        [
            ("sweep", sweep.into()),
            ("sweep_dead_growth", json!(self.growth(|size| size.cato[1].median))),
            ("layouts", layouts.into()),
            ("layouts_worst_by_best", json!(self.worst_by_best(|[load, _]| load))),
            (
                "layouts_worst_by_best_with_reserve",
                json!(self.worst_by_best(|[_, whole]| whole)),
            ),
        ]
    }
}

fn size(bench: &mut Bench, mb: u32, runs: u32) -> Result<Size> {
    let payload = payload::make(&bench.main, mb)?;
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..runs {
        for (times, contender) in times.iter_mut().zip([CatoFast, KexecToolsNoChecksPlaced]) {
            let got = bench
                .times(contender, &payload)
                .with_context(|| format!("initrd of {mb} MB"))?;
            times.push(got);
        }
    }
    let verified = bench
        .times_within(KexecTools, &payload, CAP)
        .with_context(|| format!("initrd of {mb} MB"))?;
    let spreads = |times: &[Times]| -> Option<[Spread; 2]> {
        Some([
            Spread::of(times.iter().map(|t| t.load.as_secs_f64()))?,
            Spread::of(times.iter().map(|t| t.dead.as_secs_f64()))?,
        ])
    };
    let [cato, no_checks] = times;
    let size = Size {
        mb,
        payload: payload.bytes(),
        cato: spreads(&cato).context("no run")?,
        no_checks: spreads(&no_checks).context("no run")?,
        verified,
    };
    eprintln!("{}: {size}", bench.arch());
    Ok(size)
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:>4} MiB, {} CPUs, service Linux {:<4}, {:>3} MB more in its initramfs",
            self.memory_mib,
            self.cpus,
            self.service.series(),
            self.ballast_mb
        )
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [cato_load, cato_dead] = &self.cato;
        let [load, dead] = &self.no_checks;
        let verified = self.verified.map_or_else(
            || format!(">{}", CAP.as_secs()),
            |times| format!("{:.3}", times.dead.as_secs_f64()),
        );
        write!(
            f,
            "{:>4} MB {:>22} {:>22} {:>22} {:>22} {verified:>9}",
            self.mb, cato_load, cato_dead, load, dead
        )
    }
}

impl fmt::Display for Long {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "initrd  {:>22} {:>22} {:>22} {:>22} {:>9}",
            "cato fast: load s", "dead s", "--no-checks: load s", "dead s", "checked"
        )?;
        for size in &self.sweep {
            writeln!(f, "{size}")?;
        }
        writeln!(
            f,
            "(checked: dead time of kexec-tools with its check, one boot, given up after {} s)",
            CAP.as_secs()
        )?;
        let [_, small, middle, large] = SIZES;
        writeln!(f, "\n{:<60} {:>7}", "", "ratio")?;
        let what = format!("dead time per MB, {middle}..{large} ÷ {small}..{middle} MB");
        if let Some(value) = self.growth(|size| size.cato[1].median) {
            writeln!(f, "{:<60} {value:>7.3}", format!("{what}, cato fast"))?;
        }
        if let Some(value) = self.growth(|size| size.no_checks[1].median) {
            writeln!(f, "{:<60} {value:>7.3}", format!("{what}, kexec-tools"))?;
        }
        writeln!(
            f,
            "\ncato fast, initrd of {LAYOUT_MB} MB{:>48} {:>22}",
            "load s", "with taking memory"
        )?;
        for (layout, [load, whole]) in &self.layouts {
            writeln!(f, "{layout} {load:>22} {whole:>22}")?;
        }
        if let Some(value) = self.worst_by_best(|[load, _]| load) {
            writeln!(f, "{:<60} {value:>7.3}", "worst ÷ best, load")?;
        }
        if let Some(value) = self.worst_by_best(|[_, whole]| whole) {
            writeln!(f, "{:<60} {value:>7.3}", "worst ÷ best, with taking memory")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flat(seconds: f64) -> Spread {
        Spread::of([seconds]).unwrap()
    }

    fn long() -> Long {
        let size = |mb: u32, dead: f64, verified| Size {
            mb,
            payload: u64::from(mb) * 1_000_000,
            cato: [flat(1.0), flat(dead)],
            no_checks: [flat(2.0), flat(2.0 * dead)],
            verified,
        };
        let once = Times {
            load: Duration::from_secs(1),
            dead: Duration::from_secs(9),
            stage: Duration::from_secs(2),
            reserve: Duration::ZERO,
        };
        Long {
            sweep: vec![
                size(16, 9.0, Some(once)),
                size(64, 64.0, Some(once)),
                size(256, 256.0, None),
                size(700, 1144.0, None),
            ],
            layouts: vec![
                (LAYOUTS_TRIED[0], [flat(0.2), flat(0.4)]),
                (LAYOUTS_TRIED[1], [flat(0.5), flat(0.6)]),
            ],
        }
    }

    #[test]
    fn growth_leaves_the_smallest_size_out() {
        let twice = long().growth(|size| size.cato[1].median).unwrap();
        assert!((twice - 2.0).abs() < 1e-9, "{twice}");
        let text = long().to_string();
        assert!(text.contains("256..700 ÷ 64..256 MB, cato fast"), "{text}");
        assert!(text.contains(">120"), "{text}");
    }

    #[test]
    fn json_has_null_for_what_took_too_long() {
        let [(_, sweep), (_, growth), (_, layouts), (_, worst), (_, whole)] = long().json();
        assert_eq!(sweep[0]["kexec_tools"]["dead_s"], 9.0);
        assert_eq!(sweep[2]["kexec_tools"], Value::Null);
        assert_eq!(sweep[1]["cato_fast"]["dead_s"], 64.0);
        assert_eq!(layouts[1]["load_s"], 0.5);
        assert_eq!(layouts[1]["reserve_and_load_s"], 0.6);
        assert!(growth.as_f64().unwrap() > 1.9 && worst.as_f64().unwrap() > 2.4);
        assert!((whole.as_f64().unwrap() - 1.5).abs() < 1e-9);
    }

    #[test]
    fn no_layout_is_there_twice() {
        for (n, layout) in LAYOUTS_TRIED.iter().enumerate() {
            assert!(
                !LAYOUTS_TRIED.iter().skip(n + 1).any(|other| other == layout),
                "{layout}"
            );
        }
    }
}
