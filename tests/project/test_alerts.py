"""The alert rules fire where they should and rest where they should, as Prometheus' own `promtool test rules` finds."""

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.support.redis_server import CI

RULES = Path(__file__).parents[2] / "service/deploy/alerts.yml"
AT = 85  # minutes after which it is asked which alerts fire
CLICKS, SCORES = "/v1/clicks", "/v1/score"


def requests(route: str, status: int) -> str:
    return f'onlineguard_requests_total{{route="{route}", status="{status}"}}'


def latencies(name: str, labels: str, slow: float) -> dict[str, str]:
    """A histogram that grows by 100 values a minute, all of which lie between 0.01 s and `slow`."""
    return {
        f'onlineguard_{name}_bucket{{{labels}le="0.01"}}': "0x120",
        f'onlineguard_{name}_bucket{{{labels}le="{slow}"}}': "0+100x120",
        f'onlineguard_{name}_bucket{{{labels}le="+Inf"}}': "0+100x120",
    }


def of_instance(series: str, instance: object) -> str:
    """The series of one service among several."""
    name, _, labels = series.partition("{")
    return f'{name}{{instance="{instance}"' + (f",{labels}" if labels else "}")


def lag(partition: int) -> str:
    return f'onlineguard_shard_lag_seconds{{partition="{partition}"}}'


def unkept(partition: int) -> str:
    return f'onlineguard_shard_snapshot_behind_seconds{{partition="{partition}"}}'


def outputs(topic: str) -> str:
    return f'onlineguard_worker_outputs_total{{topic="{topic}"}}'


