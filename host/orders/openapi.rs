//! The routes of the order application and of the sandbox in OpenAPI, to be merged into the server's
//! document.

use serde_json::json;
use utoipa::OpenApi as _;
use utoipa::openapi::extensions::Extensions;
use utoipa::openapi::schema::AdditionalProperties;
use utoipa::openapi::{OpenApi, PathItem, RefOr, Response, Schema};

use super::problem::CODES;
use super::{routes, sandbox};

/// Bodies whose unknown fields are refused, and what is in them.
const CLOSED: [&str; 6] =
    ["OrderRequest", "OrderItem", "ShipTo", "OrderChange", "ShipToChange", "OrderDelivered"];

/// What of the interface is the order application's: paths below `/orders` and `/sandbox`, and the
/// schemas of their bodies. The reply to a refused request is the server's to describe.
#[must_use]
pub fn openapi() -> OpenApi {
    let mut document = routes::Described::openapi();
    document.merge(sandbox::Described::openapi());
    for response in document.paths.paths.values_mut().flat_map(responses) {
        name_codes(response);
    }
    if let Some(components) = &mut document.components {
        for name in CLOSED {
            if let Some(RefOr::T(Schema::Object(object))) = components.schemas.get_mut(name) {
                object.additional_properties = Some(Box::new(AdditionalProperties::FreeForm(false)));
            }
        }
    }
    document
}

/// All responses of a path.
fn responses(item: &mut PathItem) -> impl Iterator<Item = &mut Response> {
    let PathItem { get, put, post, delete, patch, .. } = item;
    [get, put, post, delete, patch]
        .into_iter()
        .filter_map(Option::as_mut)
        .flat_map(|operation| operation.responses.responses.values_mut())
        .filter_map(|response| match response {
            RefOr::T(response) => Some(response),
            RefOr::Ref(_) => None,
        })
}

/// Says for programs which codes come with a refusal: those that its description names.
fn name_codes(response: &mut Response) {
    let quoted: Vec<&str> = response.description.split('`').skip(1).step_by(2).collect();
    let named: Vec<&str> = CODES.iter().map(|code| code.0).filter(|code| quoted.contains(code)).collect();
    if !named.is_empty() {
        response.extensions = Some(Extensions::from_iter([("x-codes", json!(named))]));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn document() -> Value {
        serde_json::to_value(openapi()).expect("it is JSON")
    }

    #[test]
    fn every_route_is_described() {
        let document = document();
        let paths = document["paths"].as_object().expect("there are paths");
        let mut operations = Vec::new();
        for (path, item) in paths {
            for (method, operation) in item.as_object().expect("an object") {
                let tag = operation["tags"][0].as_str().expect("a tag");
                operations.push(format!("{method} {path} {tag} {}", operation["operationId"]));
            }
        }
        operations.sort();
        assert_eq!(
            operations,
            [
                "delete /orders/{id} orders \"cancel_order\"",
                "get /orders orders \"list_orders\"",
                "get /orders/{id} orders \"get_order\"",
                "get /sandbox/payments sandbox \"sandbox_payments\"",
                "get /sandbox/shipments sandbox \"sandbox_shipments\"",
                "patch /orders/{id} orders \"change_order\"",
                "post /orders orders \"place_order\"",
                "post /orders/{id}/delivered orders \"order_delivered\"",
            ]
        );
    }

    #[test]
    fn every_reference_leads_somewhere_and_bodies_are_closed() {
        let document = document();
        let mut open: Vec<&Value> = vec![&document];
        let mut references = 0;
        while let Some(value) = open.pop() {
            match value {
                Value::Object(fields) => {
                    if let Some(Value::String(reference)) = fields.get("$ref") {
                        references += 1;
                        let pointer = reference.strip_prefix('#').expect("it is within the document");
                        assert!(document.pointer(pointer).is_some(), "{reference}");
                    }
                    open.extend(fields.values());
                }
                Value::Array(values) => open.extend(values),
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
            }
        }
        assert!(references > 0);
        for name in CLOSED {
            let schema = &document["components"]["schemas"][name];
            assert_eq!(schema["additionalProperties"], json!(false), "{name}: {schema}");
        }
    }
}
