//! A disk that lies: a server of the network block device protocol (doc/proto.md of NBD), which QEMU reads and writes a disk
//! through.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::FileExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread;

use anyhow::{Context as _, Result, bail, ensure};
use tempfile::TempDir;

/// What is wrong with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lie {
    /// What is written is taken, and what was there is read again.
    Drops,
    /// One bit of each write is another one.
    Mangles,
    /// The byte there is read once. Who asks again waits for ever.
    AnswersOnce(u64),
}

/// A server.
#[derive(Debug)]
pub struct Nbd {
    folder: TempDir,
}

impl Nbd {
    /// Serves the file to one QEMU after the other.
    ///
    /// # Errors
    /// There can be no socket, or no such file.
    pub fn start(image: &Path, lie: Lie) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let server = Self { folder };
        let listener = UnixListener::bind(server.socket())?;
        let image = File::options().read(true).write(true).open(image)?;
        thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                // A machine that ends hangs up. QEMU is also started to say what its machine looks like.
                let _ = serve(stream, &image, lie);
            }
        });
        Ok(server)
    }

    /// For `server.path` of QEMU's driver `nbd`.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("disk")
    }
}

fn number<const N: usize>(stream: &mut UnixStream) -> Result<u64> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes)?;
    Ok(bytes.iter().fold(0, |number, byte| (number << 8) | u64::from(*byte)))
}

/// `NBD_OPT_GO` is all that is agreed to.
fn agree(stream: &mut UnixStream, size: u64) -> Result<()> {
    const OPTION: u64 = 0x4948_4156_454f_5054;
    const REPLY: u64 = 0x0003_e889_0455_65a9;
    const GO: u64 = 7;
    const ACK: u32 = 1;
    const INFO: u32 = 3;
    const UNSUPPORTED: u32 = 1 << 31 | 1;
    stream.write_all(b"NBDMAGIC")?;
    stream.write_all(&OPTION.to_be_bytes())?;
    // Fixed newstyle, no zeroes.
    stream.write_all(&3_u16.to_be_bytes())?;
    number::<4>(stream)?;
    loop {
        ensure!(number::<8>(stream)? == OPTION, "no option");
        let (option, length) = (number::<4>(stream)?, number::<4>(stream)?);
        stream.read_exact(&mut vec![0; usize::try_from(length)?])?;
        let mut reply = |kind: u32, data: &[u8]| -> Result<()> {
            let mut all = REPLY.to_be_bytes().to_vec();
            all.extend(u32::try_from(option)?.to_be_bytes());
            all.extend(kind.to_be_bytes());
            all.extend(u32::try_from(data.len())?.to_be_bytes());
            all.extend(data);
            Ok(stream.write_all(&all)?)
        };
        if option == GO {
            // NBD_INFO_EXPORT, with flushes and FUA.
            let export = [&0_u16.to_be_bytes()[..], &size.to_be_bytes(), &13_u16.to_be_bytes()];
            reply(INFO, &export.concat())?;
            return reply(ACK, &[]);
        }
        reply(UNSUPPORTED, &[])?;
    }
}

fn serve(mut stream: UnixStream, image: &File, lie: Lie) -> Result<()> {
    const REQUEST: u64 = 0x2560_9513;
    const REPLY: u32 = 0x6744_6698;
    agree(&mut stream, image.metadata()?.len())?;
    let mut was_read = false;
    loop {
        ensure!(number::<4>(&mut stream)? == REQUEST, "no request");
        let (_flags, kind) = (number::<2>(&mut stream)?, number::<2>(&mut stream)?);
        let (handle, at) = (number::<8>(&mut stream)?, number::<8>(&mut stream)?);
        let length = number::<4>(&mut stream)?;
        let mut data = vec![0; usize::try_from(length)?];
        let is_read = kind == 0 && matches!(lie, Lie::AnswersOnce(byte) if (at..at + length).contains(&byte));
        if is_read && std::mem::replace(&mut was_read, true) {
            continue;
        }
        match kind {
            0 => image.read_exact_at(&mut data, at)?,
            1 => {
                stream.read_exact(&mut data)?;
                if lie == Lie::Mangles {
                    let middle = data.len() / 2;
                    *data.get_mut(middle).context("an empty write")? ^= 1;
                    image.write_all_at(&data, at)?;
                }
                data.clear();
            }
            2 => return Ok(()),
            3 => data.clear(),
            _ => bail!("request {kind}"),
        }
        let mut reply = [REPLY.to_be_bytes(), [0; 4]].concat();
        reply.extend(handle.to_be_bytes());
        reply.extend(data);
        stream.write_all(&reply)?;
    }
}
