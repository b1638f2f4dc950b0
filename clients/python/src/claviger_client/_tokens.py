"""Where the token comes from. Nothing is kept: a token that is replaced is used from the next request on."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from typing import Protocol

from .errors import TokenError
from .secrets import SecretStr

# Longer than any JWT that a gateway takes.
_MAX = 16 << 10
# `clv_`, 12 characters, `_`, 43 characters of secret and 6 of checksum.
_API_TOKEN = 66

Provided = str | SecretStr
TokenFunction = Callable[[], Provided | Awaitable[Provided]]


class TokenSource(Protocol):
    """Returns the token of now. Calling it again can help if `changes`."""

    changes: bool

    def __call__(self) -> Provided | Awaitable[Provided]: ...


class FixedToken:
    """A token as text."""

    changes = False

    def __init__(self, token: Provided) -> None:
        self._token = parse(token)

    def __call__(self) -> SecretStr:
        return self._token


class TokenFile:
    """A file with an API token or a JWT, read for every request.

    Reading costs a few microseconds. Comparing the time of the last change instead would miss a
    second change within the clock's resolution.
    """

    changes = True

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = os.fspath(path)

    def __call__(self) -> SecretStr:
        reason = "it is empty or not whole"
        try:
            with open(self._path, "rb") as file:
                content = file.read(_MAX + 1)
            return parse(content.decode("ascii"))
        except OSError as error:
            reason = error.strerror or type(error).__name__
        except (UnicodeDecodeError, TokenError):
            pass
        # Outside of `except`, so that no traceback has the content among its variables.
        content = b""
        raise TokenError(
            f"The token file {self._path} cannot be used: {reason}.",
            code="token_unusable",
            title="Token unusable",
            what_to_do="Write the token to the file, as one line, and let this user read it. To replace it, write another file and rename it.",
            # It may be about to be replaced.
            retryable=True,
        )


class TokenCall:
    """A function of the caller's."""

    changes = True

    def __init__(self, function: TokenFunction) -> None:
        self._function = function

    def __call__(self) -> Provided | Awaitable[Provided]:
        return self._function()


def parse(token: Provided) -> SecretStr:
    """Check the form of a token; white space around it does not count.

    An API token has one length, so a file that is half written does not pass for one.
    """
    text = (token.expose() if isinstance(token, SecretStr) else token).strip()
    form = 0 < len(text) <= _MAX and all("!" <= character <= "~" for character in text)
    if form and (not text.startswith("clv_") or len(text) == _API_TOKEN):
        return SecretStr(text)
    token = text = ""
    raise TokenError(
        "This is not a token.",
        code="token_unusable",
        title="Token unusable",
        what_to_do="Give a whole API token (clv_...) or a JWT: one line of printable ASCII, at most 16 KiB.",
    )


def source(token: Provided | TokenFunction | None, token_file: str | os.PathLike[str] | None) -> TokenSource:
    """Make the source from a client's arguments."""
    if (token is None) == (token_file is None):
        raise ValueError("give one of token and token_file")
    if token_file is not None:
        return TokenFile(token_file)
    if isinstance(token, (str, SecretStr)):
        return FixedToken(token)
    if not callable(token):
        raise TypeError("token is text, a SecretStr or a function that returns one")
    return TokenCall(token)
