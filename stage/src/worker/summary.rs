//! What machine this is, for somebody at the menu.
//!
//! Given procfs and sysfs; responsible for lines that fit on a screen. No file that may block is read, and no device.

use std::fs;
use std::path::Path;

use crate::probe::{block, devices};
use crate::text::Size;

/// Ranges of RAM and disks that are listed.
const MOST: usize = 12;

/// The lines.
pub(super) fn summary(root: &Path) -> String {
    let text = |file: &str| fs::read_to_string(root.join(file)).ok();
    let line =
        |file: &str| Some(text(file)?.trim_matches(['\0', '\n', ' ']).to_owned()).filter(|line| !line.is_empty());
    let mut lines = Vec::new();
    let mut say = |label: &str, what: Option<String>| lines.extend(what.map(|what| format!("{label:<9} {what}")));
    let product = ["sys_vendor", "product_name", "product_version"];
    let product = product
        .iter()
        .filter_map(|name| line(&format!("sys/class/dmi/id/{name}")));
    let product: Vec<String> = product.collect();
    let product = (!product.is_empty()).then(|| product.join(" "));
    say("machine", line("sys/firmware/devicetree/base/model").or(product));
    say(
        "kernel",
        line("proc/version").map(|version| version.split(" (").next().unwrap_or_default().to_owned()),
    );
    say("cmdline", line("proc/cmdline"));
    say("cpus", line("sys/devices/system/cpu/present"));
    let iomem = text("proc/iomem").unwrap_or_default();
    let ram = iomem.lines().filter(|line| line.ends_with(" : System RAM"));
    for range in ram.take(MOST) {
        say("memory", range.split(" : ").next().map(|range| range.trim().to_owned()));
    }
    let blocks = block::blocks(&root.join("sys"));
    for block in blocks.iter().take(MOST) {
        let name = block
            .partname
            .as_ref()
            .map(|name| format!(" {name:?}"))
            .unwrap_or_default();
        let label = if block.partition.is_some() { "partition" } else { "disk" };
        say(label, Some(format!("{} {}{name}", block.name, Size(block.bytes()))));
    }
    if blocks.len() > MOST {
        say("disk", Some(format!("{} more", blocks.len().saturating_sub(MOST))));
    }
    for name in devices::names(&root.join("sys/class/watchdog")) {
        let of = |file: &str| line(&format!("sys/class/watchdog/{name}/{file}"));
        let what = [
            of("identity"),
            of("timeout").map(|seconds| format!("{seconds} s")),
            of("state"),
        ];
        let what: Vec<String> = what.into_iter().flatten().collect();
        say("watchdog", Some(format!("{name} {}", what.join(", "))));
    }
    for console in text("proc/consoles").unwrap_or_default().lines().take(MOST) {
        say(
            "console",
            Some(console.split_ascii_whitespace().collect::<Vec<_>>().join(" ")),
        );
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_is_told_in_lines_and_one_that_says_nothing_in_none() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(summary(root.path()), "");
        let put = |file: &str, text: &str| {
            let file = root.path().join(file);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        };
        put("proc/version", "Linux version 6.12.1 (root@x) (gcc 12)\n");
        put("sys/firmware/devicetree/base/model", "Board 7\0");
        put(
            "proc/iomem",
            "40000000-bfffffff : System RAM\n  40000000-40ffffff : Kernel code\n",
        );
        put("sys/class/watchdog/watchdog0/identity", "iTCO_wdt\n");
        put("sys/class/watchdog/watchdog0/timeout", "30\n");
        assert_eq!(
            summary(root.path()),
            "machine   Board 7\nkernel    Linux version 6.12.1\nmemory    40000000-bfffffff\n\
             watchdog  watchdog0 iTCO_wdt, 30 s"
        );
    }
}
