//! From what is seen to what is done.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s::crd::{ConsistencyTest, Phase, RunSpec, RunStatus, Scorecard};
use k8s::discover::{Trouble, trouble_of};
use k8s::job::{self, JobRun, RUN_APP, RUNNER, Silence, Task};
use k8s::names::{APP_LABEL, IMAGE};
use k8s::phase::{self, JobSeen, Seen, Step};
use k8s::results::{self, Outcome};
use k8s::{Cluster, Error};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams};
use kube::core::NamespaceResourceScope;
use kube::runtime::controller::Action;
use kube::runtime::finalizer::{self, Event, finalizer};
use kube::{Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::spec;
use crate::experiment::Experiment;
use crate::k8s::{in_cluster, undo};

/// Holds a resource back until its run has healed.
const FINALIZER: &str = "quorate.dev/heal";
/// The operator as the owner of fields.
const FIELD_MANAGER: &str = "quorate-operator";
/// Between two looks at a Job that runs, should a watch miss its end.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// Before what was refused is looked at again: a namespace may have been labelled.
const REFUSED_FOR: Duration = Duration::from_secs(30);
/// How many Jobs are kept if nobody says.
const KEPT: u32 = 3;

/// What all reconciling shares.
pub(super) struct Shared {
    pub cluster: Cluster,
}

/// Why reconciling failed; it is tried again.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// Something of the cluster.
    #[error("{0}")]
    Cluster(#[from] Error),
    /// The API server.
    #[error("{doing}: {source}")]
    Api {
        /// What was tried.
        doing: &'static str,
        /// Why not.
        source: kube::Error,
    },
    /// The finalizer.
    #[error("{0}")]
    Finalizer(#[source] Box<finalizer::Error<Self>>),
}

/// A resource that the operator serves.
pub(super) trait Served:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + Clone
    + Debug
    + Serialize
    + DeserializeOwned
    + Send
    + Sync
    + 'static
{
    /// What its Jobs do.
    const TASK: Task;

    /// What is done, how often, and as whom.
    fn run(&self) -> &RunSpec;

    /// How it stands.
    fn status(&self) -> RunStatus;

    /// The experiment, and how many runs it makes; or why it cannot be run.
    fn wanted(&self, namespace: &str, image: &str) -> Result<(Experiment, u32), String>;
}

impl Served for ConsistencyTest {
    const TASK: Task = Task::Test;

    fn run(&self) -> &RunSpec {
        &self.spec.run
    }

    fn status(&self) -> RunStatus {
        self.status.clone().unwrap_or_default()
    }

    fn wanted(&self, namespace: &str, image: &str) -> Result<(Experiment, u32), String> {
        spec::experiment(&self.spec.experiment, namespace, Some(image)).map(|wanted| (wanted, 1))
    }
}

impl Served for Scorecard {
    const TASK: Task = Task::Compare;

    fn run(&self) -> &RunSpec {
        &self.spec.run
    }

    fn status(&self) -> RunStatus {
        self.status.clone().unwrap_or_default()
    }

    fn wanted(&self, namespace: &str, image: &str) -> Result<(Experiment, u32), String> {
        spec::comparison(&self.spec.comparison, namespace, Some(image))
    }
}

/// Brings one resource a step further.
pub(super) async fn reconcile<K: Served>(
    object: Arc<K>,
    shared: Arc<Shared>,
) -> Result<Action, Failure> {
    let namespace = object.namespace().unwrap_or_default();
    let api = Api::<K>::namespaced(shared.cluster.client.clone(), &namespace);
    let cluster = &shared.cluster;
    let done = finalizer(&api, FINALIZER, object, |event| async {
        match event {
            Event::Apply(object) => step(cluster, &*object, &namespace).await,
            Event::Cleanup(object) => clean(cluster, &*object, &namespace).await,
        }
    });
    match done.await {
        Ok(action) => Ok(action),
        Err(finalizer::Error::ApplyFailed(failure) | finalizer::Error::CleanupFailed(failure)) => {
            Err(failure)
        }
        // It went while it was looked at.
        Err(finalizer::Error::RemoveFinalizer(kube::Error::Api(status))) if status.code == 404 => {
            Ok(Action::await_change())
        }
        Err(error) => Err(Failure::Finalizer(Box::new(error))),
    }
}

async fn step<K: Served>(
    cluster: &Cluster,
    object: &K,
    namespace: &str,
) -> Result<Action, Failure> {
    let before = object.status();
    let under_way = phase::is_under_way(&before);
    let job = match &before.run {
        Some(run) if under_way => look(cluster, namespace, run).await?,
        _ => JobSeen::Missing,
    };
    let created = object.meta().creation_timestamp.as_ref();
    let uid = object.uid().unwrap_or_default();
    let seen = Seen {
        now: Timestamp::now(),
        uid: &uid,
        generation: object.meta().generation.unwrap_or_default(),
        created: created.map_or(Timestamp::UNIX_EPOCH, |time| time.0),
        job,
    };
    let wanted = wanted(cluster, object, namespace).await?;
    if let Err(why) = &wanted
        && !under_way
        && !object.run().suspend
    {
        let status = phase::refused(&before, &seen, why);
        write(cluster, object, namespace, &before, &status).await?;
        return Ok(Action::requeue(REFUSED_FOR));
    }
    let (status, step) = phase::next(object.run(), &before, &seen);
    if under_way
        && (status.finished.is_some() || status.run != before.run)
        && let Some(run) = &before.run
    {
        // Before it is written that the run has ended: whoever reads that relies on it.
        if let JobSeen::Ended {
            exit_code: None, ..
        } = seen.job
        {
            job::stop(cluster, namespace, run).await?;
        }
        undo(cluster, namespace, run).await?;
        tracing::info!(
            "{} {namespace}/{}: {run} has ended",
            K::kind(&()),
            object.name_any()
        );
    }
    write(cluster, object, namespace, &before, &status).await?;
    match step {
        Step::Start(run) => match wanted {
            Ok(wanted) => {
                start(cluster, object, namespace, &run, wanted).await?;
                tracing::info!(
                    "{} {namespace}/{}: {run} is started",
                    K::kind(&()),
                    object.name_any()
                );
                Ok(Action::requeue(Duration::from_secs(1)))
            }
            // It was changed, or the namespace was, after the run had been decided on.
            Err(why) => {
                let refused = phase::refused(&status, &seen, &why);
                write(cluster, object, namespace, &status, &refused).await?;
                Ok(Action::requeue(REFUSED_FOR))
            }
        },
        Step::Wait(wait) => {
            if status.phase == Some(Phase::Running) {
                return Ok(Action::requeue(LOOK_EVERY));
            }
            forget(cluster, object, namespace, &status).await?;
            Ok(wait.map_or_else(Action::await_change, Action::requeue))
        }
    }
}

/// What is to be run, with which image; or why it is refused. The outer error is one that passes.
async fn wanted<K: Served>(
    cluster: &Cluster,
    object: &K,
    namespace: &str,
) -> Result<Result<Wanted, String>, Failure> {
    let allowed = match cluster.allowed(namespace).await {
        Ok(allowed) => allowed,
        Err(error @ (Error::System(_) | Error::NotAllowed(_) | Error::NoNamespace(_))) => {
            return Ok(Err(error.to_string()));
        }
        Err(error) => return Err(error.into()),
    };
    let remembered = allowed
        .metadata
        .annotations
        .unwrap_or_default()
        .remove(IMAGE);
    let spec = object.run();
    let Some(image) = spec.image.clone().or(remembered) else {
        return Ok(Err(format!(
            "spec.image: which image? namespace {namespace} remembers none that was brought up in it"
        )));
    };
    let checked =
        spec::schedule(spec.schedule.as_deref()).and_then(|()| object.wanted(namespace, &image));
    Ok(checked.map(|(experiment, runs)| Wanted {
        experiment,
        runs,
        image,
    }))
}

struct Wanted {
    experiment: Experiment,
    runs: u32,
    image: String,
}

async fn start<K: Served>(
    cluster: &Cluster,
    object: &K,
    namespace: &str,
    run: &str,
    wanted: Wanted,
) -> Result<(), Failure> {
    let Wanted {
        mut experiment,
        runs,
        image,
    } = wanted;
    if K::TASK == Task::Test {
        experiment
            .seed
            .get_or_insert_with(crate::commands::test::random_seed);
    }
    let account = object.run().service_account_name.clone();
    if account.is_none() {
        job::apply_runner(cluster, namespace).await?;
    }
    in_cluster::make_claim(cluster, namespace, &experiment).await?;
    let kubernetes = experiment.kubernetes.as_ref();
    let claim = kubernetes.and_then(|kubernetes| kubernetes.results.claim());
    let owner = object.controller_owner_ref(&());
    let job = JobRun {
        run: run.to_owned(),
        image,
        within: in_cluster::deadline(&experiment, runs),
        experiment: experiment.to_yaml(),
        task: K::TASK,
        service_account: account.unwrap_or_else(|| RUNNER.to_owned()),
        claim: claim.map(str::to_owned),
        // Refused to whoever asks an operator.
        secret: None,
        owner: owner.and_then(|owner| serde_json::to_value(owner).ok()),
        // The operator keeps as many as it is told to.
        expires: false,
    };
    job::start(cluster, namespace, &job).await?;
    Ok(())
}

/// What there is to see of a run's Job.
async fn look(cluster: &Cluster, namespace: &str, run: &str) -> Result<JobSeen, Failure> {
    let jobs = Api::<Job>::namespaced(cluster.client.clone(), namespace);
    let found = jobs.get_opt(run).await.map_err(|source| Failure::Api {
        doing: "looking at a Job",
        source,
    })?;
    let Some(found) = found else {
        return Ok(JobSeen::Missing);
    };
    // Before the results: these are there before a pod ends.
    let pods = job::pods(cluster, namespace, run).await?;
    let outcome = results::outcome(cluster, namespace, run).await?;
    if let Some(outcome) = &outcome
        && outcome.exit_code.is_some()
    {
        let figures = outcome.verdict.as_deref();
        return Ok(JobSeen::Ended {
            exit_code: outcome.exit_code,
            figures: figures.and_then(|figures| serde_json::from_str(figures).ok()),
            error: outcome.error.clone(),
        });
    }
    let ended = |error: String| JobSeen::Ended {
        exit_code: None,
        figures: None,
        error: Some(error),
    };
    let before = |why: &str| {
        ended(format!(
            "the harness's own pod ended before the run did ({why}); its store was removed"
        ))
    };
    // Of a run that has begun its pod alone counts: a Job makes another one for a pod that is to go,
    // and that one ends at once.
    if let Some(Outcome { pod: name, .. }) = outcome {
        let Some(pod) = pods.iter().find(|pod| pod.name_any() == name) else {
            return Ok(before("it was deleted or evicted"));
        };
        if let Some(why) = job::ended(pod) {
            return Ok(before(&why));
        }
        return Ok(match silent(cluster, namespace, run, pod).await? {
            Some(why) => ended(in_cluster::lost(&why).to_string()),
            None => JobSeen::Running,
        });
    }
    for pod in &pods {
        if let Some(Trouble::Image(why)) = trouble_of(pod) {
            return Ok(ended(format!("the harness's image cannot be had: {why}")));
        }
    }
    let conditions = found.status.and_then(|status| status.conditions);
    let failed = conditions
        .unwrap_or_default()
        .into_iter()
        .find(|condition| condition.status == "True");
    let Some(failed) = failed else {
        return Ok(JobSeen::Running);
    };
    let why = pods
        .iter()
        .find_map(job::ended)
        .or(failed.message)
        .unwrap_or_else(|| "nobody says why".to_owned());
    Ok(before(&why))
}

/// Why a pod is given up whose Kubernetes node is gone, if so; looks for some seconds if it may be.
async fn silent(
    cluster: &Cluster,
    namespace: &str,
    run: &str,
    pod: &Pod,
) -> Result<Option<String>, Failure> {
    let mut silence = Silence::default();
    loop {
        if let Some(why) = silence.is_lost(cluster, namespace, run, pod).await? {
            return Ok(Some(why));
        }
        if !silence.is_suspected() {
            return Ok(None);
        }
        let left = job::pods(cluster, namespace, run).await?;
        if !left
            .iter()
            .any(|it| it.uid() == pod.uid() && job::is_cut_off(it))
        {
            return Ok(None);
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

async fn write<K: Served>(
    cluster: &Cluster,
    object: &K,
    namespace: &str,
    before: &RunStatus,
    status: &RunStatus,
) -> Result<(), Failure> {
    if before == status {
        return Ok(());
    }
    let api = Api::<K>::namespaced(cluster.client.clone(), namespace);
    // Applied, so that fields which are no more are removed.
    let whole = json!({
        "apiVersion": K::api_version(&()),
        "kind": K::kind(&()),
        "status": status,
    });
    let params = PatchParams::apply(FIELD_MANAGER).force();
    api.patch_status(&object.name_any(), &params, &Patch::Apply(&whole))
        .await
        .map(drop)
        .map_err(|source| Failure::Api {
            doing: "writing a status",
            source,
        })
}

/// The Jobs of a resource, newest first.
async fn jobs_of<K: Served>(
    cluster: &Cluster,
    object: &K,
    namespace: &str,
) -> Result<Vec<Job>, Failure> {
    let uid = object.uid().unwrap_or_default();
    let jobs = Api::<Job>::namespaced(cluster.client.clone(), namespace);
    let of_runs = ListParams::default().labels(&format!("{APP_LABEL}={RUN_APP}"));
    let found = jobs.list(&of_runs).await.map_err(|source| Failure::Api {
        doing: "listing Jobs",
        source,
    })?;
    let mut found = found.items;
    found.retain(|job| job.owner_references().iter().any(|owner| owner.uid == uid));
    found.sort_by_key(|job| std::cmp::Reverse(job.metadata.creation_timestamp.clone()));
    Ok(found)
}

/// Deletes the Jobs that are more than is to be kept; what they have handed over goes with them.
async fn forget<K: Served>(
    cluster: &Cluster,
    object: &K,
    namespace: &str,
    status: &RunStatus,
) -> Result<(), Failure> {
    let spec = object.run();
    let mut left = [
        spec.successful_runs_history_limit.unwrap_or(KEPT),
        spec.failed_runs_history_limit.unwrap_or(KEPT),
    ];
    let jobs = Api::<Job>::namespaced(cluster.client.clone(), namespace);
    for job in jobs_of(cluster, object, namespace).await? {
        let succeeded = job.status.as_ref().is_some_and(|s| s.succeeded == Some(1));
        let left = &mut left[usize::from(!succeeded)];
        if *left > 0 || status.run.as_deref() == Some(&job.name_any()) {
            *left = left.saturating_sub(1);
            continue;
        }
        match jobs
            .delete(&job.name_any(), &DeleteParams::background())
            .await
        {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(source) => {
                return Err(Failure::Api {
                    doing: "deleting an old Job",
                    source,
                });
            }
        }
    }
    Ok(())
}

/// Ends what is under way, and waits until it has healed and nothing of it is left.
async fn clean<K: Served>(
    cluster: &Cluster,
    object: &K,
    namespace: &str,
) -> Result<Action, Failure> {
    let mut runs: Vec<String> = object.status().run.into_iter().collect();
    let jobs = jobs_of(cluster, object, namespace).await?;
    runs.extend(jobs.iter().map(ResourceExt::name_any));
    runs.sort();
    runs.dedup();
    for run in &runs {
        in_cluster::remove(cluster, namespace, run).await?;
    }
    tracing::info!(
        "{} {namespace}/{}: removed",
        K::kind(&()),
        object.name_any()
    );
    Ok(Action::await_change())
}