UP, START = 'up{job="onlineguard"}', 'process_start_time_seconds{job="onlineguard"}'
WORKER_UP, WORKER_START = (each.replace('"onlineguard"', '"onlineguard-shards"') for each in (UP, START))
EVERY = "onlineguard_worker_snapshot_every_seconds"
ROUTE = f'route="{CLICKS}",'
WEBHOOK_WELL = {"onlineguard_webhook_dropped_total": "7x120", "onlineguard_webhook_gone": "0x120"}
CASES: dict[str, tuple[dict[str, str], list[dict[str, str]]]] = {  # series with which it fires, and with which it rests
    "OnlineguardDown": ({UP: "1x80 0x40"}, [{UP: "1x120"}, {UP: "1x60 0x0 1x60"}]),
    "OnlineguardRestarts": (
        {START: "1x72 2x2 3x2 4x2 5x40"},
        [{START: "1x80 2x40", UP: "1x80 0x1 1x40"}, {START: "1x120", UP: "1x120"}],
    ),
    "OnlineguardNotReady": (
        {"onlineguard_ready": "1x80 0x40"},
        [{"onlineguard_ready": "1x120"}, {"onlineguard_ready": "0x120", "onlineguard_standby": "1x120"}],
    ),
    "OnlineguardStandbyLags": (
        {"onlineguard_standby_lag_seconds": "0x40 31+60x80"},
        [{"onlineguard_standby_lag_seconds": "2x120"}],
    ),
    "OnlineguardFails": (
        {requests(CLICKS, 200): "0+10x120", requests(CLICKS, 503): "0+1x120"},
        [
            {requests(CLICKS, 200): "0+1000x120", requests(CLICKS, 503): "0+1x120"},
            {requests(CLICKS, 200): "0+10x120", requests(CLICKS, 422): "0+10x120"},
            {requests(CLICKS, 200): "0+1x120", requests(CLICKS, 503): "0x82 1x40"},
        ],
    ),
    "OnlineguardDegraded": (
        {"onlineguard_degraded_total": "0x70 1+1x50"},
        [{"onlineguard_degraded_total": "7x120"}],
    ),
    "OnlineguardJournalLags": (
        {"onlineguard_journal_lag_seconds": "0.1x80 2x40"},
        [{"onlineguard_journal_lag_seconds": "0.1x120"}],
    ),
    "OnlineguardDiskSlow": (
        {"onlineguard_journal_slow": "0x70 1x50"},
        [{"onlineguard_journal_slow": "0x120", **latencies("journal_sync_seconds", "", 0.02)}],
    ),
    "OnlineguardRedisSlow": (
        latencies("redis_seconds", 'of="counters",', 0.5),
        [latencies("redis_seconds", 'of="counters",', 0.02)],
    ),
    "OnlineguardLoopLate": (latencies("loop_lag_seconds", "", 0.5), [latencies("loop_lag_seconds", "", 0.02)]),
    "OnlineguardSlow": (
        latencies("request_seconds", ROUTE, 0.05),
        [latencies("request_seconds", ROUTE, 0.015), latencies("request_seconds", 'route="/v1/slices",', 0.05)],
    ),
    "OnlineguardQueue": ({"onlineguard_queue": "500x120"}, [{"onlineguard_queue": "20x120"}]),
    "OnlineguardNoSnapshot": (
        {"onlineguard_snapshot_behind_seconds": "0+60x120", "onlineguard_snapshot_every_seconds": "60x120"},
        [{"onlineguard_snapshot_behind_seconds": "0+60x120", "onlineguard_snapshot_every_seconds": "3600x120"}],
    ),
    "OnlineguardCompiles": (
        {"onlineguard_compilations_total": "70x80 71x40", "process_start_time_seconds": "0x120"},
        [
            {"onlineguard_compilations_total": "70x120", "process_start_time_seconds": "0x120"},
            {"onlineguard_compilations_total": "0x80 70x40", "process_start_time_seconds": "4800x120"},
        ],
    ),
    "OnlineguardRobotsRise": (
        {"onlineguard_robotic_total": "0+1x60 60+60x60", "onlineguard_clicks_total": "0+100x120"},
        [
            {"onlineguard_robotic_total": "0+10x120", "onlineguard_clicks_total": "0+100x120"},
            {"onlineguard_robotic_total": "0+1x60 60+6x60", "onlineguard_clicks_total": "0+10x120"},
        ],
    ),
    "OnlineguardHistory": (
        {"onlineguard_history_waiting_bytes": "0x120", "onlineguard_history_behind": "1x120"},
        [{"onlineguard_history_waiting_bytes": "1000000x120", "onlineguard_history_behind": "0x120"}],
    ),
    "OnlineguardLabelsStale": (
        {"onlineguard_labels_age_seconds": "86400+60x120"},
        [{"onlineguard_labels_age_seconds": "60x120"}],
    ),
    "OnlineguardModelDeviates": (
        {'onlineguard_alarms_total{figure="fpr"}': "0x30 1x90"},
        [
            {'onlineguard_alarms_total{figure="fpr"}': "0x120"},
            {'onlineguard_alarms_total{figure="scores"}': "0x30 1x90"},
        ],
    ),
    "OnlineguardTrafficDeviates": (
        {'onlineguard_alarms_total{figure="scores"}': "0x80 1x40"},
        [{'onlineguard_alarms_total{figure="scores"}': "0x120"}],
    ),
    "OnlineguardRolledBack": ({"onlineguard_rollbacks_total": "0x80 1x40"}, [{"onlineguard_rollbacks_total": "0x120"}]),
    "OnlineguardModelRefused": (
        {"onlineguard_registry_refused": "1x120"},
        [{"onlineguard_registry_refused": "0x120"}],
    ),
    "OnlineguardRegistryAway": (
        {"onlineguard_registry_age_seconds": "0+60x120"},
        [{"onlineguard_registry_age_seconds": "20x120"}],
    ),
    "OnlineguardTrialEnded": (
        {"onlineguard_trials_ended_total": "0x80 1x40"},
        [{"onlineguard_trials_ended_total": "0x120"}],
    ),
    "OnlineguardLookupsOld": (
        {"onlineguard_lookups_age_seconds": "192000+60x120"},
        [{"onlineguard_lookups_age_seconds": "9x120"}],
    ),
    "OnlineguardModelOld": (
        {"onlineguard_model_age_seconds": "259000+60x120", "onlineguard_model_watched": "1x120"},
        [
            {"onlineguard_model_age_seconds": "259000+60x120", "onlineguard_model_watched": "0x120"},
            {"onlineguard_model_age_seconds": "9x120", "onlineguard_model_watched": "1x120"},
        ],
    ),
    "OnlineguardWebhookFails": (
        {"onlineguard_webhook_age_seconds": "0x60 0+60x60", **WEBHOOK_WELL},
        [{"onlineguard_webhook_age_seconds": "0x60 300x60", **WEBHOOK_WELL}],
    ),
    "OnlineguardConflicts": (
        {"onlineguard_conflicts_total": "0x30 0+1x90"},
        [{"onlineguard_conflicts_total": "0x80 3x40"}],
    ),
    "OnlineguardSlicesForgotten": (
        {'onlineguard_slices_evicted_total{of="events"}': "0+100x120", 'onlineguard_slices{of="events"}': "1000x120"},
        [{'onlineguard_slices_evicted_total{of="events"}': "0+1x120", 'onlineguard_slices{of="events"}': "1000x120"}],
    ),
    "OnlineguardFiles": (
        {'process_open_fds{job="onlineguard"}': "900x120", 'process_max_fds{job="onlineguard"}': "1024x120"},
        [{'process_open_fds{job="onlineguard"}': "90x120", 'process_max_fds{job="onlineguard"}': "1024x120"}],
    ),
    "OnlineguardWorkerDown": (
        {WORKER_UP: "1x80 0x40"},
        [{WORKER_UP: "1x120"}, {WORKER_UP: "1x60 0x0 1x60"}, {UP: "0x120"}],
    ),
    "OnlineguardWorkerRestarts": (
        {WORKER_START: "1x72 2x2 3x2 4x2 5x40"},
        [{WORKER_START: "1x80 2x40", WORKER_UP: "1x80 0x1 1x40"}, {WORKER_START: "1x120", WORKER_UP: "1x120"}],
    ),
    "OnlineguardWorkerStuck": (
        {"onlineguard_worker_silent_seconds": "0x80 0+60x40"},
        [{"onlineguard_worker_silent_seconds": "0.5x120"}, {"onlineguard_worker_silent_seconds": "0x80 100x0 0x40"}],
    ),
    "OnlineguardWorkerNotReady": (
        {"onlineguard_worker_ready": "1x70 0x50"},
        [{"onlineguard_worker_ready": "1x120"}, {"onlineguard_worker_ready": "1x80 0x40"}],
    ),
    "OnlineguardShardLags": (
        {lag(0): "0x120", lag(1): "0x70 61+60x50"},
        [{lag(0): "0x120", lag(1): "59x120"}, {lag(0): "0x82 300x40"}],
    ),
    "OnlineguardShardSnapshotOld": (
        {unkept(0): "0x120", unkept(1): "0x60 0+60x60", EVERY: "60x120"},
        [
            {unkept(0): "50x120", EVERY: "60x120"},
            {unkept(0): "0x60 0+60x60", EVERY: "3600x120"},
            {unkept(0): "0x80 7200x0 0x40", EVERY: "60x120"},
        ],
    ),
    "OnlineguardDeadLetters": (
        {outputs("dead"): "0x80 3x40"},
        [{outputs("dead"): "3x120", outputs("alarms"): "0+9x120"}],
    ),
    "OnlineguardOwnerFenced": (
        {"onlineguard_worker_partitions_fenced_total": "0x60 2x60"},
        [
            {
                "onlineguard_worker_partitions_fenced_total": "2x120",
                "onlineguard_worker_partitions_lost_total": "0+1x120",
            }
        ],
    ),
    "OnlineguardLogWentBack": (
        {"onlineguard_worker_partitions_undone_total": "0x60 2x60"},
        [{"onlineguard_worker_partitions_undone_total": "2x120"}],
    ),
}
OF_ALL_WORKERS = "OnlineguardPartitionUnowned"  # which no instance has by itself


