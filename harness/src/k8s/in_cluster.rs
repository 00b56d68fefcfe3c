//! A run in a Job, from outside: starts it, shows what it shows, fetches what it found, and leaves
//! nothing of it.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use futures_util::{AsyncBufReadExt, TryStreamExt};
use jiff::Timestamp;
use k8s::discover::{Trouble, trouble_of};
use k8s::job::{self, JobRun, RUNNER, Silence, Task};
use k8s::names::IMAGE;
use k8s::results::{self, Outcome};
use k8s::{Cluster, Error, deploy, volume};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{Api, LogParams};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::time::{Instant, sleep};

use super::pack::{file_in, unpack};
use crate::commands::test::write_reports;
use crate::exit;
use crate::experiment::Experiment;
use crate::judge;
use crate::live::Live;
use crate::local::signals::{self, Handler};
use crate::report::Summary;
use crate::store::RunDir;

/// Between two looks at the Job.
const LOOK_EVERY: Duration = Duration::from_millis(300);
/// How long a pod may find no place.
const PLACE_WITHIN: Duration = Duration::from_secs(45);
/// How long the API server may be away until we give up waiting (the run itself goes on).
const AWAY_AT_MOST: Duration = Duration::from_secs(120);
/// How long results may take to be seen after the pod has ended.
const SEEN_WITHIN: Duration = Duration::from_secs(3);
/// Beside time limit, recovery and start: for the checkers and handing over.
const MARGIN: Duration = Duration::from_secs(1800);

/// How long a Job may take for this experiment.
pub(crate) fn deadline(experiment: &Experiment, runs: u32) -> Duration {
    let kubernetes = experiment.kubernetes.clone().unwrap_or_default();
    let ready = Duration::from_secs(kubernetes.ready_within_s);
    let one = ready + experiment.limits.time + experiment.limits.recovery * 2;
    one * runs + MARGIN
}

/// Runs an experiment in a Job and leaves everything in a new run directory here.
///
/// # Errors
/// If there is no verdict: one sentence that says why.
pub(crate) fn run_once(experiment: &Experiment, store: &Path) -> Result<(Summary, RunDir)> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(run(experiment, store))
}

async fn run(experiment: &Experiment, store: &Path) -> Result<(Summary, RunDir)> {
    let kubernetes = experiment.kubernetes.clone().unwrap_or_default();
    let namespace = kubernetes.namespace.as_str();
    let cluster = Cluster::connect().await?;
    let allowed = cluster.allowed(namespace).await?;
    let claim = kubernetes.results.claim();
    let mut rights = [job::START, &job::runner_rights()].concat();
    if claim.is_some() {
        rights.extend([volume::CLAIM, volume::READ].concat());
    }
    rights.sort_unstable();
    rights.dedup();
    cluster.may(namespace, &rights).await?;
    let remembered = allowed
        .metadata
        .annotations
        .unwrap_or_default()
        .remove(IMAGE);
    let image = kubernetes.image.clone().or(remembered).with_context(|| {
        format!("which image? say --image; namespace {namespace} remembers none that was brought up in it")
    })?;
    let run = JobRun {
        run: super::new_run(),
        image,
        experiment: experiment.to_yaml(),
        task: Task::Test,
        service_account: RUNNER.to_owned(),
        within: deadline(experiment, 1),
        owner: None,
        expires: true,
        claim: claim.map(str::to_owned),
        secret: kubernetes.secret.clone(),
    };
    let dir = RunDir::create(store, &experiment.name, Timestamp::now())?;
    dir.write("experiment.yaml", &run.experiment)?;
    let mut live = Live::new(experiment.target.one_log());
    let (interrupts, mut interrupted) = unbounded_channel::<()>();
    let hint = format!(
        "the run goes on in the cluster; `kubectl delete job --namespace {namespace} {}` ends it",
        run.run
    );
    let _signals = signals::register(Handler {
        interrupt: Box::new(move || {
            // Nobody waits any more once the run is over.
            let _ = interrupts.send(());
        }),
        abandon: Box::new(move || eprintln!("{hint}")),
    })
    .context("cannot listen for signals")?;
    live.step(&format!(
        "starting Job {} in namespace {namespace}",
        run.run
    ));
    let within = Duration::from_secs(kubernetes.ready_within_s);
    let ended = async {
        job::apply_runner(&cluster, namespace).await?;
        make_claim(&cluster, namespace, experiment).await?;
        job::start(&cluster, namespace, &run).await?;
        let mut watched = Watched {
            cluster: &cluster,
            namespace,
            run: &run,
            within,
            began: Instant::now(),
            away_since: None,
            ended_since: None,
            silence: Silence::default(),
            stopped: false,
        };
        let outcome = watched.until_ended(&mut live, &mut interrupted).await?;
        let early = outcome.exit_code == Some(exit::INTERRUPTED) && !watched.stopped;
        live.step("fetching the results");
        let found = fetched(&cluster, namespace, &run, &outcome, &dir).await?;
        anyhow::Ok((outcome, found, early))
    }
    .await;
    if ended.is_err() {
        live.step("fetching the history so far");
        if let Err(error) = salvage(&cluster, namespace, &run, &dir).await {
            tracing::warn!("no history: {error:#}");
        }
    }
    live.step("removing the Job");
    if let Err(error) = remove(&cluster, namespace, &run.run).await {
        // The history is whole; what is left on the cluster does not change the verdict.
        tracing::warn!(
            "{error}; `kubectl delete job --namespace {namespace} {}` removes the rest",
            run.run
        );
    }
    live.finish();
    let with_dir =
        |why: &str| anyhow::anyhow!("{why}\nwhat was recorded is in {}", dir.path().display());
    let (outcome, found, early) = ended.map_err(|error| with_dir(&exit::said(&error)))?;
    if let Some(why) = outcome.error {
        return Err(with_dir(why.trim_end()));
    }
    // The experiment in there says the name that its store had.
    dir.write("experiment.yaml", &run.experiment)?;
    let summary = found.context("the Job has handed over no verdict")?;
    let summary = presented(experiment, &dir, summary)?;
    if early {
        eprintln!(
            "error: the harness's own pod was told to end before the run did (it was evicted, drained or \
             deleted); its faults are healed, and what was recorded until then is judged"
        );
    }
    Ok((summary, dir))
}

