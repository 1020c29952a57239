"""How often what goes wrong."""

from dataclasses import dataclass


@dataclass
class Faults:
    """Shares of calls, or seconds between two on average; 0: never."""

    # of calls
    store: float = 0.01  # a call of the store fails, or its answer is lost
    damage: float = 0.02  # a snapshot is damaged
    lost: float = 0.03  # the answer to a publication that happened is lost
    again: float = 0.03  # a publication arrives twice, the second time late
    repeated: float = 0.03  # records are handed out again before new ones
    flush: float = 0.03  # what was written is durable, but its writer is told that it is not
    # seconds
    kill: float = 6.0
    freeze: float = 8.0
    rescale: float = 15.0
    move: float = 2.0  # a partition moves for no reason
    away: float = 40.0  # the log is away for a while
    outage: float = 60.0  # the store is away for a while
    clock: float = 5.0  # the clock of the log jumps
    failover: float = 20.0  # some partitions of the log forget what came to them last
    model: float = 60.0  # operators switch to another model, which not every process has at once


NONE = Faults(*[0.0] * 15)
