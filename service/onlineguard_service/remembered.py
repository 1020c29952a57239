"""Answers that are remembered by id, so that a request that is sent again is answered as before and not learned.

Beside each answer stands a mark of what was sent. The same id with other content is a mistake of the sender, which is
told of it: its second event would otherwise be answered as the first one, and never be learned.
"""

from collections import OrderedDict
from collections.abc import Callable, Collection, Sequence
from typing import Any
from zlib import crc32

import msgspec

from onlineguard_service.errors import IdTaken

_pack = msgspec.msgpack.Encoder().encode
_in_order = msgspec.msgpack.Encoder(order="deterministic").encode  # features by name may come in another order
UNMARKED = -1  # of an answer that an earlier version remembered
LONG = 256  # characters of an id that is remembered, on average: as many as an id may have; with its slice it has more
_NOBODY = 0  # whose an answer is that is nobody's


def mark(item: msgspec.Struct) -> int:
    """32 bits of what was sent."""
    return crc32(_in_order(item))


def owner(user_id: str | None) -> int:
    """32 bits of whose an answer is."""
    return _NOBODY if user_id is None else crc32(user_id.encode("utf-8", "surrogatepass"))


class Remembered[Answer]:
    """The last answers by id, at most `most`, and of long ids fewer; the oldest is forgotten first.

    kind: their type; user: whose an item is, or None.
    """

    def __init__(self, most: int, kind: type[Answer], user: Callable[[Any], str | None] | None = None):
        self._most, self._kind, self._user = most, kind, user
        self._answers: OrderedDict[str, tuple[Answer, int, int]] = OrderedDict()  # with its mark and its owner
        self._characters = 0  # of all ids
        self.repeated = self.conflicts = 0  # items answered as before, and those with other content

    def get(self, id_: str | None) -> Answer | None:
        found = None if id_ is None else self._answers.get(id_)
        return None if found is None else found[0]

    def put(self, id_: str, answer: Answer, marked: int = UNMARKED, owned: int = _NOBODY) -> None:
        if id_ not in self._answers:
            self._characters += len(id_)
        self._answers[id_] = answer, marked, owned
        self.keep(self._most)

    def clear(self) -> None:
        """Forget all."""
        self._answers.clear()
        self._characters = 0

    def change(self, id_: str, answer: Answer) -> None:
        """Give another answer from now on to what was sent under an id that is remembered."""
        self._answers[id_] = (answer, *self._answers[id_][1:])

    def keep(self, most: int) -> None:
        """Remember so many from now on."""
        self._most = most
        while len(self._answers) > most or self._characters > LONG * most:
            self._characters -= len(self._answers.popitem(last=False)[0])

    def of(self, user_id: str) -> list[str]:
        """The ids whose answers are a user's, or may be since an earlier version remembered them."""
        theirs = owner(user_id)
        return [id_ for id_, (_, _, owned) in self._answers.items() if owned == theirs or owned == UNMARKED]

    def forget(self, ids: Collection[str]) -> None:
        """Forget these, where they are remembered."""
        for id_ in ids:
            if self._answers.pop(id_, None) is not None:
                self._characters -= len(id_)

    def check(
        self, items: Sequence[Any], ids: Sequence[str | None], first: int = 0, here: dict[str, int] | None = None
    ) -> list[int]:
        """The mark of each item that has an id. Raises IdTaken, with its place, if that came with other content.

        first, here: of a part of a request, the place of its first item, and the marks of the ids before, which grow.
        """
        here = {} if here is None else here
        marks = [UNMARKED if id_ is None else mark(item) for item, id_ in zip(items, ids, strict=True)]
        for i, (now, id_) in enumerate(zip(marks, ids, strict=True), first):
            if id_ is not None:
                _, before, _ = self._answers.get(id_, (None, UNMARKED, _NOBODY))
                if before not in (UNMARKED, now) or here.setdefault(id_, now) != now:
                    self.conflicts += 1
                    raise IdTaken(i)
        return marks

    def answered(
        self, items: Sequence[Any], ids: Sequence[str | None], work: Callable[[list[int]], Sequence[Answer]]
    ) -> list[Answer]:
        """One answer to each item of a request: the one that is remembered under its id, or else a new one.

        work: gives an answer to each of the items in the places it is told. They are the first ones of an id that is
            not remembered, and those without an id. An item that repeats an id gets the answer of the first.

        Raises IdTaken, before any work, as `check` does.
        """
        marks = self.check(items, ids)
        answers = [self.get(id_) for id_ in ids]
        places: list[int] = []
        first: dict[str, int] = {}
        for i, (id_, answer) in enumerate(zip(ids, answers, strict=True)):
            if answer is None and (id_ is None or id_ not in first):
                places.append(i)
                if id_ is not None:
                    first[id_] = i
        self.repeated += len(items) - len(places)
        if places:
            for i, answer in zip(places, work(places), strict=True):
                answers[i], id_ = answer, ids[i]
                if id_ is not None:
                    self.put(id_, answer, marks[i], _NOBODY if self._user is None else owner(self._user(items[i])))
        whole: list[Answer] = []
        for id_, answer in zip(ids, answers, strict=True):
            if answer is None and id_ is not None:
                answer = answers[first[id_]]
            assert answer is not None  # `work` gave one
            whole.append(answer)
        return whole

    def dump(self) -> list[Any]:
        """Ids, the answers as MessagePack, the marks, and the owners."""
        answers, *numbers = [list(column) for column in zip(*self._answers.values(), strict=True)] or [[], [], []]
        return [list(self._answers), _pack(answers), *numbers]

    def restore(self, dump: list[Any]) -> None:
        """Become what was dumped; snapshots of earlier versions hold answers as JSON, no marks, or no owners."""
        ids, packed, *numbers = dump
        if isinstance(packed, list):
            decoder = msgspec.json.Decoder(self._kind)
            answers = [decoder.decode(answer) for answer in packed]
        else:
            answers = msgspec.msgpack.decode(packed, type=list[self._kind])  # type: ignore[name-defined]
        marks, owners = [*numbers, *[[UNMARKED] * len(ids)] * (2 - len(numbers))]
        self._answers = OrderedDict(zip(ids, zip(answers, marks, owners, strict=True), strict=True))
        self._characters = sum(map(len, ids))
