//! `postrider queue`.

use clap::{Args, Subcommand};
use postrider_proto::control::v1 as api;
use serde::Serialize;

use super::connection::Session;
use super::filter::{Care, FilterArgs};
use super::order::{Words, give};
use super::output::{Output, Page};
use super::table::{Align, Table};
use super::{Failure, examples, time};

/// What can be asked about the queue.
#[derive(Debug, Subcommand)]
pub enum QueueVerb {
    /// What is in the queue by site, tenant and class: ready, in flight, waiting and why, and how old
    ///
    /// READY is what delivery may send next: looked at, and nothing keeps it. `queued` is in the queue, not looked at yet; `tier (5m)`
    /// counts what is in the tier of five minutes until its next turn, deferred or never tried yet: why, `message show` says of each;
    /// `held` is on hold. OLDEST is since acceptance.
    #[command(after_help = examples(&[
        "queue summary",
        "queue summary --tenant acme",
        "queue summary -o json | jq '[.rows[].ready] | add'",
    ]))]
    Summary {
        /// Only this tenant
        #[arg(long, value_name = "TENANT", default_value = "", hide_default_value = true)]
        tenant: String,
        /// Only this site
        #[arg(long, value_name = "SITE", default_value = "", hide_default_value = true)]
        site: String,
        /// Only this class
        #[arg(long, value_name = "CLASS", value_parser = ["transactional", "bulk"])]
        class: Option<String>,
    },
    /// Parts as they lie in the streams: READY, tiers, HOLD
    ///
    /// Looks through them from end to end, as far as --tenant, --site and --class do not narrow it.
    #[command(after_help = examples(&[
        "queue list --tenant acme --site google",
        "queue list --to-domain example.net --older-than 6h -o json | jq -r '.[].message_id'",
    ]))]
    List {
        /// Which mail.
        #[command(flatten)]
        filter: FilterArgs,
        /// At most so many
        #[arg(long, value_name = "COUNT", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        limit: u32,
    },
    /// Retry now what waits in tiers; what is behind a limit stays behind it, and what is on hold stays there
    #[command(after_help = examples(&[
        "queue flush --site google --dry-run",
        "queue flush --to-domain example.net --yes",
    ]))]
    Flush {
        /// Which mail.
        #[command(flatten)]
        filter: FilterArgs,
        /// How it is meant.
        #[command(flatten)]
        order: OrderArgs,
    },
    /// End mail without a word to its sender; for good
    ///
    /// At once what is ready and what is on hold. Until all mail that it concerns has met it, `hold list --all` has the order, and
    /// `hold remove` withdraws it.
    #[command(after_help = examples(&[
        "queue delete --tenant acme --campaign 'spring sale' --dry-run",
        "queue delete --tenant acme --campaign 'spring sale' --scan --comment 'ticket 17'",
    ]))]
    Delete {
        /// Which mail, and how it is meant.
        #[command(flatten)]
        end: EndArgs,
    },
    /// End mail as undeliverable: an event `bounced` with the comment as its reason
    ///
    /// At once what is ready and what is on hold. Until all mail that it concerns has met it, `hold list --all` has the order, and
    /// `hold remove` withdraws it.
    #[command(after_help = examples(&[
        "queue bounce --to-domain closed.example --older-than 1d --dry-run",
        "queue bounce --to-domain closed.example --comment 'domain is gone' --yes",
    ]))]
    Bounce {
        /// Which mail, and how it is meant.
        #[command(flatten)]
        end: EndArgs,
    },
}

/// Which mail is to end, and how that is meant.
#[derive(Debug, Args)]
pub struct EndArgs {
    #[command(flatten)]
    filter: FilterArgs,
    #[command(flatten)]
    order: OrderArgs,
    /// Also what waits in tiers, at once; else it ends at its next turn
    #[arg(long)]
    scan: bool,
}

/// How an order is meant.
#[derive(Debug, Args)]
pub struct OrderArgs {
    /// Why, for the audit trail
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    comment: String,
    #[command(flatten)]
    care: Care,
}

#[derive(Serialize)]
struct MailView {
    message_id: String,
    part: u32,
    place: String,
    tenant: String,
    class: String,
    campaign: String,
    site: String,
    pool: String,
    sender: String,
    recipients: Vec<String>,
    accept_time: String,
    attempt: u32,
    last_reply: String,
}

