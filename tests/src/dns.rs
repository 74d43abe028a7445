//! A DNS server for tests: answers from a table over UDP and TCP on a loopback port, as a recursive server would, and fails
//! by name as told. Never asks anybody else.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use hickory_server::proto::op::{Message, MessageType, Query, ResponseCode};
use hickory_server::proto::rr::rdata::{A, AAAA, CNAME, MX, NS, SOA, TXT};
use hickory_server::proto::rr::{Name, RData, Record};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinSet;

pub use hickory_server::proto::rr::RecordType;

/// What goes wrong when a name is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// NXDOMAIN, whatever the table holds.
    NoSuchName,
    /// SERVFAIL.
    ServerFailure,
    /// REFUSED.
    Refused,
    /// No answer at all.
    Silence,
    /// Name servers of the zone instead of an answer, as from a server that does not recurse.
    Referral,
    /// Bytes that are no DNS message.
    Garbage,
}

/// What the server answers. Names are written without a trailing dot. A name that is not in the table does not exist, unless
/// it has something below it.
#[derive(Clone, Debug)]
pub struct Zone {
    records: BTreeMap<String, Vec<RData>>,
    faults: BTreeMap<(String, Option<RecordType>), Fault>,
    everything: Option<Fault>,
    delay: Duration,
    ttl: u32,
}

impl Default for Zone {
    fn default() -> Self {
        Self { records: BTreeMap::new(), faults: BTreeMap::new(), everything: None, delay: Duration::ZERO, ttl: 60 }
    }
}

fn key(name: &str) -> String {
    name.trim_end_matches('.').to_ascii_lowercase()
}

fn name(text: &str) -> Result<Name> {
    let mut name = Name::from_ascii(text).with_context(|| format!("{text:?} is no domain name"))?;
    name.set_fqdn(true);
    Ok(name)
}

impl Zone {
    fn record(mut self, owner: &str, data: RData) -> Self {
        self.records.entry(key(owner)).or_default().push(data);
        self
    }

    /// An MX record; the exchange `.` is a null MX.
    pub fn mx(self, owner: &str, preference: u16, exchange: &str) -> Result<Self> {
        let exchange = name(exchange)?;
        Ok(self.record(owner, RData::MX(MX::new(preference, exchange))))
    }

    /// An A or AAAA record.
    pub fn address(self, owner: &str, address: IpAddr) -> Self {
        let data = match address {
            IpAddr::V4(v4) => RData::A(A(v4)),
            IpAddr::V6(v6) => RData::AAAA(AAAA(v6)),
        };
        self.record(owner, data)
    }

    /// A TXT record of one string, cut where it must be.
    pub fn txt(self, owner: &str, text: &str) -> Self {
        let pieces = text.as_bytes().chunks(255).collect();
        self.record(owner, RData::TXT(TXT::from_bytes(pieces)))
    }

    /// A CNAME record.
    pub fn cname(self, owner: &str, target: &str) -> Result<Self> {
        let target = name(target)?;
        Ok(self.record(owner, RData::CNAME(CNAME(target))))
    }

    /// Every question for this name fails so.
    pub fn fault(mut self, owner: &str, fault: Fault) -> Self {
        self.faults.insert((key(owner), None), fault);
        self
    }

    /// Questions of one type for this name fail so.
    pub fn fault_for(mut self, owner: &str, kind: RecordType, fault: Fault) -> Self {
        self.faults.insert((key(owner), Some(kind)), fault);
        self
    }

    /// Every question fails so.
    pub fn all(mut self, fault: Fault) -> Self {
        self.everything = Some(fault);
        self
    }

    /// Every answer comes so much later.
    pub fn delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// How long answers may be remembered, in seconds (60 unless told).
    pub fn ttl(mut self, secs: u32) -> Self {
        self.ttl = secs;
        self
    }

