//! Limits per source address, and the words in which large providers refuse what is beyond them. Counts, answers nothing
//! itself; the time is handed in.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use postrider_model::{EnhancedCode, Reply};

use super::{Flavour, LimitsConfig};

/// The unit of `messages_per_minute`.
const MINUTE: Duration = Duration::from_secs(60);

/// The state of every source address that is connected or was within the last minute.
pub(super) struct SourceLimits {
    config: LimitsConfig,
    sources: Mutex<HashMap<IpAddr, Source>>,
}

#[derive(Default)]
struct Source {
    connections: u32,
    mails: VecDeque<Instant>,
}

/// Which limit was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Limit {
    Connections,
    MessagesPerConnection,
    MessagesPerMinute,
}

impl SourceLimits {
    pub(super) fn new(config: LimitsConfig) -> Self {
        Self { config, sources: Mutex::default() }
    }

    /// A connection from `source` opens; each `Ok` is answered by one [`SourceLimits::disconnected`].
    pub(super) fn connected(&self, source: IpAddr) -> Result<(), Reply> {
        self.with(source, |state| {
            if self.config.connections.is_some_and(|most| state.connections >= most) {
                return Err(self.reply(Limit::Connections, source));
            }
            state.connections += 1;
            Ok(())
        })
    }

    /// A connection has ended.
    pub(super) fn disconnected(&self, source: IpAddr, now: Instant) {
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(state) = sources.get_mut(&source) {
            state.connections = state.connections.saturating_sub(1);
            state.forget(now);
            if state.connections == 0 && state.mails.is_empty() {
                sources.remove(&source);
            }
        }
    }

    /// A MAIL command comes, with so many accepted on this connection before.
    pub(super) fn mail(&self, source: IpAddr, earlier_on_connection: u32, now: Instant) -> Result<(), Reply> {
        if self.config.messages_per_connection.is_some_and(|most| earlier_on_connection >= most) {
            return Err(self.reply(Limit::MessagesPerConnection, source));
        }
        let Some(most) = self.config.messages_per_minute else { return Ok(()) };
        self.with(source, |state| {
            state.forget(now);
            if state.mails.len() >= usize::try_from(most).unwrap_or(usize::MAX) {
                return Err(self.reply(Limit::MessagesPerMinute, source));
            }
            state.mails.push_back(now);
            Ok(())
        })
    }

    fn with<T>(&self, source: IpAddr, change: impl FnOnce(&mut Source) -> T) -> T {
        change(self.sources.lock().unwrap_or_else(PoisonError::into_inner).entry(source).or_default())
    }

    fn reply(&self, limit: Limit, source: IpAddr) -> Reply {
        reply(self.config.flavour, limit, source)
    }
}

impl Source {
    fn forget(&mut self, now: Instant) {
        while self.mails.front().is_some_and(|then| now.saturating_duration_since(*then) >= MINUTE) {
            self.mails.pop_front();
        }
    }
}

