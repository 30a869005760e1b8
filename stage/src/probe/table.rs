//! A disk's partition table, whichever kind it has.

use std::cell::Cell;
use std::io;

use super::gpt::{self, Found};
use super::mbr::Mbr;
use super::partition::Table;
use crate::sys::read_at::ReadAt;

/// Reads the table of `disk`, which has `size` bytes in sectors of `sector` bytes: None when it has none, and the reason
/// when it should have one.
///
/// # Errors
/// The disk's own, in sector 0; [`TimedOut`](io::ErrorKind::TimedOut) anywhere.
pub(crate) fn read(disk: &(impl ReadAt + ?Sized), sector: u32, size: u64) -> io::Result<Result<Option<Table>, String>> {
    let disk = Timed {
        disk,
        is_over: Cell::new(false),
    };
    let table = read_all(&disk, sector, size);
    if disk.is_over.get() {
        return Err(io::ErrorKind::TimedOut.into());
    }
    table
}

/// Notes that a read did not end in time: what is not known then is no part of the table.
struct Timed<'d, D: ?Sized> {
    disk: &'d D,
    is_over: Cell<bool>,
}

impl<D: ReadAt + ?Sized> ReadAt for Timed<'_, D> {
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let result = self.disk.read_exact_at(buf, offset);
        if result.as_ref().is_err_and(|e| e.kind() == io::ErrorKind::TimedOut) {
            self.is_over.set(true);
        }
        result
    }
}

fn read_all(disk: &impl ReadAt, sector: u32, size: u64) -> io::Result<Result<Option<Table>, String>> {
    let mut first = [0; 512];
    if size < 1024 || sector < 512 {
        return Ok(Ok(None));
    }
    disk.read_exact_at(&mut first, 0)?;
    let mbr = Mbr::parse(&first);
    let protected = mbr.as_ref().and_then(Mbr::protects);
    if let (Some(mbr), None) = (&mbr, protected)
        && mbr.is_used()
    {
        return Ok(Ok(Some(Table {
            partitions: mbr.partitions(disk, sector),
            announced: true,
            ..Table::default()
        })));
    }
    Ok(match gpt::find(disk, sector, size, protected) {
        Found::Table(table) => Ok(Some(table)),
        Found::Damaged(why) => Err(why),
        Found::None => Ok(None),
    })
}
