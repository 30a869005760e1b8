//! Searches in a machine of folders, where a bus's `drivers_probe` is a FIFO that is full: who binds a device waits until
//! a thread empties it, or for ever.

use super::*;
use config::modules::Index;
use std::cell::RefCell;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, symlink};

use nix::fcntl::OFlag;
use nix::sys::stat::Mode;

struct Machine {
    dir: tempfile::TempDir,
    /// Keep the FIFOs open.
    buses: Vec<File>,
    /// What one search learnt for the next.
    late: RefCell<Vec<String>>,
}

impl Machine {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for folder in ["sys/class/block", "dev"] {
            fs::create_dir_all(dir.path().join(folder)).unwrap();
        }
        let (buses, late) = (Vec::new(), RefCell::default());
        Self { dir, buses, late }
    }

    fn sys(&self) -> PathBuf {
        self.dir.path().join("sys")
    }

    /// A bus whose probes do not return.
    fn bus(&mut self, bus: &str) -> File {
        fs::create_dir_all(self.sys().join("bus").join(bus).join("devices")).unwrap();
        let file = devices::probe_file(&self.sys(), bus);
        nix::unistd::mkfifo(&file, Mode::S_IRWXU).unwrap();
        let open = || {
            let mut options = File::options();
            options.read(true).write(true).custom_flags(OFlag::O_NONBLOCK.bits());
            options.open(&file).unwrap()
        };
        self.buses.push(open());
        let mut fifo = open();
        while fifo.write(&[0; 4096]).is_ok() {}
        fifo
    }

    /// A bus whose probes return `after` that time, and the disk of `device` is there then.
    fn slow_bus(&mut self, bus: &str, device: &'static str, after: Duration) {
        let mut fifo = self.bus(bus);
        let root = self.dir.path().to_owned();
        std::thread::spawn(move || {
            std::thread::sleep(after);
            disk(&root, device, READABLE);
            while fifo.read(&mut [0; 4096]).is_ok() {}
        });
    }

    fn device(&self, bus: &str, name: &str, modalias: &str) {
        let folder = self.sys().join("devices").join(name);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("modalias"), modalias).unwrap();
        symlink(&folder, self.sys().join("bus").join(bus).join("devices").join(name)).unwrap();
    }

    /// Searches for `boot-a`; gives what was found, what is left, and what was said.
    fn find(&self, share: Duration, wait: Duration) -> (Result<Volume, ProbeError>, Vec<Unfinished>, Vec<String>) {
        let mut said = Vec::new();
        let mut say = |line: &str| said.push(line.to_owned());
        let (sys, dev, index) = (self.sys(), self.dir.path().join("dev"), Index::default());
        let mut modules = Modules::new(&index);
        let (known, mut heard) = (self.late.borrow().clone(), Vec::new());
        let mut late = |name: &str| heard.push(name.to_owned());
        let mut seen = None;
        let mut caller = Caller {
            seen: &mut seen,
            say: &mut say,
            known_late: &known,
            late: &mut late,
        };
        let mut search = Search::begin(&sys, &dev, &mut modules, &mut caller).unwrap();
        search.share = share;
        let source = config::Source::PartLabel("boot-a".to_owned());
        let found = search.find(Wanted::Source(&source), Instant::now() + wait);
        let unfinished = search.unfinished();
        self.late.borrow_mut().extend(heard);
        (found, unfinished, said)
    }
}

const DISK: &str = "virtio:d00000002v00001AF4";
const LUN: &str = "scsi:t-0x00";
/// A squashfs as far as anybody looks.
const READABLE: &[u8] = &{
    let mut bytes = [0; 4096];
    *bytes.first_chunk_mut().unwrap() = *b"hsqs";
    bytes[28] = 4;
    bytes
};
const BLANK: &[u8] = &[0; 4096];

