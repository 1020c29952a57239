"""The job of `judge_events.py`, failed once on purpose, and the plain loop over the same events.

    python fails_once.py FOLDER     see tests/project/test_flink_example.py

Reads FOLDER/events.ndjson. Leaves `verdicts` of the job and `plain.ndjson` of the loop, in which each verdict has the
state after it; `failed_at`, the event that the job failed at; and `resumed_at`, the first event of each process then.
"""

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from judge_events import JudgeSlice, environment, judge_lines, judged, lines_of
from pyflink.common import Types

from onlineguard import Detector, KeyedModel

FEATURES = 2
PAUSE = 0.001  # seconds an event, so that checkpoints come to be before the middle


class FailsOnce(JudgeSlice):
    """Fails at an event of the second half, once there is a checkpoint."""

    def __init__(self, folder: Path, middle: int):
        super().__init__(Detector(), FEATURES)
        self._folder, self._middle, self._first = folder, middle, True

    def process_element(self, value, ctx) -> Iterator[str]:
        number = json.loads(value)["id"]
        failed_at = self._folder / "failed_at"
        if self._first and failed_at.exists():
            with (self._folder / "resumed_at").open("a") as file:
                file.write(f"{number}\n")
        self._first = False
        if number >= self._middle and not failed_at.exists():
            if list((self._folder / "checkpoints").glob("*/chk-*/_metadata")):
                failed_at.write_text(f"{number}")
                raise RuntimeError("failed on purpose")
        for line in super().process_element(value, ctx):
            yield json.dumps(json.loads(line) | {"state": self._state.value().hex()})


def plain_loop(keyed: KeyedModel, lines: list[str]) -> Iterator[str]:
    """What the job must come to: the same events, one after the other."""
    states: dict[str, bytes] = {}
    for line in lines:
        event = json.loads(line)
        name = event["slice"]
        states[name], verdict = judged(keyed, states.get(name), event)
        yield json.dumps(verdict | {"state": states[name].hex()})


def slowly(line: str) -> str:
    """The line, later: a checkpoint waits behind all lines that were read before it."""
    time.sleep(PAUSE)
    return line


def main() -> None:
    folder = Path(sys.argv[1])
    lines = (folder / "events.ndjson").read_text().splitlines()
    (folder / "plain.ndjson").write_text("\n".join(plain_loop(KeyedModel(Detector(), FEATURES), lines)))
    env = environment(
        folder / "checkpoints",
        2,
        **{
            "execution.checkpointing.interval": "200 ms",
            "restart-strategy.fixed-delay.delay": "100 ms",
            "python.fn-execution.bundle.time": "100",  # ms: a checkpoint waits for the end of a bundle
        },
    )
    slow = lines_of(env, folder / "events.ndjson").map(slowly, Types.STRING()).set_parallelism(1)
    judge_lines(slow, folder / "verdicts", FailsOnce(folder, len(lines) // 2))
    env.execute("fails once")


if __name__ == "__main__":
    main()
