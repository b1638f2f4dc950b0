"""What an application does with Claviger, by the client that openapi-python-client makes."""

import base64
import os
import pathlib
import time
import uuid

import httpx
from claviger_api import AuthenticatedClient
from claviger_api.api.access import who_am_i
from claviger_api.api.batch import batch_unwrap
from claviger_api.api.data_keys import generate_data_key, unwrap
from claviger_api.api.keys import create_key, disable_key, enable_key, get_key, list_keys, rotate_key
from claviger_api.models import (
    BatchUnwrapRequest,
    ContextPairs,
    CreateKey,
    GenerateDataKeyRequest,
    Problem,
    SetKeyState,
    UnwrapItem,
    UnwrapRequest,
)
from claviger_api.types import Unset


class Refused(Exception):
    """The gateway refused a request."""

    def __init__(self, problem):
        super().__init__(f"{problem.code}: {problem.detail}")
        self.problem = problem


def connect(address):
    token = pathlib.Path(os.environ["CLAVIGER_TOKEN_FILE"]).read_text().strip()
    headers = {"Claviger-Tenant": os.environ["CLAVIGER_TENANT"]}
    # Without a timeout the client would wait forever.
    return AuthenticatedClient(base_url=address, token=token, headers=headers, timeout=httpx.Timeout(30))


def send(operation, *arguments, attempts=4, **members):
    """The answer of an operation; repeated as long as the gateway says that the same request may succeed later."""
    for attempt in range(1, attempts + 1):
        response = operation.sync_detailed(*arguments, **members)
        if not isinstance(response.parsed, Problem):
            return response.parsed
        if attempt == attempts or not response.parsed.retryable:
            raise Refused(response.parsed)
        time.sleep(int(response.headers.get("Retry-After", 1)))


def code_of(call):
    """The code of the problem that a call ends in; None if it succeeds."""
    try:
        call()
    except Refused as error:
        return error.problem.code
    return None


def done(step, holds):
    assert holds, step
    print("ok", step, flush=True)


def pairs(**members):
    return ContextPairs.from_dict(members)


with connect(os.environ["CLAVIGER_ADDRESS"]) as client:
    done("connect", send(who_am_i, client=client).operator)

    # A creation may be repeated safely with an idempotency key, which is sent from the first attempt on.
    key = send(create_key, client=client, body=CreateKey(name="invoices", connection="embedded"), idempotency_key=str(uuid.uuid4()))
    done("key", key.state == "enabled")

    context = pairs(table="invoices")
    made = send(generate_data_key, "invoices", client=client, body=GenerateDataKeyRequest(context=context))
    done("data-key", len(base64.b64decode(made.plaintext)) == 32)

    opened = send(unwrap, client=client, body=UnwrapRequest(wrapped=made.wrapped, context=context))
    done("unwrap", opened.plaintext == made.plaintext)

    other = UnwrapRequest(wrapped=made.wrapped, context=pairs(table="orders"))
    done("context", code_of(lambda: send(unwrap, client=client, body=other)) == "ciphertext_rejected")

    items = [UnwrapItem(wrapped=made.wrapped, context=context), UnwrapItem(wrapped=made.wrapped)]
    good, bad = send(batch_unwrap, client=client, body=BatchUnwrapRequest(items=items)).items
    assert isinstance(good.error, Unset) and not isinstance(bad.error, Unset)
    done("batch", good.plaintext == made.plaintext and bad.error.code == "ciphertext_rejected")

    page = send(list_keys, client=client, page_size=2)
    names = [key.name for key in page.items]
    while not isinstance(page.next_page_token, Unset):
        page = send(list_keys, client=client, page_size=2, page_token=page.next_page_token)
        names += [key.name for key in page.items]
    done("paging", names == ["first", "fourth", "invoices", "second", "third"])

    done("rotate", send(rotate_key, "invoices", client=client).primary_version == 2)

    send(disable_key, "invoices", client=client)
    done("disable", code_of(lambda: send(unwrap, client=client, body=UnwrapRequest(wrapped=made.wrapped, context=context))) == "key_disabled")

    # Without a body above, with an empty one here.
    enabled = send(enable_key, "invoices", client=client, body=SetKeyState())
    disabled = send(disable_key, "invoices", client=client, body=SetKeyState())
    done("no-body", (enabled.state, disabled.state) == ("enabled", "disabled"))

# A gateway that is busy, and one of a later release, whose answers have members, codes and words that this client does not know.
with connect(os.environ["CLAVIGER_STUB_ADDRESS"]) as client:
    done("retry", send(unwrap, client=client, body=UnwrapRequest(wrapped="clv1.busy")).version == 1)

    assert send(get_key, "later", client=client).name == "later"
    good, bad = send(batch_unwrap, client=client, body=BatchUnwrapRequest(items=items)).items
    assert isinstance(good.error, Unset) and not isinstance(bad.error, Unset)
    assert bad.error.code == "refused_by_a_later_release"
    done("unknown", code_of(lambda: send(get_key, "refused", client=client)) == "refused_by_a_later_release")
    done("word", send(get_key, "quarantined", client=client).state == "quarantined")
