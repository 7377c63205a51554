//! The routes of versions against a real host: what they answer, and how they refuse.

use everfold_core::ids::{Digest, Namespace};
use serde_json::json;

use super::*;

/// The bytes of a component with a mark that changes its digest and nothing else.
fn marked(mut bytes: Vec<u8>, mark: u8) -> Vec<u8> {
    // A custom section: its id, its size, the size of its name, its name, what is in it.
    bytes.extend([0, 3, 1, b'm', mark]);
    bytes
}

/// A component whose type `sleeper` has a name that URLs must encode.
fn component() -> Vec<u8> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/components/samples.wasm");
    let mut bytes = std::fs::read(path).expect("`cargo xtask guests` builds it");
    let places: Vec<usize> = bytes
        .windows(NAME.len())
        .enumerate()
        .filter(|(_, window)| *window == b"sleeper")
        .map(|(at, _)| at)
        .collect();
    for at in places {
        bytes[at..at + NAME.len()].copy_from_slice(NAME.as_bytes());
    }
    bytes
}

const NAME: &str = "a/ b%c?";
const PATH: &str = "/api/v1/workflow-types/a%2F%20b%25c%3F";

/// A host with two versions of a component; the digest of each.
async fn two_versions() -> (Routes, Digest, Digest) {
    let routes = Routes::new(LISTEN, None).await;
    let deploy = async |bytes| {
        let deployed = routes.host.deploy(&Namespace::default(), bytes).await;
        deployed.expect("a component").digest
    };
    let old = deploy(component()).await;
    let new = deploy(marked(component(), 1)).await;
    (routes, old, new)
}

fn with_body(method: &str, path: &str, body: &Value) -> String {
    format!("{method} {path}\nContent-Type: application/json\n\n{body}")
}

async fn answer(routes: &Routes, text: &str) -> (u16, Value) {
    let response = routes.ask(text).await;
    let status = response.status().as_u16();
    let body = to_bytes(response.into_body(), usize::MAX).await.expect("a body");
    let value = if body.is_empty() { Value::Null } else { serde_json::from_slice(&body).expect("JSON") };
    (status, value)
}

