//! Postfix as a relay for the same load: an instance of its own with its queue in the bench's folder, everything to one next hop,
//! no lookups, no throttling, as many connections as Postrider may have. Needs root (Postfix changes users) and the Debian
//! package `postfix`; with DKIM also `opendkim`.

use std::fmt::Write as _;
use std::fs::Permissions;
use std::io::{Read, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::bail;

use super::opendkim;
use super::system::{Setup, Start, free_port};

const MASTER: &str = "/usr/lib/postfix/sbin/master";

/// Services of master.cf: name, type, process limit, program. None is chrooted; the limit `-` is `default_process_limit`.
const SERVICES: [(&str, &str, &str, &str); 20] = [
    ("pickup", "unix", "1", "pickup"),
    ("cleanup", "unix", "0", "cleanup"),
    ("qmgr", "unix", "1", "qmgr"),
    ("tlsmgr", "unix", "1", "tlsmgr"),
    ("tlsproxy", "unix", "0", "tlsproxy"),
    ("rewrite", "unix", "-", "trivial-rewrite"),
    ("bounce", "unix", "0", "bounce"),
    ("defer", "unix", "0", "bounce"),
    ("trace", "unix", "0", "bounce"),
    ("verify", "unix", "1", "verify"),
    ("flush", "unix", "0", "flush"),
    ("proxymap", "unix", "-", "proxymap"),
    ("smtp", "unix", "-", "smtp"),
    ("relay", "unix", "-", "smtp"),
    ("showq", "unix", "-", "showq"),
    ("error", "unix", "-", "error"),
    ("retry", "unix", "-", "error"),
    ("anvil", "unix", "1", "anvil"),
    ("scache", "unix", "1", "scache"),
    ("postlog", "unix-dgram", "1", "postlogd"),
];

/// How to start it in this folder.
///
/// # Errors
/// What is missing on this machine, and how to get it.
pub fn command(setup: &Setup, folder: &Path) -> anyhow::Result<Start> {
    if !Path::new(MASTER).exists() {
        bail!("Postfix is not installed ({MASTER} is missing): apt-get install --no-install-recommends postfix");
    }
    anyhow::ensure!(is_root(), "Postfix changes users, so --compare postfix needs root");
    let port = free_port()?;
    let etc = folder.join("etc");
    std::fs::create_dir_all(&etc)?;
    folders(folder)?;
    let mut programs = vec![vec![MASTER.into(), "-c".into(), etc.clone().into(), "-d".into()]];
    let milter = if setup.dkim { Some(free_port()?) } else { None };
    if let Some(port) = milter {
        programs.push(opendkim::command(folder, port)?);
    }
    if setup.tls {
        let made = postrider_net::tls::self_signed(&["relay.example".to_owned()])?;
        std::fs::write(etc.join("tls.pem"), made.key_pem + &made.certificate_pem)?;
        std::fs::set_permissions(etc.join("tls.pem"), Permissions::from_mode(0o600))?;
    }
    std::fs::write(etc.join("main.cf"), main_cf(setup, folder, milter))?;
    std::fs::write(etc.join("master.cf"), master_cf(port))?;
    let environment = vec![("MAIL_CONFIG", etc.into())];
    Ok(Start { programs, environment, port, beside: milter.into_iter().collect(), ready_file: None })
}

fn is_root() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let uid = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    uid.and_then(|ids| ids.split_whitespace().nth(1)).is_some_and(|effective| effective == "0")
}

/// The queue, whose parts belong to Postfix's users.
fn folders(folder: &Path) -> anyhow::Result<()> {
    let queue = folder.join("queue");
    let make = |path: &Path, owner: &str, mode: &str| -> anyhow::Result<()> {
        std::fs::create_dir_all(path)?;
        for (program, word) in [("chown", owner), ("chmod", mode)] {
            let status = Command::new(program).arg(word).arg(path).status()?;
            anyhow::ensure!(status.success(), "{program} {word} {} failed", path.display());
        }
        Ok(())
    };
    make(&queue, "root", "755")?;
    make(&queue.join("pid"), "root", "755")?;
    make(&folder.join("data"), "postfix", "700")?;
    make(&folder.join("log"), "root", "755")?;
    for part in
        ["active", "bounce", "corrupt", "defer", "deferred", "flush", "hold", "incoming", "private", "saved", "trace"]
    {
        make(&queue.join(part), "postfix", "700")?;
    }
    make(&queue.join("public"), "postfix:postdrop", "710")?;
    make(&queue.join("maildrop"), "postfix:postdrop", "1730")
}