/// The claim for results, if the run keeps them in one.
pub(crate) async fn make_claim(
    cluster: &Cluster,
    namespace: &str,
    experiment: &Experiment,
) -> Result<(), Error> {
    let kubernetes = experiment.kubernetes.clone().unwrap_or_default();
    let Some(claim) = kubernetes.results.claim() else {
        return Ok(());
    };
    let class = kubernetes.storage_class.as_deref();
    volume::claim(cluster, namespace, claim, class, kubernetes.volume_mib).await
}

/// Unpacks what a run has handed over; its verdict, if it came to one.
async fn fetched(
    cluster: &Cluster,
    namespace: &str,
    run: &JobRun,
    outcome: &Outcome,
    dir: &RunDir,
) -> Result<Option<Summary>> {
    let archive = match &outcome.claim {
        Some(claim) => volume::read(cluster, namespace, &run.run, &run.image, claim).await?,
        None => results::archive(cluster, namespace, &run.run, outcome.chunks).await?,
    };
    unpacked(&archive, dir)
}

/// Unpacks a run; its verdict, if it came to one.
fn unpacked(archive: &[u8], dir: &RunDir) -> Result<Option<Summary>> {
    if archive.is_empty() {
        return Ok(None);
    }
    unpack(archive, dir.path())?;
    let verdict = dir.file("verdict.json");
    verdict
        .exists()
        .then(|| Summary::load(&verdict))
        .transpose()
}

/// The history so far of a run whose harness is gone.
async fn salvage(cluster: &Cluster, namespace: &str, run: &JobRun, dir: &RunDir) -> Result<()> {
    let path = dir.file("history.jsonl");
    if path.exists() {
        return Ok(());
    }
    if let Some(claim) = &run.claim {
        if results::outcome(cluster, namespace, &run.run)
            .await?
            .is_some()
        {
            let archive = volume::read(cluster, namespace, &run.run, &run.image, claim).await?;
            unpacked(&archive, dir)?;
        }
        return Ok(());
    }
    let mut history = Vec::new();
    for part in results::parts(cluster, namespace, &run.run).await? {
        history.extend(zstd::decode_all(&part[..]).context("a part of it is damaged")?);
    }
    if history.is_empty() {
        return Ok(());
    }
    std::fs::write(&path, history).with_context(|| format!("cannot write {}", path.display()))
}

