//! The kind of every failure that a worker can tell.

use std::io;
use std::time::Duration;

use config::{Arch, Sha256};
use nix::errno::Errno;

use super::reason::ReasonError;
use super::*;
use crate::devicetree::DtbError;
use crate::layout::purgatory::BlobError;
use crate::load::{Role, WhyNot};
use crate::memory::{NoMemory, Span};
use crate::place::PlaceError;
use crate::probe::volumes::{State, Volume};
use crate::probe::{FileTreeError, VolumeProblem};
use crate::sys::module::ModuleError;
use crate::sys::mount::MountError;
use crate::text::cmdline::CmdlineError;

fn system(errno: Errno) -> io::Error {
    errno.into()
}

fn check(all: impl IntoIterator<Item = (impl Into<WorkerError>, Cause)>) {
    for (error, cause) in all {
        let error = error.into();
        assert_eq!(error.cause(), cause, "{error}");
    }
}

#[test]
fn of_the_system() {
    for (errno, cause) in [
        (Errno::ENOENT, Cause::Missing),
        (Errno::ETIMEDOUT, Cause::Timeout),
        (Errno::ENOMEM, Cause::Memory),
        (Errno::EIO, Cause::Io),
        // Only the hand-off is refused: another entry has another disk.
        (Errno::EPERM, Cause::Io),
        (Errno::EACCES, Cause::Io),
    ] {
        assert_eq!(Cause::of(&system(errno)), cause, "{errno}");
    }
    assert_eq!(Cause::of(&io::ErrorKind::UnexpectedEof.into()), Cause::Format);
    assert_eq!(Cause::of(&io::ErrorKind::InvalidData.into()), Cause::Format);
}

#[test]
fn of_the_worker_itself() {
    let index = Index::parse("nonsense\n").unwrap_err();
    check([
        (WorkerError::Modules(index), Cause::Machine),
        (WorkerError::Unreadable(system(Errno::EIO)), Cause::Machine),
        (WorkerError::Machine(MachineError::MemTotal), Cause::Machine),
        (WorkerError::Memory, Cause::Machine),
        (WorkerError::NoWord, Cause::Crash),
        (WorkerError::Fault, Cause::Crash),
    ]);
}

#[test]
fn of_the_source() {
    let missing = ProbeError::NotFound {
        wanted: "source LABEL=x".to_owned(),
        waited: Duration::ZERO,
        seen: Vec::new(),
        stuck: Vec::new(),
        without_driver: Vec::new(),
    };
    let folder = ProbeError::Folder {
        folder: "/boot".to_owned(),
        cause: system(Errno::ENOENT),
    };
    check([
        (missing, Cause::Missing),
        (folder, Cause::Missing),
        (ProbeError::Events(Errno::ENOBUFS), Cause::Machine),
    ]);
    let volume = |problem| ProbeError::Volume {
        wanted: "source LABEL=x".to_owned(),
        volume: Box::new(Volume {
            name: "vda1".to_owned(),
            partlabel: None,
            partuuid: None,
            parttype: None,
            size: 0,
            sector: 512,
            state: State::Empty,
        }),
        problem,
    };
    let mount = |cause| {
        VolumeProblem::from(MountError {
            kind: "ext4",
            target: "/mnt".into(),
            cause,
        })
    };
    let module = |cause| {
        VolumeProblem::Module(ModuleError::Refused {
            name: "ext4".to_owned(),
            cause,
        })
    };
    let no_file = VolumeProblem::Module(ModuleError::Open {
        name: "ext4".to_owned(),
        path: "/x".to_owned(),
        cause: system(Errno::ENOENT),
    });
    check([
        (volume(VolumeProblem::NoFileSystem), Cause::Format),
        (volume(VolumeProblem::Unreadable), Cause::Io),
        (volume(VolumeProblem::NoDriver("ext4")), Cause::Missing),
        (volume(VolumeProblem::Device(system(Errno::EIO))), Cause::Io),
        (volume(mount(Errno::EINVAL)), Cause::Format),
        (volume(mount(Errno::EIO)), Cause::Io),
        (volume(no_file), Cause::Missing),
        (volume(module(Errno::ENOEXEC)), Cause::Format),
        (volume(module(Errno::ENOENT)), Cause::Missing),
        (volume(module(Errno::ENOKEY)), Cause::Verification),
        (volume(module(Errno::EKEYREJECTED)), Cause::Verification),
        (volume(module(Errno::ENOMEM)), Cause::Memory),
        (volume(module(Errno::EBUSY)), Cause::Io),
    ]);
}

