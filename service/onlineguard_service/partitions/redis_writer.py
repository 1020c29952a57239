"""Appends records to a log in Redis."""

import logging
import secrets
import time
from threading import Event

from onlineguard.errors import InvalidArgument
from onlineguard_service.partitions.division import placed
from onlineguard_service.partitions.redis_names import checked, count, key
from onlineguard_service.redis.patient import PatientRedis

TOGETHER = 256  # records of one call; Redis answers nobody else meanwhile
PATIENCE = 10.0  # seconds that Redis may be away
REMEMBERED = 86_400  # seconds that Redis remembers how much of a writer it has

_log = logging.getLogger(__name__)

# KEYS records, writer. ARGV number of the first record, records to keep (0: all), seconds; kind, key, value of each.
# The number of the record that was there last.
_WRITE = """
local last = tonumber(redis.call('GET', KEYS[2]) or 0)
local before = last
local number = tonumber(ARGV[1])
for i = 4, #ARGV, 3 do
  if number > last then
    redis.call('XADD', KEYS[1], '*', 'kind', ARGV[i], 'key', ARGV[i + 1], 'value', ARGV[i + 2])
    last = number
  end
  number = number + 1
end
if ARGV[2] ~= '0' then redis.call('XTRIM', KEYS[1], 'MAXLEN', '~', ARGV[2]) end
redis.call('SET', KEYS[2], string.format('%.0f', last), 'EX', ARGV[3])
return before
"""


class RedisWriter:
    """A `Writer` of a log in Redis, for one thread. Each record is there once, also if a connection is lost meanwhile.

    url, stream, partitions: as of `RedisMember`.
    keep_records: about how many records a partition keeps; 0: all.
    replicas: of Redis, that must have a record before it counts as written.

    A failover to a replica may lose records that Redis had taken. The next record of the same partition notices, `lost`
    counts them, and a warning says so.
    """

    def __init__(
        self,
        url: str,
        stream: str = "onlineguard",
        *,
        partitions: int | None = None,
        keep_records: int = 0,
        replicas: int = 0,
    ):
        if keep_records < 0:
            raise InvalidArgument("keep_records", f"is {keep_records}; it must be 0, which keeps all, or more")
        self._replicas = checked(replicas)
        self._redis = PatientRedis(url, Event(), PATIENCE, 1.0)
        self._stream, self._keep = stream, keep_records
        self.lost = 0  # records that Redis had taken, and had no more when others were written
        self._name = f"writer:{secrets.token_hex(8)}"
        self._waiting: dict[int, list[bytes | str]] = {}  # kind, key, value of each record of a partition
        self._next: dict[int, int] = {}  # the number of the first record that waits
        self._sent: dict[int, float] = {}  # when records of a partition were written last
        self._partitions = self._redis.patiently(lambda: count(self._redis.client, stream, partitions))

    @property
    def partitions(self) -> int:
        """How many the log has."""
        return self._partitions

    def write(self, partition: int | None, key: bytes, value: bytes, kind: str = "events") -> None:
        """See `Writer.write`. May raise JournalUnavailable as `flush`; the record waits for the next flush then."""
        partition = placed(partition, key, self._partitions)
        waiting = self._waiting.setdefault(partition, [])
        waiting += (kind, key, value)
        if len(waiting) >= 3 * TOGETHER:
            self._send(partition)

    def flush(self) -> None:
        """See `Writer.flush`: Redis has it then. Raises JournalUnavailable where Redis is away for `PATIENCE`."""
        for partition in list(self._waiting):
            self._send(partition)

    def close(self) -> None:
        """See `Writer.close`."""
        try:
            self.flush()
        finally:
            self._redis.close()

    def _send(self, partition: int) -> None:
        """All that waits, in parts."""
        keys = [key(self._stream, partition), key(self._stream, partition, self._name)]
        while waiting := self._waiting[partition]:
            first, part = self._next.get(partition, 1), waiting[: 3 * TOGETHER]
            call = (keys, [first, self._keep, REMEMBERED, *part])
            (last,) = self._redis.patiently(lambda call=call: self._redis.run(_WRITE, [call], self._replicas))
            self._look_for_losses(partition, first - 1 - last)
            self._next[partition] = first + len(part) // 3
            self._sent[partition] = time.monotonic()
            del waiting[: len(part)]

    def _look_for_losses(self, partition: int, n: int) -> None:
        """So many records before those that were written are not there."""
        if n > 0 and time.monotonic() - self._sent[partition] < REMEMBERED - PATIENCE:  # else Redis may just forget
            self.lost += n
            _log.warning(
                "Redis lost %d records of partition %d that it had taken, e.g. in a failover: write them again. With "
                "replicas=1 in the URL a record counts as written once a replica has it",
                n,
                partition,
            )
