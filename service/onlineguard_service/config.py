"""What the operator may choose, each documented once: the same text stands in `--help`, `--show-config` and errors.

A value is taken from the flag, else from the environment (`ONLINEGUARD_<NAME>`), else from the table [serve] of the
TOML file that `--config` or `ONLINEGUARD_CONFIG` names, else it is the default.
"""

import difflib
import json
import re
import sys
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from ipaddress import ip_network
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from onlineguard.errors import InvalidArgument

PREFIX = "ONLINEGUARD_"
CONFIG = PREFIX + "CONFIG"
TABLE = "serve"
REDIS = ("redis://", "rediss://", "unix://", "redis+sentinel://", "rediss+sentinel://")

Level = Literal["debug", "info", "warning", "error", "critical"]


def _setting(default: Any, about: str, least: float | None = None, most: float | None = None, **more: Any) -> Any:
    """A setting: its default, what it is, and the bounds of a number."""
    return field(default=default, metadata={"about": about, "least": least, "most": most}, **more)


_NOT_OF_REPLICAS = {"model": None, "lookups": None, "journal": "folder", "standby": "off", "webhook": None}


@dataclass(frozen=True)
class Settings:
    """How the service runs. Raises InvalidArgument for a value that cannot work."""

    host: str = _setting("127.0.0.1", "Address to listen on; 0.0.0.0 or :: for all, which should have keys and TLS.")
    port: int = _setting(8080, "Port to listen on; 0 takes a free one.", 0, 65_535)
    state: Path = _setting(Path("onlineguard-state"), "Folder of the journal and the snapshots; made if it is missing.")
    model: Path | None = _setting(
        None, "Folder of a model, as `slidr train` writes it; without it one made from simulated clicks."
    )
    registry: str | None = _setting(
        None, "Folder or URL (s3://, gs://, abfs://) of a registry of models, whose current version decides."
    )
    registry_every: float = _setting(30.0, "Seconds between looks at the registry.", 0.1)
    rollback: Literal["off", "on"] = _setting(
        "off",
        "Whether a model of the registry whose false positives or share of robotic clicks are far from what was "
        "promised is taken back by itself, here and in the registry.",
    )
    follow_drift: Literal["off", "on"] = _setting(
        "off",
        "Whether the thresholds of clicks follow the drift of scores between two trainings, inside the bands that were "
        "set with them.",
    )
    replica_of: str | None = _setting(
        None,
        "Folder or URL of the snapshots of shards, the --snapshots of their workers; with it the service is a replica "
        "that answers scores and clicks from them and learns nothing.",
    )
    replica_every: float = _setting(5.0, "Seconds between looks for newer snapshots.", 0.1)
    replica_age: float = _setting(180.0, "Seconds that a snapshot may be old; scores from an older one are refused.", 1)
    replica_log: str | None = _setting(
        None, "URL of the shards' log, to which a replica writes the clicks that it has decided.", repr=False
    )
    lookups: Path | None = _setting(
        None, "Folder of the lookups that `slidr lookups build` makes each night; without it nothing is looked up."
    )
    lookups_every: float = _setting(30.0, "Seconds between looks at that folder.", 0.1, 300.0)
    redis: str | None = _setting(
        None,
        "URL of the Redis that counts clicks, or of a node of a Redis Cluster, as redis://host:6379/0, or of "
        "Sentinels, as redis+sentinel://host:26379,host2:26379/primary/0; without it the process counts them.",
        repr=False,
    )
    redis_prefix: str = _setting(
        "onlineguard", "What the names of all keys in Redis begin with; each service on one Redis needs its own."
    )
    redis_replicas: int = _setting(
        0,
        "How many replicas of each Redis must have what was written before a request is answered; with all of them a "
        "failover loses nothing that was answered.",
        0,
        10,
    )
    journal: Literal["folder", "redis"] = _setting(
        "folder", "Where the journal is: in the folder of the state, or in Redis."
    )
    durability: Literal["async", "group", "sync"] = _setting(
        "group",
        "When a request is answered. async: once the system has it, which a power cut may undo; group: once it is on "
        "the disk, together with others; sync: once it is on the disk, by itself.",
    )
    history: Literal["on", "off"] = _setting(
        "on", "Whether clicks and labels are kept as Parquet, to train the next models with."
    )
    history_folder: Path | None = _setting(
        None, "Folder of the history; without it the folder history in that of the state."
    )
    history_days: int = _setting(90, "Days that the history is kept; 0: for ever.", 0)
    pseudonyms: Literal["off", "on"] = _setting(
        "off",
        "Whether the history has names made with a key in place of users, sessions and addresses; the key stays in the "
        "folder of the state.",
    )
    standby: Literal["off", "on"] = _setting(
        "off",
        "Whether to follow the journal that another service writes, and to take it over when that service has ended, "
        "shows nothing for too long, or at SIGUSR1.",
    )
    standby_after: float = _setting(
        5.0,
        "Seconds of silence after which a standby takes over; it does so at once if the other process has ended.",
        1,
    )
    snapshot_every: float = _setting(60.0, "Seconds between snapshots; a start replays the journal since the last.", 1)
    remember: int = _setting(
        100_000, "Answers to events, and to clicks, that are kept for requests that are sent again.", 0
    )
    features: tuple[str, ...] = _setting((), "Names of the numbers of an event, in order; none: events are lists.")
    n_features: int = _setting(
        0, "How many numbers an event has; 0: as many as the features, or as the first event.", 0
    )
    categories: tuple[str, ...] = _setting(
        (),
        "Features that are categories, by name or number from 0; those with a text in the first event are so without "
        "being named.",
    )
    other_features: Literal["refuse", "carry"] = _setting(
        "refuse",
        "What to do at a start with other features, n_features or categories than those of the state. refuse: stop; "
        "carry: the state goes on with them, and slices keep what they learned of those that remain.",
    )
    detector: Literal["point", "marginal", "series"] = _setting(
        "point",
        "How an event is judged. point: by all its numbers together; marginal: by each by itself, several times as "
        "fast and in less memory; series: given the values before it, and a run of odd ones is one alarm.",
    )
    target_rate: float | None = _setting(
        None, "Share of usual events that may be flagged; without it 0.01, of a series 0.0005.", 1e-6, 0.2
    )
    patience: float | None = _setting(
        None, "Events that a new regime must last before it counts as usual; without it 5,000. A series has none.", 1
    )
    max_slices: int = _setting(
        100_000, "Most slices that are kept; beyond that, the one that was silent longest is dropped.", 1
    )
    max_alarms: int = _setting(10_000, "Most alarms that are kept; beyond that, the oldest are dropped.", 1, 100_000)
    max_entities: int = _setting(
        250_000,
        "Most users that this process counts clicks of, and as many sessions, addresses, networks and ads; beyond "
        "that, those that clicked least in a day are dropped.",
        10_000,
    )
    namespace_share: float = _setting(
        0.1,
        "Share of max_slices, max_entities and remember that each namespace of the keys may have, beside the "
        "operator's own.",
        0.001,
        1.0,
    )
    body_limit: int = _setting(4_194_304, "Bytes of a request at most.", 1_024)
    bodies_limit: int = _setting(
        67_108_864,
        "Bytes of all large requests together that are being read or answered; more are told to wait.",
        65_536,
    )
    connections: int = _setting(2_000, "Most connections; one more is told to come again.", 1)
    connections_each: int = _setting(
        256,  # closing as many at once keeps others waiting for some 10 ms, a thousand for 40
        "Most connections of one address (or of a /64 of IPv6); one of trusted_proxies may have all but so many.",
        1,
    )
    trusted_proxies: tuple[str, ...] = _setting(
        (),
        "Addresses or networks, as 10.0.0.0/8, of proxies whose X-Forwarded-For is believed; none: a client is the "
        "address that connects.",
    )
    batch_limit: int = _setting(10_000, "Events, clicks or labels in a request at most.", 1)
    rate_limit: float = _setting(0.0, "Requests a second of one key, or of one address without a key; 0: no limit.", 0)
    keys: Path | None = _setting(None, "TOML file of API keys, see --new-key; without it requests need none.")
    hosts: tuple[str, ...] = _setting(
        (),
        "Host names that clients may ask for, beside localhost and addresses; checked where the service listens to "
        "this machine only and needs no key, so that no page of another site can pretend to be on it.",
    )
    tls_cert: Path | None = _setting(None, "Certificate chain (PEM); with it the service speaks TLS 1.2 or newer.")
    tls_key: Path | None = _setting(None, "Private key of the certificate (PEM).")
    tls_clients: Path | None = _setting(
        None,
        "Certificates (PEM) of the authorities that must have signed those of clients; without it clients need none.",
    )
    webhook: str | None = _setting(
        None, "URL that is told of every alarm that begins or ends; without it nobody is told.", repr=False
    )
    webhook_secret: str | None = _setting(
        None,
        "Secret that signs messages to the webhook, as whsec_ and base64; better in the environment than in a flag, "
        "which other users of the machine see.",
        repr=False,
    )
    webhook_secret_file: Path | None = _setting(None, "File that holds the secret of the webhook instead.")
    keep_alive: int = _setting(75, "Seconds after which an idle connection is closed.", 1)
    backlog: int = _setting(2_048, "Connections that may wait to be accepted.", 1)
    drain: float = _setting(
        0.0,
        "Seconds at shutdown in which the service says that it is not ready and still takes requests; as long as a "
        "load balancer takes to notice.",
        0,
    )
    grace: float = _setting(30.0, "Seconds that requests under way are given at shutdown.", 0)
    traces: Literal["off", "on"] = _setting(
        "off",
        "Whether requests are traced, for OpenTelemetry: one in a hundred, or as the OTEL_* variables say. Needs the "
        "extra otel.",
    )
    log_level: Level = _setting("info", "Least level that is logged; debug logs every request.")

    def __post_init__(self) -> None:
        for name in FIELDS:
            _check(name, getattr(self, name), name)
        if self.model is not None and self.registry is not None:
            raise InvalidArgument(f"model is {self.model}, but registry is {self.registry}; set one of them")
        if (self.tls_cert is None) != (self.tls_key is None):
            given, absent = ("tls_cert", "tls_key") if self.tls_key is None else ("tls_key", "tls_cert")
            raise InvalidArgument(f"{given} is {getattr(self, given)}, but {absent} is not set; TLS needs both")
        if self.tls_clients is not None and self.tls_cert is None:
            raise InvalidArgument(f"tls_clients is {self.tls_clients}, but tls_cert is not set; it takes TLS")
        if self.journal == "redis" and self.redis is None:
            raise InvalidArgument("journal is 'redis', but redis is not set; give the URL of the Redis that holds it")
        if self.replica_of is not None:
            wrong = [name for name, value in _NOT_OF_REPLICAS.items() if getattr(self, name) != value]
            if wrong:
                name = wrong[0]
                raise InvalidArgument(
                    f"{name} is {getattr(self, name)}, but replica_of is set, and a replica has none; leave it out"
                )
            if (self.redis is None) != (self.replica_log is None):
                given, absent = ("redis", "replica_log") if self.replica_log is None else ("replica_log", "redis")
                raise InvalidArgument(
                    f"{given} is set, but {absent} is not; to decide about clicks a replica needs both, and to score "
                    "events alone it needs neither"
                )
        elif self.replica_log is not None:
            raise InvalidArgument("replica_log is set, but replica_of is not; name the snapshots of the shards too")
        if self.redis is not None and not self.redis.startswith(REDIS):
            raise InvalidArgument(
                f"redis is {masked(self.redis)!r}; it must be a URL that begins with {', '.join(REDIS[:-1])} or "
                f"{REDIS[-1]}"
            )
        if self.webhook is not None and not self.webhook.startswith(("http://", "https://")):
            raise InvalidArgument(f"webhook is {hidden(self.webhook)!r}; it must begin with https:// or http://")
        given = [name for name in ("webhook_secret", "webhook_secret_file") if getattr(self, name) is not None]
        if (self.webhook is None) != (not given) or len(given) > 1:
            raise InvalidArgument(
                "webhook needs one of webhook_secret and webhook_secret_file, and these need webhook; a secret is e.g. "
                "whsec_ followed by what `openssl rand -base64 24` prints"
            )
        if set(self.redis_prefix) & set("{}"):
            raise InvalidArgument(f"redis_prefix is {self.redis_prefix!r}; it must be text without braces, e.g. clicks")
        for proxy in self.trusted_proxies:
            try:
                ip_network(proxy, strict=False)
            except ValueError:
                raise InvalidArgument(
                    f"trusted_proxies names {proxy!r}; it must be an address or a network, e.g. 192.0.2.1 or 10.0.0.0/8"
                ) from None
        if self.features and self.n_features not in (0, len(self.features)):
            raise InvalidArgument(
                f"n_features is {self.n_features}, but features names {len(self.features)}; leave n_features out"
            )
        for name in ("features", "categories"):
            if len(set(getattr(self, name))) < len(getattr(self, name)):
                raise InvalidArgument(f"{name} is {','.join(getattr(self, name))}; each name may stand once")
        if self.features and (unknown := set(self.categories) - set(self.features)):
            raise InvalidArgument(f"categories names {min(unknown)!r}, which is not among features; name it there too")
        if self.detector == "series" and self.patience is not None:
            raise InvalidArgument(
                f"patience is {self.patience:g}, but detector is 'series', which has none; leave it out"
            )


