//! The schemas of batch responses in the OpenAPI document.

use std::borrow::Cow;
use std::marker::PhantomData;

use utoipa::openapi::schema::{AllOf, Array, Object, OneOf, Type};
use utoipa::openapi::{Ref, RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use super::data_responses::{DataKey, DataResponse, RewrapResult, UnwrapResult, WrapResult};
use super::errors::Problem;

/// The schema of a [`super::response::BatchResponse`] whose items are `R` or an error.
pub struct BatchAnswers<R>(PhantomData<R>);

/// The response to a batch of generated data keys.
pub type BatchGenerateDataKeysResult = BatchAnswers<DataKey>;
/// The response to a batch of wraps.
pub type BatchWrapResult = BatchAnswers<WrapResult>;
/// The response to a batch of unwraps.
pub type BatchUnwrapResult = BatchAnswers<UnwrapResult>;
/// The response to a batch of rewraps.
pub type BatchRewrapResult = BatchAnswers<RewrapResult>;

/// Name of the schema of a failed item.
const FAILED: &str = "FailedItem";

fn audit_index() -> Object {
    let index = Object::builder().schema_type(Type::String);
    let said = "The place of the item's record in the audit log, in the form of the header `Claviger-Audit-Index`.";
    index.description(Some(said)).build()
}

/// The schema of a result that is no error: the members of the single operation's response and the place of the record.
fn succeeded_item<R: DataResponse>() -> Schema {
    let succeeded = AllOf::builder()
        .item(Ref::from_schema_name(R::name()))
        .item(Object::builder().property("audit_index", audit_index()));
    succeeded.description(Some("The result of an item.")).build().into()
}

/// The schema of an item's result.
fn item_result<R: DataResponse>() -> Schema {
    let result = OneOf::builder()
        .item(Ref::from_schema_name(R::SUCCEEDED))
        .item(Ref::from_schema_name(FAILED));
    result
        .description(Some(
            "The members of the single operation's response and `audit_index`, or `error`.",
        ))
        .build()
        .into()
}

fn failed_item() -> Schema {
    let why = Ref::builder().ref_location_from_schema_name(Problem::name());
    let why = why.description(Some("Why the item failed.")).build();
    let failed = Object::builder()
        .property("error", why)
        .required("error")
        .property("audit_index", audit_index());
    failed.description(Some("The error of a failed item.")).build().into()
}

impl<R: DataResponse> PartialSchema for BatchAnswers<R> {
    fn schema() -> RefOr<Schema> {
        let items = Array::builder()
            .items(Ref::from_schema_name(R::ITEM))
            .description(Some("One result per item, in the order of the request."));
        let answers = Object::builder().property("items", items).required("items");
        answers.description(Some("The response to a batch.")).into()
    }
}

impl<R: DataResponse> ToSchema for BatchAnswers<R> {
    fn name() -> Cow<'static, str> {
        Cow::Borrowed(R::BATCH)
    }

    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        schemas.push((R::name().into_owned(), R::schema()));
        schemas.push((R::SUCCEEDED.to_owned(), succeeded_item::<R>().into()));
        schemas.push((R::ITEM.to_owned(), item_result::<R>().into()));
        schemas.push((FAILED.to_owned(), failed_item().into()));
        R::schemas(schemas);
    }
}
