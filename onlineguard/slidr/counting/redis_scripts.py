"""The scripts that count in Redis: functions of one file each, before the few lines that call them."""

import hashlib
from importlib.resources import files
from typing import NamedTuple

from onlineguard.slidr.counting import windows

_CONSTANTS = (
    *("AHEAD_MS", "BEHIND_MS", "STEP_MS", "HOUR_MS", "DUPLICATE_HOURS", "BUCKET_MS", "FIRST", "CAP"),
    *("PAUSE_MS", "PAUSES", "OCTAVE", "PRIOR_PAUSES", "PRIOR_SPREAD"),
)
_NUMBERS = "".join(f"local {name} = {getattr(windows, name)}\n" for name in _CONSTANTS)


class Script(NamedTuple):
    """Its text, and the hash by which a Redis that has seen it knows it."""

    text: str
    sha: str


def _script(*names: str, call: str = "") -> Script:
    read = (files("onlineguard.slidr.counting").joinpath(f"redis_{name}.lua").read_text("utf-8") for name in names)
    text = _NUMBERS + "".join(read) + call
    return Script(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


_COUNT = ("old", "rings", "entities", "ips", "ads", "count")

# All of a batch in one call.
CLICKS = _script("clock", "ids", *_COUNT, "clicks")

# The same in parts, of which each stays in one slot of a Redis Cluster.
CLOCK = _script(
    "clock",
    call="""local state, hours, era, readings, serial = clock(redis.call('GET', KEYS[1]), ARGV[1])
redis.call('SET', KEYS[1], state)
return {readings, era, serial, struct.pack('<' .. string.rep('d', #hours), unpack(hours))}
""",
)
IDS = _script(
    "ids",
    call="""local hours = {struct.unpack('<' .. string.rep('d', #KEYS), ARGV[1])}
hours[#hours] = nil -- where the unpacking ended
return ids(KEYS, redis.call('MGET', unpack(KEYS)), 1, hours, ARGV[2])
""",
)
ENTITIES = _script(
    *_COUNT,
    call="""keys, values = KEYS, redis.call('MGET', unpack(KEYS))
serial, ttl, longer = tonumber(ARGV[3]), ARGV[4], ARGV[5]
return count(ARGV[1], ARGV[2], '')
""",
)
