//! Which mail an operator's command is about, and what goes with commands that change much: `--dry-run`, `--yes`, a question on
//! the terminal.

use std::io::{IsTerminal, Write};

use clap::Args;
use postrider_proto::control::v1 as api;

use super::Failure;
use super::time::{Moment, parse_moment};

/// Which mail. What is said must all be so.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Which mail")]
pub struct FilterArgs {
    /// Of this tenant
    #[arg(long, value_name = "TENANT", default_value = "", hide_default_value = true)]
    tenant: String,
    /// Of this class
    #[arg(long, value_name = "CLASS", value_parser = ["transactional", "bulk"])]
    class: Option<String>,
    /// Of this campaign
    #[arg(long, value_name = "CAMPAIGN", default_value = "", hide_default_value = true)]
    campaign: String,
    /// For this site
    #[arg(long, value_name = "SITE", default_value = "", hide_default_value = true)]
    site: String,
    /// That must leave from this pool
    #[arg(long, value_name = "POOL", default_value = "", hide_default_value = true)]
    pool: String,
    /// With a recipient at this domain
    #[arg(long, value_name = "DOMAIN", default_value = "", hide_default_value = true)]
    to_domain: String,
    /// From this domain: of the envelope sender or of the header From
    #[arg(long, value_name = "DOMAIN", default_value = "", hide_default_value = true)]
    from_domain: String,
    /// Accepted longer ago than this (10m, 2h, 1d), or before this time; of dead letters: buried
    #[arg(long, value_name = "TIME", value_parser = parse_moment)]
    older_than: Option<Moment>,
    /// That waits for this reason (`retry`, `rate-limit`, ...: see `queue summary`); of dead letters: that died of it (`body-lost`, `undecodable`)
    #[arg(long, value_name = "REASON", default_value = "", hide_default_value = true)]
    reason: String,
}

impl FilterArgs {
    pub(super) fn wire(&self) -> api::QueueFilter {
        api::QueueFilter {
            tenant: self.tenant.clone(),
            class: self.class.clone().unwrap_or_default(),
            campaign: self.campaign.clone(),
            site: self.site.clone(),
            pool: self.pool.clone(),
            to_domain: self.to_domain.clone(),
            from_domain: self.from_domain.clone(),
            accepted_before: self.older_than.map(Moment::wire),
            reason: self.reason.clone(),
            message_id: String::new(),
        }
    }
}

/// Whether a filter says anything.
pub(super) fn is_empty(filter: &api::QueueFilter) -> bool {
    *filter == api::QueueFilter::default()
}

/// How a command that changes much is meant.
#[derive(Clone, Copy, Debug, Args)]
pub struct Care {
    /// Only say how much it would concern
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Do not ask
    #[arg(short, long)]
    pub(super) yes: bool,
    /// All mail, if no filter is given
    #[arg(long)]
    pub(super) all: bool,
}

impl Care {
    /// Refuses a filter that says nothing, unless all is meant.
    pub(super) fn check(self, says_something: bool) -> Result<(), Failure> {
        if says_something || self.all {
            return Ok(());
        }
        Err(Failure::Usage(
            "no filter: say which mail (--tenant, --site, --to-domain, ...: see --help), or --all if you mean all of it"
                .into(),
        ))
    }

    /// Whether it is to be done. Asks on a terminal; where nobody can answer, `--yes` must have been given.
    pub(super) fn confirm(self, question: &str) -> Result<bool, Failure> {
        if self.yes {
            return Ok(true);
        }
        if !std::io::stdin().is_terminal() {
            return Err(Failure::Usage(format!(
                "{question} Nobody can be asked here: --yes does it, --dry-run counts"
            )));
        }
        let mut error = std::io::stderr().lock();
        write!(error, "{question} [y/N] ").and_then(|()| error.flush()).map_err(Failure::output)?;
        let mut answer = String::new();
        let read = std::io::stdin().read_line(&mut answer);
        read.map_err(|source| Failure::File { what: "standard input".into(), source })?;
        Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_that_says_nothing_must_be_meant() {
        let care = |all| Care { dry_run: false, yes: true, all };
        assert!(is_empty(&FilterArgs::default().wire()));
        assert_eq!(care(false).check(false).unwrap_err().exit_code(), 2);
        assert!(care(false).check(true).is_ok() && care(true).check(false).is_ok());
        let filter = FilterArgs { tenant: "acme".into(), ..FilterArgs::default() };
        assert!(!is_empty(&filter.wire()));
    }
}
