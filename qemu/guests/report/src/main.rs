//! `/init` of the main initrd in tests: says what it was booted with, then powers off.
//!
//! Given nothing but the kernel that started it; prints the keys listed in the library's documentation on `/dev/console`.
//! Responsible for ending: whatever blocks, a second thread resets the machine after [`DEADLINE`].

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use dtoolkit::fdt::Fdt;
use dtoolkit::{Node as _, Property as _};
use guest_report::{
    DONE, Log, PREFIX, Then, commands, count_cpus, has_la57, hex, kernel_code, kmsg_text, line, mem_total,
};
use nix::mount::{MsFlags, mount};
use nix::sys::reboot::{RebootMode, reboot};
use nix::sys::termios::tcdrain;
use sha2::{Digest as _, Sha256};

/// Longest a report may take, emulation included.
const DEADLINE: Duration = Duration::from_mins(1);

/// Log records read at most: far more than a kernel's buffer holds by default.
const LOG_RECORDS: usize = 20_000;

fn main() {
    let pid1 = std::process::id() == 1;
    if pid1 {
        for (kind, at) in [("proc", "/proc"), ("sysfs", "/sys"), ("devtmpfs", "/dev")] {
            // A folder that exists and a file system that is mounted already are both fine; a missing one shows in the report.
            let _ = fs::create_dir(at);
            let _ = mount(Some(kind), at, Some(kind), MsFlags::empty(), None::<&str>);
        }
        // The kernel must not write between our lines.
        let _ = fs::write("/proc/sys/kernel/printk", "1");
    }
    let cmdline = text("/proc/cmdline").unwrap_or_default();
    let then = if pid1 {
        Then::from_cmdline(&cmdline)
    } else {
        Then::PowerOff
    };
    if pid1 && then != Then::Hang {
        thread::spawn(|| {
            thread::sleep(DEADLINE);
            let _ = fs::write("/proc/sysrq-trigger", "b");
        });
    }

    if pid1 {
        load_modules(&cmdline);
    }
    let mut console = Console::open(pid1);
    if pid1 {
        run(&mut console, &cmdline);
    }
    report(&mut console, &cmdline);
    console.finish();
    if !pid1 {
        return;
    }
    match then {
        Then::PowerOff => {
            let _ = reboot(RebootMode::RB_POWER_OFF);
            let _ = reboot(RebootMode::RB_AUTOBOOT);
        }
        Then::Reboot => {
            let _ = reboot(RebootMode::RB_AUTOBOOT);
        }
        Then::Panic => {
            let _ = fs::write("/proc/sys/kernel/printk", "7");
            let _ = fs::write("/proc/sysrq-trigger", "c");
        }
        Then::Hang => loop {
            thread::park();
        },
    }
    // PID 1 that returns panics the kernel: the right end for `report.panic` without sysrq and for a machine that will not power off.
}

/// What a test packed into `/modules`, in the order of the names. A test that misses one shows it.
fn load_modules(cmdline: &str) {
    for name in sorted_names("/modules") {
        if let Ok(file) = File::open(Path::new("/modules").join(&name)) {
            let own = name
                .split_once('-')
                .map_or("", |(_, module)| module.trim_end_matches(".ko"));
            let words = cmdline.split_whitespace().filter_map(|word| word.split_once('.'));
            let parameters: Vec<&str> = words
                .filter(|(module, _)| *module == own)
                .map(|(_, rest)| rest)
                .collect();
            let parameters = std::ffi::CString::new(parameters.join(" ")).unwrap_or_default();
            let _ = nix::kmod::finit_module(&file, &parameters, nix::kmod::ModuleInitFlags::empty());
        }
    }
}

/// What `report.run=` asks of Cato.
fn run(console: &mut Console, cmdline: &str) {
    for words in commands(cmdline) {
        let result = match Command::new(CATO).args(&words).output() {
            Ok(done) => {
                let code = done
                    .status
                    .code()
                    .map_or_else(|| "none".to_owned(), |code| code.to_string());
                let said = [done.stdout, done.stderr].concat();
                format!(
                    "{}: exit {code}: {}",
                    words.join(" "),
                    String::from_utf8_lossy(&said).trim_end()
                )
            }
            Err(error) => format!("{}: {error}", words.join(" ")),
        };
        console.say("run", &result);
    }
}

/// The tool, where the initrd has it.
const CATO: &str = "/bin/cato";

/// Where the lines go.
enum Console {
    Tty(File),
    Stdout,
}

