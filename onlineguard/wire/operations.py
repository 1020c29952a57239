"""Every request that the service takes: its path, the scope it needs, what it holds and how it is answered."""

from typing import Any, Literal, NamedTuple

from onlineguard.wire import alarms, answers, registry, requests

Scope = Literal["score", "update", "admin"]  # what a key may be granted


class Operation(NamedTuple):
    """A method on a path."""

    method: Literal["GET", "POST", "DELETE"]
    path: str  # with {key} where a slice's key stands, {version} where one of the registry does, and {id} of an alarm
    scope: Scope | None  # that a key needs; None: no key is needed
    summary: str
    body: tuple[type[Any], ...] = ()  # of one of these kinds
    many: bool = False  # whether the body may hold many objects; each gets an answer
    query: type[Any] | None = None
    answer: type[Any] | None = None
    media: str = "application/json"  # of the answer
    apart: bool = False  # whether a key of a namespace may ask it: what is told or changed is in the namespace alone
    refusals: tuple[int, ...] = ()  # beside those that any operation may have: 500, and with a scope 401, 403 and 429

    @property
    def noun(self) -> str:
        """What errors call an object of the body, e.g. "event"."""
        return self.body[0].__name__.lower()


_BODY = (400, 408, 413, 415, 422)  # how a body may be refused

