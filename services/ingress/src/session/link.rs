//! The socket of a session, in the clear or within TLS. Reads, writes and closes; knows no SMTP and no deadline but its own
//! for closing.

use std::io::{self, Read};
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use postrider_net::tls;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// How long and how much is read of what a client still has to say after the end, so that the last reply reaches it:
/// closing a socket with unread bytes resets the connection.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 1 << 20;

/// A connection.
pub(super) struct Link {
    stream: Stream,
    buffer: BytesMut,
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Link {
    pub(super) fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self { stream: Stream::Plain(stream), buffer: BytesMut::new() })
    }

    /// As [`Link::new`], with what the client said without waiting for a greeting, if anything is there already.
    pub(super) fn with_early_bytes(stream: TcpStream) -> io::Result<(Self, Vec<u8>)> {
        // tokio knows only later that a fresh socket can be read; the system knows now.
        let mut stream = stream.into_std()?;
        let mut early = vec![0; 512];
        let length = match stream.read(&mut early) {
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(error) => return Err(error),
        };
        early.truncate(length);
        Ok((Self::new(TcpStream::from_std(stream)?)?, early))
    }

    /// The same connection within TLS.
    pub(super) async fn secure(self, acceptor: &TlsAcceptor) -> io::Result<Self> {
        match self.stream {
            Stream::Plain(stream) => {
                let secured = acceptor.accept(stream).await?;
                Ok(Self { stream: Stream::Tls(Box::new(secured)), buffer: self.buffer })
            }
            Stream::Tls(_) => Err(io::ErrorKind::AlreadyExists.into()),
        }
    }

    /// TLS version and cipher suite.
    pub(super) fn tls(&self) -> Option<String> {
        match &self.stream {
            Stream::Plain(_) => None,
            Stream::Tls(stream) => Some(tls::describe(stream.get_ref().1)),
        }
    }

    /// Reads at most `most` bytes; none is the end. May be cancelled.
    pub(super) async fn read(&mut self, most: usize) -> io::Result<&[u8]> {
        self.buffer.clear();
        // What one read needs, and no more: a session that idles holds little.
        if self.buffer.capacity() < most || self.buffer.capacity() > 2 * most {
            self.buffer = BytesMut::with_capacity(most);
        }
        let mut room = (&mut self.buffer).limit(most);
        match &mut self.stream {
            Stream::Plain(stream) => stream.read_buf(&mut room).await?,
            Stream::Tls(stream) => stream.read_buf(&mut room).await.or_else(|error| match error.kind() {
                // Many clients end TLS without saying so; SMTP has an end of its own.
                io::ErrorKind::UnexpectedEof => Ok(0),
                _ => Err(error),
            })?,
        };
        Ok(&self.buffer)
    }

    /// Writes all of it.
    pub(super) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.stream {
            Stream::Plain(stream) => stream.write_all(bytes).await,
            Stream::Tls(stream) => {
                stream.write_all(bytes).await?;
                stream.flush().await
            }
        }
    }

    /// Ends it so that the last reply arrives.
    pub(super) async fn close(&mut self) {
        let politely = async {
            match &mut self.stream {
                Stream::Plain(stream) => stream.shutdown().await?,
                Stream::Tls(stream) => stream.shutdown().await?,
            }
            let mut rest = 0;
            loop {
                match self.read(4 * 1024).await?.len() {
                    0 => return Ok(()),
                    length => rest += length,
                }
                if rest > LINGER_BYTES {
                    return Ok::<(), io::Error>(());
                }
            }
        };
        match tokio::time::timeout(LINGER, politely).await {
            Ok(Ok(())) | Err(_) => {}
            Ok(Err(error)) => tracing::trace!(%error, "the connection ended first"),
        }
    }
}
