//! `postrider domain`.

use clap::Subcommand;
use postrider_proto::control::v1 as api;
use serde::Serialize;

use super::connection::{Session, pages};
use super::output::{Output, applied};
use super::table::{Align, Table};
use super::{Failure, examples};

/// What can be done with domains.
#[derive(Debug, Subcommand)]
pub enum DomainVerb {
    /// Give a tenant a domain to send as, with a DKIM key; prints the DNS record to publish
    #[command(after_help = examples(&[
        "domain create acme.example --tenant acme",
        "domain create acme.example --tenant acme --selector spring",
        "domain create internal.example --tenant acme --no-dkim",
    ]))]
    Create {
        /// The domain; its subdomains are covered too
        domain: String,
        /// Whose it is
        #[arg(long, value_name = "TENANT")]
        tenant: String,
        /// The DKIM selector
        #[arg(long, value_name = "SELECTOR", default_value = "pr1", conflicts_with = "no_dkim")]
        selector: String,
        /// Make no key: mail of this domain is not signed
        #[arg(long)]
        no_dkim: bool,
    },
    /// All domains, and the DNS records of their keys
    #[command(after_help = examples(&["domain list", "domain list --tenant acme -o json"]))]
    List {
        /// Only this tenant's
        #[arg(long, value_name = "TENANT", default_value = "", hide_default_value = true)]
        tenant: String,
    },
    /// One domain, and the DNS record of its key
    #[command(after_help = examples(&["domain show acme.example", "domain show acme.example -o json | jq -r .dkim.record.value"]))]
    Show {
        /// The domain
        domain: String,
    },
    /// Take a domain away, and its key with it
    #[command(after_help = examples(&["domain delete acme.example"]))]
    Delete {
        /// The domain
        domain: String,
    },
}

#[derive(Serialize)]
struct View {
    domain: String,
    tenant: String,
    dkim: Option<DkimView>,
}

#[derive(Serialize)]
struct DkimView {
    selector: String,
    record: RecordView,
}

#[derive(Serialize)]
struct RecordView {
    name: String,
    r#type: String,
    value: String,
}

impl From<api::Domain> for View {
    fn from(domain: api::Domain) -> Self {
        let dkim = domain.dkim.map(|dkim| {
            let record = dkim.record.unwrap_or_default();
            let record = RecordView { name: record.name, r#type: record.r#type, value: record.value };
            DkimView { selector: dkim.selector, record }
        });
        Self { domain: domain.domain, tenant: domain.tenant, dkim }
    }
}

pub(super) async fn run(verb: DomainVerb, session: Session, mut out: Output) -> Result<(), Failure> {
    let mut client = session.domains();
    match verb {
        DomainVerb::Create { domain, tenant, selector, no_dkim } => {
            let request = api::CreateDomainRequest { domain, tenant, dkim_selector: selector, no_dkim };
            let answer = client.create_domain(request).await?.into_inner();
            applied(answer.applied.as_ref());
            one(&mut out, answer.domain.unwrap_or_default())
        }
        DomainVerb::List { tenant } => {
            let found = pages(async |page_token| {
                let request = api::ListDomainsRequest { page_size: 0, page_token, tenant: tenant.clone() };
                let page = client.list_domains(request).await?.into_inner();
                Ok((page.domains, page.next_page_token))
            });
            let views: Vec<View> = found.await?.into_iter().map(View::from).collect();
            out.show(&views, |views, page| {
                let mut table = Table::new(&[
                    ("DOMAIN", Align::Left),
                    ("TENANT", Align::Left),
                    ("SELECTOR", Align::Left),
                    ("TXT RECORD", Align::Elastic),
                ]);
                for view in views {
                    let dkim = view.dkim.as_ref();
                    table.row([
                        view.domain.clone(),
                        view.tenant.clone(),
                        dkim.map(|dkim| dkim.selector.clone()).unwrap_or_default(),
                        dkim.map(|dkim| dkim.record.value.clone()).unwrap_or_default(),
                    ]);
                }
                page.table(&table);
            })
        }
        DomainVerb::Show { domain } => {
            let domain = client.get_domain(api::GetDomainRequest { domain }).await?.into_inner();
            one(&mut out, domain)
        }
        DomainVerb::Delete { domain } => {
            let request = api::DeleteDomainRequest { domain: domain.clone(), etag: String::new() };
            applied(client.delete_domain(request).await?.into_inner().applied.as_ref());
            out.done(&format!("domain {domain} deleted"))
        }
    }
}

fn one(out: &mut Output, domain: api::Domain) -> Result<(), Failure> {
    out.show(&View::from(domain), |view, page| {
        page.fields(&[("domain", view.domain.clone()), ("tenant", view.tenant.clone())]);
        let Some(dkim) = &view.dkim else {
            page.line("DKIM    none: mail of this domain is not signed");
            return;
        };
        page.line("");
        page.line("Publish this record, so that receivers can verify the signatures:");
        page.line("");
        page.line(&format!("  name   {}", dkim.record.name));
        page.line(&format!("  type   {}", dkim.record.r#type));
        page.line(&format!("  value  {}", dkim.record.value));
        page.line("");
        page.line("As a line of a zone file:");
        page.line("");
        page.line(&format!("  {}", zone_line(&dkim.record.name, &dkim.record.value)));
    })
}

/// A TXT record as a zone file has it: strings of at most 255 bytes (RFC 1035 section 3.3.14).
fn zone_line(name: &str, value: &str) -> String {
    let mut strings: Vec<String> = vec![String::new()];
    for c in value.chars() {
        if strings.last().is_some_and(|last| last.len() + c.len_utf8() > 255) {
            strings.push(String::new());
        }
        if let Some(last) = strings.last_mut() {
            last.push(c);
        }
    }
    let quoted: Vec<String> = strings.iter().map(|string| format!("\"{string}\"")).collect();
    format!("{name}. IN TXT ( {} )", quoted.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zone_file_gets_strings_of_at_most_255_bytes() {
        let line = zone_line("pr1._domainkey.acme.example", &"x".repeat(400));
        assert_eq!(
            line,
            format!("pr1._domainkey.acme.example. IN TXT ( \"{}\" \"{}\" )", "x".repeat(255), "x".repeat(145))
        );
    }
}
