//! A disk's partition table, whichever kind it has.

use std::io;

use super::gpt::{self, Found};
use super::mbr::Mbr;
use super::partition::Table;
use crate::sys::read_at::ReadAt;

/// Reads the table of `disk`, which has `size` bytes in sectors of `sector` bytes: None when it has none, and the reason
/// when it should have one.
///
/// # Errors
/// The disk's own, in sector 0.
pub(crate) fn read(disk: &(impl ReadAt + ?Sized), sector: u32, size: u64) -> io::Result<Result<Option<Table>, String>> {
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
