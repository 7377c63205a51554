//! What a component would do to runs, asked for by callers: a shadow replay of every run in question, a
//! few at a time. It reads the store and nothing else: no run hears of it.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use everfold_core::ids::{Namespace, Timestamp, WorkflowId};
use everfold_core::machine::RunStatus;
use everfold_core::query::{Condition, Direction, Field, Order, OrderBy, Query, Value};
use futures::stream::{self, BoxStream};
use futures::{StreamExt as _, TryStreamExt as _};
use tokio::sync::watch;

use super::api::{
    ApiError, CheckReport, CheckRequest, LookAhead, Outlook, Progress, Subject, Tally, TypeReport,
};
use super::{Host, Parts, internal};
use crate::guest::LoadedComponent;
use crate::store::{OpenRunFilter, RunPlace, RunRow, Store, StoreError};
use crate::version::Unavailable;
use crate::version::findings::Findings;
use crate::version::outlook::{Looking, Results, Standings};
use crate::version::report::CAVEAT;
use crate::version::shadow::{self, Cost, Keep, LIMITS_PASSED, Shadow, Shadowed};

/// Rows read at once.
const PAGE: usize = 256;
/// Runs under way for each thread: while one is folded, the histories of others are read.
const AHEAD: usize = 3;

/// A stream of runs to look at.
type Rows = BoxStream<'static, Result<RunRow, StoreError>>;

/// What became of one run.
enum Looked {
    AlreadyThere {
        is_blocked: bool,
    },
    NotTried,
    Replayed(Box<(RunRow, Shadowed)>),
    /// Nobody waits for it any more.
    Stopped,
}

/// A check of the runs of one type.
struct Check<'a> {
    shadow: Shadow,
    component: LoadedComponent,
    request: &'a CheckRequest,
    progress: &'a watch::Sender<Progress>,
    findings: Findings,
    standings: Standings,
    results: Results,
    events: u64,
}

/// Whether runs are open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Openness {
    Open,
    Closed,
}

impl Host {
    /// Folds the histories of runs into a component, beside everything else and without touching a run.
    ///
    /// # Errors
    /// `UnknownVersion`, `InvalidComponent`; `InvalidInput` for a workflow type that it does not have; `Busy`
    /// when the host is stopping.
    pub async fn check(
        &self,
        request: CheckRequest,
        progress: &watch::Sender<Progress>,
    ) -> Result<CheckReport, ApiError> {
        let parts = &self.parts;
        let began = Instant::now();
        if request.look_ahead.is_some_and(|ahead| !(1..=LookAhead::MOST_STEPS).contains(&ahead.steps)) {
            let most = LookAhead::MOST_STEPS;
            return Err(ApiError::InvalidInput(format!("a look ahead has 1 to {most} steps")));
        }
        let component = subject(parts, &request.subject).await?;
        let types = wanted_types(&component, &request.workflow_types)?;
        if request.closed_from.is_none() {
            self.must_be_open(&request.namespace, &types, &request.workflow_ids).await?;
        }
        announce(parts, &request, &types, progress).await?;
        let stop = parts.stopping.child_token();
        // Whoever goes away takes the work with him.
        let _guard = stop.clone().drop_guard();
        let shadow = Shadow {
            store: Arc::clone(&parts.store),
            runtime: parts.runtime.clone(),
            threads: Arc::clone(parts.versions.shadow_threads()),
            stop,
            clocks: Arc::default(),
        };
        let (mut workflow_types, mut events) = (Vec::new(), 0);
        for workflow_type in types {
            let mut check = Check {
                shadow: shadow.clone(),
                component: component.clone(),
                request: &request,
                progress,
                findings: Findings::default(),
                standings: Standings::default(),
                results: Results::default(),
                events: 0,
            };
            workflow_types.push(check.workflow_type(parts, workflow_type).await?);
            events += check.events;
        }
        // Runs that were counted may have ended before they were looked at.
        progress.send_modify(|progress| progress.total = progress.done);
        Ok(CheckReport {
            digest: component.digest(),
            holds: workflow_types.iter().all(|found| found.open.holds()),
            workflow_types,
            duration_ms: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
            events,
            spent: shadow.clocks.spent(),
            caveat: CAVEAT.to_owned(),
        })
    }
}

