"""What a journal in Redis lays down there: its keys, and the scripts that change them.

Of a journal named `clicks`:

| key | holds |
|---|---|
| `{clicks}:entries` | the stream; the id of an entry is `<epoch>-<sequence>`, its one field `e` the entry |
| `{clicks}:head` | format, owner, epoch, sequence number and id of the newest entry |
| `{clicks}:beat` | who writes, and how often it has said so |
| `{clicks}:snapshots` | sequence number to id of the newest entry, of the two newest snapshots |
| `{clicks}:snapshot:<sequence>` | the pieces of a snapshot (`onlineguard_service.journal.snapshots`), 1 MB a field |

Each script is done whole or not at all. Where nothing else is said, its KEYS are head, entries and snapshots.
"""

import hashlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import redis

VERSION = 1  # of the format


class Keys(NamedTuple):
    """Those of a journal; one hash slot holds them all."""

    head: str
    entries: str
    snapshots: str
    beat: str

    @staticmethod
    def of(name: str) -> "Keys":
        """The keys of the journal of that name."""
        return Keys(*(f"{{{name}}}:{of}" for of in Keys._fields))

    def snapshot(self, sequence: int) -> str:
        """The key of the snapshot after that entry."""
        return f"{self.snapshots.removesuffix('s')}:{sequence}"


def pieces_of(client: redis.Redis, key: str) -> Iterator[bytes]:
    """The pieces of a snapshot, one after the other; none where it has gone."""
    count: Any = client.hlen(key)
    for i in range(count):
        piece: Any = client.hget(key, str(i))
        yield piece or b""


class Script(NamedTuple):
    """A script that is run often: Redis keeps it, and is told only its hash."""

    text: str
    sha: str

    @staticmethod
    def of(text: str) -> "Script":
        """The script of that text."""
        return Script(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


# ARGV format, owner. Begins the first epoch of a process: {epoch, sequence, id, the epoch before}, or {-1, format}
# where that is newer.
OPEN = """
local format = tonumber(redis.call('HGET', KEYS[1], 'format') or ARGV[1])
if format > tonumber(ARGV[1]) then return {-1, format} end
local time = redis.call('TIME')
local before = redis.call('HGET', KEYS[1], 'epoch') or 0
local epoch = math.max(time[1] * 1000 + math.floor(time[2] / 1000), 1 + before)
redis.call('HSETNX', KEYS[1], 'sequence', 0)
redis.call('HSETNX', KEYS[1], 'id', '0-0')
redis.call('HSET', KEYS[1], 'format', ARGV[1], 'owner', ARGV[2], 'epoch', string.format('%.0f', epoch))
return {epoch, tonumber(redis.call('HGET', KEYS[1], 'sequence')), redis.call('HGET', KEYS[1], 'id'), tonumber(before)}
"""

# ARGV owner, new epoch, sequence, id. Begins that epoch and deletes the entries after that one, which must be there, or
# have been: a replica that took over may hold others in its place, which were taken out again elsewhere.
RESUME = Script.of("""
local head = redis.call('HMGET', KEYS[1], 'owner', 'epoch', 'sequence', 'id')
if not head[1] then return 'lost' end
if head[1] ~= ARGV[1] then return tonumber(head[2]) < tonumber(ARGV[2]) and 'lost' or 'fenced' end
if tonumber(head[2]) >= tonumber(ARGV[2]) then return 'late' end
if tonumber(head[3]) < tonumber(ARGV[3]) then return 'lost' end
if head[4] ~= ARGV[4] and ARGV[3] ~= '0' and #redis.call('XRANGE', KEYS[2], ARGV[4], ARGV[4]) == 0
  and redis.call('HGET', KEYS[3], ARGV[3]) ~= ARGV[4] then return 'lost' end
for n = tonumber(ARGV[3]) + 1, tonumber(head[3]) do
  redis.call('XDEL', KEYS[2], head[2] .. '-' .. string.format('%.0f', n))
end
redis.call('HSET', KEYS[1], 'epoch', ARGV[2], 'sequence', ARGV[3], 'id', ARGV[4])
return 'yours'
""")

# ARGV epoch, sequence of the newest entry, the entries.
APPEND = Script.of("""
local head = redis.call('HMGET', KEYS[1], 'epoch', 'sequence')
if head[1] ~= ARGV[1] or head[2] ~= ARGV[2] then return 'no' end
local id, sequence = nil, tonumber(ARGV[2])
for i = 3, #ARGV do
  sequence = sequence + 1
  id = ARGV[1] .. '-' .. string.format('%.0f', sequence)
  redis.call('XADD', KEYS[2], id, 'e', ARGV[i])
end
redis.call('HSET', KEYS[1], 'sequence', string.format('%.0f', sequence), 'id', id)
return 'yes'
""")

# KEYS also the staged snapshot, its place, places of those to drop. ARGV owner, sequence, id, where the entries may
# begin ('' for anywhere), a new epoch where Redis lost entries ('' elsewhere; 'lost' says that it did), format, number
# of pieces (a Redis that is full may have dropped some), sequences of those to drop.
SNAPSHOT = """
local head = redis.call('HMGET', KEYS[1], 'owner', 'epoch', 'sequence')
if redis.call('HLEN', KEYS[4]) ~= tonumber(ARGV[7]) then return 'no' end
if ARGV[5] == '' then
  if not head[1] or head[1] == ARGV[1] and tonumber(head[3]) < tonumber(ARGV[2]) then return 'lost' end
  if head[1] ~= ARGV[1] then return 'no' end
else
  if head[2] and tonumber(head[2]) >= tonumber(ARGV[5]) then return 'no' end
  redis.call('DEL', KEYS[1], KEYS[2], KEYS[3])
  redis.call('HSET', KEYS[1], 'format', ARGV[6], 'owner', ARGV[1], 'epoch', ARGV[5], 'sequence', ARGV[2], 'id', ARGV[3])
end
redis.call('RENAME', KEYS[4], KEYS[5])
redis.call('PERSIST', KEYS[5])
redis.call('HSET', KEYS[3], ARGV[2], ARGV[3])
for i = 6, #KEYS do redis.call('UNLINK', KEYS[i]) end
for i = 8, #ARGV do redis.call('HDEL', KEYS[3], ARGV[i]) end
if ARGV[4] ~= '' then redis.call('XTRIM', KEYS[2], 'MINID', '~', ARGV[4], 'LIMIT', 0) end
return 'yes'
"""

# KEYS head, entries. ARGV owner, id. Makes the stream anew of the entries after that one.
MAKE_ANEW = """
if redis.call('HGET', KEYS[1], 'owner') ~= ARGV[1] then return 'no' end
local kept = redis.call('XRANGE', KEYS[2], '(' .. ARGV[2], '+')
redis.call('DEL', KEYS[2])
for _, entry in ipairs(kept) do redis.call('XADD', KEYS[2], entry[1], 'e', entry[2][2]) end
return 'yes'
"""

# KEYS head, beat. ARGV owner, what to write ('' to delete it).
BEAT = """
if redis.call('HGET', KEYS[1], 'owner') ~= ARGV[1] then return 'no' end
if ARGV[2] == '' then redis.call('DEL', KEYS[2]) else redis.call('SET', KEYS[2], ARGV[2]) end
return 'yes'
"""
