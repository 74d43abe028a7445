//! A blocking connection of the load or the sink, in clear text or by TLS, that gives up when the bench is stopped.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustls::{ClientConfig, ClientConnection, ServerConfig, ServerConnection, StreamOwned};
use tokio_util::sync::CancellationToken;

/// How often a connection that waits looks whether it shall stop.
const LOOK: Duration = Duration::from_millis(500);

/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// A connection.
pub struct Wire {
    channel: Channel,
    stop: CancellationToken,
    /// How long a read waits before it fails.
    pub patience: Duration,
}

enum Channel {
    Plain(TcpStream),
    Client(Box<StreamOwned<ClientConnection, TcpStream>>),
    Server(Box<StreamOwned<ServerConnection, TcpStream>>),
    Gone,
}

impl Wire {
    /// Over a connected socket.
    ///
    /// # Errors
    /// If the socket takes no options.
    pub fn over(stream: TcpStream, stop: CancellationToken) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(LOOK))?;
        Ok(Self { channel: Channel::Plain(stream), stop, patience: PATIENCE })
    }

    /// Connects.
    ///
    /// # Errors
    /// If nobody listens there.
    pub fn connect(address: SocketAddr, stop: CancellationToken) -> anyhow::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, Duration::from_secs(10))
            .with_context(|| format!("cannot connect to {address}"))?;
        Ok(Self::over(stream, stop)?)
    }

    /// Goes on by TLS, as the client; any certificate will do.
    ///
    /// # Errors
    /// If TLS cannot begin. The handshake comes with the first bytes.
    pub fn start_tls_client(&mut self, config: &Arc<ClientConfig>) -> anyhow::Result<()> {
        let Channel::Plain(stream) = std::mem::replace(&mut self.channel, Channel::Gone) else { bail!("TLS twice") };
        let name = rustls::pki_types::ServerName::try_from("localhost")?;
        let connection = ClientConnection::new(Arc::clone(config), name)?;
        self.channel = Channel::Client(Box::new(StreamOwned::new(connection, stream)));
        Ok(())
    }

    /// Goes on by TLS, as the server.
    ///
    /// # Errors
    /// If TLS cannot begin.
    pub fn start_tls_server(&mut self, config: &Arc<ServerConfig>) -> anyhow::Result<()> {
        let Channel::Plain(stream) = std::mem::replace(&mut self.channel, Channel::Gone) else { bail!("TLS twice") };
        let connection = ServerConnection::new(Arc::clone(config))?;
        self.channel = Channel::Server(Box::new(StreamOwned::new(connection, stream)));
        Ok(())
    }

    /// Writes all of it.
    ///
    /// # Errors
    /// If the connection breaks.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.channel {
            Channel::Plain(stream) => stream.write_all(bytes),
            Channel::Client(stream) => stream.write_all(bytes).and_then(|()| stream.flush()),
            Channel::Server(stream) => stream.write_all(bytes).and_then(|()| stream.flush()),
            Channel::Gone => Err(ErrorKind::NotConnected.into()),
        }
    }

    /// Reads what there is, at least a byte; 0 at the end.
    ///
    /// # Errors
    /// If the connection breaks, the bench is stopped, or nothing comes in time.
    pub fn receive(&mut self, into: &mut [u8]) -> io::Result<usize> {
        // Asking for the time is left for those who wait long.
        let mut began = None;
        loop {
            let read = match &mut self.channel {
                Channel::Plain(stream) => stream.read(into),
                Channel::Client(stream) => stream.read(into),
                Channel::Server(stream) => stream.read(into),
                Channel::Gone => return Err(ErrorKind::NotConnected.into()),
            };
            match read {
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // A peer that closes TLS without saying so.
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(0),
                other => return other,
            }
            if self.stop.is_cancelled() {
                return Err(io::Error::new(ErrorKind::Interrupted, "stopped"));
            }
            if began.get_or_insert_with(Instant::now).elapsed() > self.patience {
                return Err(io::Error::new(ErrorKind::TimedOut, "no answer"));
            }
        }
    }
}
