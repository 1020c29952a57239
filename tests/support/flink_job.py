"""The job of `examples/flink`, failed once on purpose, and the plain loop over the same events.

    python flink_job.py FOLDER     by a Python that has PyFlink; see tests/project/test_flink_example.py

Reads FOLDER/events.ndjson. Leaves `verdicts` and `states` by the job; `plain.json` with those of the loop;
`failed_at`, the event that the job failed at; and `resumed_at`, the first event of each process after that.
"""

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from judge_events import JudgeSlice, environment, judge_file, plain_loop  # of examples/flink, by PYTHONPATH
from onlineguard import Detector, Portable

FEATURES = 2
PAUSE = 0.001  # seconds an event, so that checkpoints come to be before the middle


class FailsOnce(JudgeSlice):
    """Fails at an event of the second half, once there is a checkpoint."""

    def __init__(self, folder: Path, middle: int):
        super().__init__(Detector(), FEATURES)
        self._folder, self._middle, self._first = folder, middle, True

    def process_element(self, value, ctx) -> Iterator[str]:
        time.sleep(PAUSE)
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
        yield from super().process_element(value, ctx)


def main() -> None:
    folder = Path(sys.argv[1])
    lines = (folder / "events.ndjson").read_text().splitlines()
    verdicts, states = plain_loop(Portable(Detector(), FEATURES), lines)
    plain = {"verdicts": verdicts, "states": {name: state.hex() for name, state in states.items()}}
    (folder / "plain.json").write_text(json.dumps(plain))
    env = environment(
        folder / "checkpoints",
        2,
        **{
            "execution.checkpointing.interval": "200 ms",
            "restart-strategy.fixed-delay.delay": "100 ms",
            "python.fn-execution.bundle.time": "100",  # ms: a checkpoint waits for the end of a bundle
        },
    )
    judge_file(env, folder / "events.ndjson", folder, FailsOnce(folder, len(lines) // 2))


if __name__ == "__main__":
    main()
