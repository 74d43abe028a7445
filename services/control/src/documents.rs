//! Export and import over gRPC.

use postrider_nats::Expected;
use postrider_proto::control::v1 as api;
use postrider_proto::control::v1::config_service_server::ConfigService;
use tonic::{Request, Response, Status};

use crate::api::Api;
use crate::document::{Step, Wanted, document, plan};
use crate::domains;
use crate::wire::present;

#[tonic::async_trait]
impl ConfigService for Api {
    async fn export_config(
        &self,
        _request: Request<api::ExportConfigRequest>,
    ) -> Result<Response<api::ConfigDocument>, Status> {
        self.answer("ExportConfig", export(self).await)
    }

    async fn import_config(
        &self,
        request: Request<api::ImportConfigRequest>,
    ) -> Result<Response<api::ImportConfigResponse>, Status> {
        self.answer("ImportConfig", import(self, request.into_inner()).await)
    }
}

async fn export(api: &Api) -> Result<api::ConfigDocument, Status> {
    Ok(document(&api.store.everything().await?, cluster_key_id(api)))
}

/// A name of the cluster key that tells nothing about it.
fn cluster_key_id(api: &Api) -> String {
    api.key.mac("cluster key id", &[]).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

async fn import(api: &Api, request: api::ImportConfigRequest) -> Result<api::ImportConfigResponse, Status> {
    let wanted = Wanted::parse(present("document", request.document)?)?;
    check_key(api, &wanted)?;
    let turn = api.store.turn().await;
    let steps = plan(&api.store.everything().await?, &wanted, request.prune)?;
    let changes = steps.iter().map(Step::change).collect();
    let mut last = None;
    if !request.dry_run {
        for (done, step) in steps.iter().enumerate() {
            let written = write(api, step).await.map_err(|why| partly(&why, done, steps.len()))?;
            last = Some(written);
        }
    }
    drop(turn);
    let applied = match last {
        Some(revision) => Some(api.store.applied(revision).await),
        None => None,
    };
    Ok(api::ImportConfigResponse { changes, applied })
}

async fn write(api: &Api, step: &Step) -> Result<u64, Status> {
    match (&step.value, step.revision) {
        (Some(value), Some(revision)) => api.store.write(&step.key, value.clone(), Expected::Revision(revision)).await,
        (Some(value), None) => api.store.write(&step.key, value.clone(), Expected::Absent).await,
        (None, Some(revision)) => api.store.delete(&step.key, revision).await,
        (None, None) => Err(Status::internal("a step of an import that does nothing")),
    }
}

fn partly(why: &Status, done: usize, of: usize) -> Status {
    Status::new(
        why.code(),
        format!("{} ({done} of {of} changes were made; importing again makes the rest)", why.message()),
    )
}

/// Secrets of another cluster would be stored and never work: refused at once.
fn check_key(api: &Api, wanted: &Wanted) -> Result<(), Status> {
    let ours = cluster_key_id(api);
    if wanted.holds_secrets() && wanted.cluster_key_id != ours {
        return Err(Status::failed_precondition(format!(
            "the document's secrets were made under the cluster key {:?}, this cluster's is {ours:?}: they would not \
             work here. Give this cluster the other's secret.key, or leave credentials and dkim out of the document",
            wanted.cluster_key_id
        )));
    }
    for domain in wanted.domains.values() {
        let sealed = domain.dkim.as_ref().map(|key| api.key.open(domains::CONTEXT, &key.sealed_key));
        if let Some(Err(why)) = sealed {
            return Err(Status::invalid_argument(format!("domain {}: dkim.sealed_key: {why}", domain.domain)));
        }
    }
    Ok(())
}