#[tokio::test]
async fn a_route_is_ramped_promoted_and_rolled_back() {
    let (routes, old, new) = two_versions().await;
    let route = async |request: String| {
        let (status, body) = answer(&routes, &request).await;
        let named = |value: &Value| match value.as_str() {
            Some(digest) if digest == old.to_string() => "old".to_owned(),
            Some(digest) if digest == new.to_string() => "new".to_owned(),
            _ => value.to_string(),
        };
        let routing = &body["routing"];
        let candidate = &routing["candidate"];
        match body["code"].as_str() {
            Some(code) => format!("{status} {code}\n"),
            None => format!(
                "{status} {}: {}, {} at {}, before {}\n",
                routing["workflow_type"],
                named(&routing["current"]),
                named(&candidate["digest"]),
                candidate["ramp_percent"],
                named(&routing["previous"]),
            ),
        }
    };
    let put = |digest: Digest, ramp: Option<u8>| {
        let body = match ramp {
            Some(ramp) => json!({ "digest": digest, "ramp_percent": ramp }),
            None => json!({ "digest": digest }),
        };
        with_body("PUT", &format!("{PATH}/routing"), &body)
    };
    let post = |what: &str| format!("POST {PATH}/{what}");
    let told = [
        route(put(new, Some(10))).await,
        route(put(new, Some(10))).await,
        route(put(old, Some(10))).await,
        route(put(new, Some(101))).await,
        route(post("promote")).await,
        route(post("promote")).await,
        route(put(new, None)).await,
        route(with_body("POST", &format!("{PATH}/promote"), &json!({ "digest": new }))).await,
        route(post("rollback")).await,
        route(post("rollback")).await,
        route(put(Digest([7; 32]), None)).await,
        route(put(new, None).replace("a%2F", "no%2F")).await,
    ];
    insta::assert_snapshot!(told.concat(), @r#"
    200 "a/ b%c?": old, new at 10, before null
    200 "a/ b%c?": old, new at 10, before null
    409 version_conflict
    422 invalid_input
    200 "a/ b%c?": new, null at null, before old
    409 version_conflict
    200 "a/ b%c?": new, null at null, before old
    409 version_conflict
    200 "a/ b%c?": old, null at null, before null
    409 version_conflict
    422 unknown_version
    404 unknown_workflow_type
    "#);
}

#[tokio::test]
async fn the_same_route_again_changes_nothing() {
    let (routes, _, new) = two_versions().await;
    for ramp in [json!({ "digest": new, "ramp_percent": 50 }), json!({ "digest": new })] {
        let request = with_body("PUT", &format!("{PATH}/routing"), &ramp);
        let (first, again) = (answer(&routes, &request).await, answer(&routes, &request).await);
        assert_eq!(first.0, 200);
        assert_eq!(first, again);
    }
}

#[tokio::test]
async fn types_and_their_versions_are_listed() {
    let (routes, old, new) = two_versions().await;
    let (_, types) = answer(&routes, "GET /api/v1/workflow-types").await;
    let types = types["workflow_types"].as_array().expect("a list");
    let named: Vec<&str> = types.iter().filter_map(|kind| kind["workflow_type"].as_str()).collect();
    assert!(named.contains(&NAME) && named.contains(&"echo"), "{named:?}");
    assert!(types.iter().all(|kind| kind["current"] == old.to_string()));

    let (status, found) = answer(&routes, &format!("GET {PATH}")).await;
    assert_eq!(status, 200);
    assert_eq!(found["routing"]["workflow_type"], NAME);
    let state = |at: usize| (found["versions"][at]["digest"].clone(), found["versions"][at]["state"].clone());
    assert_eq!(state(0), (json!(old), json!("current")));
    assert_eq!(state(1), (json!(new), json!("candidate")));
    let version = found["versions"][0].as_object().expect("an object");
    let members: Vec<&str> = version.keys().map(String::as_str).collect();
    assert_eq!(
        members,
        [
            "digest",
            "state",
            "open",
            "blocked",
            "runs",
            "failed",
            "first_started_at",
            "last_started_at",
            "deployed_at",
            "retired_at",
            "size",
            "sdk",
            "is_loaded",
        ]
    );

    let ramp = json!({ "digest": new, "ramp_percent": 5 });
    answer(&routes, &with_body("PUT", "/api/v1/workflow-types/echo/routing", &ramp)).await;
    let (_, listed) = answer(&routes, "GET /api/v1/components").await;
    assert_eq!(listed["components"][0]["candidate_for"], json!([]));
    assert_eq!(listed["components"][1]["candidate_for"], json!(["echo"]));
    assert_eq!(listed["components"][1]["current_for"], json!([]));
}

#[tokio::test]
async fn a_deployment_says_what_it_found() {
    let routes = Routes::new(LISTEN, None).await;
    let deployed = async |bytes| {
        let deployed = routes.host.deploy(&Namespace::default(), bytes).await.expect("a component");
        serde_json::to_value(crate::server::wire::Deployed::from(deployed)).expect("JSON")
    };
    let (first, second) = (deployed(component()).await, deployed(marked(component(), 1)).await);
    assert_eq!((&first["is_new"], &second["is_new"]), (&json!(true), &json!(true)));
    let of = |deployed: &Value, name: &str| {
        let types = deployed["types"].as_array().expect("a list");
        types.iter().find(|kind| kind["name"] == name).cloned().expect("the type")
    };
    assert_eq!(of(&first, "echo")["changes"], Value::Null);
    let changes = &of(&second, "echo")["changes"];
    assert_eq!(changes, &json!({ "since": first["digest"], "added": [], "removed": [] }));
    let routing = json!({ "current": first["digest"], "candidate": null, "previous": null });
    assert_eq!(of(&second, NAME)["routing"], routing);
    let talkative = of(&first, "talkative");
    assert!(talkative["signals"][0]["name"] == "go", "{talkative}");
    assert_eq!(deployed(component()).await["is_new"], false);
}

#[tokio::test]
async fn a_version_is_retired_unless_new_runs_start_on_it() {
    let (routes, old, new) = two_versions().await;
    let retire = async |digest: &str| {
        let (status, body) = answer(&routes, &format!("POST {PATH}/versions/{digest}/retire")).await;
        format!("{status} {}\n", body["code"].as_str().unwrap_or("done"))
    };
    let told = [
        retire(&old.to_string()).await,
        retire(&new.to_string()).await,
        retire(&Digest([7; 32]).to_string()).await,
        retire("abc").await,
    ];
    insta::assert_snapshot!(told.concat(), @r"
    409 version_conflict
    204 done
    404 unknown_version
    400 invalid_input
    ");
    let (_, found) = answer(&routes, &format!("GET {PATH}")).await;
    assert_eq!(found["versions"][1]["state"], "retired");
    let routed = with_body("PUT", &format!("{PATH}/routing"), &json!({ "digest": new }));
    assert_eq!(answer(&routes, &routed).await.1["code"], "version_conflict");
}

#[tokio::test]
async fn runs_are_moved_with_one_answer_or_in_lines() {
    let (routes, _, new) = two_versions().await;
    let body = json!({ "digest": new, "only_compatible": true });
    let request = with_body("POST", &format!("{PATH}/upgrade"), &body);
    let (status, report) = answer(&routes, &request).await;
    assert_eq!((status, &report["moved"], &report["digest"]), (200, &json!(0), &json!(new)));

    let lines = request.replace("\n\n", "\nAccept: application/x-ndjson\n\n");
    let response = routes.ask(&lines).await;
    assert_eq!(response.headers()[header::CONTENT_TYPE], "application/x-ndjson");
    let text = to_bytes(response.into_body(), usize::MAX).await.expect("lines");
    let text = String::from_utf8(text.into()).expect("UTF-8");
    let last: Value = serde_json::from_str(text.lines().last().expect("a line")).expect("JSON");
    assert_eq!(last["report"], report);
    let unknown = lines.replace(&new.to_string(), &Digest([7; 32]).to_string());
    let text = to_bytes(routes.ask(&unknown).await.into_body(), usize::MAX).await.expect("lines");
    let last: Value = serde_json::from_slice(&text).expect("one line");
    assert_eq!(last["problem"]["code"], "unknown_version");
}

#[tokio::test]
async fn a_bad_question_about_versions_is_a_problem() {
    let post = |path: &str, body: &str| format!("POST {path}\nContent-Type: application/json\n\n{body}");
    let check = format!("/api/v1/components/{}/check", Digest([7; 32]));
    let lines = refusals(&[
        "GET /api/v1/workflow-types/a%2Fb",
        "GET /api/v1/workflow-types/a?digest=1",
        "POST /api/v1/workflow-types/a/rollback",
        &post("/api/v1/workflow-types/a/promote", r#"{"digest":"12"}"#),
        &post("/api/v1/workflow-types/a/upgrade", "{}"),
        &format!("POST /api/v1/workflow-types/a/versions/{}/retire", Digest([7; 32])),
        "POST /api/v1/components/abc/check",
        &format!("POST {check}?closed_days=0"),
        &format!("POST {check}?look_ahead=51"),
        &format!("POST {check}?strict=yes"),
        &format!("POST {check}?strict=true&strict=true"),
        &format!("POST {check}?namespace="),
        &format!("POST {check}?with=1"),
        "POST /api/v1/components/check\nContent-Type: application/json\n\n{}",
        "POST /api/v1/components/check\nContent-Type: application/wasm",
    ])
    .await;
    insta::assert_snapshot!(lines, @r"
    404 unknown_workflow_type: no component with workflow type a/b is deployed
    400 invalid_input: query: digest: unknown field `digest`, expected `namespace`
    404 unknown_workflow_type: no component with workflow type a is deployed
    422 invalid_input: digest: not a digest of 64 hexadecimal digits: Invalid string length at line 1 column 15
    422 invalid_input: missing field `digest` at line 1 column 2
    404 unknown_workflow_type: no component with workflow type a is deployed
    400 invalid_input: Invalid URL: not a digest of 64 hexadecimal digits: Odd number of digits
    400 invalid_input: query: closed_days: a whole number from 1 to 36500
    400 invalid_input: query: look_ahead: a whole number from 1 to 50
    400 invalid_input: query: strict: true or false
    400 invalid_input: query: strict: stands twice
    400 invalid_input: query: namespace: a name has 1 to 64 letters, digits, `-`, `_` or `.`
    400 invalid_input: query: with: there is no such parameter
    415 unsupported_media_type: a component is sent as the bytes of its .wasm file with `Content-Type: application/wasm`
    422 invalid_component: the body is empty; send the bytes of a .wasm file
    ");
}
