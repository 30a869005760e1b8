//! Updates one after the other, with the power cut at random times in between.

use std::thread;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use config::Arch;
use qemu::scenario::{Context, Scenario};
use regex_lite::Regex;

use crate::slots::{Plan, SOON};

pub(crate) fn scenarios() -> Vec<Scenario> {
    let mut all = Vec::new();
    for arch in Arch::ALL {
        // The many have the service kernel made for the job: it boots in a fraction of the time, so more cuts hit what writes.
        for (updates, is_tuned) in [(10, false), (200, true)] {
            let body = move |context: &Context| soak(context, arch, updates, is_tuned);
            let scenario = Scenario::new(format!("soak/{arch}/{updates}-updates"), body);
            all.push(scenario.long_if(true).limit(Duration::from_mins(10)));
        }
        // 500 in pieces, each at other times; the first with a distribution's kernel. Every other piece has a disk that the
        // host does not cache.
        for part in 1..=5 {
            let body = move |context: &Context| kills(context, arch, 100, part);
            let scenario = Scenario::new(format!("power-cut/{arch}/100-kills-{part}"), body);
            all.push(scenario.long_if(true));
        }
    }
    all
}

/// Each system makes the other one, as new, the first choice.
fn updates(is_tuned: bool) -> Plan {
    Plan {
        is_tuned,
        words: [
            "report.run=mark-good;mark-bad,B;set-next,B report.reboot",
            "report.run=mark-good;mark-bad,A;set-next,A report.reboot",
        ],
        // A power cut costs a new system a try.
        config: "[slots]\ntries = 10\n",
        has_cato: true,
        ..Plan::default()
    }
}

/// Numbers that are the same in every run (Marsaglia's xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

/// The power goes at any time, again and again; whatever that leaves behind, a system is up and has changed the state within three
/// starts.
fn kills(context: &Context, arch: Arch, count: usize, part: u64) -> Result<()> {
    let mut ready = context.prepare(&updates(part > 1).chain(context, arch)?)?;
    let cache = if part.is_multiple_of(2) { "writeback" } else { "none" };
    let words = ["-set".to_owned(), format!("drive.disk0.cache={cache}")];
    ready.machine.extra.extend(words);
    let up = "report: run=set-next .: exit 0";
    let mut random = Random(0x2545_f491_4f6c_dd1d_u64.wrapping_mul(part));
    let start = || {
        let mut vm = context.start(&ready.machine)?;
        vm.forbid(r"cato\[.*(prompt: no |given up|are lost|can't be written)")?;
        anyhow::Ok(vm)
    };
    // Until the second system has changed the state: kills reach all of a round.
    let vm = start()?;
    vm.wait_for(up, SOON)?;
    let round = vm.wait_for(up, SOON)?.ms;
    drop(vm);
    let mut since = 0;
    let mut rounds = 0;
    for _ in 0..count {
        let vm = start()?;
        // Two that were cut off are followed by one that has its time.
        if since == 2 {
            vm.wait_for(up, SOON)?;
        }
        thread::sleep(Duration::from_millis(random.below(round)));
        let lines = vm.stop();
        let is_up = lines.iter().any(|line| line.text.contains("report: run=set-next"));
        since = if is_up { 0 } else { since + 1 };
        rounds += usize::from(is_up);
    }
    println!(
        "power-cut/{arch}: {count} kills within {round} ms of a start (cache={cache}), {rounds} of these starts got a system up"
    );
    Ok(())
}

/// Each system marks itself good and makes the other one, as new, the first choice. After some of them the power goes, at any
/// time. No boot may end at the prompt, and none takes long.
fn soak(context: &Context, arch: Arch, count: usize, is_tuned: bool) -> Result<()> {
    let ready = context.prepare(&updates(is_tuned).chain(context, arch)?)?;
    let left = Regex::new(r"cato\[ *([0-9.]+)\] hand-off: reboot\(KEXEC\)")?;
    let (mut done, mut cuts, mut longest) = (0, 0, 0.0_f64);
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    while done < count {
        let (mut vm, mut monitor) = context.start_with_monitor(&ready.machine)?;
        vm.forbid(r"cato\[.*(prompt: no |given up|are lost|can't be written)")?;
        for _ in 0..=random.below(4) {
            if let Err(error) = vm.wait_for("report: run=set-next .: exit 0", SOON) {
                let registers = monitor.registers().unwrap_or_else(|error| format!("{error:#}"));
                bail!("after {done} updates: {error:#}\n{registers}");
            }
            done += 1;
        }
        thread::sleep(Duration::from_millis(random.below(6000)));
        let lines = vm.stop();
        cuts += 1;
        for line in &lines {
            let seconds = left
                .captures(&line.text)
                .and_then(|found| found.get(1)?.as_str().parse().ok());
            longest = longest.max(seconds.unwrap_or(0.0));
        }
    }
    println!(
        "soak/{arch}: {done} updates, {cuts} power cuts, the slowest boot left the service kernel after {longest:.1} s"
    );
    ensure!(longest < 90.0, "a boot took {longest:.1} s");
    Ok(())
}