impl Host {
    /// Whether each of these workflows has an open run of one of these types: a name that is wrong must not
    /// look like a run that is well.
    ///
    /// # Errors
    /// `NotFound`.
    pub(super) async fn must_be_open(
        &self,
        namespace: &Namespace,
        types: &[String],
        workflow_ids: &[WorkflowId],
    ) -> Result<(), ApiError> {
        for id in workflow_ids {
            let row = self.parts.store.latest_run(namespace, id).await.map_err(|error| internal(&error))?;
            let is_open =
                row.is_some_and(|row| row.status == RunStatus::Running && types.contains(&row.workflow_type));
            if !is_open {
                let types = types.join(" or ");
                return Err(ApiError::NotFound(format!("workflow {id} has no open run of type {types}")));
            }
        }
        Ok(())
    }
}

impl Check<'_> {
    /// Looks at the runs of one type.
    async fn workflow_type(
        &mut self,
        parts: &Arc<Parts>,
        workflow_type: String,
    ) -> Result<TypeReport, ApiError> {
        let request = self.request;
        let limits_passed = Arc::new(AtomicU32::new(0));
        let rows = open_runs(&parts.store, request, &workflow_type);
        let open = self.look_at(parts, rows, Openness::Open, &limits_passed).await?;
        let closed = match request.closed_from {
            None => Tally::default(),
            Some(from) => {
                let rows = closed_runs(&parts.store, request, &workflow_type, from);
                self.look_at(parts, rows, Openness::Closed, &limits_passed).await?
            }
        };
        let outlooks = match request.look_ahead {
            None => Vec::new(),
            Some(LookAhead { steps }) => self.outlooks(parts, steps).await?,
        };
        let (groups, ungrouped) = std::mem::take(&mut self.findings).into_groups();
        Ok(TypeReport { workflow_type, open, closed, groups, ungrouped, outlooks })
    }

    /// Looks at runs, a few at a time.
    async fn look_at(
        &mut self,
        parts: &Arc<Parts>,
        rows: Rows,
        openness: Openness,
        limits_passed: &Arc<AtomicU32>,
    ) -> Result<Tally, ApiError> {
        let mut tally = Tally::default();
        let strictness = self.request.strictness;
        let keep = match self.request.look_ahead {
            Some(_) => Keep::Results,
            None => Keep::Nothing,
        };
        let (shadow, component) = (self.shadow.clone(), self.component.clone());
        let passed = Arc::clone(limits_passed);
        let looked = rows.map(move |row| {
            let (shadow, component, passed) = (shadow.clone(), component.clone(), Arc::clone(&passed));
            async move {
                let row = row.map_err(|error| internal(&error))?;
                if row.digest == component.digest() {
                    return Ok(Looked::AlreadyThere { is_blocked: row.blocked.is_some() });
                }
                if passed.load(Ordering::Relaxed) >= LIMITS_PASSED {
                    return Ok(Looked::NotTried);
                }
                let shadowed = shadow.replay(&component, strictness, &row, keep).await;
                Ok::<_, ApiError>(match shadowed {
                    Some(shadowed) => Looked::Replayed(Box::new((row, shadowed))),
                    None => Looked::Stopped,
                })
            }
        });
        let mut looked = looked.buffer_unordered(shadow::threads() * AHEAD).boxed();
        while let Some(one) = looked.next().await {
            match one? {
                Looked::Stopped => return Err(ApiError::Busy("the host is stopping".to_owned())),
                Looked::AlreadyThere { is_blocked } => {
                    tally.runs += 1;
                    tally.already_there += 1;
                    tally.blocked_there += u64::from(is_blocked);
                }
                Looked::NotTried => {
                    tally.runs += 1;
                    tally.not_tried += 1;
                }
                Looked::Replayed(replayed) => {
                    let (row, shadowed) = *replayed;
                    tally.add(shadowed.found.finding);
                    match shadowed.cost {
                        Cost::Limit => _ = limits_passed.fetch_add(1, Ordering::Relaxed),
                        Cost::Usual => {}
                    }
                    self.take(parts, &row, shadowed, openness);
                }
            }
            self.progress.send_modify(|progress| {
                progress.done += 1;
                progress.total = progress.total.max(progress.done);
            });
        }
        Ok(tally)
    }

    /// Takes what was found about one run.
    fn take(&mut self, parts: &Parts, row: &RunRow, shadowed: Shadowed, openness: Openness) {
        let Shadowed { found, cost: _, state, events, results, took } = shadowed;
        parts.telemetry.shadow_replayed(&row.workflow_type, found.finding.name(), events, took);
        self.events += events;
        self.findings.add(found);
        self.results.merge(results);
        if let (Openness::Open, Some(_), Some(state)) = (openness, self.request.look_ahead, state) {
            self.standings.take(row, &state);
        }
    }

    /// Asks one run of each group that stands alike.
    async fn outlooks(&mut self, parts: &Arc<Parts>, steps: u32) -> Result<Vec<Outlook>, ApiError> {
        let results = Arc::new(std::mem::take(&mut self.results));
        let representatives = std::mem::take(&mut self.standings).into_representatives();
        let mut own = HashMap::new();
        for representative in &representatives {
            let digest = representative.row.digest;
            if let Entry::Vacant(place) = own.entry(digest) {
                let component = parts.versions.component(digest).await;
                place.insert(component.map_err(|error| error.to_string()));
            }
        }
        let (own, limits_passed) = (Arc::new(own), Arc::new(AtomicU32::new(0)));
        let (shadow, component) = (self.shadow.clone(), self.component.clone());
        let asked = stream::iter(representatives).map(move |representative| {
            let (shadow, component) = (shadow.clone(), component.clone());
            let (own, results) = (Arc::clone(&own), Arc::clone(&results));
            let limits_passed = Arc::clone(&limits_passed);
            async move {
                let permit = Arc::clone(&shadow.threads).acquire_owned().await.ok()?;
                // Away from the threads that serve requests.
                let asked = tokio::task::spawn_blocking(move || {
                    let _permit = permit;
                    let looking = Looking {
                        shadow: &shadow,
                        own: own.get(&representative.row.digest)?,
                        component: &component,
                        steps,
                        results: &results,
                        limits_passed: &limits_passed,
                    };
                    looking.outlooks(&representative)
                });
                shadow::came(asked.await).flatten()
            }
        });
        let asked: Vec<Option<Vec<Outlook>>> = asked.buffered(shadow::threads()).boxed().collect().await;
        let asked: Option<Vec<Vec<Outlook>>> = asked.into_iter().collect();
        match asked {
            Some(outlooks) => Ok(outlooks.into_iter().flatten().collect()),
            None => Err(ApiError::Busy("the host is stopping".to_owned())),
        }
    }
}

