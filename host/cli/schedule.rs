//! `everfold schedule`.

use clap::{Args, Subcommand, ValueEnum};
use everfold::clock::Clock;
use everfold::runner::api::{IntervalSpec, OverlapPolicy, ScheduleSpec, Span};
use everfold::server::wire::{
    BackfillBody, PauseBody, Schedule as Wire, ScheduleAction, ScheduleBody, ScheduleList, SchedulePolicies,
    ScheduleUpdateBody, TriggerBody,
};
use everfold_core::ids::Timestamp;
use everfold_core::retry::RetryPolicy;
use jiff::tz::TimeZone;
use owo_colors::OwoColorize as _;
use serde_json::{Map, Value};

use super::client::Client;
use super::described::Described;
use super::failure::{Exit, Failure};
use super::input;
use super::output::{Form, Output};
use super::render::schedules;
use super::version::{self, Prefix};

/// Schedules of a page.
const PAGE: usize = 200;

#[derive(Debug, Args)]
pub(super) struct Schedule {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Make a schedule: runs that are started again and again
    Create(Create),
    /// List schedules by id
    List(List),
    /// Describe a schedule: its next times, what runs, what it did
    Show(Named),
    /// Let its times pass without a start
    Pause(Noted),
    /// Act on its times again, from now on
    Unpause(Noted),
    /// Start its run now
    Trigger(Trigger),
    /// Act on a range of times as if it passed now
    Backfill(Backfill),
    /// Change it from now on; what is not given stays
    Update(Update),
    /// Forget it; runs that it started go on
    Delete(Named),
}

#[derive(Debug, Args)]
struct Named {
    /// The schedule's id
    #[arg(value_name = "ID")]
    id: String,
    #[command(flatten)]
    form: Form,
}

#[derive(Debug, Args)]
struct List {
    #[command(flatten)]
    form: Form,
}

#[derive(Debug, Args)]
struct Noted {
    #[command(flatten)]
    named: Named,
    /// For people: why
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    note: String,
    /// De-duplicates: the same request id is one request
    #[arg(long, value_name = "ID")]
    request_id: Option<String>,
}

#[derive(Debug, Args)]
struct Trigger {
    #[command(flatten)]
    named: Named,
    /// In place of the schedule's own policy
    #[arg(long, value_name = "POLICY", value_enum)]
    overlap: Option<Overlap>,
    /// De-duplicates: the same request id is one run
    #[arg(long, value_name = "ID")]
    request_id: Option<String>,
}

#[derive(Debug, Args)]
struct Backfill {
    #[command(flatten)]
    named: Named,
    /// The first time that counts, as 2026-01-31T08:00:00Z
    #[arg(long, value_name = "TIME")]
    from: Timestamp,
    /// The last time that counts
    #[arg(long, value_name = "TIME")]
    to: Timestamp,
    /// In place of the schedule's own policy
    #[arg(long, value_name = "POLICY", value_enum)]
    overlap: Option<Overlap>,
    /// De-duplicates: the same request id is one backfill
    #[arg(long, value_name = "ID")]
    request_id: Option<String>,
}

#[derive(Debug, Args)]
struct Create {
    #[command(flatten)]
    named: Named,
    #[command(flatten)]
    what: Definition,
    /// Begin paused
    #[arg(long)]
    paused: bool,
    /// De-duplicates: the same request id is one schedule
    #[arg(long, value_name = "ID")]
    request_id: Option<String>,
}

#[derive(Debug, Args)]
struct Update {
    #[command(flatten)]
    named: Named,
    #[command(flatten)]
    what: Definition,
    /// Follow the version route again, where it was pinned
    #[arg(long, conflicts_with = "digest")]
    unpin: bool,
}

