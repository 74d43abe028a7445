//! SMTP word for word over a plain socket, for what no proper client would say.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::Result;
use tokio::net::TcpSocket;

/// How long one reply may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// The client's side of a connection.
#[derive(Debug)]
pub struct Talk {
    stream: BufReader<TcpStream>,
}

impl Talk {
    /// Connects and reads the greeting.
    ///
    /// # Errors
    /// If nobody listens, or nobody greets.
    pub fn begin(server: SocketAddr) -> Result<Self> {
        Self::greeted(TcpStream::connect(server)?)
    }

    /// The same from this address of ours.
    ///
    /// # Errors
    /// As [`Talk::begin`], or if the address is not ours.
    pub fn begin_from(source: IpAddr, server: SocketAddr) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
        let stream = runtime.block_on(async {
            let socket = TcpSocket::new_v4()?;
            socket.bind(SocketAddr::new(source, 0))?;
            socket.connect(server).await?.into_std()
        })?;
        stream.set_nonblocking(false)?;
        Self::greeted(stream)
    }

    fn greeted(stream: TcpStream) -> Result<Self> {
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut talk = Self { stream: BufReader::new(stream) };
        let greeting = talk.reply()?;
        anyhow::ensure!(greeting.starts_with("220 "), "{greeting}");
        Ok(talk)
    }

    /// Sends these bytes.
    ///
    /// # Errors
    /// If the connection is gone.
    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.stream.get_mut().write_all(bytes)?)
    }

    /// The last line of the next reply; empty if the connection has ended.
    ///
    /// # Errors
    /// If nothing comes in time.
    pub fn reply(&mut self) -> Result<String> {
        loop {
            let mut line = Vec::new();
            match self.stream.read_until(b'\n', &mut line) {
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return Ok(String::new()),
                Err(error) => return Err(error.into()),
            }
            if line.get(3) != Some(&b'-') {
                return Ok(String::from_utf8_lossy(&line).trim_end().to_owned());
            }
        }
    }

    /// Sends a line and reads the reply.
    ///
    /// # Errors
    /// As [`Talk::send`] and [`Talk::reply`].
    pub fn ask(&mut self, line: &str) -> Result<String> {
        self.send(format!("{line}\r\n").as_bytes())?;
        self.reply()
    }

    /// Sends, and reads until the server closes: all it said.
    ///
    /// # Errors
    /// If it does not close in time.
    pub fn until_closed(mut self, bytes: &[u8]) -> Result<String> {
        // The server may close before it has read all of it; what it said counts.
        let writing = self.stream.get_ref().try_clone()?;
        let bytes = bytes.to_vec();
        let writer = std::thread::spawn(move || (&writing).write_all(&bytes).is_ok());
        let mut said = Vec::new();
        match self.stream.read_to_end(&mut said) {
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {}
            Err(error) => return Err(error.into()),
        }
        writer.join().map_err(|_| anyhow::anyhow!("the writer panicked"))?;
        Ok(String::from_utf8_lossy(&said).into_owned())
    }
}
