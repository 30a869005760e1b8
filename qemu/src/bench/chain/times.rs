//! What a console says about one boot from power on. Pure.

use std::fmt;
use std::time::Duration;

use crate::console::Line;
use crate::timeline::{JUMP, cato_line};

/// What the shell script of kexec-tools says as it begins.
pub const SHELL_START: &str = "shell: start";
/// And before it jumps.
pub const SHELL_JUMP: &str = "shell: jump";

/// Where the time goes. Without a service Linux, its four parts are zero.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Times {
    /// Power to the first kernel's first line.
    pub firmware: Duration,
    /// The service kernel, to PID 1's first line.
    pub service: Duration,
    /// PID 1, to its `reboot(2)`.
    pub stage: Duration,
    /// The service kernel shuts its devices down.
    pub leave: Duration,
    /// No kernel runs.
    pub dead: Duration,
    /// Power to the main kernel's first line: all of these.
    pub first_line: Duration,
    /// Power to the main system's PID 1.
    pub pid1: Duration,
}

/// The times of a whole boot; what is missing, for one that is not.
pub fn times(lines: &[Line], is_direct: bool) -> Result<Times, &'static str> {
    let from = |n: usize| lines.get(n..).unwrap_or_default().iter();
    let position = |n: usize, is: &dyn Fn(&str) -> bool| from(n).position(|line| is(&line.text)).map(|found| n + found);
    let at = |n: usize| {
        lines
            .get(n)
            .map_or(Duration::ZERO, |line| Duration::from_millis(line.ms))
    };
    let is_kernel = |text: &str| text.contains("Linux version ");
    let is_start = |text: &str| text.contains(SHELL_START) || cato_line(text).is_some();
    let is_jump =
        |text: &str| text.contains(SHELL_JUMP) || cato_line(text).is_some_and(|(_, said)| said.starts_with(JUMP));
    let is_bye = |text: &str| text.ends_with("Bye!") || text.contains("kexec_core: Starting new kernel");

    let first = position(0, &is_kernel).ok_or("no kernel said anything")?;
    let mut times = Times {
        firmware: at(first),
        ..Times::default()
    };
    let mut main = first;
    if !is_direct {
        let start = position(first, &is_start).ok_or("PID 1 said nothing")?;
        let jump = position(start, &is_jump).ok_or("nothing jumped")?;
        main = position(jump, &is_kernel).ok_or("the main kernel said nothing")?;
        let between = lines.get(jump..main).unwrap_or_default();
        let bye = between
            .iter()
            .rposition(|line| is_bye(&line.text))
            .map_or(jump, |n| jump + n);
        times.service = at(start).saturating_sub(at(first));
        times.stage = at(jump).saturating_sub(at(start));
        times.leave = at(bye).saturating_sub(at(jump));
        times.dead = at(main).saturating_sub(at(bye));
    }
    times.first_line = at(main);
    let init = position(main, &|text| text.contains("as init process")).ok_or("the main system has no PID 1")?;
    times.pid1 = at(init);
    Ok(times)
}

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [
            ("firmware", self.firmware),
            ("service", self.service),
            ("stage", self.stage),
            ("leave", self.leave),
            ("dead", self.dead),
            ("first line", self.first_line),
            ("PID 1", self.pid1),
        ];
        let parts: Vec<String> = parts
            .into_iter()
            .filter(|(_, part)| !part.is_zero())
            .map(|(name, part)| format!("{name} {:.3} s", part.as_secs_f64()))
            .collect();
        f.write_str(&parts.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::console::samples::lines;

    #[test]
    fn the_parts_add_up_to_the_first_line() {
        for (start, jump) in [
            (
                "cato[   0.700] start: cato 0.1.0",
                "cato[   1.500] hand-off: reboot(KEXEC)",
            ),
            (SHELL_START, SHELL_JUMP),
        ] {
            let text = format!(
                "10 U-Boot\n1000 [    0.000000] Linux version 6.12\n1700 {start}\n2500 {jump}\n\
                 2600 [    2.0] kexec_core: Starting new kernel\n2610 [    2.0] Bye!\n\
                 2800 [    0.000000] Linux version 6.12\n4000 [    1.2] Run /init as init process"
            );
            let times = times(&lines(&text), false).unwrap();
            let parts = [times.firmware, times.service, times.stage, times.leave, times.dead];
            assert_eq!(parts.map(|part| part.as_millis()), [1000, 700, 800, 110, 190]);
            assert_eq!(times.first_line, parts.iter().sum());
            assert_eq!(times.pid1.as_millis(), 4000);
        }
    }

    #[test]
    fn a_direct_boot_has_a_firmware_only() {
        let text = "900 Linux version 6.12\n2000 Run /init as init process";
        let times = times(&lines(text), true).unwrap();
        assert_eq!((times.firmware, times.stage), (times.first_line, Duration::ZERO));
        assert_eq!(super::times(&lines(text), false), Err("PID 1 said nothing"));
    }
}
