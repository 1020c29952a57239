"""Judges events in Spark: one small model for every slice, whose state lies in Spark's checkpointed state store.

    python judge_events.py EVENTS OUT CHECKPOINT --features N [--files N] [--partitions N]

EVENTS is a folder of files of JSON lines, {"id": 17, "slice": "web-1", "x": [0.5, 12.0]}. The files in OUT say of each
event how odd it was under what its slice had taught until then. All files that are new since the last run are judged,
oldest first, so a run that failed is simply repeated. Each verdict is in OUT once, if OUT is read by Spark.

Spark shuffles a batch, and keeps no order in it: the events of a slice are learned in the order of their ids, so an id
must rise with time. In place of the files, use the source and the sink of Kafka: nothing else changes.
"""

import argparse
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pyspark.sql import DataFrame, Row, SparkSession
from pyspark.sql.streaming import StatefulProcessor, StatefulProcessorHandle
from pyspark.sql.streaming.query import StreamingQuery

from onlineguard import Detector, KeyedModel, SliceModel

EVENT = "id LONG, slice STRING, x ARRAY<DOUBLE>"
VERDICT = "id LONG, slice STRING, score DOUBLE, threshold DOUBLE, ready BOOLEAN, anomalous BOOLEAN"


class JudgeSlice(StatefulProcessor):
    """Judges the events of a slice and learns them."""

    def __init__(self, model: SliceModel, n_features: int):
        self._model, self._n_features = model, n_features

    def init(self, handle: StatefulProcessorHandle) -> None:
        self._keyed = KeyedModel(self._model, self._n_features)
        self._state = handle.getValueState("onlineguard", "state BINARY")

    def handleInputRows(self, key: tuple[str], rows: Iterator[Row], timerValues: Any) -> Iterator[Row]:
        kept = self._state.get()
        state = None if kept is None else bytes(kept[0])
        for row in sorted(rows, key=lambda row: row.id):
            state, verdict = judged(self._keyed, state, row.asDict())
            yield Row(**verdict)
        self._state.update((state,))

    def close(self) -> None:
        pass


def judged(keyed: KeyedModel, state: bytes | None, event: dict[str, Any]) -> tuple[bytes, dict[str, Any]]:
    """A slice's state after an event, None before the first one, and the event's verdict."""
    x = [float("nan") if number is None else number for number in event["x"]]
    state, judgement = keyed.step(state, x)
    verdict = {
        "id": event["id"],
        "slice": event["slice"],
        "score": None if math.isnan(judgement.score) else judgement.score,  # there was nothing to score
        "threshold": judgement.threshold,
        "ready": judgement.ready,
        "anomalous": judgement.ready and judgement.score > judgement.threshold,
    }
    return state, verdict


def session(partitions: int, **options: str) -> SparkSession:
    """A Spark whose state store can hold the state of a `StatefulProcessor`, divided into so many partitions.

    options: settings of Spark by their names, which are added to these or replace them.
    """
    provider = "org.apache.spark.sql.execution.streaming.state.RocksDBStateStoreProvider"
    chosen = {
        "spark.sql.streaming.stateStore.providerClass": provider,
        "spark.sql.shuffle.partitions": f"{partitions}",
    }
    builder = SparkSession.builder.appName("onlineguard")
    for name, value in (chosen | options).items():
        builder = builder.config(name, value)
    return builder.getOrCreate()


def judge_files(
    spark: SparkSession, events: Path, out: Path, checkpoint: Path, judge: JudgeSlice, files: int
) -> StreamingQuery:
    """A query that judges all new files, `files` of them a batch, and then ends."""
    read = spark.readStream.schema(EVENT).option("maxFilesPerTrigger", files).json(str(events))
    write = verdicts_of(read, judge).writeStream.format("json").option("checkpointLocation", str(checkpoint))
    return write.trigger(availableNow=True).start(str(out))


def verdicts_of(events: DataFrame, judge: JudgeSlice) -> DataFrame:
    """The verdicts of a stream of events."""
    return events.groupBy("slice").transformWithState(judge, VERDICT, outputMode="Append", timeMode="None")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("events", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--features", type=int, required=True)
    parser.add_argument("--files", type=int, default=1, help="files that are judged as one batch")
    parser.add_argument("--partitions", type=int, default=2, help="of the state; a checkpoint keeps their number")
    given = parser.parse_args()
    judge = JudgeSlice(Detector(), given.features)
    judge_files(
        session(given.partitions), given.events, given.out, given.checkpoint, judge, given.files
    ).awaitTermination()


if __name__ == "__main__":
    main()