impl From<api::Mail> for MailView {
    fn from(mail: api::Mail) -> Self {
        Self {
            message_id: mail.message_id,
            part: mail.part,
            place: mail.place,
            tenant: mail.tenant,
            class: mail.class,
            campaign: mail.campaign,
            site: mail.site,
            pool: mail.pool,
            sender: mail.sender,
            recipients: mail.recipients,
            accept_time: time::rfc3339(mail.accept_time.as_ref()),
            attempt: mail.attempt,
            last_reply: mail.last_reply,
        }
    }
}

#[derive(Serialize)]
struct View {
    time: String,
    rows: Vec<RowView>,
    /// Messages of several parts that wait to be split.
    intake: Option<u64>,
    dead: Option<u64>,
    answered_members: Vec<String>,
    silent_members: Vec<String>,
}

#[derive(Serialize)]
struct RowView {
    site: String,
    tenant: String,
    class: String,
    ready: u64,
    in_flight: u64,
    waiting: Vec<WaitView>,
    oldest_accept_time: Option<String>,
    oldest_age_seconds: Option<u64>,
}

#[derive(Serialize)]
struct WaitView {
    reason: String,
    count: u64,
}

impl From<api::QueueSummary> for View {
    fn from(summary: api::QueueSummary) -> Self {
        let now = time::moment(summary.time.as_ref());
        let rows = summary.rows.into_iter().map(|row| {
            let oldest = time::moment(row.oldest_accept_time.as_ref());
            RowView {
                site: row.site,
                tenant: row.tenant,
                class: row.class,
                ready: row.ready,
                in_flight: row.in_flight,
                waiting: row
                    .waiting
                    .into_iter()
                    .map(|wait| WaitView { reason: wait.reason, count: wait.count })
                    .collect(),
                oldest_accept_time: oldest.map(|at| at.to_string()),
                oldest_age_seconds: oldest.zip(now).map(|(oldest, now)| now.since(oldest).as_secs()),
            }
        });
        Self {
            time: time::rfc3339(summary.time.as_ref()),
            rows: rows.collect(),
            intake: summary.intake,
            dead: summary.dead,
            answered_members: summary.answered_members,
            silent_members: summary.silent_members,
        }
    }
}

pub(super) async fn run(verb: QueueVerb, session: Session, mut out: Output) -> Result<(), Failure> {
    let order = |action: &str, filter: &FilterArgs, scan: bool, order: &OrderArgs| api::OrderRequest {
        action: action.into(),
        filter: Some(filter.wire()),
        scan,
        comment: order.comment.clone(),
        command: format!("queue {action}"),
        ..api::OrderRequest::default()
    };
    let (tenant, site, class) = match verb {
        QueueVerb::Summary { tenant, site, class } => (tenant, site, class),
        QueueVerb::List { filter, limit } => return list(&filter, limit, &session, &mut out).await,
        QueueVerb::Flush { filter, order: args } => {
            let request = order("flush", &filter, true, &args);
            return give(&session, &mut out, request, args.care, Words("retry", "retried")).await;
        }
        QueueVerb::Delete { end } => {
            let request = order("delete", &end.filter, end.scan, &end.order);
            return give(&session, &mut out, request, end.order.care, Words("delete", "deleted")).await;
        }
        QueueVerb::Bounce { end } => {
            let request = order("bounce", &end.filter, end.scan, &end.order);
            return give(&session, &mut out, request, end.order.care, Words("bounce", "bounced")).await;
        }
    };
    let request = api::GetQueueSummaryRequest { tenant, site, class: class.unwrap_or_default(), rates: false };
    let summary = session.queue().get_queue_summary(request).await?.into_inner();
    out.show(&View::from(summary), draw)
}