def alerts() -> list[str]:
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return [rule["alert"] for group in groups for rule in group["rules"] if "alert" in rule]


def hold(folder: Path, series: dict[str, str], *asked: tuple[str, str, bool]) -> None:
    """Under these series, values a minute, alerts fire or rest after `AT` minutes: their names, labels, and whether."""
    promtool = shutil.which("promtool")
    if promtool is None:
        missing = "promtool is not installed; on Debian it is in the package prometheus"
        if CI:
            pytest.fail(missing)
        pytest.skip(missing)
    expected = [
        {
            "expr": f'count(ALERTS{{alertname="{name}", alertstate="firing", {labels}}}) or vector(0)',
            "eval_time": f"{AT}m",
            "exp_samples": [{"labels": "{}", "value": int(fires)}],
        }
        for name, labels, fires in asked
    ]
    given = [{"series": name, "values": values} for name, values in series.items()]
    test = {"interval": "1m", "input_series": given, "promql_expr_test": expected}
    file = folder / "test.yml"
    file.write_text(yaml.safe_dump({"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": [test]}))
    done = subprocess.run([promtool, "test", "rules", str(file)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_fires_where_it_should_and_rests_where_it_should(tmp_path):
    assert sorted([*CASES, OF_ALL_WORKERS]) == sorted(alerts())
    told = [(name, given, True) for name, (given, _) in CASES.items()]
    told += [(name, given, False) for name, (_, worlds) in CASES.items() for given in worlds]
    series = {of_instance(name, i): values for i, (_, given, _) in enumerate(told) for name, values in given.items()}
    # Each as a service of its own, all in one run, since promtool takes half a second for each.
    hold(tmp_path, series, *((name, f'instance="{i}"', fires) for i, (name, _, fires) in enumerate(told)))


@pytest.mark.parametrize("values", ["dropped_total 0x60 3x60", "gone 0x60 1x60"])
def test_a_webhook_that_dropped_messages_or_has_gone_is_told_of_too(values, tmp_path):
    name, _, given = values.partition(" ")
    well = {"onlineguard_webhook_age_seconds": "0x120", **WEBHOOK_WELL}
    hold(tmp_path, well | {f"onlineguard_webhook_{name}": given}, ("OnlineguardWebhookFails", "", True))


@pytest.mark.parametrize("values", ["1x80 stale", "_x90"], ids=["vanished", "never there"])
def test_a_target_that_is_not_there_is_down(values, tmp_path):
    hold(tmp_path, {UP: values}, ("OnlineguardDown", "", True))


def test_a_partition_that_no_worker_owns_is_told_of(tmp_path):
    deployments = {  # what is told of its three partitions, and whether it fires
        "all are owned": (["1x120", "1x120", "1x120"], False),
        "one never was": (["1x120", "1x120"], True),
        "one is not any more": (["1x120", "1x120", "1x70 stale"], True),
        "one just moves": (["1x120", "1x120", "1x82 stale"], False),
        "none is owned": ([], True),
    }
    series, asked = {}, []
    for workers, told in (("there", "3x120"), ("gone", "3x60 stale")):
        for name, (owned, fires) in deployments.items():
            job = f"{name}, workers are {workers}"
            asked.append((OF_ALL_WORKERS, f'job="{job}"', fires))
            series[f'onlineguard_worker_log_partitions{{job="{job}", instance="a"}}'] = told
            for at, values in enumerate(owned):
                series[f'onlineguard_shard_offset{{job="{job}", instance="{at}", partition="{at}"}}'] = values
    hold(tmp_path, series, *asked)


def test_no_workers_are_missed_where_none_ever_were(tmp_path):
    hold(tmp_path, {UP: "1x120"}, (OF_ALL_WORKERS, "", False), ("OnlineguardWorkerDown", "", False))


def test_faults_that_hid_are_found_and_rest_that_was_none_is_left_alone(tmp_path):
    turns = " ".join(["0x0 1x0"] * 10)
    worlds = {
        "crash loop": {UP: f"1x70 {turns} 0x0 1x40", START: "1x120"},
        "one route": {requests(SCORES, 200): "0+100000x120", requests(CLICKS, 503): "0+5x120"},
        "no traffic": {
            "onlineguard_snapshot_behind_seconds": "0x120",
            "onlineguard_snapshot_every_seconds": "60x120",
            "onlineguard_snapshot_sequence": "0x120",
            "onlineguard_journal_sequence": "5000x120",
        },
    }
    hold(
        tmp_path,
        {of_instance(name, world): values for world, given in worlds.items() for name, values in given.items()},
        ("OnlineguardRestarts", 'instance="crash loop"', True),
        ("OnlineguardDown", 'instance="crash loop"', False),  # it is never down for a minute
        ("OnlineguardFails", 'instance="one route"', True),  # although one request in 20,000 fails
        ("OnlineguardNoSnapshot", 'instance="no traffic"', False),
    )
