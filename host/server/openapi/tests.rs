//! The document's structure, and the shapes against real values. That the routes answer as described is
//! the business of `tests/http_api.rs`.

use std::collections::BTreeSet;

use everfold_core::failure::{Failure, FailureKind};
use serde_json::{Value, json};
use utoipa::openapi::path::{OperationBuilder, PathItem};
use utoipa::openapi::{HttpMethod, OpenApiBuilder, PathsBuilder};

use super::shapes::FAILURE_KINDS;
use super::*;

fn value() -> Value {
    serde_json::from_str(&text([])).expect("JSON")
}

/// Calls `visit` for every object inside.
fn walk(value: &Value, visit: &mut dyn FnMut(&serde_json::Map<String, Value>)) {
    match value {
        Value::Object(object) => {
            visit(object);
            object.values().for_each(|value| walk(value, visit));
        }
        Value::Array(items) => items.iter().for_each(|value| walk(value, visit)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[test]
fn every_operation_is_whole() {
    let document = value();
    assert_eq!(document["openapi"], "3.1.0");
    let mut ids = BTreeSet::new();
    let mut count = 0;
    for (path, item) in document["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().expect("operations") {
            count += 1;
            let what = format!("{method} {path}");
            assert!(ids.insert(operation["operationId"].as_str().expect(&what).to_owned()), "{what}: twice");
            assert!(operation["summary"].as_str().is_some_and(|text| !text.is_empty()), "{what}: no summary");
            for parameter in operation["parameters"].as_array().into_iter().flatten() {
                assert!(parameter["description"].is_string(), "{what}: {parameter}");
            }
            let in_path: BTreeSet<&str> = path.split(['{', '}']).skip(1).step_by(2).collect();
            let parameters = operation["parameters"].as_array().into_iter().flatten();
            let named = parameters.filter(|parameter| parameter["in"] == "path");
            assert_eq!(
                named.filter_map(|parameter| parameter["name"].as_str()).collect::<BTreeSet<_>>(),
                in_path
            );
            let responses = operation["responses"].as_object().expect(&what);
            assert!(responses.keys().any(|status| status.starts_with('2')), "{what}: no good answer");
            for (status, response) in responses {
                let is_refusal = status.as_str() >= "400";
                let codes = response["x-codes"].as_array().map_or(0, Vec::len);
                assert_eq!(codes > 0, is_refusal, "{what} {status}");
                let problem = &response["content"]["application/problem+json"]["schema"]["$ref"];
                assert_eq!(problem == "#/components/schemas/Problem", is_refusal, "{what} {status}");
            }
            let may_be_token = responses.contains_key("401");
            assert_eq!(may_be_token, !OPEN_PATHS.contains(&path.as_str()), "{what}");
        }
    }
    assert_eq!(count, 45, "an operation is missing here, or in the count");
}

#[test]
fn every_reference_leads_somewhere() {
    let document = value();
    let mut references = BTreeSet::new();
    walk(&document, &mut |object| {
        references.extend(object.get("$ref").and_then(Value::as_str).map(str::to_owned));
    });
    assert!(references.len() > 15);
    for reference in references {
        assert!(document.pointer(reference.trim_start_matches('#')).is_some(), "{reference}");
    }
}

#[test]
fn an_applications_routes_stand_beside_ours() {
    let operation = OperationBuilder::new().operation_id(Some("place_order")).build();
    let paths = PathsBuilder::new().path("/orders", PathItem::new(HttpMethod::Post, operation)).build();
    let document = document([OpenApiBuilder::new().paths(paths).build()]);
    let ours = document.paths.paths.contains_key("/api/v1/workflows");
    assert!(ours);
    let placed = document.paths.paths["/orders"].post.as_ref().expect("an operation");
    let refused: Vec<&str> = placed.responses.responses.keys().map(String::as_str).collect();
    assert_eq!(refused, ["401", "403", "415", "500", "503"]);
}

#[test]
fn the_shape_of_a_failure_knows_its_kinds_and_members() {
    let failure = Failure::application("Declined", "no");
    let known = |failure: &Failure| {
        let written = serde_json::to_value(failure).expect("JSON");
        let kind = written["kind"]["kind"].as_str().expect("a kind").to_owned();
        assert!(FAILURE_KINDS.contains(&kind.as_str()), "{kind}");
        written
    };
    let shape = serde_json::to_value(shapes::Failure::schema()).expect("JSON");
    for member in known(&failure).as_object().expect("an object").keys() {
        assert!(shape["properties"].get(member).is_some(), "{member}");
    }
    known(&Failure::new("no", FailureKind::Terminated));
    for kind in FAILURE_KINDS {
        let read = serde_json::from_value::<FailureKind>(json!({ "kind": kind }));
        let unknown = read.is_err_and(|error| error.to_string().contains("unknown variant"));
        assert!(!unknown, "{kind}");
    }
}