/// What a schedule is. Times that are given replace all that it had.
#[derive(Debug, Args)]
struct Definition {
    /// The type of the runs that it starts
    #[arg(long = "type", value_name = "TYPE")]
    workflow_type: Option<String>,
    /// What their workflow ids begin with; the time follows. Default: the schedule's id
    #[arg(long, value_name = "PREFIX")]
    workflow_id: Option<String>,
    /// Their input: JSON, @FILE, or @- for standard input
    #[arg(long, value_name = "JSON|@FILE")]
    input: Option<String>,
    #[command(flatten)]
    described: Described,
    /// How long all runs of a workflow may take together
    #[arg(long, value_name = "DURATION")]
    execution_timeout: Option<Span>,
    /// How long each run may take
    #[arg(long, value_name = "DURATION")]
    run_timeout: Option<Span>,
    /// Try a workflow again when a run fails or passes its run time-out: so many times in all, 0 for no limit
    #[arg(long, value_name = "NUMBER")]
    retry_attempts: Option<u32>,
    /// Start them all on this version, or its first digits; else on the one that new runs start on at that time
    #[arg(long, value_name = "DIGEST")]
    digest: Option<Prefix>,
    /// When: `30 9 * * MON-FRI`, `@daily`, `CRON_TZ=Europe/Berlin 0 8 1 * *`. May be given several times, as the next two
    #[arg(long, value_name = "CRON")]
    cron: Vec<String>,
    /// When: an interval, as 1h 30m, or 1h/5m with an offset
    #[arg(long, value_name = "INTERVAL[/OFFSET]")]
    every: Vec<String>,
    /// When: fields of the clock, as '{"hour": "8-18", "minute": "*/15", "day_of_week": "MON-FRI"}'
    #[arg(long, value_name = "JSON")]
    calendar: Vec<String>,
    /// When not, as --calendar
    #[arg(long, value_name = "JSON")]
    exclude: Vec<String>,
    /// The time zone of all that names none: an IANA name; default: UTC
    #[arg(long, value_name = "ZONE")]
    time_zone: Option<String>,
    /// Nothing before this time
    #[arg(long, value_name = "TIME")]
    start_at: Option<Timestamp>,
    /// Nothing behind this time
    #[arg(long, value_name = "TIME")]
    end_at: Option<Timestamp>,
    /// Start each up to so much later
    #[arg(long, value_name = "DURATION")]
    jitter: Option<Span>,
    /// What becomes of a start while a run is open; default: skip
    #[arg(long, value_name = "POLICY", value_enum)]
    overlap: Option<Overlap>,
    /// Act on a time that passed while the host was down if it is no longer ago; default: a year
    #[arg(long, value_name = "DURATION")]
    catchup_window: Option<Span>,
    /// Pause when a run fails or times out
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pause_on_failure: Option<bool>,
    /// How often to start something
    #[arg(long, value_name = "N")]
    remaining_actions: Option<u64>,
    /// For people
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
}

/// [`OverlapPolicy`] as a flag's value.
#[derive(Clone, Copy, Debug, ValueEnum)]
#[value(rename_all = "snake_case")]
enum Overlap {
    /// It is left out
    Skip,
    /// It waits for the end of the run; one does
    BufferOne,
    /// It waits, and so do further ones
    BufferAll,
    /// The run is asked to cancel, and it waits for that
    CancelOther,
    /// The run is terminated
    TerminateOther,
    /// It begins beside it
    AllowAll,
}

impl From<Overlap> for OverlapPolicy {
    fn from(overlap: Overlap) -> Self {
        match overlap {
            Overlap::Skip => Self::Skip,
            Overlap::BufferOne => Self::BufferOne,
            Overlap::BufferAll => Self::BufferAll,
            Overlap::CancelOther => Self::CancelOther,
            Overlap::TerminateOther => Self::TerminateOther,
            Overlap::AllowAll => Self::AllowAll,
        }
    }
}