/// The disk of `device`: `NAME-disk` with the partition `NAME-1`, called `boot-a`.
fn disk(root: &Path, device: &str, content: &[u8]) {
    let (sys, dev) = (root.join("sys"), root.join("dev"));
    let whole = format!("{device}-disk");
    let partition = format!("{device}-1");
    let folder = sys.join("devices").join(device).join(&whole);
    fs::create_dir_all(folder.join(&partition)).unwrap();
    fs::write(folder.join("size"), "8\n").unwrap();
    fs::write(folder.join(&partition).join("partition"), "1\n").unwrap();
    fs::write(folder.join(&partition).join("uevent"), "PARTNAME=boot-a\n").unwrap();
    fs::write(folder.join(&partition).join("size"), "8\n").unwrap();
    fs::write(dev.join(&whole), BLANK).unwrap();
    fs::write(dev.join(&partition), content).unwrap();
    let class = sys.join("class/block");
    symlink(folder.join(&partition), class.join(&partition)).unwrap();
    symlink(&folder, class.join(&whole)).unwrap();
}

#[test]
fn dead_devices_take_their_time_from_nobody_and_are_named() {
    let mut machine = Machine::new();
    let _ = machine.bus("scsi");
    machine.slow_bus("virtio", "v0", Duration::from_millis(1800));
    for name in ["a0", "a1", "a2", "a3"] {
        machine.device("scsi", name, LUN);
    }
    machine.device("virtio", "v0", DISK);
    let (found, unfinished, said) = machine.find(Duration::from_millis(400), Duration::from_millis(1500));
    assert_eq!(found.unwrap().name, "v0-1", "{said:?}");
    assert!(said[0].starts_with("scsi a0: no answer within"), "{said:?}");
    let stuck: Vec<String> = unfinished
        .iter()
        .filter(|d| d.is_late() && d.is_running())
        .map(Unfinished::to_string)
        .filter(|warning| warning.contains("scsi"))
        .collect();
    assert_eq!(stuck.len(), 4);
    assert_eq!(
        stuck[3],
        "warning: scsi a3 has not finished its probe; the kernel may not be able to leave until it does \
         (remove or repair that disk)"
    );
}

#[test]
fn what_was_late_gets_its_turn_last_the_next_time() {
    let mut machine = Machine::new();
    let _ = machine.bus("scsi");
    for name in ["a0", "a1"] {
        machine.device("scsi", name, LUN);
    }
    let (found, ..) = machine.find(Duration::from_millis(100), Duration::from_millis(300));
    assert!(matches!(found, Err(ProbeError::NotFound { .. })));
    assert_eq!(*machine.late.borrow(), ["scsi a0", "scsi a1"]);
    machine.slow_bus("virtio", "v0", Duration::ZERO);
    machine.device("virtio", "v0", DISK);
    let (found, unfinished, said) = machine.find(Duration::from_secs(5), Duration::from_secs(20));
    assert_eq!(found.unwrap().name, "v0-1", "{said:?}");
    assert!(
        unfinished.iter().all(|d| !d.to_string().contains("scsi")),
        "{unfinished:?}"
    );
}

#[test]
fn the_deadline_moves_so_far_and_no_farther() {
    let machine = Machine::new();
    let (sys, index) = (machine.sys(), Index::default());
    let mut modules = Modules::new(&index);
    let mut said = 0;
    let mut say = |_: &str| said += 1;
    let mut names = Vec::new();
    let mut late = |name: &str| names.push(name.to_owned());
    let deadline = Instant::now();
    let mut seen = None;
    let mut caller = Caller {
        seen: &mut seen,
        say: &mut say,
        known_late: &[],
        late: &mut late,
    };
    let mut search = Search::begin(&sys, &sys, &mut modules, &mut caller).unwrap();
    search.deadline = deadline;
    for _ in 0..100 {
        search.excuse("virtio virtio0", BIND_SHARE);
    }
    search.excuse("vda1", BIND_SHARE);
    assert_eq!(search.deadline, deadline + LATE_SHARE);
    assert_eq!(said, 2, "once of each");
    assert_eq!(names, ["virtio virtio0", "vda1"], "what the next search is given");
}