/// Reports as of a run from here: the command that repeats it, and the page that was left out.
fn presented(experiment: &Experiment, dir: &RunDir, summary: Summary) -> Result<Summary> {
    let summary = Summary {
        reproduce: format!("{} --in-cluster", judge::reproduce(experiment, dir)),
        ..summary
    };
    let options = checkers::format::ReadOptions {
        partial: true,
        ..Default::default()
    };
    let read = checkers::format::read_path(&dir.history(), None, &options)
        .context("cannot read back the history")?;
    write_reports(experiment, dir, &summary, &read.history)?;
    Ok(summary)
}

/// What is to be fetched.
#[derive(Clone, Debug)]
pub(crate) struct Wanted<'a> {
    pub namespace: &'a str,
    /// The run.
    pub run: &'a str,
    /// The claim in whose volume it is, if its Job is not there to say it.
    pub claim: Option<&'a str>,
    /// The image of what reads the volume; by default that of the Job, or the one last brought up.
    pub image: Option<&'a str>,
}

/// Fetches what a run has left, as of an operator's, into a new directory below `store`; a comparison
/// has no verdict. What is in a volume is there also when the Job is gone, or its pod was killed.
///
/// # Errors
/// If there is no such run, or it has not ended.
pub(crate) async fn fetch(
    cluster: &Cluster,
    wanted: &Wanted<'_>,
    store: &Path,
) -> Result<(Option<Summary>, RunDir)> {
    let Wanted { namespace, run, .. } = *wanted;
    let outcome = match (
        results::outcome(cluster, namespace, run).await?,
        wanted.claim,
    ) {
        (Some(outcome), _) => outcome,
        (None, Some(_)) => Outcome::default(),
        (None, None) => bail!(
            "there are no results of {run} in namespace {namespace}; `kubectl get \
             consistencytests,scorecards,jobs --namespace {namespace}` names runs, and --results pvc \
             fetches what is in a volume"
        ),
    };
    let claim = outcome.claim.as_deref().or(wanted.claim);
    if outcome.exit_code.is_none() && job::is_under_way(cluster, namespace, run).await? {
        bail!("{run} has not ended yet");
    }
    let archive = match claim {
        Some(claim) => {
            let image = image_of(cluster, wanted).await?;
            volume::read(cluster, namespace, run, &image, claim).await?
        }
        None => results::archive(cluster, namespace, run, outcome.chunks).await?,
    };
    let given = job::experiment_of(cluster, namespace, run).await.ok();
    let text = match given {
        Some(text) => text,
        None => experiment_in(&archive)?
            .with_context(|| format!("nothing of {run} was kept that says what it was"))?,
    };
    let experiment = Experiment::parse(&text, "the experiment of the run")?;
    let name = match experiment.compare {
        Some(_) => "compare",
        None => &experiment.name,
    };
    let dir = RunDir::create(store, name, Timestamp::now())?;
    let found = unpacked(&archive, &dir)?;
    dir.write("experiment.yaml", &text)?;
    match (found, outcome.error) {
        (_, Some(why)) => bail!("{why}\nwhat was recorded is in {}", dir.path().display()),
        (Some(summary), None) => Ok((Some(presented(&experiment, &dir, summary)?), dir)),
        (None, None) if experiment.compare.is_some() => Ok((None, dir)),
        (None, None) => bail!(
            "{run} came to no verdict; what was recorded is in {} (`quorate report` judges it)",
            dir.path().display()
        ),
    }
}

/// The image that reads a volume: any of this program.
async fn image_of(cluster: &Cluster, wanted: &Wanted<'_>) -> Result<String> {
    if let Some(image) = wanted.image {
        return Ok(image.to_owned());
    }
    let jobs = Api::<Job>::namespaced(cluster.client.clone(), wanted.namespace);
    let job = jobs.get_opt(wanted.run).await.ok().flatten();
    let containers = job.and_then(|job| Some(job.spec?.template.spec?.containers));
    let image = containers.and_then(|all| all.into_iter().next()?.image);
    if let Some(image) = image {
        return Ok(image);
    }
    let allowed = cluster.allowed(wanted.namespace).await?;
    let remembered = allowed
        .metadata
        .annotations
        .unwrap_or_default()
        .remove(IMAGE);
    remembered.with_context(|| {
        format!(
            "which image reads the volume? say --image; namespace {} remembers none",
            wanted.namespace
        )
    })
}

