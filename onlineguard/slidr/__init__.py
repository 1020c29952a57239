"""SLIDR: robots among ad clicks, from raw clicks to calibrated decisions.

Each public name is loaded when it is first used, so `import onlineguard.slidr` does not load JAX.
"""

from typing import TYPE_CHECKING

from onlineguard.lazy import loading

if TYPE_CHECKING:
    from onlineguard.slidr.clicks.clicks import Click, Mapping, read_clicks
    from onlineguard.slidr.features import Featuriser
    from onlineguard.slidr.learning.baselines import LogisticBaseline, TreesBaseline, VelocityRule
    from onlineguard.slidr.learning.scorer import Scorer
    from onlineguard.slidr.learning.train import Network
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
    from onlineguard.slidr.simulation.simulator import simulate
    from onlineguard.slidr.simulation.traffic import Traffic
    from onlineguard.slidr.thresholds.calibration import Calibration, calibrate

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
    "learning.baselines": ["LogisticBaseline", "TreesBaseline", "VelocityRule"],
    "thresholds.calibration": ["Calibration", "calibrate"],
    "clicks.clicks": ["Click", "Mapping", "read_clicks"],
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
    "learning.scorer": ["Scorer"],
    "simulation.simulator": ["simulate"],
    "simulation.traffic": ["Traffic"],
    "learning.train": ["Network"],
}
__getattr__, __dir__ = loading(__name__, _NAMES, extra="slidr")
