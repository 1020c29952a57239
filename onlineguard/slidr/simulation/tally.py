"""Who clicks in simulated traffic, and how many clicks, purchases and duplicates there were of each."""

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Int

from onlineguard.slidr.simulation import wide
from onlineguard.slidr.simulation.arrivals import Arrivals
from onlineguard.slidr.simulation.robots import ROBOTS
from onlineguard.slidr.simulation.world import DEVICES, MARKETPLACES, UNKNOWN

USUAL_KINDS = ("person", *ROBOTS)
KINDS = (*USUAL_KINDS, *wide.ROBOTS, *wide.PEOPLE)
ROBOTIC = np.array([kind != "person" and kind not in wide.PEOPLE for kind in KINDS])


@dataclass
class Tally:
    """Counts of the simulated clicks, without duplicates."""

    slices: Int[np.ndarray, "devices marketplaces 2 kinds"] = field(
        default_factory=lambda: np.zeros((len(DEVICES), len(MARKETPLACES), 2, len(KINDS)), np.int64)
    )
    purchases: Int[np.ndarray, "devices marketplaces 2"] = field(  # recorded ones
        default_factory=lambda: np.zeros((len(DEVICES), len(MARKETPLACES), 2), np.int64)
    )
    duplicates: int = 0
    orders: int = 0

    @property
    def clicks(self) -> int:
        return int(self.slices.sum())

    @property
    def kinds(self) -> dict[str, int]:
        """Clicks by kind; those of the wide world where there are any."""
        counts = zip(KINDS, self.slices.sum(axis=(0, 1, 2)).tolist(), strict=True)
        return {kind: count for kind, count in counts if count or kind in USUAL_KINDS}

    @property
    def robotic(self) -> Int[np.ndarray, "devices marketplaces 2"]:
        """Clicks of robots."""
        return self.slices[..., ROBOTIC].sum(axis=-1)

    def count(self, arrivals: Arrivals) -> None:
        """Add the clicks that arrive, and the duplicates among them."""
        sessions, first = arrivals.sessions, ~arrivals.twice
        place = (sessions.device.astype(np.int64) * len(MARKETPLACES) + sessions.marketplace) * 2 + sessions.logged_in
        row = arrivals.row[first]
        counts = np.bincount((place * len(KINDS) + sessions.kind)[row], minlength=self.slices.size)
        self.slices += counts.reshape(self.slices.shape)
        bought = arrivals.row[first & (arrivals.purchase != UNKNOWN)]
        self.purchases += np.bincount(place[bought], minlength=self.purchases.size).reshape(self.purchases.shape)
        self.duplicates += len(first) - len(row)