impl Console {
    fn open(pid1: bool) -> Self {
        let tty = pid1.then(|| OpenOptions::new().write(true).open("/dev/console"));
        tty.and_then(Result::ok).map_or(Self::Stdout, Self::Tty)
    }

    fn say(&mut self, key: &str, value: &str) {
        self.write(&line(key, value));
    }

    fn write(&mut self, line: &str) {
        // One write a line, so that nothing comes between its bytes. There is nobody to tell of a console that fails.
        let line = format!("{line}\n");
        let _ = match self {
            Self::Tty(tty) => tty.write_all(line.as_bytes()),
            Self::Stdout => io::stdout().lock().write_all(line.as_bytes()),
        };
    }

    fn finish(&mut self) {
        self.write(&format!("{PREFIX}{DONE}"));
        match self {
            Self::Tty(tty) => {
                let _ = tcdrain(tty);
            }
            Self::Stdout => {
                let _ = io::stdout().flush();
            }
        }
    }
}

fn report(console: &mut Console, cmdline: &str) {
    // On a line of its own, whatever the kernel left unfinished.
    console.write("");
    if let Ok(uname) = nix::sys::utsname::uname() {
        console.say("uname", &uname.release().to_string_lossy());
    }
    console.say("cmdline", cmdline.trim_end_matches('\n'));
    if let Some(nonce) = text("/nonce") {
        console.say("initrd-nonce", nonce.trim());
    }
    for name in sorted_names("/etc/report") {
        if let Ok(digest) = sha256(&Path::new("/etc/report").join(&name)) {
            console.say("initrd-files", &format!("{name}={digest}"));
        }
    }
    device_tree(console);
    if let Some(kib) = text("/proc/meminfo").as_deref().and_then(mem_total) {
        console.say("memtotal", &kib.to_string());
    }
    if let Some(cpus) = text("/sys/devices/system/cpu/online").as_deref().and_then(count_cpus) {
        console.say("cpus", &cpus.to_string());
    }
    console.say("efi", yes(Path::new("/sys/firmware/efi").exists()));
    console.say("acpi", yes(Path::new("/sys/firmware/acpi/tables").exists()));
    console.say("la57", yes(text("/proc/cpuinfo").is_some_and(|t| has_la57(&t))));
    if let Some(taint) = text("/proc/sys/kernel/tainted") {
        console.say("taint", taint.trim());
    }
    if let Some(range) = text("/proc/iomem").as_deref().and_then(kernel_code) {
        console.say("kernel-code", range);
    }
    if let Ok(initrd) = fs::metadata("/sys/firmware/initrd") {
        console.say("initrd-size", &initrd.len().to_string());
    }
    if let Some(uptime) = text("/proc/uptime") {
        console.say("uptime", uptime.split_whitespace().next().unwrap_or_default());
    }
    for name in sorted_names("/sys/class/watchdog") {
        let driver = fs::read_link(Path::new("/sys/class/watchdog").join(&name).join("device/driver"));
        let driver = driver.unwrap_or_default();
        let driver = driver.file_name().unwrap_or_default().to_string_lossy();
        console.say("watchdog", &format!("{name} {driver}"));
    }
    // Of this machine, not of one on which somebody tries this program.
    if std::process::id() == 1 {
        handover(console);
        pstore(console);
    }
    match read_log() {
        Ok(log) => kernel_log(console, &log),
        Err(e) => console.say("dmesg-errors", &format!("unknown: /dev/kmsg: {e}")),
    }
}

/// What Cato says of its own boot.
fn handover(console: &mut Console) {
    if !Path::new(CATO).exists() {
        return;
    }
    let forms: [(&str, &[&str]); 3] = [
        ("handover", &["--json"]),
        ("handover-text", &[]),
        ("handover-svg", &["--svg", "-"]),
    ];
    for (key, options) in forms {
        match Command::new(CATO).arg("report").args(options).output() {
            Ok(done) if done.status.success() => console.say(key, String::from_utf8_lossy(&done.stdout).trim_end()),
            Ok(done) => console.say("handover-error", String::from_utf8_lossy(&done.stderr).trim_end()),
            Err(error) => console.say("handover-error", &format!("{CATO}: {error}")),
        }
    }
}

/// What an earlier kernel left in memory that a jump keeps.
fn pstore(console: &mut Console) {
    let folder = Path::new("/sys/fs/pstore");
    let _ = mount(Some("pstore"), folder, Some("pstore"), MsFlags::empty(), None::<&str>);
    for name in sorted_names("/sys/fs/pstore") {
        let record = fs::read(folder.join(&name)).unwrap_or_default();
        let record = String::from_utf8_lossy(&record);
        let head = record.lines().next().unwrap_or_default();
        let count = record.lines().filter(|line| line.contains(" cato[")).count();
        console.say("pstore", &format!("{name} {head} {count}"));
    }
}