    fn fault_at(&self, owner: &str, kind: RecordType) -> Option<Fault> {
        let at = |kind| self.faults.get(&(owner.to_owned(), kind)).copied();
        at(Some(kind)).or_else(|| at(None)).or(self.everything)
    }

    fn exists(&self, owner: &str) -> bool {
        self.records.keys().any(|known| known == owner || known.ends_with(&format!(".{owner}")))
    }

    fn matching(&self, owner: &str, kind: RecordType) -> impl Iterator<Item = &RData> {
        self.records.get(owner).into_iter().flatten().filter(move |data| data.record_type() == kind)
    }

    /// The answer: records found at the end of a chain of aliases, with the chain.
    fn fill(&self, question: &Query, answer: &mut Message) -> Result<()> {
        let kind = question.query_type();
        let mut owner = question.name().clone();
        for _ in 0..8 {
            let at = key(&owner.to_ascii());
            let found: Vec<Record> = self
                .matching(&at, kind)
                .map(|data| Record::from_rdata(owner.clone(), self.ttl, data.clone()))
                .collect();
            if !found.is_empty() {
                answer.add_answers(found);
                return Ok(());
            }
            let Some(RData::CNAME(CNAME(target))) = self.matching(&at, RecordType::CNAME).next() else {
                if !self.exists(&at) {
                    answer.metadata.response_code = ResponseCode::NXDomain;
                }
                break;
            };
            let alias = RData::CNAME(CNAME(target.clone()));
            answer.add_answer(Record::from_rdata(owner, self.ttl, alias));
            owner = target.clone();
        }
        let soa = SOA::new(name("ns.test")?, name("root.test")?, 1, 3600, 600, 86_400, self.ttl);
        answer.add_authority(Record::from_rdata(name("test")?, self.ttl, RData::SOA(soa)));
        Ok(())
    }

    fn reply(&self, packet: &[u8], asked: &mut BTreeMap<(String, RecordType), usize>) -> Result<Reply> {
        let request = Message::from_vec(packet)?;
        let question = request.queries.first().context("a packet without a question")?.clone();
        let owner = key(&question.name().to_ascii());
        let kind = question.query_type();
        *asked.entry((owner.clone(), kind)).or_default() += 1;

        let mut answer = Message::new(request.metadata.id, MessageType::Response, request.metadata.op_code);
        answer.metadata.recursion_desired = request.metadata.recursion_desired;
        answer.metadata.recursion_available = true;
        answer.add_query(question.clone());
        if let Some(edns) = request.edns {
            answer.set_edns(edns);
        }
        match self.fault_at(&owner, kind) {
            None => self.fill(&question, &mut answer)?,
            Some(Fault::NoSuchName) => answer.metadata.response_code = ResponseCode::NXDomain,
            Some(Fault::ServerFailure) => answer.metadata.response_code = ResponseCode::ServFail,
            Some(Fault::Refused) => answer.metadata.response_code = ResponseCode::Refused,
            Some(Fault::Referral) => {
                let servers = RData::NS(NS(name("ns.test")?));
                answer.add_authority(Record::from_rdata(question.name().clone(), self.ttl, servers));
            }
            Some(Fault::Silence) => return Ok(Reply::Nothing),
            Some(Fault::Garbage) => return Ok(Reply::Garbage),
        }
        Ok(Reply::Answer(answer))
    }
}

