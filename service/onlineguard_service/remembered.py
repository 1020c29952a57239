"""Answers that are remembered by id, so that a request that is sent again is answered as before and not learned."""

from collections import OrderedDict
from collections.abc import Sequence
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

    def unanswered(self, ids: Sequence[str | None]) -> tuple[list[int], list[Answer | None]]:
        """Which items of a request have to be answered, the first of each id; and the answers there are already."""
        answers = [self.get(id_) for id_ in ids]
        places: list[int] = []
        seen: set[str] = set()
        for i, (id_, answer) in enumerate(zip(ids, answers, strict=True)):
            if answer is None and (id_ is None or id_ not in seen):
                places.append(i)
                if id_ is not None:
                    seen.add(id_)
        return places, answers

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


def completed[Answer](answers: list[Answer | None], ids: Sequence[str | None]) -> list[Answer]:
    """All answers of a request: those that repeat an id within it get its first one's."""
    first: dict[str, Answer] = {}
    whole: list[Answer] = []
    for id_, answer in zip(ids, answers, strict=True):
        if answer is None and id_ is not None:
            answer = first[id_]
        assert answer is not None
        if id_ is not None:
            first.setdefault(id_, answer)
        whole.append(answer)
    return whole