fn kernel_log(console: &mut Console, log: &Log) {
    if let Some(level) = log.level {
        console.say("el", level);
    }
    for (key, lines) in [("rng", &log.rng), ("kaslr", &log.kaslr), ("dmesg-error", &log.alarms)] {
        for text in lines {
            console.say(key, text);
        }
    }
    console.say("dmesg-errors", &log.alarm_count.to_string());
}

/// The running tree from `/proc`, or, where the kernel keeps ACPI's stub to itself, from `/sys/firmware/fdt`.
fn device_tree(console: &mut Console) {
    let root = Path::new("/proc/device-tree");
    if root.join("chosen").exists() {
        if let Some(model) = property(&root.join("model")) {
            console.say("model", &model);
        }
        let nonce = ["cato-test,nonce", "chosen/cato-test,nonce"];
        if let Some(nonce) = nonce.iter().find_map(|at| property(&root.join(at))) {
            console.say("dtb-nonce", &nonce);
        }
        if let Some(number) = property(&root.join("serial-number")) {
            console.say("serial-number", &number);
        }
        let port = property(&root.join("aliases/ethernet0")).unwrap_or_default();
        if let Ok(address) = fs::read(root.join(port.trim_start_matches('/')).join("local-mac-address")) {
            console.say("mac-address", &hex(&address));
        }
        for name in sorted_names("/proc/device-tree/reserved-memory") {
            if root.join("reserved-memory").join(&name).is_dir() {
                console.say("reserved-memory", &name);
            }
        }
        console.say("chosen-source", "proc");
        for name in sorted_names("/proc/device-tree/chosen") {
            let at = root.join("chosen").join(&name);
            if name != "name"
                && let Ok(meta) = fs::metadata(&at)
                && meta.is_file()
            {
                console.say("chosen", &format!("{name} {}", meta.len()));
            }
        }
        return;
    }
    let Ok(bytes) = fs::read("/sys/firmware/fdt") else {
        return;
    };
    let Ok(fdt) = Fdt::new(&bytes) else {
        console.say("chosen-source", "fdt: malformed");
        return;
    };
    console.say("chosen-source", "fdt");
    let chosen = fdt.root().child("chosen");
    if let Some(model) = fdt.root().property("model") {
        console.say("model", &as_text(model.value()));
    }
    let in_root = fdt.root().property("cato-test,nonce");
    let nonce = in_root.or_else(|| chosen.as_ref().and_then(|c| c.property("cato-test,nonce")));
    if let Some(nonce) = nonce {
        console.say("dtb-nonce", &as_text(nonce.value()));
    }
    if let Some(chosen) = chosen {
        for property in chosen.properties() {
            console.say("chosen", &format!("{} {}", property.name(), property.value().len()));
        }
    }
}

fn read_log() -> io::Result<Log> {
    let mut kmsg = OpenOptions::new()
        .read(true)
        .custom_flags(nix::fcntl::OFlag::O_NONBLOCK.bits())
        .open("/dev/kmsg")?;
    let mut log = Log::default();
    let mut record = vec![0; 8192];
    for _ in 0..LOG_RECORDS {
        match kmsg.read(&mut record) {
            Ok(0) => break,
            Ok(n) => {
                let record = String::from_utf8_lossy(record.get(..n).unwrap_or_default());
                if let Some(text) = kmsg_text(&record) {
                    log.take(text);
                }
            }
            // No further record.
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
            // Some were overwritten: the next read goes on behind the gap.
            Err(e) if e.raw_os_error() == Some(nix::errno::Errno::EPIPE as i32) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(log)
}

fn text(path: &str) -> Option<String> {
    Some(String::from_utf8_lossy(&fs::read(path).ok()?).into_owned())
}

fn property(path: &Path) -> Option<String> {
    fs::read(path).ok().map(|bytes| as_text(&bytes))
}

fn as_text(value: &[u8]) -> String {
    String::from_utf8_lossy(value).trim_end_matches('\0').to_owned()
}

fn yes(is: bool) -> &'static str {
    if is { "yes" } else { "no" }
}

fn sorted_names(folder: &str) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<_> = entries.map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn sha256(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut digest = Sha256::new();
    let mut part = vec![0; 65536];
    loop {
        let n = file.read(&mut part)?;
        if n == 0 {
            return Ok(hex(&digest.finalize()));
        }
        digest.update(part.get(..n).unwrap_or_default());
    }
}
