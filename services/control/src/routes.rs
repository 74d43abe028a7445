//! Routes over gRPC.

use postrider_model::{Domain, Route};
use postrider_nats::ConfigKey;
use postrider_proto::config::v1 as wire;
use postrider_proto::control::v1 as api;
use postrider_proto::control::v1::route_service_server::RouteService;
use tonic::{Request, Response, Status};

use crate::api::Api;
use crate::store::{Stored, check_etag, page};
use crate::wire::{present, required};

/// Who makes routes through this API.
pub(crate) const OPERATOR: &str = "operator";

/// The most next hops of a route.
const NEXT_HOPS: usize = 16;

#[tonic::async_trait]
impl RouteService for Api {
    async fn create_route(
        &self,
        request: Request<api::CreateRouteRequest>,
    ) -> Result<Response<api::CreateRouteResponse>, Status> {
        self.answer("CreateRoute", create(self, request.into_inner()).await)
    }

    async fn list_routes(
        &self,
        request: Request<api::ListRoutesRequest>,
    ) -> Result<Response<api::ListRoutesResponse>, Status> {
        self.answer("ListRoutes", list(self, &request.into_inner()).await)
    }

    async fn get_route(&self, request: Request<api::GetRouteRequest>) -> Result<Response<api::Route>, Status> {
        self.answer("GetRoute", get(self, &request.into_inner()).await)
    }

    async fn delete_route(
        &self,
        request: Request<api::DeleteRouteRequest>,
    ) -> Result<Response<api::DeleteRouteResponse>, Status> {
        self.answer("DeleteRoute", delete(self, &request.into_inner()).await)
    }
}

async fn create(api: &Api, request: api::CreateRouteRequest) -> Result<api::CreateRouteResponse, Status> {
    let wanted = present("route", request.route)?;
    let route = parse("route.", &wanted.domain, &wanted.next_hops, OPERATOR)?;
    let turn = api.store.turn().await;
    let revision = api.store.create(&ConfigKey::Route(route.domain.clone()), &wire::Route::from(&route)).await?;
    drop(turn);
    let applied = api.store.applied(revision).await;
    Ok(api::CreateRouteResponse { route: Some(shown(Stored { value: route, revision })), applied: Some(applied) })
}

/// A route as it was written; `field` goes before the names of fields in refusals.
pub(crate) fn parse(field: &str, domain: &str, next_hops: &[String], origin: &str) -> Result<Route, Status> {
    let domain = recipient_domain(&format!("{field}domain"), domain)?;
    if next_hops.is_empty() || next_hops.len() > NEXT_HOPS {
        return Err(Status::invalid_argument(format!("{field}next_hops: expected 1 to {NEXT_HOPS} of them")));
    }
    let next_hops = next_hops.iter().map(|hop| required(&format!("{field}next_hops"), hop));
    Ok(Route { domain, next_hops: next_hops.collect::<Result<_, _>>()?, origin: origin.to_owned() })
}

fn recipient_domain(field: &str, text: &str) -> Result<Option<Domain>, Status> {
    if text == "*" { Ok(None) } else { required(field, text).map(Some) }
}

async fn list(api: &Api, request: &api::ListRoutesRequest) -> Result<api::ListRoutesResponse, Status> {
    let all = api.store.everything().await?.routes;
    let (found, next_page_token) = page(all, |route| name(&route.value), request.page_size, &request.page_token);
    Ok(api::ListRoutesResponse { routes: found.into_iter().map(shown).collect(), next_page_token })
}

async fn get(api: &Api, request: &api::GetRouteRequest) -> Result<api::Route, Status> {
    find(api, recipient_domain("domain", &request.domain)?).await.map(shown)
}

async fn find(api: &Api, domain: Option<Domain>) -> Result<Stored<Route>, Status> {
    api.store.get::<wire::Route, Route>(&ConfigKey::Route(domain)).await
}

async fn delete(api: &Api, request: &api::DeleteRouteRequest) -> Result<api::DeleteRouteResponse, Status> {
    let domain = recipient_domain("domain", &request.domain)?;
    let key = ConfigKey::Route(domain.clone());
    let turn = api.store.turn().await;
    let route = find(api, domain).await?;
    check_etag(&key, &request.etag, route.revision)?;
    let revision = api.store.delete(&key, route.revision).await?;
    drop(turn);
    Ok(api::DeleteRouteResponse { applied: Some(api.store.applied(revision).await) })
}

/// The domain as it is written, `*` for everything else.
pub(crate) fn name(route: &Route) -> String {
    route.domain.as_ref().map_or_else(|| "*".to_owned(), ToString::to_string)
}

fn shown(route: Stored<Route>) -> api::Route {
    api::Route {
        domain: name(&route.value),
        next_hops: route.value.next_hops.iter().map(ToString::to_string).collect(),
        origin: route.value.origin,
        etag: route.revision.to_string(),
    }
}
