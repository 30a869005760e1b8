//! What is on the disks, for somebody at the menu: volumes, folders, and the first lines of files. A few rows of each.

use std::io::Read as _;
use std::time::Instant;

use config::modules::Index;

use crate::deadlines::{DEVICE_WAIT, LISTING};
use crate::menu::view::Told;
use crate::probe::volumes::{State, Volume};
use crate::probe::{self, Caller, FileTree, FileTreeError, ProbeError};
use crate::text::{Size, word};

/// The most rows of a file or a folder, and bytes of a file, that are shown.
const ROWS: usize = 500;
const HEAD: u64 = 16 << 10;

fn leads(text: String, to: String) -> Told {
    Told { text, leads: Some(to) }
}

/// What a volume is, without the long numbers.
fn row(volume: &Volume) -> String {
    let mut row = format!("{:<12} {:>9}", volume.name, Size(volume.size).to_string());
    match &volume.state {
        State::Read(_) => {}
        State::Unreadable(why) => row.extend([" can't be read: ", why]),
        State::Silent => row.push_str(" does not answer"),
        State::Empty => row.push_str(" no medium"),
    }
    let filesystem = volume.all_filesystems().into_iter().next();
    row.extend(filesystem.map(|fs| format!(" {}", fs.kind)));
    let label = filesystem.and_then(|fs| fs.label.as_ref());
    row.extend(label.map(|label| format!(" LABEL={}", word(label))));
    row.extend(
        volume
            .partlabel
            .iter()
            .map(|label| format!(" PARTLABEL={}", word(label))),
    );
    row
}

/// All volumes.
pub(super) fn volumes(index: &Index, caller: &mut Caller<'_>) -> Result<Vec<Told>, ProbeError> {
    let deadline = Instant::now().checked_add(LISTING).unwrap_or_else(Instant::now);
    let mut rows: Vec<Told> = probe::find_volumes(index, deadline, caller)?
        .into_iter()
        .map(|volume| leads(row(&volume), format!("{}:", volume.name)))
        .collect();
    if rows.is_empty() {
        rows.push("No disk was seen.".to_owned().into());
    }
    Ok(rows)
}

/// What is at a place that a row has led to: `vda2:boot/Image`.
pub(super) fn look(at: &str, index: &Index, caller: &mut Caller<'_>) -> Result<Vec<Told>, String> {
    let (volume, path) = at.split_once(':').unwrap_or((at, ""));
    let deadline = Instant::now().checked_add(DEVICE_WAIT).unwrap_or_else(Instant::now);
    let opened = probe::open_volume(volume, index, deadline, caller);
    let opened = opened.map_err(|error| error.to_string())?;
    let above = match path.rsplit_once('/') {
        Some((folder, _)) => format!("{volume}:{folder}"),
        None if path.is_empty() => String::new(),
        None => format!("{volume}:"),
    };
    let mut rows = vec![leads("..".to_owned(), above)];
    if path.is_empty() {
        rows.push(opened.describe.into());
    }
    match rows_of(opened.tree.as_ref(), volume, path) {
        Ok(more) => rows.extend(more),
        // The way back is above it.
        Err(error) => rows.push(format!("{}: {error}", word(path)).into()),
    }
    Ok(rows)
}

fn rows_of(tree: &dyn FileTree, volume: &str, path: &str) -> Result<Vec<Told>, FileTreeError> {
    let mut entries = match tree.list(path) {
        Err(FileTreeError::NotAFolder) => return head(tree, path),
        entries => entries?,
    };
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    let below = |name: &str| {
        if path.is_empty() {
            name.to_owned()
        } else {
            format!("{path}/{name}")
        }
    };
    let mut rows: Vec<Told> = entries
        .iter()
        .take(ROWS)
        .map(|entry| {
            let text = match entry.bytes {
                Some(bytes) => format!("{:>12}  {}", bytes, entry.name),
                None => format!("{:>12}  {}", entry.kind, entry.name),
            };
            leads(text, format!("{volume}:{}", below(&entry.name)))
        })
        .collect();
    match entries.len().saturating_sub(rows.len()) {
        0 if rows.is_empty() => rows.push("This folder is empty.".to_owned().into()),
        0 => {}
        more => rows.push(format!("{more} more").into()),
    }
    Ok(rows)
}

/// The beginning of a file, where it is a text.
fn head(tree: &dyn FileTree, path: &str) -> Result<Vec<Told>, FileTreeError> {
    let file = tree.open(path)?;
    let mut bytes = Vec::new();
    file.reader.take(HEAD).read_to_end(&mut bytes)?;
    let mut rows: Vec<Told> = vec![format!("{path}: {} bytes", file.size).into()];
    if bytes.contains(&0) {
        let first: Vec<String> = bytes.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        rows.push(format!("It is no text; its first bytes are {}.", first.join(" ")).into());
        return Ok(rows);
    }
    let text = String::from_utf8_lossy(&bytes);
    rows.extend(text.lines().take(ROWS).map(|line| line.to_owned().into()));
    if file.size > HEAD {
        rows.push(format!("It goes on after {}.", Size(HEAD)).into());
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::DirTree;
    use std::fs;

    fn texts(rows: &[Told]) -> Vec<&str> {
        rows.iter().map(|row| row.text.as_str()).collect()
    }

    #[test]
    fn folders_lead_to_what_is_in_them_and_files_to_their_first_lines() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("boot")).unwrap();
        fs::write(dir.path().join("boot/Image"), [0, 1, 2, 0xff]).unwrap();
        fs::write(dir.path().join("boot/a.conf"), "default a\ntimeout 3\n").unwrap();
        std::os::unix::fs::symlink("boot/Image", dir.path().join("vmlinuz")).unwrap();
        nix::unistd::mkfifo(&dir.path().join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let tree = DirTree::new(dir.path()).unwrap();
        let rows = |path: &str| rows_of(&tree, "vda2", path);
        let top = rows("").unwrap();
        assert_eq!(
            texts(&top),
            ["      folder  boot", "       other  fifo", "        link  vmlinuz"]
        );
        assert_eq!(top[0].leads.as_deref(), Some("vda2:boot"));
        let boot = rows("boot").unwrap();
        assert_eq!(texts(&boot), ["           4  Image", "          20  a.conf"]);
        assert_eq!(boot[1].leads.as_deref(), Some("vda2:boot/a.conf"));
        assert_eq!(
            texts(&rows("boot/a.conf").unwrap()),
            ["boot/a.conf: 20 bytes", "default a", "timeout 3"]
        );
        assert_eq!(
            texts(&rows("vmlinuz").unwrap())[1],
            "It is no text; its first bytes are 00 01 02 ff."
        );
        for (path, why) in [("fifo", "a FIFO, not a regular file"), ("boot/none", "no such file")] {
            assert_eq!(rows(path).unwrap_err().to_string(), why);
        }
    }
}
