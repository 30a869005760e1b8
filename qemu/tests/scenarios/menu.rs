//! The menu on the serial console: somebody who types, and noise, which does nothing at all.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use config::Arch::{self, Arm64, X86_64};
use qemu::board::board;
use qemu::chain::Chain;
use qemu::machine::Firmware::Direct;
use qemu::machine::Machine;
use qemu::qmp::Qmp;
use qemu::scenario::{Context, Scenario};
use qemu::setup::Suite::{Bookworm, Trixie};
use qemu::vm::Vm;
use serde_json::json;

use crate::service_kernel;
use crate::slots::{COST_RUNS, medians};

pub(crate) const SOON: Duration = Duration::from_mins(1);
/// What a terminal answers to the menu's question: UTF-8, 80 columns, 24 rows.
const VT100: &str = "\u{1b}[1;2R\u{1b}[24;80R";

pub(crate) fn scenarios() -> Vec<Scenario> {
    let mut all = Vec::new();
    for arch in Arch::ALL {
        let mut add = |name: &str, long, run: fn(&Context, Arch) -> Result<()>| {
            let scenario = Scenario::new(format!("console/{arch}/{name}"), move |context| run(context, arch));
            all.push(scenario.long_if(long));
        };
        // The menu is the same on both: what is typed is seen on one every day, and noise on the other.
        add("menu", arch == X86_64, plain);
        add("menu-vt100", true, vt100);
        add("stops-a-boot", true, stops_a_boot);
        add("menu-timeout", true, timeout);
        add("noise", arch == Arm64, noise);
        add("500-noise-runs", true, much_noise);
        add("screen-first", true, screen_first);
        add("cost", true, cost);
        add("hvc0", true, hvc);
    }
    // Linux has one console of all 8250s together; a board with a PL011 has two kinds.
    all.push(Scenario::new("console/arm64/two", two).long_if(true));
    all
}

pub(crate) fn chain(context: &Context, arch: Arch, countdown: u32, more: &str) -> Result<Chain> {
    let mut chain = context.chain(arch, Bookworm, Trixie)?;
    chain.machine.firmware = Direct;
    let config = chain.usual_config();
    let config = config.replace("countdown = 0", &format!("countdown = {countdown}\n{more}"));
    chain.config = Some(config);
    Ok(chain)
}