/// What a provider of that flavour says. A 421 closes the connection.
fn reply(flavour: Flavour, limit: Limit, source: IpAddr) -> Reply {
    let (code, enhanced, text) = match (flavour, limit) {
        (Flavour::Plain, Limit::Connections) => {
            (421, EnhancedCode(4, 7, 0), format!("too many connections from {source}; closing"))
        }
        (Flavour::Plain, Limit::MessagesPerConnection) => {
            (421, EnhancedCode(4, 7, 0), "too many messages on this connection; closing".to_owned())
        }
        (Flavour::Plain, Limit::MessagesPerMinute) => {
            (451, EnhancedCode(4, 7, 1), format!("too many messages from {source}; try again later"))
        }
        (Flavour::Gmail, Limit::Connections | Limit::MessagesPerConnection) => {
            (421, EnhancedCode(4, 7, 0), "Try again later, closing connection. - gsmtp".to_owned())
        }
        (Flavour::Gmail, Limit::MessagesPerMinute) => (
            421,
            EnhancedCode(4, 7, 28),
            format!(
                "[{source}] Our system has detected an unusual rate of unsolicited mail originating from your IP address. \
                 To protect our users from spam, mail sent from your IP address has been temporarily rate limited. - gsmtp"
            ),
        ),
        (Flavour::Microsoft, Limit::Connections) => (
            421,
            EnhancedCode(4, 3, 2),
            "The maximum number of concurrent server connections has exceeded a limit, closing transmission channel"
                .to_owned(),
        ),
        (Flavour::Microsoft, Limit::MessagesPerConnection) => (
            421,
            EnhancedCode(4, 7, 0),
            format!("RP-001 Unfortunately, some messages from {source} weren't sent. Please try again."),
        ),
        (Flavour::Microsoft, Limit::MessagesPerMinute) => {
            (451, EnhancedCode(4, 7, 500), format!("Server busy. Please try again later from [{source}]. (S77719)"))
        }
        (Flavour::Yahoo, Limit::Connections) => (
            421,
            EnhancedCode(4, 7, 0),
            format!("[TSS01] Connections from {source} temporarily deferred due to too many connections"),
        ),
        (Flavour::Yahoo, Limit::MessagesPerConnection) => {
            (421, EnhancedCode(4, 7, 0), "Max message per connection reached, closing transmission channel".to_owned())
        }
        (Flavour::Yahoo, Limit::MessagesPerMinute) => (
            421,
            EnhancedCode(4, 7, 0),
            format!(
                "[TSS04] Messages from {source} temporarily deferred due to unexpected volume or user complaints - 4.16.55.1"
            ),
        ),
    };
    Reply::new(code, Some(enhanced), &text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 1, 7));

    fn limits(change: impl FnOnce(&mut LimitsConfig)) -> SourceLimits {
        let mut config = LimitsConfig::default();
        change(&mut config);
        SourceLimits::new(config)
    }

    #[test]
    fn a_connection_beyond_the_limit_is_refused_until_another_ends() {
        let limits = limits(|config| config.connections = Some(2));
        assert!(limits.connected(SOURCE).is_ok());
        assert!(limits.connected(SOURCE).is_ok());
        assert_eq!(limits.connected(SOURCE).unwrap_err().code, 421);
        limits.disconnected(SOURCE, Instant::now());
        assert!(limits.connected(SOURCE).is_ok());
    }

    #[test]
    fn a_source_is_no_other_source() {
        let limits = limits(|config| config.connections = Some(1));
        assert!(limits.connected(SOURCE).is_ok());
        assert!(limits.connected("127.0.1.8".parse().unwrap()).is_ok());
    }

    #[test]
    fn a_source_that_left_is_forgotten() {
        let limits = limits(|config| config.connections = Some(1));
        assert!(limits.connected(SOURCE).is_ok());
        limits.disconnected(SOURCE, Instant::now());
        assert!(limits.sources.lock().unwrap().is_empty());
    }

    #[test]
    fn no_window_of_a_minute_holds_more_messages_than_the_limit() {
        let limits = limits(|config| config.messages_per_minute = Some(2));
        let start = Instant::now();
        let at = |seconds| limits.mail(SOURCE, 0, start + Duration::from_secs(seconds)).is_ok();
        assert_eq!([at(0), at(30), at(59), at(60), at(61), at(90)], [true, true, false, true, false, true]);
    }

    #[test]
    fn a_connection_carries_so_many_messages() {
        let limits = limits(|config| config.messages_per_connection = Some(3));
        assert!(limits.mail(SOURCE, 2, Instant::now()).is_ok());
        assert_eq!(limits.mail(SOURCE, 3, Instant::now()).unwrap_err().code, 421);
    }

    #[test]
    fn each_flavour_has_the_words_of_its_provider() {
        let said = |flavour| reply(flavour, Limit::MessagesPerMinute, SOURCE).to_string();
        assert!(said(Flavour::Gmail).starts_with("421 4.7.28 [127.0.1.7] Our system has detected"));
        assert!(said(Flavour::Microsoft).starts_with("451 4.7.500 Server busy."));
        assert!(said(Flavour::Yahoo).starts_with("421 4.7.0 [TSS04] Messages from 127.0.1.7"));
    }
}
