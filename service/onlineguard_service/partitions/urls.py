"""A log by its URL.

    kafka://host:9092,host2:9092/clicks?group=guards&security.protocol=SASL_SSL
    kafka://host:9092/clicks?options=/etc/onlineguard/kafka.properties
    redis://host:6379/0?stream=clicks&group=guards&partitions=8
    redis+sentinel://host:26379,host2:26379/primary/0?stream=clicks&sentinel_password=secret

| in the query | of | |
|---|---|---|
| `group` | both | the members that share the partitions; "onlineguard" |
| `partitions` | both | how many there are: Redis begins a new log with so many, else it is checked |
| `decisions`, `alarms`, `dead` | both | other names of the topics, or streams, of outputs |
| `missing` | both | `skip` goes on without records that the log dropped before they were applied; `stop` does not |
| `stream` | Redis | the name of the log; "onlineguard" |
| `lease` | Redis | seconds without a sign of life after which a member's partitions go to others; 30 |
| `keep` | Redis | about how many outputs each stream keeps; 1,000,000 |
| `keep_records` | Redis | about how many records a writer lets a partition keep; 0 is all |
| `replicas` | Redis | how many must have a record that counts as written, a partition's new owner, or outputs; 0 |
| `sentinel_user`, `sentinel_password`, any with `ssl_` | Redis | as in `onlineguard.sentinels` |
| `options` | Kafka | a file of librdkafka's options, a line `name=value` each |
| any name with a dot | Kafka | one of those options |
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from threading import Event
from typing import Any, NamedTuple, Protocol
from urllib.parse import parse_qsl, urlencode, urlsplit

from onlineguard.errors import InvalidArgument
from onlineguard.extras import require
from onlineguard_service.config import masked, nearest
from onlineguard_service.partitions.log import OUTPUTS, Member, Writer

_SHARED = ("group", "partitions", "missing", *OUTPUTS)
_REDIS = ("redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel")
_NAMES = {
    "redis": (*_SHARED, "stream", "lease", "keep", "keep_records", "replicas"),
    "kafka": (*_SHARED, "options"),
}


class WriterOfParts(Writer, Protocol):
    """A writer that knows how many partitions its log has, for batches that are divided before."""

    @property
    def partitions(self) -> int:
        """How many the log has."""
        ...


class Log(NamedTuple):
    """What a URL says."""

    kind: str  # "kafka" or "redis"
    where: str  # the brokers, or Redis's own URL
    name: str  # of the topic or stream
    query: Mapping[str, str]
    options: Mapping[str, str]  # of librdkafka


def open_member(url: str, stop: Event | None = None, to: str | None = None) -> Member:
    """A member of the group that shares the log at a URL.

    stop: nothing is waited for once it is set.
    to: where outputs go, as a URL: another base name of their topics in the same Kafka or Redis. None: beside the log.

    Raises InvalidArgument for a wrong URL, MissingExtra where a package is missing.
    """
    log = parsed(url)
    topics = {name: log.query[name] for name in OUTPUTS if name in log.query}
    if to is not None:
        topics = _topics_of(log, parsed(to)) | topics
    given: dict[str, Any] = {
        "group": log.query.get("group", "onlineguard"),
        "partitions": _number(log, "partitions", int),
        "topics": topics,
        "skip_missing": _skips(log),
        "stop": stop,
    }
    if log.kind == "redis":
        require("a log in Redis", "redis")
        from onlineguard_service.partitions.redis_streams import RedisMember

        for name, kind in (("lease", float), ("keep", int), ("replicas", int)):
            if (value := _number(log, name, kind)) is not None:
                given[name] = value
        return RedisMember(log.where, log.name, **given)
    require("a log in Kafka", "kafka")
    from onlineguard_service.partitions.kafka import KafkaMember

    return KafkaMember(log.where, log.name, **given, options=log.options)


def open_writer(url: str) -> WriterOfParts:
    """What appends to the log at a URL. Raises as `open_member`, and JournalUnavailable where the log is away."""
    log = parsed(url)
    partitions = _number(log, "partitions", int)
    if log.kind == "redis":
        require("a log in Redis", "redis")
        from onlineguard_service.partitions.redis_writer import RedisWriter

        keep, replicas = (_number(log, name, int) or 0 for name in ("keep_records", "replicas"))
        return RedisWriter(log.where, log.name, partitions=partitions, keep_records=keep, replicas=replicas)
    require("a log in Kafka", "kafka")
    from onlineguard_service.partitions.kafka_writer import KafkaWriter

    return KafkaWriter(log.where, log.name, partitions=partitions, options=log.options)


def parsed(url: str) -> Log:
    """The parts of a URL. Raises InvalidArgument with what is wrong and how it should look."""
    parts = urlsplit(url)
    kind = "kafka" if parts.scheme == "kafka" else "redis" if parts.scheme in _REDIS else None
    if kind is None:
        raise InvalidArgument(
            f"{url!r} is no log; name one as kafka://host:9092/topic or redis://host:6379/0?stream=name"
        )
    shown = masked(url) if kind == "redis" else url
    pairs = parse_qsl(parts.query, keep_blank_values=True)
    query = dict(pairs)
    if len(query) < len(pairs):
        twice = next(name for name, _ in pairs if [other for other, _ in pairs].count(name) > 1)
        raise InvalidArgument(f"{shown!r} has {twice} twice; give it once")
    options = {name: query.pop(name) for name in list(query) if kind == "kafka" and "." in name}
    connecting = {name: query.pop(name) for name in list(query) if kind == "redis" and _is_of_connection(name)}
    for name, value in query.items():
        if name not in _NAMES[kind]:
            raise InvalidArgument(f"{shown!r} has {name!r}, which is unknown; {nearest(name, list(_NAMES[kind]))}")
        if not value:
            raise InvalidArgument(f"{shown!r} has {name} without a value; give one, or leave it out")
    if kind == "redis":
        where = url.partition("?")[0]  # `geturl` would make unix:/path of unix:///path
        if connecting:
            where += f"?{urlencode(connecting)}"
        return Log(kind, where, query.get("stream", "onlineguard"), query, {})
    name = parts.path.removeprefix("/")
    if not parts.netloc or not name or "/" in name:
        raise InvalidArgument(
            f"{url!r} names no {'broker' if not parts.netloc else 'topic'}; write kafka://host:9092/topic"
        )
    if "@" in parts.netloc:
        raise InvalidArgument(
            "a URL of Kafka has no user and password; give sasl.username and sasl.password as options"
        )
    if "options" in query:
        options = _from_file(query["options"]) | options
    return Log(kind, parts.netloc, name, query, options)


def _is_of_connection(name: str) -> bool:
    return name in ("sentinel_user", "sentinel_password") or name.startswith("ssl_")


def _from_file(path: str) -> dict[str, str]:
    """Options in a file as Java's clients and librdkafka's have them."""
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidArgument("options", f"is {path!r}, which cannot be read: {error}") from None
    options: dict[str, str] = {}
    for number, line in enumerate(map(str.strip, lines), 1):
        if line and not line.startswith("#"):
            name, sign, value = line.partition("=")
            if not sign:
                raise InvalidArgument("options", f"is {path!r}, whose line {number} is {line!r}; it must be name=value")
            options[name.strip()] = value.strip()
    return options


def _topics_of(log: Log, to: Log) -> dict[str, str]:
    """The topics of outputs under another name. Raises InvalidArgument where they are not beside the log."""
    if (log.kind, log.where) != (to.kind, to.where):
        raise InvalidArgument(
            f"outputs to {to.kind} at {masked(to.where)} of a log in {log.kind} at {masked(log.where)}: they must be "
            "in one place, so that what is read and what is written go forward in one step"
        )
    if log.kind == "redis":
        base = "" if to.name == log.name else f"{to.name}:"  # all keys of a partition lie in one slot
        return {name: to.query.get(name, f"{base}{name}") for name in OUTPUTS}
    return {name: to.query.get(name, f"{to.name}.{name}") for name in OUTPUTS}


def _number[N: (int, float)](log: Log, name: str, kind: Callable[[str], N]) -> N | None:
    if (text := log.query.get(name)) is None:
        return None
    try:
        return kind(text)
    except ValueError:
        raise InvalidArgument(name, f"is {text!r}; it must be a number, e.g. 8") from None


def _skips(log: Log) -> bool:
    missing = log.query.get("missing", "stop")
    if missing not in ("stop", "skip"):
        raise InvalidArgument("missing", f"is {missing!r}; it must be stop or skip")
    return missing == "skip"
