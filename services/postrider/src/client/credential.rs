//! `postrider credential`.

use clap::Subcommand;
use postrider_proto::control::v1 as api;
use serde::Serialize;

use super::connection::{Session, pages};
use super::output::{Output, applied, remark};
use super::table::{Align, Table};
use super::{Failure, examples};

/// What can be done with credentials.
#[derive(Debug, Subcommand)]
pub enum CredentialVerb {
    /// Make a credential; its secret is shown this once
    #[command(after_help = examples(&[
        "credential create acme-app --tenant acme",
        "credential create acme-news --tenant acme --class bulk --allow-class transactional",
        "credential create acme-app --tenant acme -o json | jq -r .secret",
    ]))]
    Create {
        /// The user name: at most 64 of a-z, 0-9, - . _ and @
        name: String,
        /// Whose it is
        #[arg(long, value_name = "TENANT")]
        tenant: String,
        /// The class of its mail
        #[arg(long, value_name = "CLASS", value_parser = ["transactional", "bulk"], default_value = "transactional")]
        class: String,
        /// The campaign of its mail
        #[arg(long, value_name = "CAMPAIGN", default_value = "", hide_default_value = true)]
        campaign: String,
        /// The pool of its mail
        #[arg(long, value_name = "POOL", default_value = "", hide_default_value = true)]
        pool: String,
        /// Another class that the header X-Postrider-Class may choose (repeatable)
        #[arg(long = "allow-class", value_name = "CLASS", value_parser = ["transactional", "bulk"])]
        allowed_classes: Vec<String>,
        /// The header X-Postrider-Campaign may choose the campaign
        #[arg(long)]
        allow_campaign: bool,
        /// A pool that the header X-Postrider-Pool may choose (repeatable)
        #[arg(long = "allow-pool", value_name = "POOL")]
        allowed_pools: Vec<String>,
    },
    /// All credentials
    #[command(after_help = examples(&["credential list", "credential list --tenant acme"]))]
    List {
        /// Only this tenant's
        #[arg(long, value_name = "TENANT", default_value = "", hide_default_value = true)]
        tenant: String,
    },
    /// One credential, without its secret
    #[command(after_help = examples(&["credential show acme-app"]))]
    Show {
        /// The user name
        name: String,
    },
    /// Delete a credential: it is refused everywhere within a second
    #[command(after_help = examples(&["credential delete acme-app"]))]
    Delete {
        /// The user name
        name: String,
    },
}

#[derive(Serialize)]
struct View {
    name: String,
    tenant: String,
    default_class: String,
    default_campaign: String,
    default_pool: String,
    allowed_classes: Vec<String>,
    may_choose_campaign: bool,
    allowed_pools: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
}

impl From<api::Credential> for View {
    fn from(credential: api::Credential) -> Self {
        Self {
            name: credential.name,
            tenant: credential.tenant,
            default_class: credential.default_class,
            default_campaign: credential.default_campaign,
            default_pool: credential.default_pool,
            allowed_classes: credential.allowed_classes,
            may_choose_campaign: credential.may_choose_campaign,
            allowed_pools: credential.allowed_pools,
            secret: None,
        }
    }
}

pub(super) async fn run(verb: CredentialVerb, session: Session, mut out: Output) -> Result<(), Failure> {
    let mut client = session.credentials();
    match verb {
        CredentialVerb::Create {
            name,
            tenant,
            class,
            campaign,
            pool,
            allowed_classes,
            allow_campaign,
            allowed_pools,
        } => {
            let credential = api::Credential {
                name,
                tenant,
                default_class: class,
                default_campaign: campaign,
                default_pool: pool,
                allowed_classes,
                may_choose_campaign: allow_campaign,
                allowed_pools,
                etag: String::new(),
            };
            let request = api::CreateCredentialRequest { credential: Some(credential) };
            let answer = client.create_credential(request).await?.into_inner();
            applied(answer.applied.as_ref());
            let view = View { secret: Some(answer.secret), ..View::from(answer.credential.unwrap_or_default()) };
            one(&mut out, &view)?;
            remark("Keep the secret now: it is stored nowhere and cannot be shown again.");
            Ok(())
        }
        CredentialVerb::List { tenant } => {
            let found = pages(async |page_token| {
                let request = api::ListCredentialsRequest { page_size: 0, page_token, tenant: tenant.clone() };
                let page = client.list_credentials(request).await?.into_inner();
                Ok((page.credentials, page.next_page_token))
            });
            let views: Vec<View> = found.await?.into_iter().map(View::from).collect();
            out.show(&views, |views, page| {
                let mut table = Table::new(&[
                    ("CREDENTIAL", Align::Left),
                    ("TENANT", Align::Left),
                    ("CLASS", Align::Left),
                    ("CAMPAIGN", Align::Elastic),
                    ("POOL", Align::Left),
                    ("MAY CHOOSE", Align::Elastic),
                ]);
                for view in views {
                    table.row([
                        view.name.clone(),
                        view.tenant.clone(),
                        view.default_class.clone(),
                        view.default_campaign.clone(),
                        view.default_pool.clone(),
                        may_choose(view),
                    ]);
                }
                page.table(&table);
            })
        }
        CredentialVerb::Show { name } => {
            let credential = client.get_credential(api::GetCredentialRequest { name }).await?.into_inner();
            one(&mut out, &View::from(credential))
        }
        CredentialVerb::Delete { name } => {
            let request = api::DeleteCredentialRequest { name: name.clone(), etag: String::new() };
            applied(client.delete_credential(request).await?.into_inner().applied.as_ref());
            out.done(&format!("credential {name} deleted"))
        }
    }
}

fn may_choose(view: &View) -> String {
    let campaign = view.may_choose_campaign.then(|| "campaign".to_owned());
    let classes = view.allowed_classes.iter().filter(|class| **class != view.default_class).cloned();
    let pools = view.allowed_pools.iter().map(|pool| format!("pool {pool}"));
    classes.chain(campaign).chain(pools).collect::<Vec<_>>().join(", ")
}

fn one(out: &mut Output, view: &View) -> Result<(), Failure> {
    out.show(view, |view, page| {
        page.fields(&[
            ("credential", view.name.clone()),
            ("secret", view.secret.clone().unwrap_or_default()),
            ("tenant", view.tenant.clone()),
            ("class", view.default_class.clone()),
            ("campaign", view.default_campaign.clone()),
            ("pool", view.default_pool.clone()),
            ("headers may choose", may_choose(view)),
        ]);
    })
}
