//! The audit trail.

use postrider_model::{Operation, RuleFilter, Timestamp};

use crate::server::Server;

fn operation(command: &str) -> Operation {
    Operation {
        at: Timestamp::from_millis(5),
        who: "admin".to_owned(),
        command: command.to_owned(),
        filter: Some(RuleFilter { tenant: Some("acme".parse().unwrap()), ..RuleFilter::default() }),
        which: String::new(),
        rule: Some("hold-1".parse().unwrap()),
        dry_run: false,
        reason: "a complaint".to_owned(),
        counts: vec![("ready".to_owned(), 3)],
        outcome: "ok".to_owned(),
    }
}

#[tokio::test]
async fn what_operators_did_is_kept_in_its_order() {
    let server = Server::start();
    let spool = server.spool().await;
    let (begin, end) = (Timestamp::default(), Timestamp::from_millis(u64::MAX / 2_000_000));
    assert_eq!(spool.operations(begin, end, 10).await.unwrap(), []);
    let all = [operation("hold add"), operation("hold remove"), operation("hold remove")];
    for operation in &all {
        spool.record_operation(operation).await.unwrap();
    }
    // The same command twice is two entries.
    assert_eq!(spool.operations(begin, end, 10).await.unwrap(), all);
    assert_eq!(spool.operations(begin, end, 2).await.unwrap(), all[..2]);
    let later = spool.server_now().after(std::time::Duration::from_secs(60));
    assert_eq!(spool.operations(later, end, 10).await.unwrap(), []);
}
