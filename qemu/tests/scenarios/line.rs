//! The serial line as the way in and out: files with lrzsz, a shell, and who may have them.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use config::Arch::{self, Arm64, X86_64};
use guest_entry::contract::{self, Expected};
use guest_entry::facts::Facts;
use guest_entry::image;
use mkinitramfs::Added;
use mkinitramfs::cpio::{Entry, archive};
use qemu::guests;
use qemu::scenario::{Context, Scenario};
use qemu::setup::kernels::busybox;
use qemu::vm::Vm;

use crate::menu::{SOON, chain};
use crate::slots::Plan;

/// `password`, as the vectors of argon2's authors have it.
const HASH: &str = "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";

pub(crate) fn scenarios() -> Vec<Scenario> {
    let mut all = Vec::new();
    for arch in Arch::ALL {
        let mut add = |name: &str, long, run: fn(&Context, Arch) -> Result<()>| {
            let scenario = Scenario::new(format!("console/{arch}/{name}"), move |context| run(context, arch));
            all.push(scenario.long_if(long));
        };
        add("ymodem", arch == Arm64, ymodem);
        add("ymodem-config", true, other_config);
        add("ymodem-breaks-off", true, breaks_off);
        add("shell", true, shell);
        add("password", true, password);
        add("locked", true, locked);
        add("actions", true, actions);
        add("power-off", true, power_off);
    }
    all
}

/// The countdown is stopped, and the plain menu is there.
fn stopped(vm: &mut Vm) -> Result<()> {
    vm.wait_for(r"cato\[.*prompt: press Space 3 times", SOON)?;
    vm.send("   ")?;
    vm.wait_for("Stopped at the console", SOON)?;
    vm.wait_for("^cato>", SOON).map(drop)
}

/// Types a line, and waits for what comes of it. Gives how long that took.
fn enters(vm: &mut Vm, line: &str, comes: &str) -> Result<Duration> {
    let typed = Instant::now();
    vm.send(&format!("{line}\r"))?;
    vm.wait_for(comes, SOON)?;
    Ok(typed.elapsed())
}

/// The log goes out, and a kernel and an initrd come in and are booted, byte by byte as they were sent.
fn ymodem(context: &Context, arch: Arch) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let kernel = folder.path().join("Image-of-the-bench");
    fs::write(
        &kernel,
        image::build(&fs::read(guests::entry(arch)?)?, arch, 256 << 10)?,
    )?;
    let noise = (0..7_001_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes());
    let initrd = folder.path().join("initrd.img");
    // Each kind of byte, XON and CAN among them.
    let bytes = archive([Entry::file("noise", (0..=255).chain(noise).collect::<Vec<u8>>())])?;
    fs::write(&initrd, &bytes)?;

    let ready = context.prepare(&chain(context, arch, 20, "")?)?;
    let mut vm = context.start(&ready.machine)?;
    stopped(&mut vm)?;
    enters(&mut vm, "y", "^cato>")?;
    enters(&mut vm, "1", r"prompt: tty.*receive the log now, with YMODEM")?;
    vm.attach(Command::new("rb").current_dir(folder.path()), SOON)?;
    vm.wait_for(r"prompt: tty.*: done", SOON)?;
    let log = fs::read_to_string(folder.path().join("cato.log"))?;
    ensure!(
        log.contains("prompt: press Space 3 times"),
        "the log is not whole: {log}"
    );
    let log = fs::read_to_string(folder.path().join("kernel.log"))?;
    ensure!(log.contains("Linux version"), "the kernel's log is not whole: {log}");

    vm.wait_for("^cato>", SOON)?;
    enters(&mut vm, "y", "^cato>")?;
    enters(&mut vm, "2", r"prompt: tty.*send the files now, with YMODEM")?;
    vm.attach(Command::new("sb").args([&kernel, &initrd]), SOON * 2)?;
    let length = fs::metadata(&kernel)?.len();
    vm.wait_for(
        &format!(r"received Image-of-the-bench \({length} bytes\): a kernel"),
        SOON,
    )?;
    vm.wait_for(
        &format!(r"received initrd.img \({} bytes\): an initrd", bytes.len()),
        SOON,
    )?;
    vm.wait_for(r"3  received files +received on the console", SOON)?;
    vm.wait_for("^cato>", SOON)?;
    enters(
        &mut vm,
        "3",
        r#"cato\[.*select: entry "received files".*picked in the menu"#,
    )?;
    vm.forbid(r"cato\[ *[0-9.]+\] prompt: no ")?;
    vm.wait_for("entry: (done|fault)", SOON)?;
    let text: Vec<String> = vm.lines().into_iter().map(|line| line.text).collect();
    let expected = Expected {
        initrd: Some(&bytes),
        efi: (arch == X86_64).then_some(false),
        ..Expected::default()
    };
    let facts = Facts::parse(&text.join("\n"));
    let violations = match arch {
        Arm64 => contract::arm64(&facts, &expected),
        X86_64 => contract::x86_64(&facts, &expected),
    };
    let list: Vec<String> = violations.iter().map(ToString::to_string).collect();
    ensure!(list.is_empty(), vm.failure(&list.join("\n")));
    Ok(())
}

