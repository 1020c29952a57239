"""The job of `judge_events.py`, failed once on purpose, and the plain loop over the same events.

    python fails_once.py FOLDER     see tests/project/test_spark_example.py

Reads FOLDER/events/*.ndjson. Leaves `failed_at`, the event that the job failed at; `judged.json`, the verdicts of the
job and the states in its state store; and `plain.json`, those of the loop.
"""

import json
import sys
from pathlib import Path

from judge_events import JudgeSlice, judge_files, judged, session
from pyspark.errors import StreamingQueryException
from pyspark.sql.streaming.query import StreamingQuery

from onlineguard import Detector, KeyedModel

FEATURES = 2


class FailsOnce(JudgeSlice):
    """Fails at an event of the second half."""

    def __init__(self, folder: Path, middle: int):
        super().__init__(Detector(), FEATURES)
        self._failed_at, self._middle = folder / "failed_at", middle

    def handleInputRows(self, key, rows, timerValues):
        for verdict in super().handleInputRows(key, rows, timerValues):
            if verdict.id >= self._middle and not self._failed_at.exists():
                self._failed_at.write_text(f"{verdict.id}")
                raise RuntimeError("failed on purpose")
            yield verdict


def main() -> None:
    folder = Path(sys.argv[1])
    keyed, states, verdicts = KeyedModel(Detector(), FEATURES), {}, []
    lines = [line for path in sorted(folder.glob("events/*.ndjson")) for line in path.read_text().splitlines()]
    for event in map(json.loads, lines):
        name = event["slice"]
        states[name], verdict = judged(keyed, states.get(name), event)
        verdicts.append(verdict)
    save(folder / "plain.json", verdicts, states)

    spark = session(
        2, **{"spark.master": "local[2]", "spark.ui.enabled": "false", "spark.local.dir": str(folder / "spark")}
    )
    places = (folder / "events", folder / "out", folder / "checkpoint")
    while not finished(folder, judge_files(spark, *places, FailsOnce(folder, len(lines) // 2), 1)):
        pass  # a run that failed is repeated

    judged_rows = spark.read.json(str(folder / "out")).collect()
    columns = ("id", "slice", "score", "threshold", "ready", "anomalous")
    verdicts = sorted(({name: row[name] for name in columns} for row in judged_rows), key=lambda row: row["id"])
    store = spark.read.format("statestore").option("stateVarName", "onlineguard").load(str(folder / "checkpoint"))
    save(folder / "judged.json", verdicts, {row.key.slice: bytes(row.value.state) for row in store.collect()})
    spark.stop()


def finished(folder: Path, query: StreamingQuery) -> bool:
    """Whether a query came to its end; False if it failed on purpose, or a process did not start in time."""
    try:
        query.awaitTermination()
        return True
    except StreamingQueryException as failure:
        if "failed on purpose" in str(failure):
            batches = len(list((folder / "checkpoint" / "commits").glob("[0-9]*")))
            (folder / "batches_before").write_text(f"{batches}")
        elif "Python worker failed to connect back" not in str(failure):  # it has 10 s, too few on a busy machine
            raise
        return False


def save(path: Path, verdicts: list, states: dict[str, bytes]) -> None:
    path.write_text(json.dumps([verdicts, {name: states[name].hex() for name in sorted(states)}]))


if __name__ == "__main__":
    main()
