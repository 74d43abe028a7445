//! `postrider route`.

use clap::Subcommand;
use postrider_proto::control::v1 as api;
use serde::Serialize;

use super::connection::{Session, pages};
use super::output::{Output, applied};
use super::table::{Align, Table};
use super::{Failure, examples};

/// What can be done with routes.
#[derive(Debug, Subcommand)]
pub enum RouteVerb {
    /// Send mail for a domain to certain hosts instead of its MX
    #[command(after_help = examples(&[
        "route create acme.example 10.0.0.5:25 10.0.0.6:25",
        "route create lists.example lmtp:127.0.0.1:24",
        "route create '*' smarthost.example.net:25",
    ]))]
    Create {
        /// The recipient domain, or '*': everything that has no route of its own
        domain: String,
        /// HOST:PORT or lmtp:HOST:PORT, tried in order
        #[arg(required = true, value_name = "NEXT-HOP")]
        next_hops: Vec<String>,
    },
    /// All routes
    #[command(after_help = examples(&["route list"]))]
    List,
    /// One route
    #[command(after_help = examples(&["route show acme.example", "route show '*'"]))]
    Show {
        /// The recipient domain, or '*'
        domain: String,
    },
    /// Delete a route: mail goes to the domain's MX again
    #[command(after_help = examples(&["route delete acme.example"]))]
    Delete {
        /// The recipient domain, or '*'
        domain: String,
    },
}

#[derive(Serialize)]
struct View {
    domain: String,
    next_hops: Vec<String>,
    origin: String,
}

impl From<api::Route> for View {
    fn from(route: api::Route) -> Self {
        Self { domain: route.domain, next_hops: route.next_hops, origin: route.origin }
    }
}

pub(super) async fn run(verb: RouteVerb, session: Session, mut out: Output) -> Result<(), Failure> {
    let mut client = session.routes();
    match verb {
        RouteVerb::Create { domain, next_hops } => {
            let route = api::Route { domain, next_hops, ..Default::default() };
            let answer = client.create_route(api::CreateRouteRequest { route: Some(route) }).await?.into_inner();
            applied(answer.applied.as_ref());
            one(&mut out, answer.route.unwrap_or_default(), Waiting::Said)
        }
        RouteVerb::List => {
            let found = pages(async |page_token| {
                let page = client.list_routes(api::ListRoutesRequest { page_size: 0, page_token }).await?.into_inner();
                Ok((page.routes, page.next_page_token))
            });
            let views: Vec<View> = found.await?.into_iter().map(View::from).collect();
            out.show(&views, |views, page| {
                let mut table =
                    Table::new(&[("DOMAIN", Align::Left), ("NEXT HOPS", Align::Elastic), ("MADE BY", Align::Left)]);
                for view in views {
                    table.row([view.domain.clone(), view.next_hops.join(", "), view.origin.clone()]);
                }
                page.table(&table);
            })
        }
        RouteVerb::Show { domain } => {
            let route = client.get_route(api::GetRouteRequest { domain }).await?.into_inner();
            one(&mut out, route, Waiting::Unsaid)
        }
        RouteVerb::Delete { domain } => {
            let request = api::DeleteRouteRequest { domain: domain.clone(), etag: String::new() };
            applied(client.delete_route(request).await?.into_inner().applied.as_ref());
            out.done(&format!("route {domain} deleted. {}", waiting(&domain)))
        }
    }
}

/// Whether to say what a change means for mail that waits.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Waiting {
    Said,
    Unsaid,
}

/// What a change of the route means for mail that waits.
fn waiting(domain: &str) -> String {
    let which = if domain == "*" { "--all".to_owned() } else { format!("--to-domain {domain}") };
    format!("Mail that waits already follows at its next turn, at once with `postrider queue flush {which}`.")
}

fn one(out: &mut Output, route: api::Route, said: Waiting) -> Result<(), Failure> {
    out.show(&View::from(route), |view, page| {
        page.fields(&[
            ("domain", view.domain.clone()),
            ("next hops", view.next_hops.join(", ")),
            ("made by", view.origin.clone()),
        ]);
        if said == Waiting::Said {
            page.line(&waiting(&view.domain));
        }
    })
}