enum Reply {
    Answer(Message),
    Garbage,
    Nothing,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Transport {
    Udp,
    Tcp,
}

struct Shared {
    zone: Zone,
    asked: BTreeMap<(String, RecordType), usize>,
}

impl Shared {
    /// The bytes that go back, if any. A datagram that would be too long says so instead, and TCP is asked.
    fn respond(&mut self, packet: &[u8], transport: Transport) -> Option<Vec<u8>> {
        let answer = match self.zone.reply(packet, &mut self.asked).ok()? {
            Reply::Answer(answer) => answer,
            // The id is right, so that the rest is looked at.
            Reply::Garbage => return Some([&packet[..2], &[0xff; 30]].concat()),
            Reply::Nothing => return None,
        };
        let bytes = answer.to_vec().ok()?;
        if transport == Transport::Udp && bytes.len() > usize::from(answer.max_payload()) {
            return answer.truncate().to_vec().ok();
        }
        Some(bytes)
    }
}

/// The running server; dropping it ends it.
pub struct DnsServer {
    address: SocketAddr,
    shared: Arc<Mutex<Shared>>,
    _tasks: JoinSet<()>,
}

impl DnsServer {
    /// Serves a zone on a free port of 127.0.0.1, UDP and TCP.
    pub async fn start(zone: Zone) -> Result<Self> {
        let (udp, tcp) = bind().await?;
        let address = tcp.local_addr()?;
        let shared = Arc::new(Mutex::new(Shared { zone, asked: BTreeMap::new() }));
        let mut tasks = JoinSet::new();
        tasks.spawn(serve_udp(udp, shared.clone()));
        tasks.spawn(serve_tcp(tcp, shared.clone()));
        Ok(Self { address, shared, _tasks: tasks })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on it answers from another zone. Mind what resolvers remember.
    pub fn replace(&self, zone: Zone) {
        lock(&self.shared).zone = zone;
    }

    /// How many packets asked for this name and type.
    pub fn asked(&self, owner: &str, kind: RecordType) -> usize {
        lock(&self.shared).asked.get(&(key(owner), kind)).copied().unwrap_or(0)
    }

    /// Every name that anybody asked for.
    pub fn names_asked(&self) -> Vec<String> {
        let mut names: Vec<String> = lock(&self.shared).asked.keys().map(|(owner, _)| owner.clone()).collect();
        names.dedup();
        names
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn bind() -> Result<(UdpSocket, TcpListener)> {
    // A port that is free for TCP may be taken for UDP.
    for _ in 0..50 {
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        if let Ok(udp) = UdpSocket::bind(tcp.local_addr()?).await {
            return Ok((udp, tcp));
        }
    }
    anyhow::bail!("no port is free for both UDP and TCP")
}

async fn serve_udp(socket: UdpSocket, shared: Arc<Mutex<Shared>>) {
    let socket = Arc::new(socket);
    let mut answers = JoinSet::new();
    let mut buffer = vec![0; 65_535];
    loop {
        while answers.try_join_next().is_some() {}
        // An error here is the echo of an answer nobody waited for.
        let Ok((length, peer)) = socket.recv_from(&mut buffer).await else { continue };
        let answer = lock(&shared).respond(&buffer[..length], Transport::Udp);
        let delay = lock(&shared).zone.delay;
        if let Some(bytes) = answer {
            let socket = Arc::clone(&socket);
            answers.spawn(async move {
                tokio::time::sleep(delay).await;
                socket.send_to(&bytes, peer).await.ok();
            });
        }
    }
}

async fn serve_tcp(listener: TcpListener, shared: Arc<Mutex<Shared>>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                if let Ok((stream, _)) = accepted {
                    connections.spawn(serve_connection(stream, shared.clone()));
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// RFC 1035 section 4.2.2: every message after its length in two bytes. Ends at the first error.
async fn serve_connection(mut stream: TcpStream, shared: Arc<Mutex<Shared>>) {
    loop {
        let Ok(length) = stream.read_u16().await else { return };
        let mut packet = vec![0; usize::from(length)];
        if stream.read_exact(&mut packet).await.is_err() {
            return;
        }
        let Some(answer) = lock(&shared).respond(&packet, Transport::Tcp) else { continue };
        let delay = lock(&shared).zone.delay;
        tokio::time::sleep(delay).await;
        let Ok(length) = u16::try_from(answer.len()) else { return };
        if stream.write_all(&[&length.to_be_bytes()[..], &answer].concat()).await.is_err() {
            return;
        }
    }
}