/// The component to try.
async fn subject(parts: &Parts, subject: &Subject) -> Result<LoadedComponent, ApiError> {
    match subject {
        Subject::Bytes(bytes) => parts.versions.try_out(bytes.clone()).await,
        Subject::Deployed(digest) => parts.versions.component(*digest).await.map_err(|error| match error {
            Unavailable::Missing(_) => ApiError::UnknownVersion(error.to_string()),
            Unavailable::Refused { .. } => ApiError::InvalidComponent(error.to_string()),
            Unavailable::Store(error) => internal(&error),
        }),
    }
}

/// The types to look at, in the component's order.
fn wanted_types(component: &LoadedComponent, wanted: &[String]) -> Result<Vec<String>, ApiError> {
    let all: Vec<String> =
        component.description().workflow_types.iter().map(|found| found.name.clone()).collect();
    if let Some(missing) = wanted.iter().find(|name| !all.contains(name)) {
        let digest = component.digest().short();
        return Err(ApiError::InvalidInput(format!(
            "component {digest} has no workflow type {missing}; it has {}",
            all.join(", ")
        )));
    }
    Ok(all.into_iter().filter(|name| wanted.is_empty() || wanted.contains(name)).collect())
}

/// Says how many open runs there are to look at.
async fn announce(
    parts: &Parts,
    request: &CheckRequest,
    types: &[String],
    progress: &watch::Sender<Progress>,
) -> Result<(), ApiError> {
    let counts = parts.store.survey().await.map_err(|error| internal(&error))?;
    let open =
        counts.iter().filter(|count| types.contains(&count.workflow_type)).map(|count| count.open).sum();
    let total = match request.workflow_ids.len() as u64 {
        0 => open,
        ids => ids.min(open),
    };
    progress.send_replace(Progress { done: 0, total });
    Ok(())
}

