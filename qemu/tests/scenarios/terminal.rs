//! The menu in a terminal as people have them, which is none of ours: what is painted is read as it looks.

use std::fs;
use std::time::Duration;

use anyhow::{Result, ensure};
use config::Arch;
use qemu::guests;
use qemu::scenario::{Context, Scenario};
use qemu::tmux::Tmux;
use qemu::workspace;

use crate::menu::{SOON, chain};

/// What serial consoles and their screens have.
const USUAL: (u16, u16) = (80, 24);
/// So often the menu asks a terminal for its size.
const ASKED: Duration = Duration::from_secs(10);

pub(crate) fn scenarios() -> Vec<Scenario> {
    let on_a_machine = Arch::ALL
        .into_iter()
        .map(|arch| Scenario::new(format!("console/{arch}/tmux"), move |context| tmux(context, arch)).long_if(true));
    let on_this_one = Arch::running().map(|arch| Scenario::new(format!("console/{arch}/demo"), move |_| demo(arch)));
    on_a_machine.chain(on_this_one).collect()
}

/// A page as it was reviewed.
fn page(name: &str) -> Result<Vec<String>> {
    let file = workspace::root().join("stage/src/menu/screens").join(name);
    Ok(fs::read_to_string(file)?.lines().map(str::to_owned).collect())
}

/// All but the seconds that are left.
fn timeless(rows: &[String]) -> Vec<String> {
    let is_clock = |row: &String| row.starts_with("Without a key, Cato goes on in ");
    rows.iter().filter(|row| !is_clock(row)).cloned().collect()
}

fn is_page(tmux: &Tmux, name: &str) -> Result<()> {
    let wanted = timeless(&page(name)?);
    tmux.wait_until(SOON, |rows| timeless(rows).ends_with(&wanted))
}

/// The only bar is on that entry.
fn bar_is_on(tmux: &Tmux, entry: &str) -> Result<()> {
    tmux.wait_until(SOON, |_| {
        tmux.bars()
            .is_ok_and(|bars| bars.len() == 1 && bars.iter().all(|bar| bar.contains(entry)))
    })
}

/// `cato menu --demo` on this machine: the pages are the ones that were reviewed, in both forms.
fn demo(arch: Arch) -> Result<()> {
    let cato = guests::cato(arch)?;
    let demo = format!("'{}' menu --demo --failed", cato.display());
    let tmux = Tmux::start(&demo, USUAL)?;
    is_page(&tmux, "failed-vt100.txt")?;
    tmux.press(&["Down"])?;
    bar_is_on(&tmux, "  2  b ")?;
    tmux.resize((60, 20))?;
    tmux.wait_for("  l  log    m  machine    h  how long it took", ASKED)?;
    let screen = tmux.screen()?;
    ensure!(
        screen.first().is_some_and(|row| row.starts_with("Cato ")) && screen.len() <= 20,
        "the page does not fit, or was painted twice:\n{}",
        screen.join("\n")
    );
    tmux.resize(USUAL)?;
    is_page(&tmux, "failed-vt100.txt")?;
    tmux.press(&["g"])?;
    tmux.wait_for("demo: ", SOON)?;

    let tmux = Tmux::start(&format!("{demo} --plain"), USUAL)?;
    // Here, nothing is above it: which of the consoles has the menu, and what a terminal shows that does not answer.
    let wanted = timeless(&page("failed-plain.txt")?.split_off(2));
    tmux.wait_until(SOON, |rows| timeless(rows).ends_with(&wanted))
}

/// The same from a machine's serial line: stopped in time, chosen with the keys, and booted.
fn tmux(context: &Context, arch: Arch) -> Result<()> {
    let ready = context.prepare(&chain(context, arch, 20, "")?)?;
    // Whatever becomes of this program, the machine ends; in the foreground, or the terminal is not its own.
    let machine = format!("timeout --foreground 600 {}", ready.machine.command_line());
    let tmux = Tmux::start(&machine, USUAL)?;
    tmux.wait_for("press Space 3 times within 20 s to stop", SOON * 2)?;
    tmux.press(&["Space", "Space", "Space"])?;
    tmux.wait_for("Stopped at the console.", SOON)?;
    tmux.press(&["Down"])?;
    bar_is_on(&tmux, "  2  b ")?;
    // Another terminal, larger and blank: it is asked, and painted anew.
    tmux.resize((100, 40))?;
    tmux.press(&["-R"])?;
    tmux.wait_for("Stopped at the console.", ASKED)?;
    tmux.press(&["Enter"])?;
    tmux.wait_for(r#"select: entry "b" "#, SOON)?;
    tmux.wait_for("report: done", SOON * 2)
}
