"""The metrics that the core's `status()` is turned into. How many there are does not depend on what clients send: of
slices only the busiest hundred are named."""

import time
from collections.abc import Mapping
from typing import Any

from onlineguard_service.figures import shown_key
from onlineguard_service.http.exposition import Exposition

_COUNTERS = (
    ("events", "Events learned."),
    ("clicks", "Clicks learned."),
    ("anomalies", "Events flagged."),
    ("robotic", "Clicks decided robotic."),
    ("purchases", "Purchases that became known of clicks."),
    ("purchases_robotic", "Purchases of clicks that had been decided robotic."),
    ("degraded", "Clicks not judged because a part had failed."),
    ("duplicates", "Events, clicks and purchases that came again, and were answered as before."),
    ("conflicts", "Requests refused because an id came before with other content."),
    ("compilations", "Programs compiled; after the start only for new models and larger tables."),
)
_RATES = (
    ("clicks", "Clicks"),
    ("robotic", "Clicks decided robotic"),
    ("purchases", "Purchases that became known of clicks"),
    ("purchases_robotic", "Purchases of clicks that had been decided robotic"),
    ("heavy", "Clicks of sessions that click as no human does"),
    ("heavy_robotic", "Clicks of such sessions that were decided robotic"),
)


def tell(into: Exposition, status: Mapping[str, Any]) -> None:
    """Add the families of a status; what it does not say is left out."""
    for name, about in _COUNTERS:
        into.counter(name, about, status.get(name))
    _tables(into, status)
    _namespaces(into, status.get("namespaces") or {})
    _durability(into, status)
    into.gauge("queue", "Requests that wait for the core.", status.get("queue"))
    label = _age((status.get("labels") or {}).get("last_ts"))
    into.gauge("labels_age_seconds", "Time since the newest purchase or RFM score became known.", label)
    into.gauges("model", "The model in use; always 1.", "version", {str(status.get("model_version")): 1})
    into.gauges(
        "ivr",
        "Share of clicks called robotic, of the busiest slices.",
        "slice",
        {str(slice_): rate for slice_, rate in (status.get("ivr") or {}).items() if rate is not None},
    )
    tell_rates(into, status.get("rates") or {})
    replica = status.get("replica")
    if replica is not None:
        into.counter("replica_snapshots", "Snapshots of shards that were loaded.", replica["loaded"])
        into.gauge("replica_load_seconds", "That the last of them took.", replica["seconds"])
        into.gauges("replica_age_seconds", "Age of the snapshot, by partition.", "partition", replica["ages"])
    into.counters(
        "delayed_decisions",
        "Decisions that came later than their clicks, by outcome.",
        "outcome",
        status.get("delayed") or {},
    )
    alarms = status.get("alarms")
    if alarms is not None:
        into.counters("alarms_begun", "Alarms that began, by what found them.", "kind", alarms["begun"])
        into.gauge("alarms_open", "Alarms that go on.", alarms["open"])
    webhook = status.get("webhook")
    if webhook is not None:
        into.counter("webhook_sent", "Messages that the webhook has taken.", webhook["sent"])
        into.counter("webhook_failures", "Attempts to send one that failed.", webhook["failures"])
        into.counter("webhook_dropped", "Messages that were never heard.", webhook["dropped"])
        into.gauge("webhook_waiting", "Messages that wait for the webhook.", webhook["waiting"])
        into.gauge("webhook_age_seconds", "Age of the oldest of them; 0 without one.", webhook["age"])
        into.gauge("webhook_gone", "1 when the webhook said that it wants no more.", webhook["gone"])
    _watch(into, status.get("watch") or {}, status.get("registry"))
    _trial(into, status.get("trial") or {})
    lookups = status.get("lookups")
    if lookups is not None:
        age = _age(lookups["as_of"])
        into.gauge("lookups_age_seconds", "Time since the day ended that clicks are looked up as of.", age)
        into.gauge("lookups_damaged", "Versions of the lookups that are passed over.", lookups["damaged"])


def tell_rates(into: Exposition, rates: Mapping[str, Mapping[Any, int]]) -> None:
    """What IVR, FPR and coverage of slices are made of: counts, which may be summed over processes."""
    for name, about in _RATES:
        told = {shown_key(slice_): count for slice_, count in rates.get(name, {}).items()}
        into.counters(f"slice_{name}", f"{about}, of the busiest slices.", "slice", told)


def _tables(into: Exposition, status: Mapping[str, Any]) -> None:
    """What is held in memory, and how it comes and goes."""
    slices: Mapping[str, Mapping[str, int]] = status.get("slices") or {}
    into.gauges("slices", "Slices that are kept.", "of", {of: table["held"] for of, table in slices.items()})
    for name, about in (("born", "Slices seen for the first time."), ("evicted", "Slices that made room for others.")):
        into.counters(f"slices_{name}", about, "of", {of: table[name] for of, table in slices.items()})
    entities: Mapping[str, int] | None = status.get("entities")
    if entities is not None:
        into.gauges("entities", "Whose clicks are counted in this process.", "kind", entities)
    into.counters("evicted", "Who made room for others.", "kind", status.get("evicted") or {})


