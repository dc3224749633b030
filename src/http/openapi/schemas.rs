//! What values look like, as JSON Schema.

use serde_json::{Map, Value, json};
use utoipa::ToSchema;

/// The shape of a value.
#[derive(Debug, Clone)]
pub(super) enum Shape {
    /// One that has a name among the components.
    Named(&'static str, &'static str, Box<Self>),
    /// A list, with the least and the most items that it may have.
    List(Box<Self>, Option<(usize, usize)>),
    Object(Vec<Field>),
    /// A type, by its name, with its schema and those of the types that it contains.
    Type(String, Vec<(String, Value)>),
    /// A schema in JSON, used unchanged.
    Plain(Value),
}

/// A field of an object.
#[derive(Debug, Clone)]
pub(super) struct Field {
    pub name: &'static str,
    pub shape: Shape,
    pub description: &'static str,
    pub required: bool,
    /// Whether `null` is allowed beside the shape.
    pub nullable: bool,
}

/// A field that is always there.
pub(super) fn field(name: &'static str, shape: Shape, description: &'static str) -> Field {
    Field { name, shape, description, required: true, nullable: false }
}

/// A field that may be missing.
pub(super) fn optional(name: &'static str, shape: Shape, description: &'static str) -> Field {
    Field { required: false, ..field(name, shape, description) }
}

/// A field that may be missing or `null`.
pub(super) fn nullable(name: &'static str, shape: Shape, description: &'static str) -> Field {
    Field { nullable: true, ..optional(name, shape, description) }
}

/// A field that is always there, maybe as `null`.
pub(super) fn or_null(name: &'static str, shape: Shape, description: &'static str) -> Field {
    Field { nullable: true, ..field(name, shape, description) }
}

impl Shape {
    /// One that goes by a name.
    pub(super) fn named(name: &'static str, description: &'static str, shape: Self) -> Self {
        Self::Named(name, description, Box::new(shape))
    }

    /// The schema of a type, as in the OpenAPI document.
    pub(super) fn of<T: ToSchema>() -> Self {
        let mut schemas = vec![(T::name().into_owned(), T::schema())];
        T::schemas(&mut schemas);
        let to_json = |(name, schema)| (name, serde_json::to_value(schema).expect("a schema serializes"));
        Self::Type(T::name().into_owned(), schemas.into_iter().map(to_json).collect())
    }

    pub(super) fn list(of: Self) -> Self {
        Self::List(Box::new(of), None)
    }

    pub(super) fn list_of(of: Self, least: usize, most: usize) -> Self {
        Self::List(Box::new(of), Some((least, most)))
    }

    pub(super) fn uuid() -> Self {
        Self::Plain(json!({ "type": "string", "format": "uuid" }))
    }

    pub(super) fn text() -> Self {
        Self::Plain(json!({ "type": "string" }))
    }

    /// At most so many characters after trimming: spaces around do not count, so that no schema can say the bound.
    pub(super) fn trimmed(most: usize) -> Self {
        Self::Plain(json!({ "type": "string", "x-max-length-after-trimming": most }))
    }

    /// One of some words.
    pub(super) fn string_enum(words: &[&str]) -> Self {
        Self::Plain(json!({ "type": "string", "enum": words }))
    }

    pub(super) fn flag() -> Self {
        Self::Plain(json!({ "type": "boolean" }))
    }

    pub(super) fn timestamp() -> Self {
        Self::Plain(json!({ "type": "string", "format": "date-time" }))
    }

    pub(super) fn count() -> Self {
        Self::Plain(json!({ "type": "integer", "minimum": 0 }))
    }

    pub(super) fn any_object() -> Self {
        Self::Plain(json!({ "type": "object", "additionalProperties": true }))
    }

    /// A value that never differs.
    pub(super) fn constant(value: impl Into<Value>) -> Self {
        Self::Plain(json!({ "const": value.into() }))
    }

    /// The schema. Those with names go to `components` and are referred to.
    pub(super) fn schema(&self, components: &mut Map<String, Value>) -> Value {
        match self {
            Self::Named(name, description, shape) => {
                if !components.contains_key(*name) {
                    let mut schema = shape.schema(components);
                    schema["description"] = json!(description);
                    components.insert((*name).to_owned(), schema);
                }
                json!({ "$ref": format!("#/components/schemas/{name}") })
            }
            Self::List(items, bounds) => {
                let mut list = json!({ "type": "array", "items": items.schema(components) });
                if let Some((least, most)) = bounds {
                    list["minItems"] = json!(least);
                    list["maxItems"] = json!(most);
                }
                list
            }
            Self::Object(fields) => object(fields, components),
            Self::Type(name, schemas) => {
                for (name, schema) in schemas {
                    components.entry(name).or_insert_with(|| schema.clone());
                }
                json!({ "$ref": format!("#/components/schemas/{name}") })
            }
            Self::Plain(schema) => schema.clone(),
        }
    }
}

fn object(fields: &[Field], components: &mut Map<String, Value>) -> Value {
    let mut properties = Map::new();
    for Field { name, shape, description, nullable, .. } in fields {
        let mut schema = shape.schema(components);
        if *nullable {
            schema = allow_null(schema);
        }
        schema["description"] = json!(description);
        properties.insert((*name).to_owned(), schema);
    }
    let required: Vec<_> = fields.iter().filter(|field| field.required).map(|field| field.name).collect();
    let mut object = json!({ "type": "object", "properties": properties });
    if !required.is_empty() {
        object["required"] = json!(required);
    }
    object
}

fn allow_null(mut schema: Value) -> Value {
    match schema.get("type") {
        Some(Value::String(kind)) if schema.get("enum").is_none() => {
            schema["type"] = json!([kind, "null"]);
            schema
        }
        _ => json!({ "anyOf": [schema, { "type": "null" }] }),
    }
}
