"""Judges events in Flink: one small model for every slice, whose state lies in Flink's checkpointed keyed state.

    python judge_events.py EVENTS OUT --features N [--checkpoints DIR] [--parallelism N] [--bundle N]

EVENTS is a file of JSON lines, {"id": 17, "slice": "web-1", "x": [0.5, 12.0]}. The files in OUT say of each event how
odd it was under what its slice had taught until then. Each verdict is written exactly once, however often the job fails
and goes on from a checkpoint. In place of the files, use the source and the sink of Kafka: nothing else changes.
"""

import argparse
import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pyflink.common import Configuration, Encoder, Types, WatermarkStrategy
from pyflink.datastream import DataStream, KeyedProcessFunction, RuntimeContext, StreamExecutionEnvironment
from pyflink.datastream.connectors.file_system import FileSink, FileSource, StreamFormat
from pyflink.datastream.state import ValueStateDescriptor

from onlineguard import Detector, KeyedModel, SliceModel


class JudgeSlice(KeyedProcessFunction):
    """Judges the events of a slice, in the order in which they come, and learns them."""

    def __init__(self, model: SliceModel, n_features: int):
        self._model, self._n_features = model, n_features

    def open(self, runtime_context: RuntimeContext) -> None:
        self._keyed = KeyedModel(self._model, self._n_features)
        kind = Types.PRIMITIVE_ARRAY(Types.BYTE())
        self._state = runtime_context.get_state(ValueStateDescriptor("onlineguard", kind))

    def process_element(self, value: str, ctx: KeyedProcessFunction.Context) -> Iterator[str]:
        event = json.loads(value)
        state, verdict = judged(self._keyed, self._state.value(), event)
        self._state.update(state)
        yield json.dumps(verdict)


def judged(keyed: KeyedModel, state: bytes | None, event: dict[str, Any]) -> tuple[bytes, dict[str, Any]]:
    """A slice's state after an event, None before the first one, and the event's verdict, as JSON can hold it."""
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


def environment(checkpoints: Path | None, parallelism: int, **options: str) -> StreamExecutionEnvironment:
    """A local Flink that takes a checkpoint every second and restarts a job that failed up to ten times.

    options: settings of Flink by their names, which are added to these or replace them.
    """
    chosen = {
        "execution.checkpointing.interval": "1 s",
        "restart-strategy.type": "fixed-delay",
        "restart-strategy.fixed-delay.attempts": "10",
        "restart-strategy.fixed-delay.delay": "1 s",
        "python.executable": sys.executable,
        "python.client.executable": sys.executable,
    }
    if checkpoints is not None:
        chosen["execution.checkpointing.dir"] = checkpoints.absolute().as_uri()
    configuration = Configuration()
    for name, value in (chosen | options).items():
        configuration.set_string(name, value)
    env = StreamExecutionEnvironment.get_execution_environment(configuration)
    env.set_parallelism(parallelism)
    return env


def lines_of(env: StreamExecutionEnvironment, events: Path) -> DataStream:
    """The lines of a file, by one reader, which keeps their order."""
    source = FileSource.for_record_stream_format(StreamFormat.text_line_format(), events.absolute().as_uri()).build()
    return env.from_source(source, WatermarkStrategy.no_watermarks(), "events").set_parallelism(1)


def judge_lines(lines: DataStream, out: Path, judge: JudgeSlice) -> None:
    """Divide the slices among all processes, judge their events, and write the verdicts."""
    sink = FileSink.for_row_format(out.absolute().as_uri(), Encoder.simple_string_encoder()).build()
    lines.key_by(_slice_of, Types.STRING()).process(judge, Types.STRING()).sink_to(sink)


def _slice_of(line: str) -> str:
    return json.loads(line)["slice"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("events", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--features", type=int, required=True)
    parser.add_argument("--checkpoints", type=Path, help="where checkpoints go; otherwise they stay in memory")
    parser.add_argument("--parallelism", type=int, default=1)
    parser.add_argument("--bundle", type=int, default=1_000, help="events that go to a Python process at once, at most")
    given = parser.parse_args()
    bundle = {"python.fn-execution.bundle.size": f"{given.bundle}"}
    env = environment(given.checkpoints, given.parallelism, **bundle)
    judge_lines(lines_of(env, given.events), given.out, JudgeSlice(Detector(), given.features))
    result = env.execute("onlineguard")
    print(f"ran for {result.get_net_runtime() / 1_000:.1f} s")


if __name__ == "__main__":
    main()