impl Schedule {
    pub(super) async fn run(self, client: &Client) -> Result<(), Failure> {
        match self.what {
            What::Create(create) => create.run(client).await,
            What::List(list) => list.run(client).await,
            What::Show(named) => {
                let schedule: Wire = client.get(&path(&named.id, &[])?, &[]).await?;
                show(&schedule, named.form)
            }
            What::Pause(noted) => noted.run(client, "pause").await,
            What::Unpause(noted) => noted.run(client, "unpause").await,
            What::Trigger(Trigger { named, overlap, request_id }) => {
                let body = TriggerBody { overlap: overlap.map(Into::into), request_id };
                order(client, &named, "trigger", &body).await
            }
            What::Backfill(Backfill { named, from, to, overlap, request_id }) => {
                let body = BackfillBody { from, to, overlap: overlap.map(Into::into), request_id };
                order(client, &named, "backfill", &body).await
            }
            What::Update(update) => update.run(client).await,
            What::Delete(named) => {
                client.delete(&path(&named.id, &[])?).await?;
                if !named.form.is_json() {
                    Output::new().line(format_args!("deleted {}", named.id.bold()))?;
                }
                Ok(())
            }
        }
    }
}

impl Noted {
    async fn run(self, client: &Client, what: &str) -> Result<(), Failure> {
        let body = PauseBody { note: self.note, request_id: self.request_id };
        order(client, &self.named, what, &body).await
    }
}

impl List {
    async fn run(self, client: &Client) -> Result<(), Failure> {
        let mut all = ScheduleList { schedules: Vec::new(), next: None };
        loop {
            let mut query = vec![("limit", PAGE.to_string())];
            query.extend(all.next.iter().map(|next| ("after", next.clone())));
            let page: ScheduleList = client.get(&["schedules"], &query).await?;
            all.schedules.extend(page.schedules);
            all.next = page.next;
            if all.next.is_none() {
                break;
            }
        }
        let mut output = Output::new();
        if self.form.is_json() {
            return output.json(&all);
        }
        if all.schedules.is_empty() {
            anstream::eprintln!("{}", "there are no schedules".dimmed());
        }
        let now = Clock::system().now();
        all.schedules.iter().try_for_each(|schedule| output.line(schedules::line(schedule, now)))
    }
}

impl Create {
    async fn run(self, client: &Client) -> Result<(), Failure> {
        let Self { named, what, paused, request_id } = self;
        let Some(workflow_type) = what.workflow_type.clone() else {
            return Err(Failure::new(Exit::Usage, "--type says which runs the schedule starts"));
        };
        let action = ScheduleAction {
            workflow_type,
            workflow_id: None,
            input: Value::Null,
            headers: Map::new(),
            digest: None,
            execution_timeout_ms: None,
            run_timeout_ms: None,
            retry_policy: None,
            search_attributes: Map::new(),
            memo: Map::new(),
        };
        let spec = what.spec(ScheduleSpec::default())?;
        let policies = what.policies(SchedulePolicies::default());
        let body = ScheduleBody {
            schedule_id: named.id,
            spec,
            action: what.action(client, action).await?,
            policies,
            paused,
            note: what.note.unwrap_or_default(),
            remaining_actions: what.remaining_actions,
            request_id,
        };
        let body = serde_json::to_value(body).map_err(anyhow::Error::from)?;
        show(&client.post(&["schedules"], &body).await?, named.form)
    }
}

impl Update {
    async fn run(self, client: &Client) -> Result<(), Failure> {
        let Self { named, what, unpin } = self;
        let path = path(&named.id, &[])?;
        let there: Wire = client.get(&path, &[]).await?;
        let mut action = what.action(client, there.action).await?;
        if unpin {
            action.digest = None;
        }
        let body = ScheduleUpdateBody {
            spec: what.spec(there.spec)?,
            action,
            policies: what.policies(there.policies),
            note: what.note,
            remaining_actions: what.remaining_actions.or(there.remaining_actions),
            revision: Some(there.revision),
        };
        show(&client.put(&path, &body).await?, named.form)
    }
}

