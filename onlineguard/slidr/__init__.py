"""SLIDR: robots among ad clicks, from raw clicks to calibrated decisions.

Each public name is loaded when first used, so `import onlineguard.slidr` costs no JAX.
"""

from typing import TYPE_CHECKING

from onlineguard.lazy import loading

if TYPE_CHECKING:
    from onlineguard.slidr.baselines import LogisticBaseline, TreesBaseline, VelocityRule
    from onlineguard.slidr.calibration import Calibration, calibrate
    from onlineguard.slidr.clicks import Click, Mapping, read_clicks
    from onlineguard.slidr.features import Featuriser
    from onlineguard.slidr.model import Model, load_model, save_model
    from onlineguard.slidr.pipeline import (
        Config,
        Prepared,
        Thresholds,
        calibrate_model,
        known_humans,
        prepare,
        purchasing,
        train_model,
    )
    from onlineguard.slidr.scorer import Scorer
    from onlineguard.slidr.simulator import Traffic, simulate
    from onlineguard.slidr.train import Network

__all__ = [
    "Calibration",
    "Click",
    "Config",
    "Featuriser",
    "LogisticBaseline",
    "Mapping",
    "Model",
    "Network",
    "Prepared",
    "Scorer",
    "Thresholds",
    "Traffic",
    "TreesBaseline",
    "VelocityRule",
    "calibrate",
    "calibrate_model",
    "known_humans",
    "load_model",
    "prepare",
    "purchasing",
    "read_clicks",
    "save_model",
    "simulate",
    "train_model",
]

# None is also the name of a module here: importing that module would put it in the place of the public name.
_NAMES = {
    "baselines": ["LogisticBaseline", "TreesBaseline", "VelocityRule"],
    "calibration": ["Calibration", "calibrate"],
    "clicks": ["Click", "Mapping", "read_clicks"],
    "features": ["Featuriser"],
    "model": ["Model", "load_model", "save_model"],
    "pipeline": [
        "Config",
        "Prepared",
        "Thresholds",
        "calibrate_model",
        "known_humans",
        "prepare",
        "purchasing",
        "train_model",
    ],
    "scorer": ["Scorer"],
    "simulator": ["Traffic", "simulate"],
    "train": ["Network"],
}
__getattr__, __dir__ = loading(__name__, _NAMES)