/// The box has a `boot.toml` that leads nowhere; one that comes over the line holds for this start. What is no file of that is said.
fn other_config(context: &Context, arch: Arch) -> Result<()> {
    let mut chain = chain(context, arch, 20, "")?;
    let good = chain.usual_config();
    chain.config = chain
        .config
        .map(|config| config.replace("PARTLABEL=boot-", "PARTLABEL=no-"));
    let ready = context.prepare(&chain)?;
    let folder = tempfile::tempdir()?;
    let bad = folder.path().join("bad.toml");
    fs::write(&bad, "version = 1\norder = [\"a\"]\n")?;
    let boot = folder.path().join("boot.toml");
    fs::write(&boot, good.replace("order = [\"a\", \"b\"]", "order = [\"b\"]"))?;
    let mut vm = context.start(&ready.machine)?;
    stopped(&mut vm)?;
    enters(&mut vm, "y", "^cato>")?;
    enters(&mut vm, "2", "send the files now, with YMODEM")?;
    vm.attach(Command::new("sb").arg(&bad), SOON)?;
    vm.wait_for("received bad.toml", SOON)?;
    vm.wait_for("cato.*config: error", SOON)?;
    vm.wait_for("^cato>", SOON)?;
    // Nobody sends, and somebody has had enough.
    enters(&mut vm, "y", "^cato>")?;
    enters(&mut vm, "2", "send the files now, with YMODEM")?;
    vm.send("\u{18}\u{18}")?;
    vm.wait_for("prompt: tty.*: the other side has stopped it", SOON)?;
    vm.wait_for("^cato>", SOON)?;
    enters(&mut vm, "y", "^cato>")?;
    enters(&mut vm, "2", "send the files now, with YMODEM")?;
    vm.attach(Command::new("sb").arg(&boot), SOON)?;
    vm.wait_for("the received boot.toml holds until the machine is reset", SOON)?;
    vm.wait_for("^cato>", SOON)?;
    enters(&mut vm, "t", r#"cato\[.*select: entry "b""#)?;
    context.reports(&ready, &mut vm).map(drop)
}

/// The cable is pulled in the middle of a file: it is said, nothing of it is left, and the menu is there again.
fn breaks_off(context: &Context, arch: Arch) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let kernel = folder.path().join("Image");
    fs::write(&kernel, vec![7; 4 << 20])?;
    let ready = context.prepare(&chain(context, arch, 20, "")?)?;
    let mut vm = context.start(&ready.machine)?;
    stopped(&mut vm)?;
    enters(&mut vm, "y", "^cato>")?;
    enters(&mut vm, "2", "send the files now, with YMODEM")?;
    let pulled = format!("timeout -s KILL 3 sb {}; true", kernel.display());
    vm.attach(Command::new("sh").args(["-c", &pulled]), SOON)?;
    vm.wait_for("prompt: tty.*: the line is too bad", SOON * 3)?;
    vm.wait_for("^cato>", SOON)?;
    enters(&mut vm, "2", r#"cato\[.*select: entry "b".*picked in the menu"#)?;
    context.reports(&ready, &mut vm).map(drop)
}

/// A shell that somebody has packed: with job control, and the menu is there again behind it.
fn shell(context: &Context, arch: Arch) -> Result<()> {
    let plan = Plan::default();
    let mut chain = plan.chain(context, arch)?;
    chain.config = chain
        .config
        .map(|config| config.replace("countdown = 0", "countdown = 20"));
    let busybox = busybox(arch)?;
    chain.service.add.extend(["/bin/sh", "/bin/busybox"].map(|dest| Added {
        source: busybox.clone(),
        dest: dest.to_owned(),
    }));
    let ready = context.prepare(&chain)?;
    let mut vm = context.start(&ready.machine)?;
    stopped(&mut vm)?;
    vm.send("s\r")?;
    vm.wait_for("a shell; `exit` ends it", SOON)?;
    vm.forbid("job control turned off")?;
    vm.wait_for("# *$", SOON)?;
    vm.send("echo $((6 * 7))$$\r")?;
    vm.wait_for(r"^42[0-9]+", SOON)?;
    // What runs is stopped, and not the shell.
    vm.send("busybox sleep 1000\r")?;
    vm.wait_for("sleep 1000", SOON)?;
    std::thread::sleep(Duration::from_secs(1));
    vm.send("\u{3}")?;
    vm.send("busybox uname -s\r")?;
    vm.wait_for("^Linux", SOON)?;
    // It has the commands of a main system, and what they write is not written over.
    vm.send("/init mark-bad A\r")?;
    vm.wait_for("# /init mark-bad A", SOON)?;
    // What it leaves behind hears nothing of what is typed later.
    vm.send("(busybox sleep 1; busybox cat; busybox cat) &\r")?;
    vm.wait_for(r"busybox cat\) &", SOON)?;
    vm.send("exit\r")?;
    vm.wait_for(r"prompt: tty.*: done", SOON)?;
    vm.wait_for(r"slots: the state was changed meanwhile: A \(bad: marked as bad", SOON)?;
    vm.wait_for("^cato>", SOON)?;
    std::thread::sleep(Duration::from_secs(2));
    enters(&mut vm, "zz", r#""zz" is none of these"#)?;
    vm.wait_for("^cato>", SOON)?;
    enters(&mut vm, "2", r#"cato\[.*select: entry "b".*picked in the menu"#)?;
    context.reports(&ready, &mut vm).map(drop)
}

/// Whoever does not know the password only waits, longer each time, and the boot that they stopped goes on.
fn password(context: &Context, arch: Arch) -> Result<()> {
    let access = format!("access = \"password\"\npassword = \"{HASH}\"");
    let ready = context.prepare(&chain(context, arch, 20, &access)?)?;
    let mut vm = context.start(&ready.machine)?;
    vm.wait_for(r"cato\[.*prompt: press Space 3 times", SOON)?;
    vm.send("   ")?;
    vm.wait_for("^Password:", SOON)?;
    enters(&mut vm, "passw0rd", "That is not the password")?;
    vm.wait_for("^Password:", SOON)?;
    enters(&mut vm, "password", "The next one is looked at in 1 s")?;
    std::thread::sleep(Duration::from_secs(2));
    vm.wait_for("^Password:", SOON)?;
    enters(&mut vm, "password", "Stopped at the console")?;
    vm.wait_for("^cato>", SOON)?;
    ensure!(
        !vm.lines().iter().any(|line| line.text.contains("passw0rd")),
        vm.failure("the password is shown")
    );
    enters(&mut vm, "2", r#"cato\[.*select: entry "b".*picked in the menu"#)?;
    context.reports(&ready, &mut vm).map(drop)
}

/// There is no countdown to stop, and nothing answers.
fn locked(context: &Context, arch: Arch) -> Result<()> {
    let mut chain = chain(context, arch, 20, "access = \"locked\"\nretry = 10")?;
    chain.config = chain.config.map(|config| {
        let config = config.replacen("PARTLABEL=boot-", "PARTLABEL=no-", 2);
        config.replacen("retry = 60\n", "", 1)
    });
    let ready = context.prepare(&chain)?;
    let mut vm = context.start(&ready.machine)?;
    vm.forbid("press Space|has the menu|stopped at|^cato>")?;
    vm.wait_for(r#"cato\[.*select: entry "a""#, SOON)?;
    vm.send("   ")?;
    vm.wait_for("prompt: no entry left.*the console is locked", SOON)?;
    vm.send("   ")?;
    std::thread::sleep(Duration::from_secs(1));
    vm.send("\r2\rr\r")?;
    vm.wait_for(r#"cato\[.*select: entry "a""#, SOON).map(drop)
}

/// What the menu does that no other row here has: each once.
fn actions(context: &Context, arch: Arch) -> Result<()> {
    let plan = Plan::default();
    let mut chain = plan.chain(context, arch)?;
    chain.config = chain
        .config
        .map(|config| config.replace("countdown = 0", "countdown = 20"));
    let ready = context.prepare(&chain)?;
    let mut vm = context.start(&ready.machine)?;
    stopped(&mut vm)?;
    let mut took = Vec::new();
    for _ in 0..20 {
        took.push(enters(&mut vm, "zz", r#""zz" is none of these"#)?);
        vm.wait_for("^cato>", SOON)?;
    }
    took.sort_unstable();
    println!(
        "console/{arch}/actions: from Enter to the answer {:?}, at most {:?}",
        took.get(took.len() / 2),
        took.last()
    );
    enters(&mut vm, "h", r" [0-9.]+ +\+[0-9.]+ +finding the state")?;
    vm.wait_for("^-- Enter", SOON)?;
    enters(&mut vm, "0", "^cato>")?;
    enters(&mut vm, "l", "cato.*start: cato")?;
    vm.wait_for("^-- ", SOON)?;
    enters(&mut vm, "0", "^cato>")?;
    enters(&mut vm, "w", "No boot has failed|boot 1")?;
    vm.wait_for("^-- ", SOON)?;
    enters(&mut vm, "0", "^cato>")?;
    // Disks, a folder, and what is in it.
    enters(&mut vm, "f", r"^ +[0-9]+  vda1 .*ext4 LABEL=boot-a PARTLABEL=boot-a")?;
    vm.wait_for("^-- N", SOON)?;
    let shown = vm.lines();
    let row = shown
        .iter()
        .rev()
        .find(|line| line.text.contains("ext4 LABEL=boot-a PARTLABEL=boot-a"));
    let number = row
        .and_then(|row| row.text.split_whitespace().next())
        .context("no row")?
        .to_owned();
    enters(&mut vm, &number, r"^ +[0-9]+ +[0-9]+  kernel")?;
    vm.wait_for("^-- N", SOON)?;
    enters(&mut vm, "", "^cato>")?;
    // A slot's worth, and which one is first.
    enters(&mut vm, "d 1", "^cato>")?;
    enters(&mut vm, "5", "slots: slot A: marked as bad, at the console")?;
    vm.wait_for("^cato>", SOON)?;
    enters(&mut vm, "4", "slots: slot A: marked as good, at the console")?;
    vm.wait_for("^cato>", SOON)?;
    enters(&mut vm, "0", r"1  a .*slot A, good")?;
    vm.wait_for("^cato>", SOON)?;
    enters(&mut vm, "d 2", "^cato>")?;
    enters(
        &mut vm,
        "2",
        "slots: slot B: the first choice from now on, at the console",
    )?;
    vm.wait_for(r#"cato\[.*select: entry "b""#, SOON)?;
    context.reports(&ready, &mut vm).map(drop)
}

/// Asked for twice, the machine is off.
fn power_off(context: &Context, arch: Arch) -> Result<()> {
    let ready = context.prepare(&chain(context, arch, 20, "")?)?;
    let mut vm = context.start(&ready.machine)?;
    stopped(&mut vm)?;
    enters(&mut vm, "o", "^cato>")?;
    enters(&mut vm, "y", "prompt: switching off")?;
    vm.wait_end(SOON).map(drop)
}
