//! One route and method, described.

use std::borrow::Cow;

use serde_json::Value;

use super::schemas::Shape;
use crate::limits::LimitClass;

/// A method that routes have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum HttpMethod {
    Get,
    Post,
    Put,
    Patch,
    Delete,
}

impl HttpMethod {
    /// As in the first line of a request.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
        }
    }
}

/// Callers that a route accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Everybody, without a token.
    Open,
    /// Whoever has a token.
    Token,
    /// `service_role`, or a holder of `presence:admin`.
    Operator,
    /// Tokens with role `service_role`.
    Service,
}

/// Whose token an example is carried out with, among the people of the demo data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExampleUser {
    /// Leads the team, knows most of the others.
    Alice,
    /// Has been asked for a contact.
    Bob,
    /// Whoever may be forgotten.
    Frank,
    /// The operator's back end.
    Service,
}

/// Where a parameter stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParamIn {
    /// In the path; always required.
    Path,
    /// In the query string.
    Query,
    Header,
}

/// A parameter with its example.
#[derive(Debug, Clone)]
pub struct Parameter {
    pub location: ParamIn,
    /// What it is called there.
    pub name: &'static str,
    pub description: &'static str,
    /// What it looks like.
    pub(super) shape: Shape,
    /// Whether it must be given.
    pub required: bool,
    /// One that works with the demo data; optional parameters without one are left out of the example.
    pub example: Option<Value>,
}

/// A response without an error.
#[derive(Debug, Clone)]
pub struct ResponseSpec {
    pub status: u16,
    pub description: &'static str,
    /// Its media type and shape; nothing for an answer without a body.
    pub(super) body: Option<(&'static str, Shape)>,
    /// What a body looks like.
    pub example: Option<Value>,
}

/// A body that clients send.
#[derive(Debug, Clone)]
pub(super) struct Body {
    pub shape: Shape,
    pub example: Value,
}

/// One route and method.
#[derive(Debug, Clone)]
pub struct Operation {
    pub method: HttpMethod,
    /// The path as the router has it.
    pub path: &'static str,
    /// A name for programs that are generated from the description.
    pub id: &'static str,
    /// What it does, in a few words.
    pub summary: &'static str,
    /// What else there is to know.
    pub description: Cow<'static, str>,
    pub tag: &'static str,
    pub access: Access,
    /// Whose token the example takes.
    pub example_user: ExampleUser,
    /// Whether a running example makes sense; it makes none of what is no single answer, as a socket.
    pub is_example: bool,
    /// In the order in which they are documented.
    pub parameters: Vec<Parameter>,
    pub(super) body: Option<Body>,
    /// The good ones; the example gets the first.
    pub responses: Vec<ResponseSpec>,
    /// Statuses of errors beyond those that follow from the rest.
    pub(super) extra_error_statuses: Vec<u16>,
    /// What it counts against.
    pub(super) limit: Option<LimitClass>,
}

pub(super) fn get(path: &'static str, id: &'static str, summary: &'static str) -> Operation {
    Operation::new(HttpMethod::Get, path, id, summary)
}

pub(super) fn post(path: &'static str, id: &'static str, summary: &'static str) -> Operation {
    Operation::new(HttpMethod::Post, path, id, summary)
}

impl Operation {
    fn new(verb: HttpMethod, path: &'static str, id: &'static str, summary: &'static str) -> Self {
        Self {
            method: verb,
            path,
            id,
            summary,
            description: Cow::Borrowed(""),
            tag: "",
            access: Access::Token,
            example_user: ExampleUser::Alice,
            is_example: true,
            parameters: Vec::new(),
            body: None,
            responses: Vec::new(),
            extra_error_statuses: Vec::new(),
            limit: None,
        }
    }

    /// The body of the example, if it has one.
    #[must_use]
    pub fn example_body(&self) -> Option<&Value> {
        self.body.as_ref().map(|body| &body.example)
    }

    /// Says more than the summary.
    pub(super) fn description(mut self, description: impl Into<Cow<'static, str>>) -> Self {
        self.description = description.into();
        self
    }