async fn list(filter: &FilterArgs, limit: u32, session: &Session, out: &mut Output) -> Result<(), Failure> {
    let request = api::ListMailRequest { filter: Some(filter.wire()), limit };
    let answer = session.orders().list_mail(request).await?.into_inner();
    let views: Vec<MailView> = answer.mail.into_iter().map(MailView::from).collect();
    out.show(&views, |views, page| {
        if views.is_empty() {
            return page.line("Nothing that matches waits.");
        }
        let mut table = Table::new(&[
            ("MESSAGE", Align::Left),
            ("WHERE", Align::Left),
            ("TENANT", Align::Left),
            ("SITE", Align::Left),
            ("ACCEPTED", Align::Left),
            ("TRIES", Align::Right),
            ("RECIPIENTS", Align::Elastic),
            ("LAST REPLY", Align::Elastic),
        ]);
        for view in views {
            table.row([
                view.message_id.clone(),
                view.place.clone(),
                view.tenant.clone(),
                view.site.clone(),
                view.accept_time.clone(),
                view.attempt.to_string(),
                view.recipients.join(", "),
                view.last_reply.clone(),
            ]);
        }
        page.table(&table);
        if answer.truncated {
            page.line(&format!("There are more: only {limit} are shown (--limit)."));
        }
    })
}

fn draw(view: &View, page: &mut Page) {
    if view.rows.is_empty() {
        page.line("The queue is empty.");
    } else {
        let mut table = Table::new(&[
            ("SITE", Align::Left),
            ("TENANT", Align::Left),
            ("CLASS", Align::Left),
            ("READY", Align::Right),
            ("IN FLIGHT", Align::Right),
            ("WAITING", Align::Right),
            ("OLDEST", Align::Right),
            ("WHY IT WAITS", Align::Elastic),
        ]);
        for row in &view.rows {
            let reasons: Vec<String> =
                row.waiting.iter().map(|wait| format!("{} {}", wait.reason, wait.count)).collect();
            table.row([
                row.site.clone(),
                row.tenant.clone(),
                row.class.clone(),
                row.ready.to_string(),
                row.in_flight.to_string(),
                row.waiting.iter().map(|wait| wait.count).sum::<u64>().to_string(),
                row.oldest_age_seconds
                    .map(|seconds| time::span(std::time::Duration::from_secs(seconds)))
                    .unwrap_or_default(),
                reasons.join(", "),
            ]);
        }
        page.table(&table);
    }
    match view.intake {
        None | Some(0) => {}
        Some(1) => page.line("1 message of several parts waits to be split."),
        Some(intake) => page.line(&format!("{intake} messages of several parts wait to be split.")),
    }
    match view.dead {
        None | Some(0) => {}
        Some(1) => page.line("1 dead letter is kept."),
        Some(dead) => page.line(&format!("{dead} dead letters are kept.")),
    }
    if view.answered_members.is_empty() && view.silent_members.is_empty() {
        page.line("No delivery process is alive: nothing is being sent.");
    }
    if !view.silent_members.is_empty() {
        page.line(&format!("Did not answer, so what they hold is missing here: {}", view.silent_members.join(", ")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary() -> api::QueueSummary {
        api::QueueSummary {
            rows: vec![api::QueueRow {
                site: "google".into(),
                tenant: "acme".into(),
                class: "bulk".into(),
                ready: 12_000,
                in_flight: 20,
                waiting: vec![
                    api::WaitCount { reason: "rate-limit".into(), count: 7 },
                    api::WaitCount { reason: "tier (5m)".into(), count: 3 },
                ],
                oldest_accept_time: Some(prost_types::Timestamp { seconds: 1_000, nanos: 0 }),
                minute: None,
            }],
            answered_members: vec!["delivery-0".into()],
            silent_members: vec!["delivery-1".into()],
            time: Some(prost_types::Timestamp { seconds: 1_125, nanos: 0 }),
            ..Default::default()
        }
    }

    #[test]
    fn a_summary_fits_into_a_hundred_columns_and_names_who_is_silent() {
        let mut page = Page::for_test(Some(100));
        draw(&View::from(summary()), &mut page);
        assert_eq!(
            page.as_str(),
            "SITE    TENANT  CLASS  READY  IN FLIGHT  WAITING  OLDEST  WHY IT WAITS\n\
             google  acme    bulk   12000         20       10   2m 5s  rate-limit 7, tier (5m) 3\n\
             Did not answer, so what they hold is missing here: delivery-1\n"
        );
    }

    #[test]
    fn an_empty_queue_says_so() {
        let mut page = Page::for_test(None);
        let empty = api::QueueSummary { answered_members: vec!["d".into()], ..Default::default() };
        draw(&View::from(empty), &mut page);
        assert_eq!(page.as_str(), "The queue is empty.\n");
    }
}