#[test]
fn of_loading() {
    let path = || "k".to_owned();
    let open = |source| LoadError::Open {
        role: Role::Kernel,
        path: path(),
        source,
    };
    let read = LoadError::Read {
        role: Role::Kernel,
        path: path(),
        source: system(Errno::EIO),
    };
    let cut = LoadError::Unpack {
        path: path(),
        format: "gzip",
        source: system(Errno::EIO),
    };
    let dtb = LoadError::Dtb {
        path: path(),
        source: DtbError::Magic(0),
    };
    let no_dtb = LoadError::NoDtb {
        path: path(),
        arch: Arch::X86_64,
    };
    check([
        (open(FileTreeError::Missing), Cause::Missing),
        (
            open(FileTreeError::Dangling {
                link: path(),
                target: path(),
            }),
            Cause::Missing,
        ),
        (open(FileTreeError::NotAFile("a FIFO")), Cause::Missing),
        (open(FileTreeError::Empty), Cause::Format),
        (open(FileTreeError::Io(system(Errno::EIO))), Cause::Io),
        (read, Cause::Io),
        (cut, Cause::Format),
        (dtb, Cause::Format),
        (no_dtb, Cause::Format),
        (
            LoadError::Cmdline(CmdlineError::TooLong { len: 2, max: 1 }),
            Cause::Format,
        ),
    ]);
}

#[test]
fn of_memory() {
    let half = LoadError::HalfOfMemory {
        needs: 2,
        kernel: 1,
        initrd: 1,
        dtb: 0,
        has: 1,
    };
    let free = LoadError::FreeMemory {
        needs: 2,
        payload: 1,
        unpack: 0,
        has: 1,
    };
    let cma = LoadError::KernelMemory {
        needs: 2,
        has: 1,
        cma: 1,
    };
    let slot = LoadError::NoMemory {
        role: Role::Kernel,
        source: NoMemory { bytes: 1 },
    };
    let neither = LoadError::NeitherWay {
        in_place: WhyNot::Asked,
        segments: Box::new(LoadError::Cmdline(CmdlineError::TooLong { len: 2, max: 1 })),
    };
    check([
        (half, Cause::Memory),
        (free, Cause::Memory),
        (cma, Cause::Memory),
        (slot, Cause::Memory),
        (neither, Cause::Memory),
    ]);
}

#[test]
fn of_verifying() {
    let path = || "k".to_owned();
    let size = VerifyError::Size {
        role: Role::Kernel,
        path: path(),
        size: 2,
        read: 1,
    };
    let digest = VerifyError::Sha256 {
        role: Role::Kernel,
        path: path(),
        want: Sha256([0; 32]),
        got: Sha256([1; 32]),
    };
    let unchecked = VerifyError::Unchecked {
        role: Role::Kernel,
        path: path(),
        want: Sha256([0; 32]),
    };
    let stray = VerifyError::Unaccounted {
        what: "initrd",
        have: 1,
        files: 0,
        read: 0,
    };
    check([
        (size, Cause::Verification),
        (digest, Cause::Verification),
        (unchecked, Cause::Crash),
        (stray, Cause::Crash),
    ]);
}

#[test]
fn of_placing() {
    let span = Span { start: 0, end: 1 };
    let no_room = PlaceError::NoRoom {
        what: "kernel",
        asked: 2,
        align: 1,
        window: span,
        there: 1,
    };
    let dtb = PlaceError::Dtb {
        which: "dtb",
        error: DtbError::Magic(0),
    };
    let arch = LayoutError::WrongArch {
        kernel: Arch::Arm64,
        machine: Arch::X86_64,
    };
    let header = PlaceError::Header {
        what: "alignment",
        value: 3,
    };
    let cmdline = LayoutError::Cmdline(CmdlineError::TooLong { len: 2, max: 1 });
    check([
        (LayoutError::Place(no_room), Cause::Memory),
        (LayoutError::TooMuch { asked: 2, there: 1 }, Cause::Memory),
        (cmdline, Cause::Format),
        (LayoutError::LiveLpis, Cause::Refused),
        (LayoutError::Place(PlaceError::NoFirmwareMap), Cause::Refused),
        (LayoutError::Place(PlaceError::NoDtb), Cause::Missing),
        (LayoutError::Place(dtb), Cause::Format),
        (arch, Cause::Format),
        (LayoutError::Place(header), Cause::Format),
        (LayoutError::Purgatory(BlobError::NoBlob), Cause::Placement),
        (LayoutError::TooManySegments, Cause::Placement),
        (LayoutError::Contradiction { what: "kernel", span }, Cause::Placement),
    ]);
}

#[test]
fn of_the_last_jump_s_reason() {
    let memory = |errno| ReasonError::Memory {
        at: 0x1000,
        cause: system(errno),
        advice: "",
    };
    let cmos = ReasonError::Cmos {
        path: "/dev/port".into(),
        cause: system(Errno::ENOENT),
        advice: "",
    };
    for (error, cause) in [
        (ReasonError::SystemRam { at: 0x1000 }, Cause::Placement),
        (memory(Errno::EPERM), Cause::Io),
        (memory(Errno::ENOENT), Cause::Missing),
        (cmos, Cause::Missing),
    ] {
        assert_eq!(error.cause(), cause, "{error}");
    }
}
