"""An index of the names of slices, in which a text is found without looking at every slice.

The names stand one after the other in one block of bytes, in lower case and in the order of the names. To make it of
100,000 takes a fifth of a second, in parts: as long as seven searches without it. It is made anew when more than a
sixteenth of the slices have been born since; those are looked at one by one meanwhile. Slices that have gone are told
by their numbers, which no other slice ever gets.
"""

import asyncio
import heapq
import itertools
from collections import OrderedDict
from collections.abc import Iterator
from weakref import WeakKeyDictionary

import numpy as np
from jaxtyping import Int

from onlineguard_service.figures import Figures, shown_key
from onlineguard_service.patience import give_way

AT_ONCE = 500  # names that are looked at, sorted or joined before others get their turn; tenths of a millisecond
SEARCHED_AT_ONCE = 4_096  # names of the block that are searched before; a millisecond where the text is in all of them
BYTES_AT_ONCE = 262_144  # of them, at most
FEW = 1_000  # slices that are looked at one by one, which takes a millisecond or two
SHARE = 16  # one new slice in so many, and the index is made anew
MOST_BYTES = 1 << 25  # of a block; of longer names there is no index
REMEMBERED = 8  # texts whose slices are remembered; up to 0.8 MB each of 100,000 slices
END = b"\xff"  # of a name, which is no byte of UTF-8

type _Read = tuple[str, int, int]  # a name with the number and the place of its slice


class NameIndex:
    """Slices whose number is below `upto`, in the order of their names and, where these are the same, of birth.

    numbers: those of the slices; `places`: in the figures; `block`: their names; `ends`: where these end in it.
    births: what puts them in order of birth.
    """

    def __init__(
        self, upto: int, numbers: np.ndarray, places: np.ndarray, block: bytes, ends: np.ndarray, births: np.ndarray
    ):
        self.upto, self.numbers, self.places = upto, numbers, places
        self._block, self._ends = block, ends
        self._by_birth = self.places[births]
        self._births = np.empty_like(births)  # by name: its place among births
        self._births[births] = np.arange(len(births))
        self._remembered: OrderedDict[str, Int[np.ndarray, " n"]] = OrderedDict()

    async def containing(self, text: str) -> Int[np.ndarray, " n"]:
        """Where the names that contain the text, in upper or lower case, stand in here; of slices that have gone too.

        With turns for others; of the texts that were asked for last the answer is remembered.
        """
        found = self._remembered.get(text)
        if found is None:
            found = await self._searched(_lowered(text))
            self._remembered[text] = found
            if len(self._remembered) > REMEMBERED:
                self._remembered.popitem(last=False)
        else:
            self._remembered.move_to_end(text)
        return found

    def held(self, figures: Figures, found: Int[np.ndarray, " n"]) -> Int[np.ndarray, " m"]:
        """Those of them whose slice has not gone."""
        return found[figures.holds(self.places[found], self.numbers[found])]

    def oldest_first(self, found: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
        """The places in the figures of what was found, in order of birth."""
        among = np.zeros(len(self._by_birth), bool)
        among[self._births[found]] = True
        return self._by_birth[among]

    async def _searched(self, text: bytes) -> Int[np.ndarray, " n"]:
        ends = self._ends
        if not text:
            return np.arange(len(ends))
        hits: list[np.ndarray] = [np.empty(0, np.int64)]
        first = begin = 0
        while first < len(ends):
            within = int(np.searchsorted(ends, begin + BYTES_AT_ONCE))
            first = min(max(within, first + 1), first + SEARCHED_AT_ONCE)
            end = int(ends[min(first, len(ends)) - 1])
            hits.append(np.searchsorted(ends, list(_found(self._block, text, begin, end)), side="right"))
            begin = end
            await give_way()
        return np.concatenate(hits)


class _Kept:
    """The index of one stream's slices, and when it was made."""

    def __init__(self) -> None:
        self.index = _empty()
        self.tried = 0  # slices that had been born when it was made, or was found to be too large
        self.making = False


_kept: WeakKeyDictionary[Figures, _Kept] = WeakKeyDictionary()


async def index_of(figures: Figures) -> NameIndex:
    """The index of a stream's slices; made anew, with turns for others, if it lacks too many of them.

    Who asks while somebody else has it made is given the one before.
    """
    kept = _kept.setdefault(figures, _Kept())
    born = figures.tables()["born"]
    if not kept.making and born - kept.tried > max(FEW, len(figures) // SHARE):
        kept.making, kept.tried = True, born
        try:
            kept.index = await _made(figures, born)
        finally:
            kept.making = False
    return kept.index


async def _made(figures: Figures, born: int) -> NameIndex:
    places = figures.born_since(0)
    numbers = figures.numbers(places)
    runs: list[list[_Read]] = []
    for start in range(0, len(places), AT_ONCE):
        part = slice(start, start + AT_ONCE)
        of_part = zip(numbers[part].tolist(), places[part].tolist(), strict=True)
        # in a place that has been given to another slice meanwhile the name is wrong, and so is the number, by then
        runs.append(sorted((shown_key(figures.name(place)), number, place) for number, place in of_part))
        await give_way()
    merged, blocks, size = heapq.merge(*runs), list[bytes](), 0
    in_order: list[np.ndarray] = [np.empty((3, 0), np.int64)]  # numbers, places and ends
    while (part := list(itertools.islice(merged, AT_ONCE))) and size <= MOST_BYTES:
        names = [_lowered(name) + END for name, *_ in part]
        ends = size + np.cumsum([len(name) for name in names])
        in_order.append(np.array([[number for _, number, _ in part], [place for *_, place in part], ends]))
        blocks.append(b"".join(names))
        size = int(ends[-1])
        await give_way()
    for run in runs:
        run.clear()
        await give_way()
    if size > MOST_BYTES:
        return _empty()
    numbers, places, ends = np.concatenate(in_order, axis=1)
    births = await asyncio.to_thread(np.argsort, numbers)  # which lets others run; of 100,000 it takes 8 ms
    return NameIndex(born, numbers, places, b"".join(blocks), ends, births)


def _empty() -> NameIndex:
    nothing = np.empty(0, np.int64)
    return NameIndex(0, nothing, nothing, b"", nothing, nothing)


def _lowered(text: str) -> bytes:
    """A text as it stands in the block."""
    return text.lower().encode("utf-8", "surrogatepass")


def _found(block: bytes, text: bytes, begin: int, end: int) -> Iterator[int]:
    """Where the text is found in a stretch of whole names, once in each name at most."""
    at = block.find(text, begin, end)
    while at >= 0:
        yield at
        at = block.find(text, block.find(END, at, end), end)
