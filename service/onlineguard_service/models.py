"""The models that a service has used, each under its version, so that every entry of its journal can be replayed."""

import os
import shutil
from pathlib import Path

from onlineguard import atomic
from onlineguard.errors import CheckpointError
from onlineguard.slidr.model import Model, Span, load_model, save_model
from onlineguard.slidr.pipeline import Config, calibrate_model, known_humans, prepare, purchasing, train_model
from onlineguard.slidr.simulation.simulator import simulate
from onlineguard.slidr.simulation.traffic import Traffic

WEEK = 7 * 86_400_000
CLICKS = 150_000  # of two made weeks: a model in some seconds
BUDGET = 0.01


class Models:
    """A folder with a folder for each version."""

    def __init__(self, folder: Path):
        self._folder = folder
        self._loaded: dict[str, Model] = {}

    def get(self, version: str) -> Model:
        """The model of a version. Raises CheckpointError where it is missing or damaged."""
        if version not in self._loaded:
            self._loaded[version] = load_model(self._folder / version)
        return self._loaded[version]

    def put(self, folder: Path) -> Model:
        """Keep a copy of a model folder. Raises CheckpointError where it is none, or has no thresholds yet."""
        _check_kinds(folder)
        try:
            model = load_model(folder)
        except RecursionError as error:
            raise CheckpointError(f"{folder} is no model: its manifest is nested without end") from error
        if model.thresholds is None:
            raise CheckpointError(
                f"{folder} has no thresholds yet; run onlineguard slidr calibrate CLICKS --model {folder}"
            )
        kept = self._folder / model.version
        if not kept.exists():
            self._folder.mkdir(parents=True, exist_ok=True)
            try:
                with atomic.replacing(kept) as temporary:
                    shutil.copytree(folder, temporary)
            except OSError as error:
                raise CheckpointError(f"cannot keep a copy of {folder} in {kept}: {error.strerror or error}") from error
        self._loaded[model.version] = model
        return model

    def make(self) -> Model:
        """A model of simulated clicks, for a service that was given none: to try it, not to judge real traffic with."""
        temporary = self._folder / f".simulated.{os.getpid()}.tmp"
        save_model(temporary, _simulated())
        try:
            return self.put(temporary)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def _check_kinds(folder: Path) -> None:
    """Raises CheckpointError for what is no plain file: a pipe would be waited for, for ever."""
    for each in folder.iterdir() if folder.is_dir() else ():
        if not each.is_file():
            raise CheckpointError(f"{each} is no plain file; a model's folder holds nothing else")


def _simulated() -> Model:
    traffic = Traffic(clicks=CLICKS, days=14)
    config = Config()
    prepared = prepare(simulate(traffic, 0).clicks, config)
    ends = [traffic.begin + week * WEEK for week in range(3)]
    learned, later = prepared.between(*ends[:2]), prepared.between(*ends[1:])
    scorer = train_model(prepared, learned, ends[1], config)
    thresholds = calibrate_model(prepared, scorer, later, ends[2], config, budget=BUDGET, learned=learned)
    spans = [
        Span(since, until, until, int(rows.sum()), int((rows & human).sum()))
        for since, until, rows, human in (
            (ends[0], ends[1], learned, known_humans(prepared, ends[1], config)),
            (ends[1], ends[2], later, purchasing(prepared, ends[2])),
        )
    ]
    return Model(config, scorer, spans[0], thresholds, spans[1], {"budget": BUDGET})