@dataclass(frozen=True)
class Loaded:
    """The settings, and for each where its value comes from, in words."""

    settings: Settings
    sources: dict[str, str]


FIELDS = {each.name: each for each in fields(Settings)}
TYPES: dict[str, Any] = get_type_hints(Settings)


def load(flags: Mapping[str, Any], environ: Mapping[str, str], file: Path | None = None) -> Loaded:
    """The settings under the flags that were given (None: not given), the environment and the file.

    Raises InvalidArgument naming the flag, the variable, or the file and its key.
    """
    if file is None and environ.get(CONFIG):
        file = Path(environ[CONFIG])
    table = _read(file) if file is not None else {}
    _no_misspelt(environ)
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for name in FIELDS:
        flag, variable = "--" + name.replace("_", "-"), PREFIX + name.upper()
        if flags.get(name) is not None:
            source, raw, named = f"flag {flag}", flags[name], flag
        elif environ.get(variable):
            source, raw, named = f"environment {variable}", environ[variable], variable
        elif name in table:
            source, raw, named = f"file {file}", table[name], f"{file}: {TABLE}.{name}"
        else:
            sources[name] = "default"
            continue
        values[name] = _check(name, _converted(name, raw), named)
        sources[name] = source
    return Loaded(Settings(**values), sources)