/// The experiment in the archive of a run.
fn experiment_in(archive: &[u8]) -> Result<Option<String>> {
    for name in ["experiment.yaml", "comparison.yaml"] {
        if let Some(text) = file_in(archive, name)? {
            return Ok(Some(text));
        }
    }
    Ok(None)
}

/// Removes the Job, and what its run may have left: a harness that was killed has removed its store no
/// more than it has given Kubernetes nodes back.
pub(crate) async fn remove(cluster: &Cluster, namespace: &str, run: &str) -> Result<(), Error> {
    let removed = job::remove(cluster, namespace, run).await;
    super::substrate::undo(cluster, namespace, run).await?;
    removed
}

/// A Job that is waited for.
struct Watched<'a> {
    cluster: &'a Cluster,
    namespace: &'a str,
    run: &'a JobRun,
    /// How long its pod may take to start.
    within: Duration,
    began: Instant,
    /// Since when the API server has not answered.
    away_since: Option<Instant>,
    /// Since when its pod has ended although there are no results.
    ended_since: Option<Instant>,
    /// Since when its pod's Kubernetes node has said nothing.
    silence: Silence,
    /// Whether it was told to end.
    stopped: bool,
}

impl Watched<'_> {
    async fn until_ended(
        &mut self,
        live: &mut Live,
        interrupted: &mut tokio::sync::mpsc::UnboundedReceiver<()>,
    ) -> Result<Outcome> {
        let pods = Api::<Pod>::namespaced(self.cluster.client.clone(), self.namespace);
        let (lines, mut said) = unbounded_channel::<String>();
        let mut following: Option<tokio::task::JoinHandle<()>> = None;
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let ended = loop {
            tokio::select! {
                Some(line) = said.recv() => live.relay(&line),
                Some(()) = interrupted.recv() => {
                    self.stopped = true;
                    live.step("interrupted: the run heals and hands over what there is");
                    if let Err(error) = job::stop(self.cluster, self.namespace, &self.run.run).await {
                        break Err(error.into());
                    }
                }
                _ = look.tick() => match self.look().await {
                    Ok(Seen::Waiting) => {}
                    Ok(Seen::Running(pod)) => {
                        following.get_or_insert_with(|| {
                            tokio::spawn(follow(pods.clone(), pod, lines.clone()))
                        });
                    }
                    Ok(Seen::Ended(outcome)) => break Ok(outcome),
                    Err(error) => break Err(error),
                },
            }
        };
        if let Some(following) = following {
            following.abort();
        }
        while let Ok(line) = said.try_recv() {
            live.relay(&line);
        }
        ended
    }

    /// One look, which survives that the API server is away for a while.
    async fn look(&mut self) -> Result<Seen> {
        match self.state().await {
            Ok(seen) => {
                self.away_since = None;
                seen
            }
            Err(error) => {
                let since = *self.away_since.get_or_insert_with(Instant::now);
                if since.elapsed() >= AWAY_AT_MOST {
                    bail!(
                        "the API server has not answered for {} s ({error}); the run goes on in the \
                         cluster and heals by itself; `kubectl delete job --namespace {} {}` removes it",
                        AWAY_AT_MOST.as_secs(),
                        self.namespace,
                        self.run.run
                    );
                }
                Ok(Seen::Waiting)
            }
        }
    }

    /// What there is to see; the outer error is one of the API server.
    async fn state(&mut self) -> Result<Result<Seen>, Error> {
        let (cluster, namespace, run) = (self.cluster, self.namespace, &self.run.run);
        let outcome = results::outcome(cluster, namespace, run).await?;
        if let Some(outcome) = &outcome
            && outcome.exit_code.is_some()
        {
            return Ok(Ok(Seen::Ended(outcome.clone())));
        }
        let pods = job::pods(cluster, namespace, run).await?;
        let begun = outcome.as_ref().map(|outcome| outcome.pod.as_str());
        let pod = match begun {
            Some(name) => pods.iter().find(|pod| pod.name_any() == name),
            None => pods.first(),
        };
        let why = match pod {
            None if begun.is_none() => {
                if self.began.elapsed() < self.within {
                    return Ok(Ok(Seen::Waiting));
                }
                let refused = deploy::last_event(cluster, namespace, run, None).await;
                let refused = refused.unwrap_or_else(|| "no reason was given".to_owned());
                return Ok(Err(anyhow::anyhow!(
                    "Job {run} has had no pod for {} s: {refused}",
                    self.within.as_secs()
                )));
            }
            None => "it was deleted or evicted".to_owned(),
            Some(pod) => match job::ended(pod) {
                Some(why) => why,
                None => match self.silence.is_lost(cluster, namespace, run, pod).await? {
                    Some(why) => return Ok(Err(lost(&why))),
                    None => return Ok(self.starting(pod)),
                },
            },
        };
        // Results come before the end of the pod; only the look at them may have come first.
        let since = *self.ended_since.get_or_insert_with(Instant::now);
        if since.elapsed() < SEEN_WITHIN {
            return Ok(Ok(Seen::Waiting));
        }
        let log = match pod {
            Some(pod) => tail(cluster, namespace, &pod.name_any()).await,
            None => String::new(),
        };
        Ok(Err(anyhow::anyhow!(
            "the harness's own pod ended before the run did ({why}), so there is no verdict; its \
             store was removed and what was recorded until then is kept{log}"
        )))
    }

    fn starting(&self, pod: &Pod) -> Result<Seen> {
        let name = pod.name_any();
        match trouble_of(pod) {
            Some(Trouble::Image(why)) => Err(Error::Image {
                pod: name,
                image: self.run.image.clone(),
                why,
            }
            .into()),
            Some(Trouble::Unschedulable(why)) if self.began.elapsed() >= PLACE_WITHIN => {
                bail!(
                    "no node of the cluster takes the pod of Job {}: {why}",
                    self.run.run
                )
            }
            Some(trouble) if self.began.elapsed() >= self.within && begins(&trouble) => bail!(
                "the pod {name} has not started after {} s: {trouble}",
                self.within.as_secs()
            ),
            Some(_) => Ok(Seen::Waiting),
            None => Ok(Seen::Running(name)),
        }
    }
}

