//! `/init` of a machine whose power is cut: appends `/update` to the file `which` of the disk, syncs it, says so, and does
//! nothing more, so that what was synced stays where the file system put it first.
//!
//! Given modules to load in the order of `/modules`, and the file system's name in `/kind`.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;
use std::thread;
use std::time::Duration;

use nix::kmod::{ModuleInitFlags, finit_module};
use nix::mount::{MsFlags, mount};

const DISK: &str = "/dev/vda";

fn main() {
    let said = match write() {
        Ok(()) => "write: synced".to_owned(),
        Err(error) => format!("write: failed: {error}"),
    };
    // There is nobody to tell of a console that fails.
    let _ = OpenOptions::new()
        .write(true)
        .open("/dev/console")
        .and_then(|mut console| writeln!(console, "\n{said}"));
    loop {
        thread::park();
    }
}

fn write() -> io::Result<()> {
    for module in fs::read_to_string("/modules")?.lines() {
        finit_module(&File::open(module)?, c"", ModuleInitFlags::empty())?;
    }
    for folder in ["/dev", "/mnt"] {
        fs::create_dir_all(folder)?;
    }
    mount(
        Some("devtmpfs"),
        "/dev",
        Some("devtmpfs"),
        MsFlags::empty(),
        None::<&str>,
    )?;
    while !Path::new(DISK).exists() {
        thread::sleep(Duration::from_millis(100));
    }
    let kind = fs::read_to_string("/kind")?;
    mount(Some(DISK), "/mnt", Some(kind.as_str()), MsFlags::empty(), None::<&str>)?;
    let mut file = OpenOptions::new().append(true).open("/mnt/which")?;
    file.write_all(&fs::read("/update")?)?;
    file.sync_all()
}
