//! Schedules in the store.

use everfold_core::ids::{Namespace, RunId, Timestamp, WorkflowId};
use everfold_core::payload::Payload;
use everfold_core::schedule::{Action, Definition, Policies, ScheduleAction, ScheduleSpec, ScheduleState};

use super::Backend;
use crate::store::{ScheduleKey, ScheduleRow, Store};

fn key(id: &str) -> ScheduleKey {
    ScheduleKey { namespace: Namespace::default(), schedule_id: id.to_owned() }
}

fn schedule(id: &str, wake_at: Option<i64>) -> ScheduleRow {
    ScheduleRow {
        key: key(id),
        revision: 1,
        definition: Definition {
            spec: ScheduleSpec { cron: vec!["@daily".to_owned()], ..ScheduleSpec::default() },
            action: ScheduleAction {
                workflow_type: "report".to_owned(),
                workflow_id: id.to_owned(),
                input: Payload::json_text(b"[1]".to_vec()),
                headers: vec![("h".to_owned(), Payload { metadata: Vec::new(), data: vec![0, 255] })],
                digest: None,
                search_attributes: [("a".to_owned(), everfold_core::attributes::AttributeValue::Float(2.0))]
                    .into_iter()
                    .collect(),
                memo: everfold_core::attributes::Memo::new(),
                terms: everfold_core::lifetime::Terms {
                    run_timeout_ms: Some(7),
                    ..everfold_core::lifetime::Terms::default()
                },
            },
            policies: Policies { pause_on_failure: true, ..Policies::default() },
        },
        state: ScheduleState::new(Timestamp(5)),
        wake_at: wake_at.map(Timestamp),
        created_at: Timestamp(1),
        changed_at: Timestamp(2),
    }
}

pub(crate) async fn a_schedule_is_written_from_its_last_revision_only(backend: &impl Backend) {
    let store = backend.open().await.unwrap();
    let made = schedule("s", Some(10));
    assert!(store.put_schedule(made.clone()).await.unwrap());
    assert!(!store.put_schedule(made.clone()).await.unwrap(), "there is one");
    assert_eq!(store.schedule(&key("s")).await.unwrap(), Some(made.clone()));
    let mut changed = ScheduleRow { revision: 2, wake_at: None, ..made.clone() };
    changed.state.paused = true;
    assert!(store.put_schedule(changed.clone()).await.unwrap());
    assert!(!store.put_schedule(changed.clone()).await.unwrap(), "it is at revision 2 already");
    assert!(!store.put_schedule(ScheduleRow { revision: 4, ..changed.clone() }).await.unwrap());
    assert_eq!(store.schedule(&key("s")).await.unwrap(), Some(changed.clone()));

    assert!(store.delete_schedule(key("s")).await.unwrap());
    assert!(!store.delete_schedule(key("s")).await.unwrap());
    assert!(!store.put_schedule(ScheduleRow { revision: 3, ..changed.clone() }).await.unwrap(), "it is gone");
    // Another one of that id is not the one that was.
    let again = ScheduleRow { created_at: Timestamp(7), ..made };
    assert!(store.put_schedule(again.clone()).await.unwrap());
    assert!(!store.put_schedule(changed).await.unwrap());
    assert_eq!(store.schedule(&key("s")).await.unwrap(), Some(again));
}

pub(crate) async fn schedules_are_found_by_id_by_time_and_by_their_runs(backend: &impl Backend) {
    let store = backend.open().await.unwrap();
    assert_eq!(store.schedules_wake().await.unwrap(), None);
    let mut running = schedule("c", None);
    running.state.running.push(Action {
        nominal: Timestamp(3),
        started_at: Timestamp(4),
        workflow_id: WorkflowId("c-1".to_owned()),
        run_id: RunId([1; 16]),
        is_asked_to_stop: false,
    });
    let mut elsewhere = schedule("a", Some(40));
    elsewhere.key.namespace = Namespace("other".to_owned());
    for made in [schedule("a", Some(30)), schedule("b", Some(20)), running.clone(), elsewhere.clone()] {
        assert!(store.put_schedule(made).await.unwrap());
    }
    let ids = |rows: Vec<ScheduleRow>| rows.into_iter().map(|row| row.key.schedule_id).collect::<Vec<_>>();
    let namespace = Namespace::default();
    assert_eq!(ids(store.schedules(&namespace, None, 2).await.unwrap()), ["a", "b"]);
    assert_eq!(ids(store.schedules(&namespace, Some("b"), 2).await.unwrap()), ["c"]);
    assert_eq!(store.schedules_wake().await.unwrap(), Some(Timestamp(20)));
    let due = async |until, limit| store.schedules_due(Timestamp(until), limit).await.unwrap();
    assert_eq!(due(19, 9).await, []);
    assert_eq!(due(30, 9).await, [key("b"), key("a")]);
    assert_eq!(due(40, 1).await, [key("b")]);
    assert_eq!(due(40, 9).await[2], elsewhere.key);
    assert_eq!(store.schedules_running(None, 9).await.unwrap(), [running.clone()]);
    assert_eq!(store.schedules_running(Some(&running.key), 9).await.unwrap(), []);
}
