"""A model in a folder: everything that a decision needs, with checks that the files belong together.

| file | |
|---|---|
| scorer.safetensors | the weights of the network or baseline, see `scorer` |
| thresholds.json | the slice columns, the slices and their calibration; missing until the model is calibrated |
| features.json | names, units, windows and time zones of the features, and the version of the features |
| manifest.json | SHA-256 of the other files, the model's version, and which clicks trained and calibrated it |

The model's version is a hash of the other files' hashes, so the same contents have the same version everywhere. Times
in the manifest are those of the clicks, never of the clock, so repeating a training gives the same folder.

Each file is replaced as a whole, and the manifest last. After a crash between two of them the hashes do not fit, and
the folder is refused. It is never used half new and half old.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

import onlineguard
from onlineguard import atomic
from onlineguard.errors import CheckpointError
from onlineguard.slidr.clicks.marketplaces import TIMEZONES
from onlineguard.slidr.counting.windows import WINDOWS
from onlineguard.slidr.features import LOOKED_UP, NAMES, UNITS, WIDTH, Featuriser
from onlineguard.slidr.learning import scorer
from onlineguard.slidr.learning.network import NetworkConfig
from onlineguard.slidr.learning.scorer import Scorer
from onlineguard.slidr.lookups.lookups import Lookups
from onlineguard.slidr.pipeline import Config, Mask, Thresholds
from onlineguard.slidr.thresholds.calibration import Calibration

FORMAT = 1  # of the folder
FEATURES = 5  # version of the features; it rises when a name gets another meaning, e.g. another window or unit
SCORER, THRESHOLDS, SPECIFICATION, MANIFEST = scorer.FILE, "thresholds.json", "features.json", "manifest.json"
PARTS = (SCORER, THRESHOLDS, SPECIFICATION)

_LOOKED_UP = [NAMES.index(name) for name in LOOKED_UP]
_AGAIN = "train again, or use a copy that is whole"


@dataclass(frozen=True)
class Span:
    """The clicks of a training or a calibration, and what was known of them. Times in milliseconds since 1970 UTC."""

    since: int
    until: int  # not included
    known_at: int  # labels as of this time
    clicks: int
    humans: int  # clicks known to be human; of a calibration, clicks known to have led to a purchase

    @staticmethod
    def of(since: int, until: int, rows: Mask, human: Mask) -> "Span":
        """The span of the clicks `rows` (n,) bool of a log, with the labels known when it ended."""
        return Span(since, until, until, int(rows.sum()), int((rows & human).sum()))


@dataclass(frozen=True, eq=False)
class Model:
    """What a model folder holds."""

    config: Config
    scorer: Scorer
    trained: Span
    thresholds: Thresholds | None = None  # None until calibrated
    calibrated: Span | None = None
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])  # with which `calibrate_model` was called
    timezones: Mapping[str, str] = TIMEZONES  # of the marketplaces, as in training
    version: str = ""  # empty before it is saved

    def featuriser(self, lookups: Lookups | None = None) -> Featuriser:
        """A new featuriser, with nothing counted yet, that makes the features of this model."""
        return Featuriser(timezones=self.timezones, lookups=lookups)

    @property
    def looks_up(self) -> bool:
        """Whether it has learned of clicks that were looked up, so that it takes all others for strangers."""
        held = getattr(self.scorer, "held", None)
        return held is not None and not np.isin(_LOOKED_UP, held).all()


def save_model(folder: str | os.PathLike[str], model: Model) -> Model:
    """Write the folder, and create it if it is missing. Returns the model with its version.

    Raises CheckpointError if the folder cannot be written, and InvalidArgument for a `TreesBaseline`, which has no safe
    format.
    """
    path = Path(folder)
    model.scorer.save(path)
    specification = {"version": FEATURES, **_features(), "timezones": dict(model.timezones)}
    _write(path / SPECIFICATION, specification)
    if model.thresholds is None:
        _remove(path / THRESHOLDS)  # these belong to a model that was here before
    else:
        plain = {"slices": model.thresholds.slices, "keys": model.thresholds.keys}
        _write(path / THRESHOLDS, plain | {"calibration": model.thresholds.calibration.to_dict()})
    hashes = {name: _sha256(path / name) for name in PARTS if name != THRESHOLDS or model.thresholds is not None}
    version = _version(hashes)
    manifest = {
        "format": FORMAT,
        "onlineguard": onlineguard.__version__,
        "version": version,
        "files": hashes,
        "config": asdict(model.config),
        "trained": asdict(model.trained),
        "calibrated": None if model.calibrated is None else asdict(model.calibrated),
        "options": dict(model.options),
    }
    _write(path / MANIFEST, manifest)
    return replace(model, version=version)


def load_model(folder: str | os.PathLike[str]) -> Model:
    """The model that `save_model` wrote.

    Raises CheckpointError if a file is missing, was changed, has a newer format, or has other features, slices or width
    than the rest. The message says which.
    """
    path = Path(folder)
    manifest = _read(path / MANIFEST)
    if not isinstance(manifest.get("format"), int) or not isinstance(manifest.get("files"), dict):
        raise CheckpointError(f"{path / MANIFEST} is no manifest of a model; name a folder that `slidr train` wrote")
    if manifest["format"] > FORMAT:
        raise CheckpointError(
            f"{path} has format {manifest['format']}, onlineguard {onlineguard.__version__} reads up to {FORMAT}; "
            f"it was written by {manifest.get('onlineguard')}: upgrade"
        )
    _check_files(path, manifest)
    specification = _read(path / SPECIFICATION)
    _check_features(path / SPECIFICATION, specification)
    try:
        config = _config(manifest["config"])
        trained = Span(**manifest["trained"])
        calibrated = None if manifest["calibrated"] is None else Span(**manifest["calibrated"])
        options: dict[str, Any] = dict(manifest["options"])
        timezones: dict[str, str] = dict(specification["timezones"])
        Featuriser(timezones=timezones)
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} is damaged: {type(error).__name__} {error}; {_AGAIN}") from error
    loaded = scorer.load(path)
    if (width := getattr(loaded, "width", None)) != WIDTH:
        raise CheckpointError(f"{path / SCORER} takes {width} features, {SPECIFICATION} has {WIDTH}; {_AGAIN}")
    thresholds = _thresholds(path / THRESHOLDS, config) if THRESHOLDS in manifest["files"] else None
    if (thresholds is None) != (calibrated is None):
        raise CheckpointError(f"{path} has thresholds without a word on what they rest on, or none; calibrate again")
    return Model(config, loaded, trained, thresholds, calibrated, options, timezones, manifest["version"])


def _features() -> dict[str, Any]:
    """The features of this version of onlineguard."""
    return {"names": list(NAMES), "units": list(UNITS), "windows": list(WINDOWS)}


def _version(hashes: Mapping[str, str]) -> str:
    return hashlib.sha256(json.dumps(hashes, sort_keys=True).encode()).hexdigest()[:12]


def _check_files(path: Path, manifest: Mapping[str, Any]) -> None:
    listed: Mapping[str, Any] = manifest["files"]
    if set(listed) not in ({SCORER, SPECIFICATION}, set(PARTS)):
        raise CheckpointError(f"{path / MANIFEST} lists {', '.join(listed) or 'no files'}; {_AGAIN}")
    for name, expected in listed.items():
        if _sha256(path / name) != expected:
            raise CheckpointError(
                f"{path / name} is not the file that {MANIFEST} was written for (SHA-256 differs); {_AGAIN}"
            )
    if manifest.get("version") != _version(listed):
        raise CheckpointError(f"{path / MANIFEST} has version {manifest.get('version')!r}, its files another; {_AGAIN}")
    if THRESHOLDS not in listed and (path / THRESHOLDS).exists():
        raise CheckpointError(f"{path / THRESHOLDS} is none of the files in {MANIFEST}; remove it, or calibrate again")


def _check_features(path: Path, found: Mapping[str, Any]) -> None:
    if found.get("version") != FEATURES:
        raise CheckpointError(
            f"{path} has version {found.get('version')} of the features, onlineguard {onlineguard.__version__} makes "
            f"version {FEATURES}; train again with this onlineguard, or use the one that wrote the model"
        )
    for part, ours in _features().items():
        if (theirs := found.get(part)) == ours:
            continue
        differ = [name for name in [*(theirs or []), *ours] if (name in ours) != (name in (theirs or []))]
        what = f"; they differ in {', '.join(map(str, differ[:5]))}" if differ else "; their order differs"
        raise CheckpointError(
            f"{path} has other {part} of features than onlineguard {onlineguard.__version__} makes{what}. Train again "
            "with this onlineguard, or use the one that wrote the model"
        )


def _config(plain: dict[str, Any]) -> Config:
    values: dict[str, Any] = dict(plain)
    network: dict[str, Any] = dict(plain["network"])
    network["hidden"] = tuple(network["hidden"])
    values["network"] = NetworkConfig(**network)
    values |= {name: tuple(plain[name]) for name in ("slices", "left_out")}
    if lacking := {item.name for item in fields(Config)} - values.keys():
        raise KeyError(f"config lacks {', '.join(sorted(lacking))}")
    return Config(**values)


def _thresholds(path: Path, config: Config) -> Thresholds:
    plain = _read(path)
    try:
        slices = tuple(plain["slices"])
        keys = tuple(tuple(str(part) for part in key) for key in plain["keys"])
        calibration = Calibration.from_dict(plain["calibration"])
        if slices != config.slices:
            raise CheckpointError(f"{path} is for slices of {slices}, the model has {config.slices}; calibrate again")
        if len(keys) != len(calibration.thresholds) or {len(key) for key in keys} != {len(slices)}:
            raise CheckpointError(f"{path} has {len(keys)} slices and other thresholds; calibrate again")
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"{path} is damaged: {type(error).__name__} {error}; calibrate again") from error
    return Thresholds(slices, keys, calibration)


def _read(path: Path) -> dict[str, Any]:
    try:
        plain = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} is missing; name a folder that `slidr train` wrote") from error
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror or error}") from error
    except ValueError as error:
        raise CheckpointError(f"{path} is no JSON: {error}; {_AGAIN}") from error
    if not isinstance(plain, dict):
        raise CheckpointError(f"{path} is no JSON object; {_AGAIN}")
    return plain  # pyright: ignore[reportUnknownVariableType]


def _write(path: Path, plain: Mapping[str, Any]) -> None:
    try:
        atomic.write(path, (json.dumps(plain, indent=1, allow_nan=False) + "\n").encode())
    except OSError as error:
        raise CheckpointError(f"cannot write {path}: {error.strerror or error}") from error


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise CheckpointError(f"cannot remove {path}: {error.strerror or error}") from error


def _sha256(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} is missing, though {MANIFEST} lists it; {_AGAIN}") from error
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror or error}") from error