UPDATE = Operation(
    "POST",
    "/v1/update",
    "update",
    "Score events by what was known before them, then learn from them.",
    body=(requests.Event,),
    many=True,
    answer=answers.EventAnswer,
    apart=True,
    refusals=(*_BODY, 409, 503),
)
SCORE = UPDATE._replace(
    path="/v1/score", scope="score", summary="Score events, and learn nothing.", refusals=(*_BODY, 503)
)
CLICKS = UPDATE._replace(
    path="/v1/clicks",
    summary="Decide about clicks, and learn from them.",
    body=(requests.Click,),
    answer=answers.ClickAnswer,
)
LABELS = UPDATE._replace(
    path="/v1/labels",
    summary="Report what became known about clicks later.",
    body=(requests.Label,),
    answer=answers.LabelAnswer,
    refusals=(*_BODY, 503),
)
DECISIONS = UPDATE._replace(
    path="/v1/decisions",
    scope="admin",
    summary="Replace decisions about clicks by later ones.",
    body=(requests.Decision,),
    answer=answers.DecisionAnswer,
    refusals=(*_BODY, 503),
)
SLICES = Operation(
    "GET",
    "/v1/slices",
    "score",
    "List slices.",
    query=requests.SlicesQuery,
    answer=answers.SlicePage,
    apart=True,
    refusals=(422, 503),
)
SLICE = Operation(
    "GET",
    "/v1/slices/{key}",
    "score",
    "One slice, with its history.",
    query=requests.SliceQuery,
    answer=answers.SliceState,
    apart=True,
    refusals=(404, 422, 503),
)
LIVE = Operation(
    "GET", "/v1/live", "score", "Server-sent events, one a second.", media="text/event-stream", refusals=(404, 503)
)
ALARMS = Operation(
    "GET",
    "/v1/alarms",
    "score",
    "List alarms, the newest first.",
    query=alarms.AlarmsQuery,
    answer=alarms.AlarmPage,
    refusals=(422, 503),
    apart=True,
)
ALARM_STREAM = LIVE._replace(
    path="/v1/alarms/stream", summary="Alarms as they begin, grow, end and are acknowledged, as server-sent events."
)
ALARM = Operation(
    "GET", "/v1/alarms/{id}", "score", "One alarm.", answer=alarms.AlarmState, refusals=(404, 503), apart=True
)
NOTE_ALARM = Operation(
    "POST",
    "/v1/alarms/{id}",
    "admin",
    "Acknowledge an alarm, and say if its event was usual.",
    body=(alarms.AlarmNote,),
    answer=alarms.AlarmState,
    refusals=(*_BODY, 404, 503),
    apart=True,
)
EXPLAIN = Operation(
    "POST",
    "/v1/explain",
    "score",
    "Say which features drive the score of an event or click.",
    body=(requests.Event, requests.Click),
    answer=answers.Explanation,
    apart=True,
    refusals=(*_BODY, 404, 503),
)
MODEL = Operation(
    "POST",
    "/v1/model",
    "admin",
    "Decide by another model from now on.",
    body=(requests.ModelFolder,),
    answer=answers.ModelVersion,
    refusals=(*_BODY, 404, 503),
)
WATCH = Operation(
    "GET",
    "/v1/watch",
    "score",
    "Compare what the model does with what it promised.",
    answer=answers.WatchState,
    apart=True,
    refusals=(503,),
)
TRIAL = Operation(
    "GET",
    "/v1/trial",
    "score",
    "Compare a candidate with the model that decides.",
    answer=answers.TrialState,
    refusals=(503,),
)
TRY = Operation(
    "POST",
    "/v1/trial",
    "admin",
    "Let a candidate judge every click beside the live model, or decide the clicks of a share of the users.",
    body=(requests.TrialModel,),
    answer=answers.TrialState,
    refusals=(*_BODY, 404, 409, 503),
)
END_TRIAL = TRIAL._replace(method="DELETE", scope="admin", summary="End the trial of a candidate, if one runs.")
REGISTRY = Operation(
    "GET",
    "/v1/registry",
    "score",
    "List the versions of the registry, and say which of them decides.",
    query=registry.RowsQuery,
    answer=registry.RegistryState,
    refusals=(422, 503),
)
VERSION = Operation(
    "GET",
    "/v1/registry/versions/{version}",
    "score",
    "One version, with the report of its guardrails.",
    answer=registry.VersionState,
    refusals=(404, 503),
)
CHANGES = Operation(
    "GET",
    "/v1/registry/changes",
    "score",
    "Who changed the registry, and why.",
    query=registry.RowsQuery,
    answer=registry.ChangePage,
    refusals=(404, 422, 503),
)
DIFF = Operation(
    "GET",
    "/v1/registry/diff",
    "score",
    "Two versions side by side.",
    query=registry.DiffQuery,
    answer=registry.VersionDiff,
    refusals=(404, 422, 503),
)
PROMOTE = Operation(
    "POST",
    "/v1/registry/promote",
    "admin",
    "Let a version of the registry be current, and decide.",
    body=(registry.Promotion,),
    answer=registry.Changed,
    refusals=(*_BODY, 409, 503),
)
ROLLBACK = PROMOTE._replace(
    path="/v1/registry/rollback",
    summary="Let the version be current, and decide, that was so before.",
    body=(registry.Rollback,),
)
SNAPSHOT = Operation(
    "POST", "/v1/snapshot", "admin", "Write a snapshot now.", answer=answers.SnapshotAnswer, refusals=(503,)
)
ERASE = Operation(
    "POST",
    "/v1/erase",
    "admin",
    "Erase the traces of a user.",
    body=(requests.Person,),
    apart=True,
    answer=answers.ErasedAnswer,
    refusals=(*_BODY, 503),
)
METRICS = Operation("GET", "/metrics", "score", "Figures for Prometheus.", media="text/plain")
LIVEZ = Operation("GET", "/livez", None, "Whether the process answers.", answer=answers.Alive)
READYZ = Operation("GET", "/readyz", None, "Whether requests are answered.", answer=answers.Readiness)
OPENAPI = Operation("GET", "/openapi.json", None, "This document.")

OPERATIONS = (
    UPDATE,
    SCORE,
    CLICKS,
    LABELS,
    DECISIONS,
    SLICES,
    SLICE,
    LIVE,
    ALARMS,
    ALARM_STREAM,
    ALARM,
    NOTE_ALARM,
    EXPLAIN,
    MODEL,
    WATCH,
    TRIAL,
    TRY,
    END_TRIAL,
    REGISTRY,
    VERSION,
    CHANGES,
    DIFF,
    PROMOTE,
    ROLLBACK,
    SNAPSHOT,
    ERASE,
    METRICS,
    LIVEZ,
    READYZ,
    OPENAPI,
)
