"""Delayed decisions, each with the one that it replaces, published so that a kill loses none and doubles none.

A replay that is started again goes on after the last that was published: a file says so itself, and beside a stream in
Redis stands a mark that is written together with the decisions. A service (`onlineguard.client.receiver`) needs none: a
decision that it has already is in force, and changes nothing when it comes again.
"""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol

import msgspec
import polars as pl

from onlineguard.errors import InvalidArgument, SourceError
from onlineguard.extras import PACKAGES, require
from onlineguard.records.decisions import Decided, Decision, Marks, Standing

AT_ONCE = 1_000  # decisions of one write; Redis answers nobody else meanwhile


class Receiver(Protocol):
    """Where decisions go."""

    def marks(self) -> Marks:
        """How far an earlier run came."""
        ...

    def publish(self, decisions: list[Decision], marks: Marks) -> None:
        """Publish all or none of them, and note how far that is."""
        ...


def publish(frames: Iterable[pl.DataFrame], receiver: Receiver, changed: bool = False) -> Iterator[int]:
    """Publish the decisions of a replay that were not published yet; gives the number of clicks gone through so far.

    changed: only those that are not the same as before.
    """
    marks = receiver.marks()
    done = 0
    for frame in frames:
        for start in range(0, frame.height, AT_ONCE):
            part = frame[start : start + AT_ONCE]
            done += part.height
            left = _unpublished(part, marks)
            if left.height:
                marks |= {source: (sequence, position) for source, sequence, position in _last(left)}
                if changed:
                    left = left.filter(pl.col("robotic") != pl.col("was_robotic"))
                receiver.publish(list(map(_delayed, left.iter_rows(named=True))), marks)
            yield done


class File:
    """Decisions as lines of JSON, with what an earlier run had written at their head.

    A line that a kill cut off is removed. Raises SourceError for a file of another replay.
    """

    def __init__(self, path: Path, version: str):
        self._path, self._version = path, version
        if path.suffix.lower() not in (".ndjson", ".jsonl"):
            raise InvalidArgument("out", f"is {path}; its name must end in .ndjson, a decision a line")

    def marks(self) -> Marks:
        """See `Receiver`."""
        found: Marks = {}
        if not self._path.exists():
            return found
        whole = 0
        with self._path.open("rb+") as file:
            for line in file:
                if not line.endswith(b"\n"):
                    break
                try:
                    source, sequence, position, version = msgspec.json.decode(line)["id"].rsplit("-", 3)
                    found[source] = (int(sequence), int(position))
                except (msgspec.DecodeError, KeyError, TypeError, ValueError) as error:
                    raise SourceError(f"{self._path} has a line that is no decision; name another file") from error
                if version != self._version:
                    raise SourceError(
                        f"{self._path} has decisions of model {version}, not {self._version}; name another file"
                    )
                whole += len(line)
            file.truncate(whole)
        return found

    def publish(self, decisions: list[Decision], marks: Marks) -> None:
        """See `Receiver`."""
        with self._path.open("ab") as file:
            file.writelines(msgspec.json.encode(decision) + b"\n" for decision in decisions)
            file.flush()
            os.fsync(file.fileno())


# KEYS: the stream, its marks. ARGV: how many decisions, then these, then the marks as source and place.
_ADD = """
local n = tonumber(ARGV[1])
for i = 2, n + 1 do redis.call('XADD', KEYS[1], '*', 'decision', ARGV[i]) end
for i = n + 2, #ARGV, 2 do redis.call('HSET', KEYS[2], ARGV[i], ARGV[i + 1]) end
"""


class Stream:
    """Decisions in a stream of Redis, an entry each with the field `decision`, and marks beside it.

    url: of the Redis; name: of the stream; run: what makes this replay another than the next over the same stream.
    """

    def __init__(self, url: str, name: str, run: str):
        require("`onlineguard slidr replay --redis`", "redis", PACKAGES["redis"])
        import redis

        from onlineguard.sentinels import connected

        self._redis: Any = connected(url)
        self._error: type[Exception] = redis.RedisError
        self._stream, self._marks, self._where = name, f"{name}:replay:{run}", url
        if "{" not in name:
            self._marks = f"{{{name}}}:replay:{run}"  # in the slot of the stream

    def marks(self) -> Marks:
        """See `Receiver`."""
        found: dict[bytes, bytes] = self._call(lambda: self._redis.hgetall(self._marks))
        places = {source.decode(): place.decode().split("-") for source, place in found.items()}
        return {source: (int(sequence), int(position)) for source, (sequence, position) in places.items()}

    def publish(self, decisions: list[Decision], marks: Marks) -> None:
        """See `Receiver`."""
        texts = [msgspec.json.encode(decision) for decision in decisions]
        places = [part for source, (sequence, at) in marks.items() for part in (source, f"{sequence}-{at}")]
        self._call(lambda: self._redis.eval(_ADD, 2, self._stream, self._marks, len(texts), *texts, *places))

    def _call(self, call: Any) -> Any:
        try:
            return call()
        except self._error as error:
            raise SourceError(f"the Redis of --redis does not take decisions: {error}") from error


def _unpublished(frame: pl.DataFrame, marks: Marks) -> pl.DataFrame:
    for source, (sequence, position) in marks.items():
        later = (pl.col("sequence") > sequence) | ((pl.col("sequence") == sequence) & (pl.col("position") > position))
        frame = frame.filter((pl.col("source") != source) | later)
    return frame


def _last(frame: pl.DataFrame) -> list[tuple[str, int, int]]:
    return frame.group_by("source").agg(pl.col("sequence", "position").last()).rows()


def _delayed(row: dict[str, Any]) -> Decision:
    def word(robotic: bool) -> Decided:
        return "robotic" if robotic else "valid"

    return Decision(
        id=f"{row['source']}-{row['sequence']}-{row['position']}-{row['model']}",
        click_id=row["click_id"],
        decision=word(row["robotic"]),
        p_robot=row["score"],
        threshold=row["threshold"],
        slice=row["slice"],
        model_version=row["model"],
        replaces=Standing(row["was_model"], word(row["was_robotic"]), row["was_score"], row["was_threshold"]),
    )