def show(loaded: Loaded) -> str:
    """The settings as a TOML file, each line with what it is and where its value comes from; secrets are masked."""
    lines = ["# Settings of `onlineguard serve`: flag, else environment, else file, else default.", f"[{TABLE}]"]
    for name, source in loaded.sources.items():
        value = getattr(loaded.settings, name)
        choices = f" One of {', '.join(get_args(TYPES[name]))}." if get_origin(TYPES[name]) is Literal else ""
        lines += ["", f"# {about(name)}{choices}"]
        told = " ".join(source.split())
        lines.append(f"# {name} is not set  # {told}" if value is None else f"{name} = {_toml(name, value)}  # {told}")
    return "\n".join(lines) + "\n"


def about(name: str) -> str:
    """What a setting is, with the bounds of a number."""
    bounds = FIELDS[name].metadata
    least, most = bounds["least"], bounds["most"]
    if least is None:
        return bounds["about"]
    return f"{bounds['about']} {f'At least {least:g}' if most is None else f'{least:g} to {most:g}'}."


def default(name: str) -> str | None:
    """A setting's default as it is shown; None if it is not set."""
    value: Any = FIELDS[name].default
    return None if value is None or value == () else str(value)


def metavar(name: str) -> str:
    """What stands for the value in `--help`."""
    kind = _plain(TYPES[name])
    if get_origin(kind) is Literal:
        return "|".join(get_args(kind))
    if get_origin(kind) is tuple:
        return "NAME,NAME"
    return {int: "N", float: "NUMBER", Path: "PATH"}.get(kind, "TEXT")


