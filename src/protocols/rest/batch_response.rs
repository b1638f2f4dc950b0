//! The schemas of batch responses in the OpenAPI document.

use std::borrow::Cow;
use std::marker::PhantomData;

use utoipa::openapi::extensions::Extensions;
use utoipa::openapi::schema::{Array, Object, Type};
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

/// The extension with the members that every successful item has.
const REQUIRED: &str = "x-required-without-error";

/// The schema of an item's result. It is one object with all members, not a choice between a success and a failure:
/// nothing but the member `error` distinguishes them, and generated clients would try to decode one after the other.
fn item_result<R: DataResponse>() -> RefOr<Schema> {
    let mut schema = R::schema();
    if let RefOr::T(Schema::Object(result)) = &mut schema {
        let required = std::mem::take(&mut result.required);
        result.description = Some(format!(
            "The result of an item. An item with `error` failed. Any other has the members of `{}`, among them always `{}`.",
            R::name(),
            required.join("`, `"),
        ));
        result.extensions = Some(Extensions::builder().add(REQUIRED, required).build());
        let text = "The place of the item's record in the audit log, in the form of the header `Claviger-Audit-Index`.";
        let index = Object::builder().schema_type(Type::String).description(Some(text));
        result.properties.insert("audit_index".to_owned(), index.into());
        let error = Ref::builder().ref_location_from_schema_name(Problem::name());
        let error = error.description(Some("Why the item failed. Absent if it succeeded."));
        result.properties.insert("error".to_owned(), error.build().into());
    }
    schema
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
        schemas.push((R::ITEM.to_owned(), item_result::<R>()));
        R::schemas(schemas);
    }
}