impl Definition {
    fn spec(&self, mut spec: ScheduleSpec) -> Result<ScheduleSpec, Failure> {
        if !(self.cron.is_empty() && self.every.is_empty() && self.calendar.is_empty()) {
            spec.cron.clone_from(&self.cron);
            spec.intervals = self.every.iter().map(|text| interval(text)).collect::<Result<_, _>>()?;
            spec.calendars = calendars("--calendar", &self.calendar)?;
        }
        if !self.exclude.is_empty() {
            spec.exclude = calendars("--exclude", &self.exclude)?;
        }
        spec.time_zone = self.time_zone.clone().or(spec.time_zone);
        spec.start_at = self.start_at.or(spec.start_at);
        spec.end_at = self.end_at.or(spec.end_at);
        spec.jitter = self.jitter.or(spec.jitter);
        Ok(spec)
    }

    fn policies(&self, policies: SchedulePolicies) -> SchedulePolicies {
        SchedulePolicies {
            overlap: self.overlap.map_or(policies.overlap, Into::into),
            catchup_window: self.catchup_window.or(policies.catchup_window),
            pause_on_failure: self.pause_on_failure.unwrap_or(policies.pause_on_failure),
        }
    }

    async fn action(&self, client: &Client, mut action: ScheduleAction) -> Result<ScheduleAction, Failure> {
        if let Some(workflow_type) = &self.workflow_type {
            action.workflow_type.clone_from(workflow_type);
        }
        action.workflow_id = self.workflow_id.clone().or(action.workflow_id);
        if let Some(text) = &self.input {
            action.input = input::parse("--input", text)?;
        }
        let (search_attributes, memo) = self.described.read()?;
        action.search_attributes.extend(search_attributes);
        action.memo.extend(memo);
        action.execution_timeout_ms =
            self.execution_timeout.map(|span| span.0).or(action.execution_timeout_ms);
        action.run_timeout_ms = self.run_timeout.map(|span| span.0).or(action.run_timeout_ms);
        if self.retry_attempts.is_some() {
            let policy = action.retry_policy.unwrap_or_default();
            action.retry_policy = Some(RetryPolicy { maximum_attempts: self.retry_attempts, ..policy });
        }
        if let Some(prefix) = &self.digest {
            action.digest = Some(version::find(client, &action.workflow_type, prefix).await?);
        }
        Ok(action)
    }
}

async fn order(
    client: &Client,
    named: &Named,
    what: &str,
    body: &impl serde::Serialize,
) -> Result<(), Failure> {
    let body = serde_json::to_value(body).map_err(anyhow::Error::from)?;
    show(&client.post(&path(&named.id, &[what])?, &body).await?, named.form)
}

fn show(schedule: &Wire, form: Form) -> Result<(), Failure> {
    let mut output = Output::new();
    if form.is_json() {
        return output.json(schedule);
    }
    let text = schedules::text(schedule, Clock::system().now(), &TimeZone::system());
    output.line(text.trim_end())
}

/// The path of a schedule.
fn path<'a>(id: &'a str, what: &[&'a str]) -> Result<Vec<&'a str>, Failure> {
    if ["", ".", ".."].contains(&id) {
        return Err(Failure::new(Exit::NotFound, format!("no schedule has the id `{id}`")));
    }
    Ok([&["schedules", id], what].concat())
}

fn interval(text: &str) -> Result<IntervalSpec, Failure> {
    let (every, offset) = match text.split_once('/') {
        Some((every, offset)) => (every, Some(offset)),
        None => (text, None),
    };
    let span = |text: &str| {
        text.parse::<Span>().map_err(|error| Failure::new(Exit::Usage, format!("--every: {error}")))
    };
    Ok(IntervalSpec { every: span(every)?, offset: offset.map(span).transpose()? })
}

fn calendars<T: serde::de::DeserializeOwned>(argument: &str, texts: &[String]) -> Result<Vec<T>, Failure> {
    let one = |text: &String| {
        serde_json::from_value(input::parse(argument, text)?)
            .map_err(|error| Failure::new(Exit::Usage, format!("{argument}: {error}")))
    };
    texts.iter().map(one).collect()
}