def _namespaces(into: Exposition, namespaces: Mapping[str, Mapping[str, int]]) -> None:
    """What tenants use. There are as many as the file of keys names."""
    for name, about in (("events", "Events learned"), ("clicks", "Clicks learned")):
        counts = {namespace: told[name] for namespace, told in namespaces.items()}
        into.counters(f"namespace_{name}", f"{about} by namespace.", "namespace", counts)
    held = {namespace: told["slices"] for namespace, told in namespaces.items()}
    into.gauges("namespace_slices", "Slices that are kept by namespace.", "namespace", held)


def _durability(into: Exposition, status: Mapping[str, Any]) -> None:
    """The journal, the snapshots, the history and Redis."""
    journal, snapshot = status.get("journal") or {}, status.get("snapshot") or {}
    history, redis = status.get("history") or {}, status.get("redis") or {}
    for name, about, value in (
        ("journal_sequence", "Number of the newest entry of the journal.", journal.get("sequence")),
        ("journal_age_seconds", "Time since the newest entry came.", journal.get("age")),
        (
            "journal_lag_seconds",
            "How long the oldest entry that is not yet durable has waited.",
            journal.get("lag"),
        ),
        ("journal_bytes", "Size of the journal.", journal.get("bytes")),
        ("journal_answers_waiting", "Answers that wait until their entries are durable.", journal.get("waiting")),
        ("journal_slow", "1 while syncs of the disk take a second or more.", journal.get("slow")),
        ("snapshot_sequence", "Number of the last entry in the newest snapshot.", snapshot.get("sequence")),
        ("snapshot_age_seconds", "Time since the newest snapshot.", _age(snapshot.get("t"))),
        (
            "snapshot_behind_seconds",
            "Time since the first entry that no snapshot holds; 0 without one.",
            snapshot.get("behind"),
        ),
        ("snapshot_every_seconds", "Seconds between snapshots, as was set.", snapshot.get("every")),
        ("history_sequence", "Number of the last entry whose clicks and labels are in files.", history.get("sequence")),
        ("history_waiting_bytes", "What waits to become a file of the history.", history.get("waiting")),
        (
            "history_behind",
            "1 when the history could not be written for so long that only a restart completes it.",
            history.get("behind"),
        ),
    ):
        into.gauge(name, about, value)
    into.counter("snapshot_failures", "Snapshots that could not be written.", snapshot.get("failures"))
    into.histogram("journal_sync_seconds", "Seconds of a sync of the disk.", journal.get("syncs"))
    if redis:
        into.histograms("redis_seconds", "Seconds of a round trip to Redis.", "of", redis["seconds"])
        into.counters("redis_failures", "Round trips to Redis without an answer.", "of", redis["failures"])


def _watch(into: Exposition, watch: Mapping[str, Any], registry: Mapping[str, Any] | None) -> None:
    """How the model compares with what it promised, and the registry that it comes from."""
    if not watch:
        return
    into.gauge("model_age_seconds", "Time since the model went live.", _age(watch["since"]))
    into.gauge("model_watched", "1 when it is known what the model promised.", watch["watched"])
    into.counters("alarms", "Alarms of the live watch, by figure.", "figure", watch["n_alarms"])
    into.counter("rollbacks", "Models that were taken back by themselves.", watch["rollbacks"])
    for name, about in (("promised", "The rate that the model promised."), ("seen", "The rate since it went live.")):
        told = ((rate["figure"], rate["of"], rate[name]) for rate in watch["rates"])
        rates = (((figure, of), rate) for figure, of, rate in told if rate is not None)
        into.labelled(f"rate_{name}", "gauge", about, ("figure", "slice"), rates)
    psi = {name: index for name, index in watch["psi"].items() if index is not None}
    into.gauges("psi", "Stability index of the last day against the promise.", "of", psi)
    if registry is not None:
        reached = registry["reached"]
        into.gauge("registry_refused", "1 when the registry's current version is not used.", registry["refused"])
        age = None if reached is None else time.time() - reached
        into.gauge("registry_age_seconds", "Time since the registry was read.", age)


def _trial(into: Exposition, trial: Mapping[str, Any]) -> None:
    """The candidate that is tried, and how it compares with the live model on the same clicks."""
    if not trial:
        return
    into.gauge("trial_running", "1 while a candidate judges beside the live model.", trial["running"])
    into.counter("trials_ended", "Trials that an alarm has ended.", trial["ended_by_itself"])
    both = trial["overall"]
    if not trial["running"] or both is None:
        return
    into.gauges("trial_share", "Share of the users it decides.", "version", {trial["version"]: trial["share"]})
    into.gauge("trial_clicks", "Clicks that both models have judged since the trial began.", both["clicks"])
    into.gauge("trial_purchases", "Purchases that became known of them.", both["purchases"])
    marked = ("live", "candidate", "only_live", "only_candidate")
    into.gauges("trial_robotic", "Clicks that a model calls robotic.", "by", {by: both[by] for by in marked})
    wrong = {by: both[f"purchases_{by}"] for by in marked[:2]}
    into.gauges("trial_purchases_robotic", "Purchases of such clicks.", "by", wrong)


def _age(ms: float | None) -> float | None:
    """Seconds since a time in ms since 1970."""
    return None if ms is None else max(0.0, time.time() - ms / 1_000)
