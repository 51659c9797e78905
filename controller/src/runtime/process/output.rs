//! What a process printed: its log file, read from the end or followed.

use std::io::{self, SeekFrom};
use std::path::Path;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio::sync::mpsc;

use super::file_error;
use crate::no_link;
use crate::runtime::{LogOptions, LogStream, RuntimeError};

const PIECE: usize = 16 * 1024;
/// How often a followed log is looked at.
const POLL: Duration = Duration::from_millis(100);

/// Sends the log, and what is added to it while `runs` says that the process runs.
pub(super) async fn stream(
    path: &Path,
    options: LogOptions,
    runs: impl Fn() -> bool + Clone + Send + 'static,
) -> Result<LogStream, RuntimeError> {
    let file = no_link::options().read(true).open(path);
    let mut file = File::from_std(file.map_err(file_error(path))?);
    if let Some(lines) = options.tail {
        let start = start_of_tail(&mut file, lines)
            .await
            .map_err(file_error(path))?;
        file.seek(SeekFrom::Start(start))
            .await
            .map_err(file_error(path))?;
    }
    let (sender, receiver) = mpsc::channel(16);
    let path = path.to_owned();
    tokio::spawn(async move {
        loop {
            // Asked before reading: what it printed last is read after it has ended.
            let look = runs.clone();
            let more = options.follow && tokio::task::spawn_blocking(look).await.unwrap_or(false);
            if let Err(error) = send_rest(&mut file, &sender).await {
                let _ = sender.send(Err(file_error(&path)(error))).await;
                break;
            }
            if !more || sender.is_closed() {
                break;
            }
            tokio::time::sleep(POLL).await;
        }
    });
    Ok(receiver)
}

/// Sends from here to the end of the file. The caller notices a receiver that is gone.
async fn send_rest(
    file: &mut File,
    sender: &mpsc::Sender<Result<Bytes, RuntimeError>>,
) -> io::Result<()> {
    loop {
        let mut piece = BytesMut::with_capacity(PIECE);
        if file.read_buf(&mut piece).await? == 0 || sender.send(Ok(piece.freeze())).await.is_err() {
            return Ok(());
        }
    }
}

/// Where the last `lines` lines begin. Read backwards: logs grow long.
async fn start_of_tail(file: &mut File, lines: usize) -> io::Result<u64> {
    let end = file.seek(SeekFrom::End(0)).await?;
    if lines == 0 {
        return Ok(end);
    }
    let mut piece = vec![0; PIECE];
    let mut start = end;
    let mut seen = 0;
    while start > 0 {
        let length = start.min(PIECE as u64) as usize;
        start -= length as u64;
        file.seek(SeekFrom::Start(start)).await?;
        file.read_exact(&mut piece[..length]).await?;
        for (index, byte) in piece[..length].iter().enumerate().rev() {
            let after = start + index as u64 + 1;
            // The newline that ends the last line does not begin another.
            if *byte == b'\n' && after != end {
                seen += 1;
                if seen == lines {
                    return Ok(after);
                }
            }
        }
    }
    Ok(0)
}
