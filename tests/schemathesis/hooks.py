"""What schemathesis cannot read from the document: null is the same as a member that is left out.

The document says of such a member only that it is optional, since clients are generated better from that. Requests
may have null there all the same, and a body that may be left out may be null.
"""

import schemathesis


def with_null(schema):
    return {"anyOf": [schema, {"type": "null"}]}


@schemathesis.hook
def before_load_schema(context, raw_schema):
    for schema in raw_schema["components"]["schemas"].values():
        # Only requests refuse members that they do not know.
        if schema.get("additionalProperties") is not False:
            continue
        required = schema.get("required", [])
        for name, member in schema.get("properties", {}).items():
            if name not in required:
                schema["properties"][name] = with_null(member)
    for methods in raw_schema["paths"].values():
        for operation in methods.values():
            body = operation.get("requestBody")
            if body and not body.get("required"):
                media = body["content"]["application/json"]
                media["schema"] = with_null(media["schema"])