#[test]
fn a_volume_that_can_t_be_read_is_taken_only_when_there_is_no_other() {
    let long = Duration::from_mins(1);
    let machine = Machine::new();
    disk(machine.dir.path(), "a0", BLANK);
    let begin = Instant::now();
    let (found, ..) = machine.find(long, long);
    assert_eq!(found.unwrap().name, "a0-1");
    assert!(begin.elapsed() < long / 2, "there is nothing to wait for");

    let mut machine = Machine::new();
    disk(machine.dir.path(), "a0", BLANK);
    machine.slow_bus("virtio", "v0", Duration::from_millis(300));
    machine.device("virtio", "v0", DISK);
    let (found, _, said) = machine.find(long, long);
    assert_eq!(found.unwrap().name, "v0-1");
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].contains("not unique: taking v0-1"), "{said:?}");
}

/// The state is looked for a moment before the entry's source: no disk is read twice for that.
#[test]
fn what_was_seen_a_moment_ago_is_not_read_again() {
    let machine = Machine::new();
    disk(machine.dir.path(), "a0", READABLE);
    let (sys, dev, index) = (machine.sys(), machine.dir.path().join("dev"), Index::default());
    let mut seen: Option<Seen> = None;
    let mut kinds = |is_old: bool| {
        if let (true, Some(seen)) = (is_old, &mut seen) {
            seen.ended = Instant::now().checked_sub(SAFETY_LOOK);
        }
        let (mut modules, mut say, mut late) = (Modules::new(&index), |_: &str| (), |_: &str| ());
        let mut caller = Caller {
            seen: &mut seen,
            say: &mut say,
            known_late: &[],
            late: &mut late,
        };
        let mut search = Search::begin(&sys, &dev, &mut modules, &mut caller).unwrap();
        let source = config::Source::PartLabel("boot-a".to_owned());
        let found = search.find(Wanted::Source(&source), Instant::now() + Duration::from_mins(1));
        found.unwrap().filesystems(&source).len()
    };
    assert_eq!(kinds(false), 1);
    fs::write(dev.join("a0-1"), BLANK).unwrap();
    assert_eq!(kinds(false), 1);
    assert_eq!(kinds(true), 0);
}

/// BLKPG is not for the file that stands for the disk: that it is tried shows in what is said.
#[test]
fn partitions_that_are_gone_are_added_again() {
    let machine = Machine::new();
    disk(machine.dir.path(), "a", READABLE);
    let (sys, dev) = (machine.sys(), machine.dir.path().join("dev"));
    let mut table = BLANK.to_vec();
    table[446 + 4] = 0x83;
    (table[446 + 8], table[446 + 12]) = (2, 4);
    table[510..512].copy_from_slice(&[0x55, 0xAA]);
    fs::write(dev.join("a-disk"), table).unwrap();
    let said = RefCell::new(Vec::new());
    let mut say = |line: &str| said.borrow_mut().push(line.to_owned());
    let (index, mut late, mut seen) = (Index::default(), |_: &str| (), None);
    let mut modules = Modules::new(&index);
    let mut caller = Caller {
        seen: &mut seen,
        say: &mut say,
        known_late: &[],
        late: &mut late,
    };
    let mut search = Search::begin(&sys, &dev, &mut modules, &mut caller).unwrap();
    search.deadline = Instant::now() + Duration::from_secs(20);
    search.look();
    assert_eq!(*said.borrow(), [""; 0]);
    fs::remove_file(sys.join("class/block/a-1")).unwrap();
    search.look();
    search.look();
    let lines = said.borrow();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(
        lines[0].starts_with("a-disk: partition 1 can't be added: "),
        "{lines:?}"
    );
    assert!(lines[0].ends_with("; going on without it"), "{lines:?}");
}

/// Or a trial that is over would never be noted.
#[test]
fn a_disk_that_never_answers_is_not_the_one_with_the_state() {
    let machine = Machine::new();
    for name in ["a", "b"] {
        disk(machine.dir.path(), name, READABLE);
    }
    let (sys, dev) = (machine.sys(), machine.dir.path().join("dev"));
    let stuck = dev.join("a-disk"); // open(2) waits for a writer
    fs::remove_file(&stuck).unwrap();
    nix::unistd::mkfifo(&stuck, Mode::S_IRWXU).unwrap();
    let begin = Instant::now();
    assert_eq!(crate::probe::present_states(&sys, &dev, None), Vec::<PathBuf>::new());
    assert!(begin.elapsed() < Duration::from_secs(20));
}
