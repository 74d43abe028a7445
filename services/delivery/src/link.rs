//! A connection to an exchanger: plain, or inside TLS. It moves bytes and decides nothing.

use std::io;
use std::sync::Arc;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;

/// A connection.
pub enum Link {
    /// Without TLS.
    Plain(TcpStream),
    /// With TLS.
    Tls(Box<TlsStream<TcpStream>>),
    /// After a failed handshake.
    Broken,
}

impl Link {
    /// Writes all of `bytes`.
    pub async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.write_all(bytes).await,
            Self::Tls(stream) => {
                stream.write_all(bytes).await?;
                stream.flush().await
            }
            Self::Broken => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// Reads some bytes behind what `buffer` holds; 0 at the end of the stream.
    pub async fn read(&mut self, buffer: &mut BytesMut) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read_buf(buffer).await,
            Self::Tls(stream) => stream.read_buf(buffer).await,
            Self::Broken => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// Does the TLS handshake with `name` in SNI. On failure the connection is gone.
    pub async fn start_tls(&mut self, config: &Arc<ClientConfig>, name: ServerName<'static>) -> io::Result<()> {
        match std::mem::replace(self, Self::Broken) {
            Self::Plain(stream) => {
                let stream = TlsConnector::from(Arc::clone(config)).connect(name, stream).await?;
                *self = Self::Tls(Box::new(stream));
                Ok(())
            }
            Self::Tls(_) | Self::Broken => Err(io::Error::other("TLS is on already")),
        }
    }

    /// The TLS version and cipher suite; empty without TLS.
    pub fn tls(&self) -> String {
        match self {
            Self::Tls(stream) => postrider_net::tls::describe(stream.get_ref().1),
            Self::Plain(_) | Self::Broken => String::new(),
        }
    }
}