    /// Not for everybody with a token.
    pub(super) fn access(mut self, access: Access) -> Self {
        self.access = access;
        self
    }

    /// The example is not carried out.
    pub(super) fn without_example(mut self) -> Self {
        self.is_example = false;
        self
    }

    /// A parameter in the path.
    pub(super) fn path_parameter(
        self,
        name: &'static str,
        shape: Shape,
        description: &'static str,
        example: impl Into<Value>,
    ) -> Self {
        self.parameter(ParamIn::Path, name, shape, description, Some(example.into()))
    }

    /// A parameter in the query string; always optional.
    pub(super) fn query(
        self,
        name: &'static str,
        shape: Shape,
        description: &'static str,
        example: Option<Value>,
    ) -> Self {
        self.parameter(ParamIn::Query, name, shape, description, example)
    }

    /// A header; always optional.
    pub(super) fn header(self, name: &'static str, shape: Shape, description: &'static str) -> Self {
        self.parameter(ParamIn::Header, name, shape, description, None)
    }

    fn parameter(
        mut self,
        place: ParamIn,
        name: &'static str,
        shape: Shape,
        description: &'static str,
        example: Option<Value>,
    ) -> Self {
        let required = place == ParamIn::Path;
        self.parameters.push(Parameter { location: place, name, description, shape, required, example });
        self
    }

    /// Adds a request body.
    pub(super) fn request_body(mut self, shape: Shape, example: Value) -> Self {
        self.body = Some(Body { shape, example });
        self
    }

    /// A good answer in JSON. The first is the one that the example gets.
    pub(super) fn response(
        mut self,
        status: u16,
        description: &'static str,
        shape: Shape,
        example: Value,
    ) -> Self {
        let body = Some(("application/json", shape));
        self.responses.push(ResponseSpec { status, description, body, example: Some(example) });
        self
    }

    /// A good answer that is no JSON.
    pub(super) fn text_response(
        mut self,
        status: u16,
        description: &'static str,
        media_type: &'static str,
    ) -> Self {
        let body = Some((media_type, Shape::text()));
        self.responses.push(ResponseSpec { status, description, body, example: None });
        self
    }

    /// A good answer of server-sent events, each of the shape: an object with its `data`.
    pub(super) fn event_stream_response(
        mut self,
        status: u16,
        description: &'static str,
        event: Shape,
    ) -> Self {
        let body = Some(("text/event-stream", event));
        self.responses.push(ResponseSpec { status, description, body, example: None });
        self
    }

    /// A good answer without a body.
    pub(super) fn empty_response(mut self, status: u16, description: &'static str) -> Self {
        self.responses.push(ResponseSpec { status, description, body: None, example: None });
        self
    }

    /// Statuses of errors beyond those that follow from access, parameters, body and limit.
    pub(super) fn errors(mut self, statuses: &[u16]) -> Self {
        self.extra_error_statuses.extend_from_slice(statuses);
        self
    }

    /// Counts against a limit.
    pub(super) fn rate_limit(mut self, class: LimitClass) -> Self {
        self.limit = Some(class);
        self
    }

    /// Puts all of them into one chapter.
    pub(super) fn with_tag(tag: &'static str, operations: Vec<Self>) -> Vec<Self> {
        operations.into_iter().map(|operation| Self { tag, ..operation }).collect()
    }

    /// Every status of an error that may be answered.
    pub(super) fn error_statuses(&self) -> Vec<u16> {
        let mut statuses = self.extra_error_statuses.clone();
        if self.access != Access::Open {
            // Row-level security may forbid anything; keys and the database may be out of reach.
            statuses.extend([401, 403, 500, 503]);
        }
        if self
            .parameters
            .iter()
            .any(|parameter| parameter.location != ParamIn::Path || !parameter.shape.is_text())
        {
            statuses.push(400);
        }
        if self.body.is_some() {
            statuses.extend([400, 413, 415]);
        }
        if self.limit.is_some() {
            statuses.push(429);
        }
        statuses.sort_unstable();
        statuses.dedup();
        statuses
    }
}
