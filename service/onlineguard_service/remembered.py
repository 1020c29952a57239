"""Answers that are remembered by id, so that a request that is sent again is answered as before and not learned."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

_pack = msgspec.msgpack.Encoder().encode


class Remembered[Answer]:
    """The last answers by id, at most `most`; the oldest is forgotten first. `kind` is their type."""

    def __init__(self, most: int, kind: type[Answer]):
        self._most, self._kind = most, kind
        self._answers: OrderedDict[str, Answer] = OrderedDict()

    def get(self, id_: str | None) -> Answer | None:
        return None if id_ is None else self._answers.get(id_)

    def put(self, id_: str, answer: Answer) -> None:
        self._answers[id_] = answer
        if len(self._answers) > self._most:
            self._answers.popitem(last=False)

    def answered(self, ids: Sequence[str | None], work: Callable[[list[int]], Sequence[Answer]]) -> list[Answer]:
        """One answer to each item of a request: the one that is remembered under its id, or else a new one.

        work: gives an answer to each of the items in the places it is told. They are the first ones of an id that is
            not remembered, and those without an id. An item that repeats an id gets the answer of the first.
        """
        answers = [self.get(id_) for id_ in ids]
        places: list[int] = []
        first: dict[str, int] = {}
        for i, (id_, answer) in enumerate(zip(ids, answers, strict=True)):
            if answer is None and (id_ is None or id_ not in first):
                places.append(i)
                if id_ is not None:
                    first[id_] = i
        if places:
            for i, answer in zip(places, work(places), strict=True):
                answers[i], id_ = answer, ids[i]
                if id_ is not None:
                    self.put(id_, answer)
        whole: list[Answer] = []
        for id_, answer in zip(ids, answers, strict=True):
            if answer is None and id_ is not None:
                answer = answers[first[id_]]
            assert answer is not None  # `work` gave one
            whole.append(answer)
        return whole

    def dump(self) -> list[Any]:
        """Ids, and the answers as MessagePack."""
        return [list(self._answers), _pack(list(self._answers.values()))]

    def restore(self, dump: list[Any]) -> None:
        """Become what was dumped; snapshots of earlier versions hold a list of answers as JSON."""
        ids, packed = dump
        if isinstance(packed, list):
            decoder = msgspec.json.Decoder(self._kind)
            answers = [decoder.decode(answer) for answer in packed]
        else:
            answers = msgspec.msgpack.decode(packed, type=list[self._kind])  # type: ignore[name-defined]
        self._answers = OrderedDict(zip(ids, answers, strict=True))
