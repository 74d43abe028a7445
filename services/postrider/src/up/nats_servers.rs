//! The nats-servers of `postrider up`: one, or three that hold every message on at least two of them before it is
//! acknowledged. Decides their names, files and routes; each is started again when it ends by itself.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::bail;
use futures_util::future::{join_all, try_join_all};
use futures_util::stream::{FuturesUnordered, StreamExt};

use super::arguments::Ports;
use super::durability::Sync;

mod program;
pub use program::find;

mod child;
use child::{NatsServer, Plan};

/// All servers of one start.
pub struct NatsServers {
    servers: Vec<NatsServer>,
}

impl NatsServers {
    /// Starts all of them with their stores under `data`, and waits until each takes connections.
    ///
    /// # Errors
    /// If the folder holds the queue of another number of servers, or one does not come up.
    pub async fn start(program: &Path, data: &Path, ports: &Ports, sync: Sync) -> anyhow::Result<Self> {
        let names = names(ports.nats.len());
        refuse_the_queue_of_others(data, &names)?;
        let plans = names.iter().zip(&ports.nats).enumerate().map(|(number, (name, &address))| Plan {
            program: program.to_owned(),
            data: data.to_owned(),
            name: (*name).to_owned(),
            address,
            sync_always: sync == Sync::Always,
            further: ports.nats_routes.get(number).map_or_else(String::new, |&own| routes(own, &ports.nats_routes)),
        });
        let plans: Vec<Plan> = plans.collect();
        let servers = try_join_all(plans.iter().map(NatsServer::start)).await?;
        Ok(Self { servers })
    }

    /// Their process ids.
    pub fn pids(&self) -> impl Iterator<Item = u32> {
        self.servers.iter().map(|server| server.pid)
    }

    /// Starts each again whenever it ends by itself. Returns only when so many are beyond hope that mail cannot be taken.
    ///
    /// # Errors
    /// What the last of them said.
    pub async fn keep(&mut self) -> anyhow::Result<()> {
        let mut spare = self.servers.len() - quorum(self.servers.len());
        let mut kept: FuturesUnordered<_> = self.servers.iter_mut().map(NatsServer::keep).collect();
        while let Some(ended) = kept.next().await {
            match ended {
                Err(error) if spare > 0 => {
                    tracing::error!(error = format!("{error:#}"), "a nats-server is beyond hope; going on without it");
                    spare -= 1;
                }
                ended => return ended,
            }
        }
        Ok(())
    }

    /// Stops all of them in good order.
    pub async fn stop(self) {
        join_all(self.servers.into_iter().map(NatsServer::stop)).await;
    }
}

/// How many of so many servers have to hold a message.
const fn quorum(servers: usize) -> usize {
    servers / 2 + 1
}

const ALONE: [&str; 1] = ["nats"];
const TOGETHER: [&str; 3] = ["nats-1", "nats-2", "nats-3"];

fn names(servers: usize) -> Vec<&'static str> {
    if servers == 1 { ALONE.to_vec() } else { TOGETHER.to_vec() }
}

/// Mail in the store of a server that is not started would wait unseen.
fn refuse_the_queue_of_others(data: &Path, names: &[&str]) -> anyhow::Result<()> {
    let others = ALONE.iter().chain(&TOGETHER).filter(|name| !names.contains(name));
    for other in others {
        let store = data.join(other);
        if store.exists() {
            let (holds, starts) = if names.len() == 1 { ("three", "one") } else { ("one", "three") };
            bail!(
                "{} holds the queue of {holds} nats-server(s), and {starts} would be started: mail in it would wait unseen. Start \
                 with the --durability (and --nats {}) it was made with, or with another --data DIR",
                store.display(),
                if holds == "one" { 1 } else { 3 }
            );
        }
    }
    Ok(())
}

/// The lines that make a server one of several.
fn routes(own: SocketAddr, all: &[SocketAddr]) -> String {
    let others: Vec<String> =
        all.iter().filter(|&&other| other != own).map(|other| format!("\"nats://{other}\"")).collect();
    format!(
        "cluster {{\n  name: \"postrider-up\"\n  listen: \"{own}\"\n  no_advertise: true\n  routes: [{}]\n}}\n",
        others.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_with_the_queue_of_others_is_refused() {
        let data = tempfile::tempdir().unwrap();
        std::fs::create_dir(data.path().join("nats")).unwrap();
        assert!(refuse_the_queue_of_others(data.path(), &names(1)).is_ok());
        let error = refuse_the_queue_of_others(data.path(), &names(3)).unwrap_err().to_string();
        assert!(error.contains("the queue of one") && error.contains("--durability"), "{error}");
    }

    #[test]
    fn two_of_three_have_to_hold_a_message() {
        assert_eq!((quorum(1), quorum(3)), (1, 2));
    }

    #[test]
    fn a_server_has_routes_to_the_others() {
        let all: Vec<SocketAddr> = ["127.0.0.1:1", "127.0.0.1:2"].map(|text| text.parse().unwrap()).into();
        assert!(routes(all[0], &all).contains("routes: [\"nats://127.0.0.1:2\"]"));
    }
}
