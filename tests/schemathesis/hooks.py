"""What schemathesis cannot read from the document.

- null is the same as a member that is left out. The document says of such a member only that it is optional, since
  clients are generated better from that. Requests may have null there all the same, and a body that may be left out
  may be null.
- An item of a batch with a value beyond its bounds fails alone, in a response with status 200.
"""

import schemathesis

BOUNDS = ("minLength", "maxLength", "maxProperties", "enum")


def references(value):
    """The names of the schemas that a value refers to."""
    if isinstance(value, dict):
        if "$ref" in value:
            yield value["$ref"].rsplit("/", 1)[1]
        for name, member in value.items():
            if name not in ("example", "examples"):
                yield from references(member)
    elif isinstance(value, list):
        for member in value:
            yield from references(member)


def of_requests(document):
    """The names of the schemas that bodies of requests refer to, directly or through others."""
    operations = [operation for methods in document["paths"].values() for operation in methods.values()]
    found, left = set(), [name for operation in operations for name in references(operation.get("requestBody", {}))]
    while left:
        name = left.pop()
        if name not in found:
            found.add(name)
            left += references(document["components"]["schemas"][name])
    return found


def without_bounds(schema, schemas):
    """A member of a batch's item, which the gateway checks for the item alone. A name is checked with the request."""
    name = schema.get("$ref", "").rsplit("/", 1)[-1]
    schema = schemas[name] if name and name != "Name" else schema
    return {keyword: value for keyword, value in schema.items() if keyword not in BOUNDS}


def with_null(schema):
    return {"anyOf": [schema, {"type": "null"}]}


@schemathesis.hook
def before_load_schema(context, raw_schema):
    schemas = raw_schema["components"]["schemas"]
    requested = of_requests(raw_schema)
    for name in requested:
        if name.startswith("Batch"):
            item = schemas[schemas[name]["properties"]["items"]["items"]["$ref"].rsplit("/", 1)[1]]
            item["properties"] = {member: without_bounds(of, schemas) for member, of in item["properties"].items()}
    for schema in map(schemas.get, requested):
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
