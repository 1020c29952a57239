"""What a worker says of itself: metrics that Prometheus reads, and whether it lives and is ready."""

import json
import time
import urllib.error
import urllib.request

import pytest
from onlineguard_service.partitions.memory import MemoryLog
from onlineguard_service.shards.held import Held
from onlineguard_service.shards.owner import STUCK, Owner
from onlineguard_service.shards.serving import serving
from onlineguard_service.shards.snapshots import Snapshots

from onlineguard.errors import InvalidArgument
from onlineguard.slidr.registry.stores import opened


def got(url):
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def test_a_port_of_metrics_that_is_taken_is_told_by_its_name(owner):
    with (
        serving(owner, "127.0.0.1", 0) as port,
        pytest.raises(
            InvalidArgument, match=rf"metrics_port is {port}, where nothing can be served on 127.0.0.1: .*in use"
        ),
        serving(owner, "127.0.0.1", port),
    ):
        pass


@pytest.fixture
def owner(tmp_path):
    log = MemoryLog(1, eager=False)
    return Owner(log.member(), log.writer(), Snapshots(opened(tmp_path)), lambda partition, dump: None)


def test_a_worker_tells_whether_it_lives_is_ready_and_what_it_did(owner):
    owner.progress.records, owner.progress.outputs, owner.behind.lags = 7, {"decisions": 5}, {0: 1.5}
    with serving(owner, "127.0.0.1", 0) as port:
        url = f"http://127.0.0.1:{port}"
        assert got(f"{url}/livez")[0] == got(f"{url}/readyz")[0] == 200
        status, text = got(f"{url}/metrics")
        assert status == 200
        assert b"onlineguard_worker_records_total 7.0\n" in text
        assert b'onlineguard_worker_outputs_total{topic="decisions"} 5.0\n' in text
        assert b'onlineguard_shard_lag_seconds{partition="0"} 1.5\n' in text
        assert b"onlineguard_worker_log_partitions 1.0\n" in text
        assert b"onlineguard_worker_snapshot_every_seconds 60.0\n" in text
        assert b'onlineguard_worker_outputs_total{topic="dead"} 0.0\n' in text  # so that Prometheus sees it rise
        assert 0.0 <= float(text.partition(b"\nonlineguard_worker_silent_seconds ")[2].split()[0]) < STUCK
        assert got(f"{url}/else")[0] == 404
        owner.held[0] = Held(None, None, waits="record 3: the model is not there")
        owner.turned = time.monotonic() - STUCK - 1
        status, body = got(f"{url}/livez")
        assert (status, json.loads(body)["reason"]) == (503, f"no turn has ended for {STUCK + 1:.0f} s")
        status, body = got(f"{url}/readyz")
        assert (status, json.loads(body)["reason"]) == (503, "partition 0: record 3: the model is not there")
