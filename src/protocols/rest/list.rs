//! Pages of lists.

use std::borrow::Cow;

use http::StatusCode;
use serde::Serialize;
use utoipa::openapi::schema::{Array, Object, SchemaType, Type};
use utoipa::openapi::{Ref, RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use super::handler::json_reply;
use super::page::encode;
use super::response::ApiResponse;
use crate::broker::{Failure, Guarded, Page};

/// A page of a list. The OpenAPI document has a separate schema for each type of items.
#[derive(Serialize)]
pub struct List<T> {
    /// The items, in the list's order.
    pub items: Vec<T>,
    /// Pass it as `page_token` to get the next page. Absent on the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_page_token: Option<String>,
}

/// An item of a list, with name and descriptions of the list's schema.
pub trait Listed: ToSchema {
    /// The schema's name, such as `KeyList`.
    const LIST: &'static str;
    /// The schema's description.
    const DESCRIPTION: &'static str;
    /// The description of its items and of their order.
    const ITEMS: &'static str;
}

impl<T: Listed> PartialSchema for List<T> {
    fn schema() -> RefOr<Schema> {
        let items = Array::builder().items(Ref::from_schema_name(T::name())).description(Some(T::ITEMS));
        let token = Object::builder()
            .schema_type(SchemaType::from_iter([Type::String, Type::Null]))
            .description(Some("Pass it as `page_token` to get the next page. Absent on the last page."));
        let list = Object::builder().property("items", items).required("items");
        list.property("next_page_token", token).description(Some(T::DESCRIPTION)).into()
    }
}

impl<T: Listed> ToSchema for List<T> {
    fn name() -> Cow<'static, str> {
        Cow::Borrowed(T::LIST)
    }

    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        schemas.push((T::name().into_owned(), T::schema()));
        T::schemas(schemas);
    }
}

/// The response with a page. `response` converts an item.
pub fn list_reply<T, W: Serialize>(page: Guarded<Page<T>>, response: fn(&T) -> W) -> Result<ApiResponse, Failure> {
    json_reply(page, StatusCode::OK, |Page { items, next }| List {
        items: items.iter().map(response).collect(),
        next_page_token: next.as_deref().map(encode),
    })
}