/// The countdown is stopped, as it says how; what is typed is answered; what is booted has the command line as it was changed.
fn plain(context: &Context, arch: Arch) -> Result<()> {
    let ready = context.prepare(&chain(context, arch, 20, "")?)?;
    let mut vm = context.start(&ready.machine)?;
    vm.wait_for(r"cato\[.*prompt: press Space 3 times within 20 s to stop", SOON)?;
    vm.send("\u{1b}[A\u{7f}zq2\r1\r\u{3}")?;
    let noise = vm.wait_for(r"cato\[.*(select|stopped)", Duration::from_secs(2));
    ensure!(
        noise.is_err(),
        vm.failure("some keys stopped the countdown, or started an entry")
    );
    vm.send("   ")?;
    vm.wait_for("Stopped at the console", SOON)?;
    vm.wait_for("^cato>", SOON)?;
    vm.send("9\r")?;
    vm.wait_for(r#""9" is none of these"#, SOON)?;
    vm.send("m\r")?;
    vm.wait_for("^kernel +Linux version", SOON)?;
    vm.wait_for("^-- ", SOON)?;
    vm.send("0\r")?;
    vm.wait_for("^cato>", SOON)?;
    vm.send("d 2\r")?;
    vm.wait_for("^cato>", SOON)?;
    vm.send("6\r")?;
    vm.wait_for("^purgatory +0x.* check, then jump", SOON)?;
    vm.wait_for("^-- ", SOON)?;
    // Back to the entry, and to all of them.
    for _ in 0..2 {
        vm.send("0\r")?;
        vm.wait_for("^cato>", SOON)?;
    }
    vm.send("e 2\r")?;
    vm.wait_for("^cmdline:", SOON)?;
    // A line end that comes with the text boots nothing.
    vm.send(" edited=1\r")?;
    vm.wait_for("edited=1", SOON)?;
    std::thread::sleep(Duration::from_millis(500));
    vm.send("2\r")?;
    std::thread::sleep(Duration::from_millis(500));
    vm.send("\r")?;
    vm.wait_for(r#"cato\[.*select: entry "b".*picked in the menu"#, SOON)?;
    vm.wait_for(r"^report: cmdline=.* edited=1 2 ", SOON)?;
    Ok(())
}

/// What somebody who could press a key adds to a boot that does not wait for it, against a console where nobody can: from Cato's
/// first line to the choice of an entry, behind which the menu is out of the way.
fn cost(context: &Context, arch: Arch) -> Result<()> {
    let mut chain = chain(context, arch, 0, "")?;
    let open = chain.config.clone().unwrap_or_default();
    let locked = open.replace("countdown = 0", "countdown = 0\naccess = \"locked\"");
    let choice = |vm: &Vm| {
        let lines = vm.lines();
        let at = |what: &str| {
            let line = lines.iter().find(|line| line.text.contains(what));
            stamp_ms(&line.with_context(|| format!("no line with {what:?}"))?.text)
        };
        Ok(at("] select: ")?.saturating_sub(at("] start: cato")?))
    };
    let [locked, open] = medians(context, &mut chain, [&locked, &open], choice)?;
    println!(
        "console/{arch}/cost: an entry is chosen after {locked} ms with a locked console, {open} ms with the menu (medians of {COST_RUNS})"
    );
    // A pause of the gate's or the terminal's would be 300 ms at least; less is noise.
    ensure!(open <= locked + 200, "somebody is waited for");
    Ok(())
}

/// On a terminal that answers: keys with a cursor, and the log out of the way of the screen.
fn vt100(context: &Context, arch: Arch) -> Result<()> {
    let ready = context.prepare(&chain(context, arch, 20, "")?)?;
    let mut vm = context.start(&ready.machine)?;
    vm.wait_for(r"cato\[.*prompt: press Space", SOON)?;
    vm.send("   ")?;
    // The letter by which it is asked.
    vm.wait_for("\u{e9}", SOON)?;
    vm.send(VT100)?;
    vm.wait_for(r"\* 1  a .*  2  b ", SOON)?;
    vm.send("\u{1b}[B")?;
    // The bar is painted where it was, and where it is.
    vm.wait_for(r"\* 1  a .*  2  b ", SOON)?;
    // No person is quicker, and what is counts for nothing.
    std::thread::sleep(Duration::from_millis(200));
    vm.send("\r")?;
    vm.wait_for(r#"cato\[.*select: entry "b".*picked in the menu"#, SOON)?;
    context.reports(&ready, &mut vm)?;
    Ok(())
}

/// Nothing can be booted, and somebody does not want to wait for that; then they repair nothing and reboot.
fn stops_a_boot(context: &Context, arch: Arch) -> Result<()> {
    let mut chain = chain(context, arch, 0, "")?;
    chain.config = chain
        .config
        .map(|config| config.replace("PARTLABEL=boot-", "PARTLABEL=no-"));
    let ready = context.prepare(&chain)?;
    let mut vm = context.start(&ready.machine)?;
    vm.wait_for(r#"cato\[.*select: entry "a""#, SOON)?;
    vm.send("   ")?;
    vm.wait_for(r#"cato\[.*entry "a": stopped at the console"#, SOON)?;
    vm.wait_for("^cato>", SOON)?;
    // What somebody at the menu has begun is stopped like any other boot.
    vm.send("t\r")?;
    vm.wait_for(r#"cato\[.*select: entry "a""#, SOON)?;
    vm.send("   ")?;
    vm.wait_for(r#"cato\[.*entry "a": stopped at the console"#, SOON)?;
    vm.wait_for("^cato>", SOON)?;
    vm.send("t\r")?;
    vm.wait_for(r"cato\[.*prompt: no entry left", SOON)?;
    vm.wait_for("Nothing could be booted; below is why", SOON)?;
    vm.wait_for(r"source PARTLABEL=no-a: not found", SOON)?;
    vm.wait_for("^cato>", SOON)?;
    vm.send("r\r")?;
    vm.wait_for(r"cato\[.*prompt: rebooting", SOON)?;
    vm.wait_end(SOON).map(drop)
}

/// Somebody was there, and has gone.
fn timeout(context: &Context, arch: Arch) -> Result<()> {
    let ready = context.prepare(&chain(context, arch, 20, "menu_timeout = 10\n")?)?;
    let mut vm = context.start(&ready.machine)?;
    vm.wait_for(r"cato\[.*prompt: press Space", SOON)?;
    vm.send("   ")?;
    vm.wait_for("^cato>", SOON)?;
    context.reports(&ready, &mut vm)?;
    Ok(())
}

/// Seconds that a line of Cato's says it is from.
pub(crate) fn stamp(line: &str) -> Result<f64> {
    let time = line.split_once("cato[").and_then(|(_, rest)| rest.split_once(']'));
    let time = time.with_context(|| format!("no time in {line:?}"))?.0;
    Ok(time.trim().parse()?)
}

/// The same in milliseconds.
fn stamp_ms(line: &str) -> Result<u64> {
    let time = Duration::try_from_secs_f64(stamp(line)?)?;
    Ok(u64::try_from(time.as_millis())?)
}

/// Bytes that look like chance, the same for the same seed: xorshift64.
fn chance(seed: &mut u64) -> u8 {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    seed.to_le_bytes()[0]
}

/// One helping of noise of that kind.
fn noise_of(kind: u32, seed: &mut u64, vm: &mut Vm, qmp: &mut Qmp) -> Result<()> {
    match kind {
        0 => vm.send_bytes(&[0; 64]),
        1 => vm.send_bytes(&[0xff; 64]),
        2 => vm.send_bytes(&b"\x1b[".repeat(32)),
        3 => {
            let bytes: Vec<u8> = (0..64).map(|_| chance(seed)).collect();
            vm.send_bytes(&bytes)
        }
        4 => vm.send_bytes(b" 1\r2\r \rr\ry\r  "),
        _ => qmp.execute("chardev-send-break", &json!({ "id": "console" })).map(drop),
    }
}

/// One start with noise from before the countdown to after its end, each kind in turn, or one alone. Gives how long after the
/// countdown's begin the boot started, in seconds.
fn start_in_noise(context: &Context, machine: &Machine, run: u32) -> Result<(f64, Vm)> {
    let (mut vm, mut qmp) = context.start_with_monitor(machine)?;
    vm.forbid(r"cato\[.*stopped")?;
    let mut seed = 0x9e37_79b9_7f4a_7c15 ^ u64::from(run).wrapping_mul(0xff51_afd7_ed55_8ccd);
    let mut helping = 0;
    let begin = loop {
        noise_of((run + helping * (run % 2)) % 6, &mut seed, &mut vm, &mut qmp)?;
        helping += 1;
        if let Ok(line) = vm.wait_for(r"cato\[.*prompt: press Space", Duration::from_millis(20)) {
            break stamp(&line.text)?;
        }
        ensure!(Instant::now() < vm.deadline(), vm.failure("there was no countdown"));
    };
    let end = loop {
        noise_of((run + helping * (run % 2)) % 6, &mut seed, &mut vm, &mut qmp)?;
        helping += 1;
        if let Ok(line) = vm.wait_for(r#"cato\[.*select: entry "a""#, Duration::from_millis(20)) {
            break stamp(&line.text)?;
        }
        ensure!(Instant::now() < vm.deadline(), vm.failure("the boot never started"));
    };
    Ok((end - begin, vm))
}

/// Reliability CO-1: whatever comes in on the line while nobody is there, the boot starts when it should.
fn noise(context: &Context, arch: Arch) -> Result<()> {
    let ready = context.prepare(&chain(context, arch, 2, "")?)?;
    let (seconds, mut vm) = start_in_noise(context, &ready.machine, 1)?;
    println!("console/{arch}/noise: the boot started {seconds:.3} s after a countdown of 2 s began");
    ensure!(
        (1.7..2.5).contains(&seconds),
        vm.failure("noise moved the start of the boot")
    );
    context.reports(&ready, &mut vm)?;
    Ok(())
}

/// The same 500 times, on the kernel made for the job, up to the start of the boot.
fn much_noise(context: &Context, arch: Arch) -> Result<()> {
    const RUNS: u32 = 500;
    let mut chain = chain(context, arch, 1, "")?;
    service_kernel::take(&mut chain)?;
    let ready = context.prepare(&chain)?;
    let mut longest = 0.0_f64;
    for run in 0..RUNS {
        let (seconds, vm) = start_in_noise(context, &ready.machine, run)?;
        ensure!(
            // The line that says when it began may be a little late.
            (0.7..1.5).contains(&seconds),
            vm.failure(&format!("run {run}: the boot started after {seconds:.3} s"))
        );
        longest = longest.max(seconds);
        vm.stop();
    }
    println!(
        "console/{arch}/500-noise-runs: {RUNS} of {RUNS} booted, the last one {longest:.3} s after a countdown of 1 s began"
    );
    Ok(())
}

/// A screen is the first console, and a serial line the second: both are Cato's.
fn screen_first(context: &Context, arch: Arch) -> Result<()> {
    let mut chain = chain(context, arch, 20, "")?;
    chain.service.cmdline.push_str(" console=tty0");
    let ready = context.prepare(&chain)?;
    let mut vm = context.start(&ready.machine)?;
    vm.wait_for(r"cato\[.*prompt: press Space", SOON)?;
    vm.send("   ")?;
    vm.wait_for(r"cato\[.*prompt: tty(S|AMA)0 has the menu now", SOON)?;
    vm.wait_for("^cato>", SOON)?;
    vm.send("2\r")?;
    vm.wait_for(r#"cato\[.*select: entry "b".*picked in the menu"#, SOON)?;
    context.reports(&ready, &mut vm)?;
    Ok(())
}

/// Two consoles, both named, and one that is not there.
fn two(context: &Context) -> Result<()> {
    let chain = chain(context, Arm64, 20, "devices = [\"ttyAMA0\", \"ttyS9\", \"ttyS0\"]")?;
    let devices = ["-device", "pci-serial,chardev=second"];
    let vm = second_has_it(context, chain, "console=ttyS0", &devices)?;
    let missing = "[console] devices: there is no terminal /dev/ttyS9";
    ensure!(
        vm.lines().iter().any(|line| line.text.contains(missing)),
        vm.failure("a terminal that is not there is not said")
    );
    Ok(())
}

/// A console of a hypervisor, whose driver may come late.
fn hvc(context: &Context, arch: Arch) -> Result<()> {
    let mut chain = chain(context, arch, 20, "")?;
    let kernel = context.kernel(arch, Trixie)?;
    (chain.service.image, chain.service.modules) = (kernel.image, Some(kernel.modules));
    let devices = ["-device", "virtio-serial-pci", "-device", "virtconsole,chardev=second"];
    second_has_it(context, chain, "console=hvc0", &devices).map(drop)
}

/// Both consoles have the log, and the second one gets the menu.
fn second_has_it(context: &Context, mut chain: Chain, console: &str, devices: &[&str]) -> Result<Vm> {
    let folder = tempfile::tempdir()?;
    let socket = folder.path().join("second");
    let port = format!("socket,id=second,server=on,wait=off,path={}", socket.display());
    let words = ["-chardev", &port].into_iter().chain(devices.iter().copied());
    chain.machine.extra.extend(words.map(str::to_owned));
    let own = board(chain.machine.arch).console;
    chain.service.cmdline = chain.service.cmdline.replace(own, &format!("{console} {own}"));
    let ready = context.prepare(&chain)?;
    let mut vm = context.start(&ready.machine)?;
    let since = Instant::now();
    let second = loop {
        match UnixStream::connect(&socket) {
            Err(_) if since.elapsed() < SOON => std::thread::sleep(Duration::from_millis(50)),
            connected => break connected?,
        }
    };
    second.set_read_timeout(Some(SOON * 2))?;
    let mut lines = BufReader::new(second.try_clone()?).split(b'\n');
    let mut heard = |wanted: &str| -> Result<()> {
        for line in &mut lines {
            if String::from_utf8_lossy(&line?).contains(wanted) {
                return Ok(());
            }
        }
        anyhow::bail!("the second console never said {wanted:?}")
    };
    heard("press Space 3 times")?;
    vm.wait_for(r"cato\[.*prompt: press Space", SOON)?;
    (&second).write_all(b"   ")?;
    vm.wait_for(r"cato\[.*(tty|hvc).* has the menu now", SOON)?;
    heard("Stopped at the console")?;
    (&second).write_all(b"2\r")?;
    vm.wait_for(r#"cato\[.*select: entry "b".*picked in the menu"#, SOON)?;
    context.reports(&ready, &mut vm)?;
    Ok(vm)
}
