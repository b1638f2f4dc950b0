"""What the client's methods return, and those methods: a part of generate.py."""

import re


def pascal(word):
    """half_open is HalfOpen, aes-256 is Aes256, and A256GCM is A256gcm."""
    return "".join(part[0].upper() + (part[1:].lower() if part.isupper() else part[1:]) for part in re.split(r"[_-]", word))


def snake(word):
    """getOpenapi is get_openapi."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", word).lower()


class Requests:
    """The part of the generator for requests. It uses the rest of it."""

    def requests(self):
        texts, modules = {}, {}
        for tag in self.document["tags"]:
            module = tag["name"].replace(" ", "_")
            parts = [self.request(path, operation) for _, path, operation in self.operations if operation["tags"] == [tag["name"]]]
            methods = "\n\n".join(method for method, _ in parts)
            structs = "\n".join(struct for _, struct in parts if struct)
            names = [pascal(operation["operationId"]) for _, _, operation in self.operations if operation["tags"] == [tag["name"]]]
            body = f"impl Client {{\n{methods}\n}}\n\n{structs}"
            texts[f"requests/{module}.rs"] = self.file(f"Requests of {tag['name']}.", body, names)
            modules[module] = re.findall(r"(?m)^pub struct (\w+)", structs)
        title = "What the client's methods return. It is sent when it is awaited."
        texts["requests.rs"] = self.facade(title, dict(sorted(modules.items())))
        return texts

    def request(self, path, operation):
        """The method of an operation, and the struct that it returns, if it has any."""
        name = operation["operationId"]
        about = self.doc(operation.get("description") or operation["summary"])
        endpoint = f"endpoints::{snake(name).upper()}"
        names = re.findall(r"\{(\w+)\}", path)
        parameters = [self.parameter(one) for one in operation.get("parameters", [])]
        query = [one for one in parameters if one["in"] == "query" and one["name"] != "page_token"]
        has_etag = any(one["name"] == "If-Match" for one in parameters)
        is_keyed = any(one["name"] == "Idempotency-Key" for one in parameters)
        body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
        result, items = self.result(operation)
        batch = self.batch(operation)
        arguments = [f"{one}: &str" for one in names] + (["etag: &str"] if has_etag else [])
        call = f"Call::new(self, &{endpoint}, &[{', '.join(names)}]){'.if_match(etag)' if has_etag else ''}"
        if batch:
            item, results = batch["items"]["$ref"].rsplit("/", 1)[1], self.reader_items[items]
            method = f"pub fn {snake(name)}(&self, items: impl IntoIterator<Item = {item}>) -> Batch<{item}, {results}> {{ Batch::new(self, &{endpoint}, items) }}"
            return f"{about}\n{method}", ""
        if not (query or is_keyed or body):
            method = f"pub async fn {snake(name)}(&self, {', '.join(arguments)}) -> Result<{result}> {{ {call}.send().await }}"
            return f"{about}\n///\n/// # Errors\n/// Those of the gateway, and the client's own: see [`ErrorKind`](crate::ErrorKind).\n{method}", ""
        members = self.body_members(body) if body else []
        struct = pascal(name)
        required = [(member, of) for member, of, needed in members if needed]
        arguments += [f"{member}: {self.method_argument(of)}" for member, of in required]
        values = [f"{member}: {self.method_value(member, of)}" for member, of in required]
        values += [f"{member}: None" for member, _, needed in members if not needed]
        method = f"pub fn {snake(name)}(&self, {', '.join(arguments)}) -> {struct} {{ {struct} {{ {', '.join([f'call: {call}', *values])} }} }}"
        lines = [f"/// What [`Client::{snake(name)}`](crate::Client::{snake(name)}) sends{'' if query else ' when it is awaited'}."]
        lines += ["#[derive(Debug, Clone)]", '#[must_use = "a request is sent when it is awaited"]', f"pub struct {struct} {{", "call: Call,"]
        lines += [f"{member}: {self.type(of, needed)}," for member, of, needed in members]
        lines += ["}", "", f"impl {struct} {{"]
        for member, of, needed in members:
            if not needed:
                lines += [line for line in self.setter(member, of) if line != "#[must_use]"] + [""]
        for one in query:
            lines += self.query_setter(one)
        if is_keyed:
            lines += ["/// The client makes a key for each call. Give one to repeat a call that another process began."]
            lines += ["pub fn idempotency_key(mut self, key: impl Into<String>) -> Self { self.call.idempotency_key(key.into()); self }", ""]
        if query:
            lines += [f"/// The items of all pages.\npub fn items(self) -> Items<{items}> {{ pages(self.call) }}", "}"]
            return f"{about}\n{method}", "\n".join([*lines, ""])
        lines += ["}", ""] if lines[-1] != f"impl {struct} {{" else []
        if lines[-1] == f"impl {struct} {{":
            lines.pop()
        send = "let body = self.to_body(); self.call.with_body(body).pending()" if body else "self.call.pending()"
        lines += [f"impl IntoFuture for {struct} {{ type Output = Result<{result}>; type IntoFuture = Pending<{result}>;"]
        lines += [f"fn into_future(self) -> Pending<{result}> {{ {send} }} }}", ""]
        lines += self.encode_request(struct, members) if body else []
        return f"{about}\n{method}", "\n".join([*lines, ""])

    def parameter(self, one):
        return self.document["components"]["parameters"][one["$ref"].rsplit("/", 1)[1]] if "$ref" in one else one

    def query_setter(self, one):
        kind = self.type(one["schema"])
        argument = "impl Into<String>" if kind == "String" else kind
        value = {"String": one["name"], "u32": f"{one['name']}.to_string()"}.get(kind, f"{one['name']}.as_str()")
        name = one["name"]
        return [self.doc(one["description"]), f'pub fn {name}(mut self, {name}: {argument}) -> Self {{ self.call.query("{name}", {value}); self }}', ""]

    def result(self, operation):
        """The type of the result, and that of an item, if it is a list or a batch."""
        response = next(of for status, of in operation["responses"].items() if status.startswith("2"))
        content = response.get("content", {})
        if not content:
            return "()", None
        if "text/plain" in content:
            return "String", None
        schema = content["application/json"]["schema"]
        items = self.schemas[schema["$ref"].rsplit("/", 1)[1]]["properties"].get("items") if "$ref" in schema else None
        return self.type(schema), items and items["items"]["$ref"].rsplit("/", 1)[1]

    def batch(self, operation):
        """The member `items` of a batch's body."""
        schema = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
        return self.schemas.get(schema.get("$ref", "").rsplit("/", 1)[-1], {}).get("properties", {}).get("items")

    def body_members(self, body):
        schema = body["$ref"].rsplit("/", 1)[1]
        if "discriminator" not in self.schemas[schema]:
            return self.members_of(schema)
        # A connection: its settings say of which provider they are.
        one = self.schemas[schema]["oneOf"][0]["$ref"].rsplit("/", 1)[1]
        settings = {"type": "ConnectionSettings", "description": "The settings of its provider."}
        return [(member, settings if member == "settings" else of, needed) for member, of, needed in self.members_of(one) if member != "provider"]

    def method_argument(self, of):
        kind = self.type(of)
        return "&str" if kind == "String" else self.argument(of)

    def method_value(self, member, of):
        return f"{member}.to_owned()" if self.type(of) == "String" else self.value(member, of)

    def encode_request(self, struct, members):
        lines = self.encode(struct, members)
        provider = 'object.member("provider", &self.settings.provider());object.member("settings", &self.settings);'
        return [line.replace('object.member("settings", &self.settings);', provider) if struct == "CreateConnection" else line for line in lines]

    def endpoints(self):
        return "\n".join(self.endpoint(*operation) for operation in self.operations)

    def endpoint(self, method, path, operation):
        repeat = {"always": "Always", "key": "ByKey", "never": "Never"}[operation["x-idempotency"]]
        responses = {status: of for status, of in operation["responses"].items() if status != "default"}
        also = [status for status, of in responses.items() if status >= "400" and "application/json" in of.get("content", {})]
        items = self.batch(operation)
        limits = f"Some(({items['maxItems']}, {operation['x-limits']['body_bytes']}))" if items else "None"
        # `/metrics` asks for a credential on one of the two listeners that may serve it.
        credential = "false" if operation.get("security") == [] else "true"
        return (
            f"pub(crate) static {snake(operation['operationId']).upper()}: Endpoint = Endpoint {{ id: \"{operation['operationId']}\", "
            f"method: Method::{method}, path: \"{path}\", repeat: Repeat::{repeat}, credential: {credential}, "
            f"also_success: {f'Some({also[0]})' if also else 'None'}, limits: {limits} }};\n"
        )

    def settings(self, modules):
        """The settings of each provider, and the enumeration of them all."""
        providers = self.schemas["CreateConnection"]["discriminator"]["mapping"]
        lines = ["//! The settings of connections. Generated by clients/rust/generate.py from openapi/claviger.json.", ""]
        lines += [f"mod {module};" for module in sorted(modules)]
        lines += ["", "use crate::encode::{Encode, Object, Writer};", "use crate::generated::models::ProviderName;", "use crate::values::SecretJson;", ""]
        lines += self.exports({module: self.names(f"settings/{module}") for module in sorted(modules)})
        lines += ["", "/// The settings of a connection to one kind of provider.", self.large, "#[derive(Debug, Clone, PartialEq)]", "#[non_exhaustive]", "pub enum ConnectionSettings {"]
        lines += [f"/// To `{provider}`.\n{pascal(provider)}({pascal(provider)}Settings)," for provider in providers]
        lines += ["/// To a provider that this release of the client has no type for.", "Other {", "/// The provider.", "provider: ProviderName,"]
        lines += ["/// Its settings, a JSON object.", "settings: SecretJson,", "},", "}", "", "impl ConnectionSettings {", "/// The provider."]
        lines += ["pub fn provider(&self) -> ProviderName { match self {"]
        lines += [f"Self::{pascal(provider)}(_) => ProviderName::{pascal(provider)}," for provider in providers]
        lines += ["Self::Other { provider, .. } => provider.clone(), } }", "}", "", "impl Encode for ConnectionSettings { fn encode(&self, to: &mut Writer) { match self {"]
        lines += [f"Self::{pascal(provider)}(settings) => settings.encode(to)," for provider in providers]
        lines += ["Self::Other { settings, .. } => settings.encode(to), } } }", ""]
        for provider in providers:
            kind = f"{pascal(provider)}Settings"
            lines += [f"impl From<{kind}> for ConnectionSettings {{ fn from(settings: {kind}) -> Self {{ Self::{pascal(provider)}(settings) }} }}", ""]
        return "\n".join(lines).replace("{Encode, Object, Writer}", "{Encode, Writer}")
