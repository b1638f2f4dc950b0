"""The base of the API's words, such as the state of a key."""

from __future__ import annotations

from typing import ClassVar


class Word(str):
    """A word of a list that later gateways extend.

    It is an ordinary string. The class has a constant for each word that this release knows; a word that it
    does not know is taken as it is, and `known` is false. Treat such a state as unusable.
    """

    __slots__ = ()

    words: ClassVar[frozenset[str]] = frozenset()
    """All words that this release knows."""

    def __init_subclass__(cls) -> None:
        cls.words = frozenset(value for name, value in vars(cls).items() if name.isupper())

    @property
    def known(self) -> bool:
        """Whether this release of the client knows the word."""
        return str(self) in self.words
