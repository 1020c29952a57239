"""What both routers do without any connection: divide items among owners, and put their answers back in order."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from onlineguard.client.conversations import One, rows_of
from onlineguard.errors import InvalidArgument, PartlyAnswered, ServiceError
from onlineguard.wire.placement import key_of, key_of_slice, key_of_user, partition_of
from onlineguard.wire.requests import SliceKey

type Outcome = list[Any] | ServiceError | InvalidArgument  # of an owner: its answers, or why there are none


class Owners:
    """The URL of the service that owns each partition. A service that owns several stands there several times."""

    def __init__(self, urls: Sequence[str]):
        if isinstance(urls, str) or not urls:
            raise InvalidArgument(
                "urls",
                f"is {urls!r}; it must be a list, with the URL of the owner of each partition",
            )
        self._urls = [url.rstrip("/") for url in urls]

    @property
    def services(self) -> list[str]:
        """The URL of every service, once."""
        return list(dict.fromkeys(self._urls))

    def of_slice(self, key: SliceKey) -> str:
        """The URL of the owner of a slice."""
        return self._of(key_of_slice(key))

    def of_user(self, user_id: str) -> str:
        """The URL of the owner of a user."""
        return self._of(key_of_user(user_id))

    def of(self, item: Any, name: str) -> str:
        """The URL of the owner of an event or a click. Raises InvalidArgument, by its `name`, if it is neither."""
        if not isinstance(item, Mapping | msgspec.Struct):
            raise InvalidArgument(name, f"is of type {type(item).__name__}; it must be a dict, or a struct")
        try:
            return self._of(key_of(item))
        except KeyError as error:
            raise InvalidArgument(name, f"has no {error}, by which its owner is found") from error

    def _of(self, key: bytes) -> str:
        return self._urls[partition_of(key, len(self._urls))]


class Division:
    """One item or many, divided among their owners, each owner's in the order in which they were given."""

    def __init__(self, owners: Owners, objects: Any, name: str):
        if hasattr(objects, "to_batches"):
            raise InvalidArgument(name, "is a table of Arrow, which no router divides; give polars.from_arrow(it)")
        self._single, rows = rows_of(objects, name)
        self.parts: dict[str, list[One]] = {}  # by URL
        self._places: dict[str, list[int]] = {}
        for number, row in enumerate(rows):
            url = owners.of(row, f"{name}[{number}]")
            self.parts.setdefault(url, []).append(row)
            self._places.setdefault(url, []).append(number)

    def together(self, outcomes: Mapping[str, Outcome]) -> Any:
        """The answer, or the answers in the order of the items.

        Raises PartlyAnswered if an owner did not answer all of its items, InvalidArgument for one that cannot be sent.
        """
        answers: list[Any] = [None] * sum(map(len, self._places.values()))
        failures: dict[str, ServiceError] = {}
        for url, outcome in outcomes.items():
            if isinstance(outcome, InvalidArgument):
                raise self._as_given(outcome, url)
            if isinstance(outcome, ServiceError):
                failures[url] = outcome
            found = outcome.answers if isinstance(outcome, ServiceError) else outcome
            for place, answer in zip(self._places[url], found, strict=False):  # of an error, those that came before it
                answers[place] = answer
        if failures:
            raise PartlyAnswered(answers, failures)
        return answers[0] if self._single else answers

    def _as_given(self, error: InvalidArgument, url: str) -> InvalidArgument:
        """An error about an item of an owner's part, with the item's place among all."""
        if not (found := re.fullmatch(r"(\w+)\[(\d+)\](.*)", error.argument or "")):
            return error
        name, number, rest = found.groups()
        return InvalidArgument(f"{name}[{self._places[url][int(number)]}]{rest}", error.problem)