/// What is said of a run whose pod is on a Kubernetes node that is gone.
pub(crate) fn lost(why: &str) -> anyhow::Error {
    anyhow::anyhow!(
        "the harness's own pod is lost ({why}), so there is no verdict; its store was removed and what \
         was recorded until then is kept"
    )
}

/// Whether a pod with this trouble has yet to start.
fn begins(trouble: &Trouble) -> bool {
    !matches!(trouble, Trouble::Phase(phase) if phase != "Pending")
}

enum Seen {
    /// Nothing new.
    Waiting,
    /// This pod runs.
    Running(String),
    Ended(Outcome),
}

/// The last lines of the harness, for a message.
async fn tail(cluster: &Cluster, namespace: &str, pod: &str) -> String {
    let pods = Api::<Pod>::namespaced(cluster.client.clone(), namespace);
    let params = LogParams {
        tail_lines: Some(20),
        ..LogParams::default()
    };
    let log = pods.logs(pod, &params).await.unwrap_or_default();
    let said: Vec<&str> = log.lines().filter(|line| !Live::is_relayed(line)).collect();
    if said.is_empty() {
        return String::new();
    }
    format!("; the end of its log:\n{}", said.join("\n"))
}

/// Sends the lines of a pod's log, each once, until dropped.
async fn follow(pods: Api<Pod>, pod: String, lines: UnboundedSender<String>) {
    let params = LogParams {
        follow: true,
        // Each line's time comes first: what was sent already is told by it.
        timestamps: true,
        ..LogParams::default()
    };
    let mut last = String::new();
    loop {
        if let Ok(stream) = pods.log_stream(&pod, &params).await {
            let mut stream = stream.lines();
            while let Ok(Some(line)) = stream.try_next().await {
                let Some((time, text)) = line.split_once(' ') else {
                    continue;
                };
                if time > last.as_str() {
                    time.clone_into(&mut last);
                    if lines.send(text.to_owned()).is_err() {
                        return;
                    }
                }
            }
        }
        sleep(LOOK_EVERY).await;
    }
}