fn main_cf(setup: &Setup, folder: &Path, milter: Option<u16>) -> String {
    let (folder, sink) = (folder.display(), format!("[{}]:{}", setup.sink.ip(), setup.sink.port()));
    let connections = setup.connections;
    let mut text = format!(
        "compatibility_level = 3.6\n\
         queue_directory = {folder}/queue\ndata_directory = {folder}/data\n\
         command_directory = /usr/sbin\ndaemon_directory = /usr/lib/postfix/sbin\nmail_owner = postfix\n\
         maillog_file = {folder}/log/mail\nmaillog_file_prefixes = {folder}\n\
         myhostname = relay.example\nmyorigin = relay.example\nmydestination =\nlocal_recipient_maps =\n\
         local_transport = error:none\nalias_maps =\nalias_database =\n\
         inet_interfaces = 127.0.0.1\ninet_protocols = ipv4\nmynetworks = 127.0.0.0/8\n\
         relayhost = {sink}\ndisable_dns_lookups = yes\nsmtp_host_lookup = native\nsmtpd_peername_lookup = no\n\
         smtpd_relay_restrictions = permit_mynetworks, reject\nsmtpd_recipient_restrictions =\n\
         smtpd_client_connection_count_limit = 0\nsmtpd_client_event_limit_exceptions = 127.0.0.0/8\n\
         smtpd_error_sleep_time = 0\nin_flow_delay = 0\nnotify_classes =\nmessage_size_limit = 52428800\n\
         default_process_limit = 150\nmax_use = 1000\nqmgr_message_active_limit = 40000\nqmgr_message_recipient_limit = 40000\n\
         default_destination_concurrency_limit = {connections}\ninitial_destination_concurrency = {connections}\n\
         smtp_connection_cache_destinations = {sink}\nsmtp_connection_reuse_count_limit = 1000\n"
    );
    if setup.tls {
        // Reuse of connections with TLS has a switch of its own, and goes through tlsproxy.
        write!(
            text,
            "smtpd_tls_security_level = may\nsmtpd_tls_chain_files = {folder}/etc/tls.pem\n\
             smtp_tls_security_level = encrypt\nsmtp_tls_connection_reuse = yes\n\
             smtpd_tls_session_cache_database =\nsmtp_tls_session_cache_database =\n"
        )
        .ok();
    } else {
        text.push_str("smtp_tls_security_level = none\nsmtpd_tls_security_level = none\n");
    }
    if let Some(port) = milter {
        write!(text, "smtpd_milters = inet:127.0.0.1:{port}\nmilter_default_action = tempfail\n").ok();
    }
    text
}

fn master_cf(port: u16) -> String {
    let mut text = format!("127.0.0.1:{port} inet n - n - - smtpd\n");
    for (name, kind, limit, program) in SERVICES {
        let private =
            if matches!(name, "pickup" | "cleanup" | "qmgr" | "flush" | "showq" | "postlog") { "n" } else { "-" };
        let wake = match name {
            "pickup" => "60",
            "qmgr" => "300",
            "tlsmgr" | "flush" => "1000?",
            _ => "-",
        };
        // A String takes all that is written to it.
        writeln!(text, "{name} {kind} {private} - n {wake} {limit} {program}").ok();
    }
    text
}

/// Whether a server greets there.
pub fn greets(address: SocketAddr) -> bool {
    let Ok(mut stream) = TcpStream::connect_timeout(&address, Duration::from_secs(1)) else { return false };
    let mut code = [0u8; 3];
    let greeted = stream.set_read_timeout(Some(Duration::from_secs(3))).is_ok()
        && stream.read_exact(&mut code).is_ok()
        && &code == b"220";
    drop(stream.write_all(b"QUIT\r\n"));
    greeted
}
