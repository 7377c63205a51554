//! The served description of the interface, read as data: its operations, and whether a value fits a
//! schema.

use serde_json::{Map, Value};

const METHODS: [&str; 5] = ["get", "post", "put", "patch", "delete"];

/// An OpenAPI document.
pub(crate) struct Document(Value);

/// One method of one path.
#[derive(Debug)]
pub(crate) struct Operation {
    pub(crate) id: String,
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) parameters: Vec<Parameter>,
    pub(crate) body: Option<Body>,
    responses: Map<String, Value>,
}

#[derive(Debug)]
pub(crate) struct Parameter {
    pub(crate) name: String,
    pub(crate) place: String,
    pub(crate) schema: Value,
    pub(crate) is_required: bool,
}

#[derive(Debug)]
pub(crate) struct Body {
    pub(crate) media_type: String,
    pub(crate) schema: Value,
    pub(crate) is_required: bool,
}

impl Document {
    pub(crate) fn new(document: Value) -> Self {
        assert_eq!(document["openapi"], "3.1.0");
        Self(document)
    }

    pub(crate) fn operations(&self) -> Vec<Operation> {
        let paths = self.0["paths"].as_object().unwrap();
        let of_path = |(path, item): (&String, &Value)| {
            let operations = METHODS.iter().filter_map(|method| Some((*method, item.get(method)?)));
            operations.map(|(method, operation)| self.operation(method, path, operation)).collect::<Vec<_>>()
        };
        paths.iter().flat_map(of_path).collect()
    }

    /// All codes of problems, also of those that belong to no operation.
    pub(crate) fn codes(&self) -> Vec<&str> {
        strings(&self.0["components"]["schemas"]["Problem"]["x-codes"])
    }

    fn operation(&self, method: &str, path: &str, operation: &Value) -> Operation {
        let parameters = operation["parameters"].as_array().into_iter().flatten();
        let parameters = parameters.map(|parameter| self.resolve(parameter)).map(|parameter| Parameter {
            name: parameter["name"].as_str().unwrap().to_owned(),
            place: parameter["in"].as_str().unwrap().to_owned(),
            schema: parameter["schema"].clone(),
            is_required: parameter["required"] == true,
        });
        let request_body = &operation["requestBody"];
        let contents = request_body["content"].as_object().into_iter().flatten();
        // The preferred form of a body stands first.
        let body = contents.take(1).next().map(|(media_type, content)| Body {
            media_type: media_type.clone(),
            schema: content["schema"].clone(),
            is_required: request_body["required"] == true,
        });
        Operation {
            id: operation["operationId"].as_str().unwrap_or_default().to_owned(),
            method: method.to_uppercase(),
            path: path.to_owned(),
            parameters: parameters.collect(),
            body,
            responses: operation["responses"].as_object().unwrap().clone(),
        }
    }

    /// What stands behind references.
    pub(crate) fn resolve<'a>(&'a self, mut value: &'a Value) -> &'a Value {
        while let Some(reference) = value["$ref"].as_str() {
            value = self.0.pointer(&reference[1..]).unwrap_or_else(|| panic!("nothing at {reference}"));
        }
        value
    }

    /// Whether a value has the structure that a schema asks for. Patterns are left to the server.
    pub(crate) fn fits(&self, schema: &Value, value: &Value) -> Result<(), String> {
        let schema = self.resolve(schema);
        for part in schema["allOf"].as_array().into_iter().flatten() {
            self.fits(part, value)?;
        }
        for choice in ["oneOf", "anyOf"] {
            if let Some(parts) = schema[choice].as_array()
                && !parts.iter().any(|part| self.fits(part, value).is_ok())
            {
                return Err(format!("{value} fits no part of {choice}"));
            }
        }
        if let Some(values) = schema["enum"].as_array()
            && !values.contains(value)
        {
            return Err(format!("{value} is none of {values:?}"));
        }
        let types = match &schema["type"] {
            Value::String(only) => vec![only.as_str()],
            many => strings(many),
        };
        if !types.is_empty() && !types.iter().any(|name| is_of_type(value, name)) {
            return Err(format!("{value} is no {}", types.join(" or ")));
        }
        match value {
            Value::String(text) => fits_text(schema, text),
            Value::Number(number) => {
                let number = number.as_f64().unwrap();
                let too_small = schema["minimum"].as_f64().is_some_and(|minimum| number < minimum);
                let too_large = schema["maximum"].as_f64().is_some_and(|maximum| number > maximum);
                let is_within = !too_small && !too_large;
                is_within.then_some(()).ok_or_else(|| format!("{number} is out of range"))
            }
            Value::Array(items) => {
                let count = items.len() as u64;
                if schema["minItems"].as_u64().is_some_and(|least| count < least)
                    || schema["maxItems"].as_u64().is_some_and(|most| count > most)
                {
                    return Err(format!("{count} items"));
                }
                items.iter().try_for_each(|item| self.fits(&schema["items"], item))
            }
            Value::Object(object) => self.fits_object(schema, object),
            Value::Null | Value::Bool(_) => Ok(()),
        }
    }

    fn fits_object(&self, schema: &Value, object: &Map<String, Value>) -> Result<(), String> {
        if let Some(name) = strings(&schema["required"]).into_iter().find(|name| !object.contains_key(*name))
        {
            return Err(format!("{name} is missing"));
        }
        for (name, value) in object {
            let member = match (schema["properties"].get(name), &schema["additionalProperties"]) {
                (Some(member), _) => member,
                (None, Value::Bool(false)) => return Err(format!("{name} is unknown")),
                (None, others) => others,
            };
            self.fits(member, value).map_err(|wrong| format!("{name}: {wrong}"))?;
        }
        Ok(())
    }
}

impl Operation {
    /// The answer that is described for a status.
    pub(crate) fn response(&self, status: u16) -> Option<&Value> {
        self.responses.get(&status.to_string())
    }
}

impl Body {
    pub(crate) fn is_json(&self) -> bool {
        self.media_type == "application/json"
    }
}

/// The codes of a described refusal: a list of its own, or what its text quotes.
pub(crate) fn codes(response: &Value) -> Vec<&str> {
    let listed = strings(&response["x-codes"]);
    if listed.is_empty() {
        return response["description"].as_str().unwrap_or_default().split('`').skip(1).step_by(2).collect();
    }
    listed
}

pub(crate) fn strings(list: &Value) -> Vec<&str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

fn is_of_type(value: &Value, name: &str) -> bool {
    match name {
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        "null" => value.is_null(),
        other => panic!("no type is named {other}"),
    }
}

fn fits_text(schema: &Value, text: &str) -> Result<(), String> {
    let length = text.chars().count() as u64;
    if schema["minLength"].as_u64().is_some_and(|least| length < least)
        || schema["maxLength"].as_u64().is_some_and(|most| length > most)
    {
        return Err(format!("{length} characters"));
    }
    let is_formed = match schema["format"].as_str() {
        Some("date-time") => text.parse::<everfold_core::ids::Timestamp>().is_ok(),
        Some("uuid") => text.parse::<everfold_core::ids::RunId>().is_ok(),
        _ => true,
    };
    is_formed.then_some(()).ok_or_else(|| format!("{text:?} is no {}", schema["format"]))
}
