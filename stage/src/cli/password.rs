//! `cato password`: a password → its hash, for `[console] password`.

use std::io::{self, BufRead as _, Read as _, Write as _};

use nix::sys::termios::{LocalFlags, SetArg, tcgetattr, tcsetattr};

use crate::sys::random;
use crate::text::password::{MOST, hash};

/// Asks twice on a terminal, without showing what is typed; reads one line of anything else.
pub(super) fn run() -> Result<String, String> {
    let typed = match tcgetattr(io::stdin()) {
        Ok(before) => {
            let mut hidden = before.clone();
            hidden.local_flags.remove(LocalFlags::ECHO);
            tcsetattr(io::stdin(), SetArg::TCSANOW, &hidden).map_err(|error| error.desc().to_owned())?;
            let both = ask("Password: ").and_then(|first| Ok((first, ask("The same again: ")?)));
            let _ = tcsetattr(io::stdin(), SetArg::TCSANOW, &before);
            let (first, second) = both.map_err(|error| error.to_string())?;
            if first != second {
                return Err("these are two passwords; try again".to_owned());
            }
            first
        }
        Err(_) => line().map_err(|error| error.to_string())?,
    };
    // What every keyboard and every line has; of three spaces for the menu, one more may be left.
    if typed.starts_with(' ') || !typed.bytes().all(|b| (b' '..=b'~').contains(&b)) {
        return Err("the password may have printable ASCII only, and no space in front; choose another".to_owned());
    }
    if typed.is_empty() || typed.len() > MOST {
        return Err(format!("the password has {} bytes; it needs 1 to {MOST}", typed.len()));
    }
    let mut salt = [0; 16];
    if !random::fill(&mut salt) {
        return Err("the kernel has no random numbers yet; try again later".to_owned());
    }
    hash(&typed, salt).ok_or_else(|| "there is not enough memory".to_owned())
}

fn ask(what: &str) -> io::Result<String> {
    let mut err = io::stderr();
    err.write_all(what.as_bytes())?;
    let line = line();
    err.write_all(b"\n")?;
    line
}

fn line() -> io::Result<String> {
    let mut line = String::new();
    // One more than may be, and the line's end.
    let most = u64::try_from(MOST).unwrap_or(u64::MAX).saturating_add(2);
    io::stdin().lock().take(most).read_line(&mut line)?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}
