"""What an application does with Claviger, by the client that openapi-generator makes for Python."""

import base64
import os
import pathlib
import time
import uuid

from claviger_api import AccessApi, ApiClient, ApiException, BatchApi, Configuration, DataKeysApi, KeysApi
from claviger_api.models import (
    BatchUnwrapRequest,
    CreateKey,
    GenerateDataKeyRequest,
    Problem,
    SetKeyState,
    UnwrapItem,
    UnwrapRequest,
)


def connect(address):
    # urllib3 would repeat a GET at any 503 with Retry-After, whatever `retryable` says.
    configuration = Configuration(host=address, access_token=pathlib.Path(os.environ["CLAVIGER_TOKEN_FILE"]).read_text().strip(), retries=False)
    return ApiClient(configuration, header_name="Claviger-Tenant", header_value=os.environ["CLAVIGER_TENANT"])


def retrying(call, attempts=4):
    """Repeats a call as long as the gateway says that the same request may succeed later."""
    for attempt in range(1, attempts + 1):
        try:
            return call()
        except ApiException as error:
            if attempt == attempts or not (isinstance(error.data, Problem) and error.data.retryable):
                raise
            time.sleep(int((error.headers or {}).get("Retry-After", 1)))


def code_of(call):
    """The code of the problem that a call ends in; None if it succeeds."""
    try:
        call()
    except ApiException as error:
        # A proxy between may answer something else.
        return error.data.code if isinstance(error.data, Problem) else f"HTTP {error.status}"
    return None


def done(step, holds):
    assert holds, step
    print("ok", step, flush=True)


with connect(os.environ["CLAVIGER_ADDRESS"]) as client:
    keys, data_keys, batch = KeysApi(client), DataKeysApi(client), BatchApi(client)
    done("connect", AccessApi(client).who_am_i().operator)

    # A creation may be repeated safely with an idempotency key, which is sent from the first attempt on.
    idempotency_key = str(uuid.uuid4())
    key = retrying(lambda: keys.create_key(CreateKey(name="invoices", connection="embedded"), idempotency_key=idempotency_key))
    done("key", key.state == "enabled")

    context = {"table": "invoices"}
    made = retrying(lambda: data_keys.generate_data_key("invoices", GenerateDataKeyRequest(context=context)))
    done("data-key", len(base64.b64decode(made.plaintext)) == 32)

    opened = retrying(lambda: data_keys.unwrap(UnwrapRequest(wrapped=made.wrapped, context=context)))
    done("unwrap", opened.plaintext == made.plaintext)

    other = UnwrapRequest(wrapped=made.wrapped, context={"table": "orders"})
    done("context", code_of(lambda: data_keys.unwrap(other)) == "ciphertext_rejected")

    items = [UnwrapItem(wrapped=made.wrapped, context=context), UnwrapItem(wrapped=made.wrapped)]
    good, bad = batch.batch_unwrap(BatchUnwrapRequest(items=items)).items
    assert good.error is None and bad.error is not None
    done("batch", good.plaintext == made.plaintext and bad.error.code == "ciphertext_rejected")

    names = []
    page = keys.list_keys(page_size=2)
    names += [key.name for key in page.items]
    while page.next_page_token is not None:
        page = keys.list_keys(page_size=2, page_token=page.next_page_token)
        names += [key.name for key in page.items]
    done("paging", names == ["first", "fourth", "invoices", "second", "third"])

    done("rotate", keys.rotate_key("invoices").primary_version == 2)

    keys.disable_key("invoices")
    done("disable", code_of(lambda: data_keys.unwrap(UnwrapRequest(wrapped=made.wrapped, context=context))) == "key_disabled")

    # Without a body above, with an empty one here.
    enabled = keys.enable_key("invoices", set_key_state=SetKeyState())
    disabled = keys.disable_key("invoices", set_key_state=SetKeyState())
    done("no-body", (enabled.state, disabled.state) == ("enabled", "disabled"))

# A gateway that is busy, and one of a later release, whose answers have members, codes and words that this client does not know.
with connect(os.environ["CLAVIGER_STUB_ADDRESS"]) as client:
    keys, data_keys, batch = KeysApi(client), DataKeysApi(client), BatchApi(client)
    done("retry", retrying(lambda: data_keys.unwrap(UnwrapRequest(wrapped="clv1.busy"))).version == 1)

    assert keys.get_key("later").name == "later"
    good, bad = batch.batch_unwrap(BatchUnwrapRequest(items=items)).items
    assert good.error is None and bad.error is not None
    assert bad.error.code == "refused_by_a_later_release"
    done("unknown", code_of(lambda: retrying(lambda: keys.get_key("refused"))) == "refused_by_a_later_release")
    done("word", keys.get_key("quarantined").state == "quarantined")
