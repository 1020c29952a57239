"""Judges events in Flink: one small model for every slice, whose state lies in Flink's checkpointed keyed state.

    python judge_events.py EVENTS OUT --features N [--checkpoints DIR] [--parallelism N]

EVENTS is a file of JSON lines, {"id": 17, "slice": "web-1", "x": [0.5, 12.0]}. The lines of OUT/verdicts say of each
event how odd it was under what its slice had taught until then, and those of OUT/states what each slice has taught in
the end, as hexadecimal digits. Both are written exactly once, however often the job fails and is restarted from a
checkpoint. In place of the file source and the file sinks, use those of Kafka: nothing else changes.
"""

import argparse
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from onlineguard import Detector, Portable, SliceModel
from pyflink.common import Configuration, Encoder, Types, WatermarkStrategy
from pyflink.datastream import KeyedProcessFunction, OutputTag, RuntimeContext, StreamExecutionEnvironment
from pyflink.datastream.connectors.file_system import FileSink, FileSource, StreamFormat
from pyflink.datastream.state import ValueStateDescriptor

END = 2**63 - 1  # the watermark after the last event of a bounded stream
STATES = OutputTag("states", Types.STRING())


class JudgeSlice(KeyedProcessFunction):
    """Judges the events of a slice, in the order in which they come, and learns them."""

    def __init__(self, model: SliceModel, n_features: int):
        self._model, self._n_features = model, n_features

    def open(self, runtime_context: RuntimeContext) -> None:
        self._portable = Portable(self._model, self._n_features)
        kind = Types.PRIMITIVE_ARRAY(Types.BYTE())
        self._state = runtime_context.get_state(ValueStateDescriptor("onlineguard", kind))

    def process_element(self, value: str, ctx: KeyedProcessFunction.Context) -> Iterator[str]:
        event = json.loads(value)
        before = self._state.value()
        if before is None:
            ctx.timer_service().register_event_time_timer(END)
        after, verdict = judged(self._portable, before, event)
        self._state.update(after)
        yield verdict

    def on_timer(self, timestamp: int, ctx: KeyedProcessFunction.OnTimerContext) -> Iterator[tuple[OutputTag, str]]:
        yield STATES, json.dumps({"slice": ctx.get_current_key(), "state": self._state.value().hex()})


def judged(portable: Portable, state: bytes | None, event: dict) -> tuple[bytes, str]:
    """A slice's state after an event, and the event's verdict as a line of JSON."""
    x = [float("nan") if number is None else number for number in event["x"]]
    state, judgement = portable.step(state, x)
    ready = judgement.ready
    verdict = {
        "id": event["id"],
        "slice": event["slice"],
        "score": judgement.score if judgement.score == judgement.score else None,  # NaN: there was nothing to score
        "threshold": judgement.threshold,
        "ready": ready,
        "anomalous": ready and judgement.score > judgement.threshold,
    }
    return state, json.dumps(verdict)


def plain_loop(portable: Portable, lines: Iterable[str]) -> tuple[list[str], dict[str, bytes]]:
    """The verdicts and the last states that the job must come to: the same events, one after the other."""
    states: dict[str, bytes] = {}
    verdicts = []
    for line in lines:
        event = json.loads(line)
        states[event["slice"]], verdict = judged(portable, states.get(event["slice"]), event)
        verdicts.append(verdict)
    return verdicts, states


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


def judge_file(env: StreamExecutionEnvironment, events: Path, out: Path, judge: JudgeSlice) -> None:
    """Run the job to the end of the file."""
    source = FileSource.for_record_stream_format(StreamFormat.text_line_format(), events.absolute().as_uri()).build()
    # One reader keeps the file's order; the slices are then divided among all processes.
    lines = env.from_source(source, WatermarkStrategy.no_watermarks(), "events").set_parallelism(1)
    verdicts = lines.key_by(_slice_of, Types.STRING()).process(judge, Types.STRING())
    verdicts.sink_to(_lines_in(out / "verdicts"))
    verdicts.get_side_output(STATES).sink_to(_lines_in(out / "states"))
    env.execute("onlineguard")


def _slice_of(line: str) -> str:
    return json.loads(line)["slice"]


def _lines_in(folder: Path) -> FileSink:
    return FileSink.for_row_format(folder.absolute().as_uri(), Encoder.simple_string_encoder()).build()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("events", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--features", type=int, required=True)
    parser.add_argument("--checkpoints", type=Path, help="where checkpoints go; otherwise they stay in memory")
    parser.add_argument("--parallelism", type=int, default=1)
    given = parser.parse_args()
    env = environment(given.checkpoints, given.parallelism)
    judge_file(env, given.events, given.out, JudgeSlice(Detector(), given.features))


if __name__ == "__main__":
    main()