def masked(url: str) -> str:
    """A URL without its user and password, and without what its query says.

    >>> masked("redis://me:secret@db:6379/0?password=x")
    'redis://***@db:6379/0?***'
    """
    return re.sub(r"\?.*", "?***", re.sub(r"//[^/]*@", "//***@", url))


def hidden(url: str) -> str:
    """The host of a URL whose path or query may be a secret.

    >>> hidden("https://me:key@hooks.example/T0/secret?token=x")
    'https://hooks.example/***'
    """
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.partition('/')[0].rpartition('@')[2]}/***"


SECRETS: dict[str, Callable[[str], str]] = {
    "redis": masked,
    "replica_log": masked,
    "webhook": hidden,
    "webhook_secret": lambda secret: "***",
}


def nearest(name: str, known: list[str]) -> str:
    """A hint at the known name that a wrong one is closest to, or all of them."""
    close = difflib.get_close_matches(name[:100], known, 1, 0.5)  # clients send names of megabytes
    return f"did you mean {close[0]}?" if close else f"it must be one of {', '.join(known)}"


def _no_misspelt(environ: Mapping[str, str]) -> None:
    """Raises InvalidArgument for a variable whose name is nearly that of a setting."""
    known = [PREFIX + name.upper() for name in FIELDS]
    for variable in environ:
        if variable.startswith(PREFIX) and variable not in (*known, CONFIG):
            close = difflib.get_close_matches(
                variable.removeprefix(PREFIX), [n.removeprefix(PREFIX) for n in known], 1, 0.75
            )
            if close:
                raise InvalidArgument(
                    f"the environment has {variable}, which no setting reads; did you mean {PREFIX}{close[0]}?"
                )


def _read(file: Path) -> dict[str, Any]:
    try:
        whole = tomllib.loads(file.read_text("utf-8"))
    except OSError as error:
        raise InvalidArgument(f"--config {file} cannot be read: {error.strerror or error}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidArgument(f"--config {file} is no TOML: {error}") from error
    for key in whole:
        if key != TABLE:
            raise InvalidArgument(f"{file}: {key} is unknown; the settings stand in the table [{TABLE}]")
    table = whole.get(TABLE, {})
    if not isinstance(table, dict):
        raise InvalidArgument(f"{file}: {TABLE} must be a table, [{TABLE}]")
    for key in table:
        if key not in FIELDS:
            raise InvalidArgument(f"{file}: {TABLE}.{key} is unknown; {nearest(key, list(FIELDS))}")
    return table


def _converted(name: str, raw: Any) -> Any:
    """The value in the setting's type where that can be; else as it is, for the check to refuse."""
    kind = _plain(TYPES[name])
    try:
        if isinstance(raw, str) and kind is int:
            return int(raw)
        if kind is float and isinstance(raw, str | int) and not isinstance(raw, bool):
            return float(raw)
        if kind is Path and isinstance(raw, str) and raw:
            return Path(raw)
        if get_origin(kind) is tuple and isinstance(raw, str | list):
            return tuple(part.strip() for part in raw.split(",")) if isinstance(raw, str) else tuple(raw)
    except ValueError:
        pass
    return raw


def _check(name: str, value: Any, named: str) -> Any:
    """The value, or InvalidArgument with the name under which it was given."""
    kind, bounds = TYPES[name], FIELDS[name].metadata
    plain = _plain(kind)
    if value is None and kind is not plain:
        return value
    if get_origin(plain) is Literal:
        right = value in get_args(plain)
    elif get_origin(plain) is tuple:
        right = isinstance(value, tuple) and all(isinstance(part, str) and part for part in value)
    elif plain is float:
        right = isinstance(value, int | float) and not isinstance(value, bool)
    else:
        right = isinstance(value, plain) and not isinstance(value, bool) and value != ""
    if right and isinstance(value, int | float):
        right = (bounds["least"] or 0) <= value <= (sys.float_info.max if bounds["most"] is None else bounds["most"])
    if not right:
        shown = SECRETS[name](value) if name in SECRETS and isinstance(value, str) else value
        raise InvalidArgument(f"{named} is {shown!r}; it must be {_rule(name)}. {bounds['about']}")
    return value


def _plain(kind: Any) -> Any:
    """The type without None."""
    kinds = [part for part in get_args(kind) if part is not NoneType]
    return kinds[0] if NoneType in get_args(kind) else kind


def _rule(name: str) -> str:
    kind, bounds = _plain(TYPES[name]), FIELDS[name].metadata
    if get_origin(kind) is Literal:
        return f"one of {', '.join(get_args(kind))}"
    if get_origin(kind) is tuple:
        return "names, separated by commas or as a list"
    if kind in (int, float):
        number, least, most = "a whole number" if kind is int else "a number", bounds["least"], bounds["most"]
        return f"{number} from {least:g} to {most:g}" if most is not None else f"{number} of at least {least:g}"
    return "a path" if kind is Path else "text"


def _toml(name: str, value: Any) -> str:
    if isinstance(value, tuple):
        return "[" + ", ".join(_toml(name, part) for part in value) + "]"
    if isinstance(value, int | float):
        return repr(value)
    text = SECRETS[name](value) if name in SECRETS else str(value)
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
