//! Pages of lists.

use std::borrow::Cow;

use http::StatusCode;
use serde::Serialize;
use utoipa::openapi::schema::{Array, Object, SchemaType, Type};
use utoipa::openapi::{Ref, RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use super::handler::json_reply;
use super::request::ApiRequest;
use super::response::ApiResponse;
use crate::broker::{Failure, Guarded, Page};

/// A page of a list. The OpenAPI document has a separate schema for each type of items.
#[derive(Serialize)]
pub struct List<T> {
    /// The items, in the list's order.
    pub items: Vec<T>,
    /// See [`NEXT_PAGE_TOKEN`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_page_token: Option<String>,
}

/// The description of the member in the OpenAPI document.
const NEXT_PAGE_TOKEN: &str = "Pass it as `page_token`, with the same filters, to get the next page. Absent on the last page.";

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
            .description(Some(NEXT_PAGE_TOKEN));
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

/// The response with a page of the list that `request` asked for. `response` converts an item.
pub fn list_reply<T, W: Serialize>(
    request: &ApiRequest,
    page: Guarded<Page<T>>,
    response: impl Fn(&T) -> W,
) -> Result<ApiResponse, Failure> {
    let list = page.try_map(|Page { items, next }| {
        Ok(List {
            items: items.iter().map(&response).collect(),
            next_page_token: next.map(|next| request.page_token(&next)).transpose()?,
        })
    })?;
    json_reply(list, StatusCode::OK, |list| list)
}
