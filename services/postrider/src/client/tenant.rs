//! `postrider tenant`.

use clap::Subcommand;
use postrider_proto::control::v1 as api;
use serde::Serialize;

use super::connection::{Session, pages};
use super::output::{Output, applied};
use super::table::{Align, Table};
use super::{Failure, examples};

/// What can be done with tenants.
#[derive(Debug, Subcommand)]
pub enum TenantVerb {
    /// Make a tenant
    #[command(after_help = examples(&["tenant create acme", "tenant create acme --display-name 'Acme Corporation' --weight 3"]))]
    Create {
        /// Its id: at most 32 of a-z, 0-9 and -
        tenant: String,
        /// A name for people
        #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
        display_name: String,
        /// Its part of what tenants share while all have mail waiting: 1 to 100
        #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
        weight: u32,
    },
    /// Change a tenant's name or weight; the rest stays as it is
    #[command(after_help = examples(&["tenant update acme --weight 5", "tenant update acme --display-name Acme"]))]
    Update {
        /// Its id
        tenant: String,
        /// A name for people
        #[arg(long, value_name = "NAME", required_unless_present = "weight")]
        display_name: Option<String>,
        /// Its part of what tenants share while all have mail waiting: 1 to 100
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100))]
        weight: Option<u32>,
    },
    /// All tenants
    #[command(after_help = examples(&["tenant list", "tenant list -o json | jq -r '.[].id'"]))]
    List,
    /// One tenant
    #[command(after_help = examples(&["tenant show acme -o yaml"]))]
    Show {
        /// Its id
        tenant: String,
    },
    /// Delete a tenant that has no credentials and no domains
    #[command(after_help = examples(&["tenant delete acme"]))]
    Delete {
        /// Its id
        tenant: String,
    },
}

#[derive(Serialize)]
struct View {
    id: String,
    display_name: String,
    weight: u32,
}

impl From<api::Tenant> for View {
    fn from(tenant: api::Tenant) -> Self {
        Self { id: tenant.id, display_name: tenant.display_name, weight: tenant.weight.max(1) }
    }
}

pub(super) async fn run(verb: TenantVerb, session: Session, mut out: Output) -> Result<(), Failure> {
    let mut client = session.tenants();
    match verb {
        TenantVerb::Create { tenant, display_name, weight } => {
            let tenant = api::Tenant { id: tenant, display_name, weight, ..Default::default() };
            let answer = client.create_tenant(api::CreateTenantRequest { tenant: Some(tenant) }).await?.into_inner();
            applied(answer.applied.as_ref());
            one(&mut out, answer.tenant.unwrap_or_default())
        }
        TenantVerb::Update { tenant, display_name, weight } => {
            let request = api::UpdateTenantRequest { id: tenant, etag: String::new(), display_name, weight };
            let answer = client.update_tenant(request).await?.into_inner();
            applied(answer.applied.as_ref());
            one(&mut out, answer.tenant.unwrap_or_default())
        }
        TenantVerb::List => {
            let found = pages(async |page_token| {
                let page =
                    client.list_tenants(api::ListTenantsRequest { page_size: 0, page_token }).await?.into_inner();
                Ok((page.tenants, page.next_page_token))
            });
            let views: Vec<View> = found.await?.into_iter().map(View::from).collect();
            out.show(&views, |views, page| {
                let mut table =
                    Table::new(&[("TENANT", Align::Left), ("WEIGHT", Align::Right), ("NAME", Align::Elastic)]);
                for view in views {
                    table.row([view.id.clone(), view.weight.to_string(), view.display_name.clone()]);
                }
                page.table(&table);
            })
        }
        TenantVerb::Show { tenant } => {
            let tenant = client.get_tenant(api::GetTenantRequest { id: tenant }).await?.into_inner();
            one(&mut out, tenant)
        }
        TenantVerb::Delete { tenant } => {
            let request = api::DeleteTenantRequest { id: tenant.clone(), etag: String::new() };
            applied(client.delete_tenant(request).await?.into_inner().applied.as_ref());
            out.done(&format!("tenant {tenant} deleted"))
        }
    }
}

fn one(out: &mut Output, tenant: api::Tenant) -> Result<(), Failure> {
    out.show(&View::from(tenant), |view, page| {
        page.fields(&[
            ("tenant", view.id.clone()),
            ("name", view.display_name.clone()),
            ("weight", view.weight.to_string()),
        ]);
    })
}
