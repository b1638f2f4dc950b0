//! What the document says of the answers of batches.

use std::borrow::Cow;
use std::marker::PhantomData;

use utoipa::openapi::schema::{AllOf, Array, Object, OneOf, Type};
use utoipa::openapi::{Ref, RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use super::data_responses::{DataKeyResponse, DataResponse, RewrapResponse, UnwrapResponse, WrapResponse};
use super::errors::Problem;

/// What the document says of a batch's answer, a [`super::response::BatchResponse`].
pub struct BatchAnswers<R>(PhantomData<R>);

/// The answers of a batch of data keys.
pub type BatchGenerateDataKeysResponse = BatchAnswers<DataKeyResponse>;
/// The answers of a batch of wraps.
pub type BatchWrapResponse = BatchAnswers<WrapResponse>;
/// The answers of a batch of unwraps.
pub type BatchUnwrapResponse = BatchAnswers<UnwrapResponse>;
/// The answers of a batch of rewraps.
pub type BatchRewrapResponse = BatchAnswers<RewrapResponse>;

/// The schema of an item that failed.
const FAILED: &str = "FailedItem";

fn audit_index() -> Object {
    let index = Object::builder().schema_type(Type::String);
    let said = "The place of the item's record, as `Claviger-Audit-Index` has it for a single call.";
    index.description(Some(said)).build()
}

/// An item that succeeded: the members of the single call's answer, and the place of its record.
fn item_result<R: DataResponse>() -> Schema {
    let succeeded = AllOf::builder()
        .item(Ref::from_schema_name(R::name()))
        .item(Object::builder().property("audit_index", audit_index()));
    let result = OneOf::builder().item(succeeded).item(Ref::from_schema_name(FAILED));
    result
        .description(Some("The members of the single call's answer and `audit_index`, or `error`."))
        .build()
        .into()
}

fn failed_item() -> Schema {
    let failed = Object::builder()
        .property("error", Ref::from_schema_name(Problem::name()))
        .required("error")
        .property("audit_index", audit_index());
    failed.description(Some("An item that failed, and why.")).build().into()
}

impl<R: DataResponse> PartialSchema for BatchAnswers<R> {
    fn schema() -> RefOr<Schema> {
        let items = Array::builder()
            .items(Ref::from_schema_name(R::ITEM))
            .description(Some("One for each item, in order."));
        let answers = Object::builder().property("items", items).required("items");
        answers
            .description(Some("The answers of a batch, in the order of its items."))
            .into()
    }
}

impl<R: DataResponse> ToSchema for BatchAnswers<R> {
    fn name() -> Cow<'static, str> {
        Cow::Borrowed(R::BATCH)
    }

    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        schemas.push((R::name().into_owned(), R::schema()));
        schemas.push((R::ITEM.to_owned(), item_result::<R>().into()));
        schemas.push((FAILED.to_owned(), failed_item().into()));
        R::schemas(schemas);
    }
}