/// The open runs of a type that are asked for.
fn open_runs(store: &Arc<dyn Store>, request: &CheckRequest, workflow_type: &str) -> Rows {
    let (store, namespace) = (Arc::clone(store), request.namespace.clone());
    let workflow_type = workflow_type.to_owned();
    if !request.workflow_ids.is_empty() {
        let ids: BTreeSet<WorkflowId> = request.workflow_ids.iter().cloned().collect();
        let rows = stream::iter(ids).then(move |id| {
            let (store, namespace) = (Arc::clone(&store), namespace.clone());
            async move { store.latest_run(&namespace, &id).await }
        });
        return rows
            .try_filter_map(move |row| {
                let is_open =
                    |row: &RunRow| row.status == RunStatus::Running && row.workflow_type == workflow_type;
                std::future::ready(Ok(row.filter(is_open)))
            })
            .boxed();
    }
    let filter = OpenRunFilter { workflow_type: Some(workflow_type), digest: None, blocked: None };
    let pages = stream::try_unfold(None, move |after: Option<WorkflowId>| {
        let (store, namespace, filter) = (Arc::clone(&store), namespace.clone(), filter.clone());
        async move {
            let page = store.open_runs(&namespace, &filter, after.as_ref(), PAGE).await?;
            let last = page.last().map(|row| row.workflow_id.clone());
            Ok::<_, StoreError>(last.map(|last| (page, Some(last))))
        }
    });
    pages.map_ok(|page| stream::iter(page.into_iter().map(Ok))).try_flatten().boxed()
}

/// The closed runs of a type that are asked for.
fn closed_runs(store: &Arc<dyn Store>, request: &CheckRequest, workflow_type: &str, from: Timestamp) -> Rows {
    let (store, namespace) = (Arc::clone(store), request.namespace.clone());
    let ids: BTreeSet<WorkflowId> = request.workflow_ids.iter().cloned().collect();
    let conditions = [
        Condition::equal(Field::WorkflowType, Value::Text(workflow_type.to_owned())),
        Condition::at_least(Field::CloseTime, Value::Time(from)),
    ];
    // In the order of their ends, of which there is an index.
    let order = Order { by: OrderBy::CloseTime, direction: Direction::Descending };
    let query = Query { order, ..Query::all(conditions) };
    let pages = stream::try_unfold(None, move |after: Option<RunPlace>| {
        let (store, namespace, query) = (Arc::clone(&store), namespace.clone(), query.clone());
        async move {
            let page = store.runs(&namespace, &query, after.as_ref(), PAGE).await?;
            let last = page.last().map(|row| RunPlace::of(row, query.order.by));
            Ok::<_, StoreError>(last.map(|last| (page, Some(last))))
        }
    });
    let rows = pages.map_ok(|page| stream::iter(page.into_iter().map(Ok))).try_flatten();
    rows.try_filter(move |row| {
        let is_meant = row.status != RunStatus::Running && (ids.is_empty() || ids.contains(&row.workflow_id));
        std::future::ready(is_meant)
    })
    .boxed()
}
