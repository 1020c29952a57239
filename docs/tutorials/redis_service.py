# A tutorial of the documentation: docs/notebooks.py makes its page. It needs a redis-server.

# %% [markdown]
# # A service with Redis

# %% [markdown]
# A service writes what it learns to a journal. Where a machine's disk does not outlive it, the journal can be in Redis,
# and so can the counts of clicks. This page starts a Redis and a service, asks it, kills both without warning, and
# starts them again. Is anything lost? It needs `pip install 'onlineguard[plot,serve]'` and a `redis-server`, and writes
# to the folder that you run it in.

# %%
import socket
import subprocess
import sys

import matplotlib.pyplot as plt
import numpy as np

from onlineguard.client import Client

with socket.socket() as one, socket.socket() as other:  # two ports that are free
    one.bind(("127.0.0.1", 0))
    other.bind(("127.0.0.1", 0))
    port, redis_port = one.getsockname()[1], other.getsockname()[1]
log = open("log.txt", "w")
redis = ["redis-server", "--bind", "127.0.0.1", "--port", str(redis_port), "--save", ""]
redis += ["--appendonly", "yes", "--appendfsync", "always"]  # a write is on the disk before it is answered
serve = [sys.executable, "-m", "onlineguard", "serve", "--port", str(port), "--features", "ms,bytes"]
serve += ["--redis", f"redis://127.0.0.1:{redis_port}/0", "--journal", "redis", "--state", "state"]


def start():
    started = [subprocess.Popen(command, stdout=log, stderr=log) for command in (redis, serve)]
    guard.wait_until_ready(timeout=300)
    return started


guard = Client(f"http://127.0.0.1:{port}")
processes = start()

# %% [markdown]
# Events of two hosts. Each event has an id, so sending it twice is harmless. The last one is far too slow:

# %%
rng = np.random.default_rng(0)
events = [
    {"id": f"e-{i}", "slice": f"web-{i % 2 + 1}", "features": {"ms": ms, "bytes": size}}
    for i, (ms, size) in enumerate(rng.lognormal([3.0, 8.0], 0.3, (2_000, 2)).tolist())
]
events[-1]["features"]["ms"] = 500.0
answers = guard.update(events)
print(answers[-2], answers[-1], sep="\n")
assert [answer.anomalous for answer in answers[-2:]] == [False, True]

# %% [markdown]
# Clicks of two visitors. One clicks every ten minutes; the other is a robot, and clicks every 900 ms. No model was
# given, so the service judges them by one that it made of simulated clicks.


# %%
def clicks(user, address, every, numbers):
    who = {"user_id": user, "session_id": f"s-{user}", "ip": address, "user_agent": "Mozilla/5.0", "logged_in": True}
    what = {"device": "desktop", "marketplace": "US", "ad_id": "ad-1"}
    ts = 1_790_000_000_000  # milliseconds
    return [{"click_id": f"{user}-{i}", "ts": ts + every * i, **who, **what} for i in numbers]


ann, robot = clicks("ann", "203.0.113.9", 600_000, range(5)), clicks("robot", "198.51.100.7", 900, range(40))
usual, found = guard.clicks(ann), guard.clicks(robot)
print("robotic from click", 1 + [answer.decision for answer in found].index("robotic"), "on")
assert {answer.decision for answer in usual} == {"valid"}

# %% [markdown]
# Now both are killed (`kill -9`) and started again. The journal and the counts are in Redis; the model, which does not
# change, is in the folder `state`.

# %%
odd = {"id": "odd", "slice": "web-1", "features": {"ms": 60.0, "bytes": 3_000.0}}
before = guard.score(odd)
for process in processes:
    process.kill()
    process.wait()
processes = start()

# %% [markdown]
# A producer that got no answer sends its events and clicks again. Those that were answered before get the same answers,
# and are not learned twice. The score of the same event is the same, to the last bit.

# %%
assert guard.update(events) == answers
assert guard.clicks(robot) == found
assert guard.score(odd) == before
print({row.slice: row.events for row in guard.slices(of="events").slices}, before.score)

# %% [markdown]
# And the robot is still known: its next clicks are counted on top of those from before the kill.

# %%
later = guard.clicks(clicks("robot", "198.51.100.7", 900, range(40, 80)))
assert all(answer.decision == "robotic" for answer in later)

figure, ax = plt.subplots(figsize=(8, 3), layout="constrained")
ax.plot([answer.p_robot for answer in found + later], color="#dc2626", label="the robot")
ax.plot([answer.p_robot for answer in usual], color="#2563eb", label="ann")
ax.axhline(found[0].threshold, color="#0f172a", lw=1, label="threshold of the slice")
ax.axvline(39.5, color="#0f172a", ls=":", lw=1, label="killed")
ax.set(xlabel="click of the visitor", ylabel="p_robot")
ax.legend(frameon=False)

# %%
guard.close()
for process in reversed(processes):
    process.terminate()
    process.wait(60)

# %% [markdown]
# [Durability](../service.md#durability) says what other settings of Redis and of the journal promise, and what happens
# while Redis is away. `docker compose -f service/compose.yaml up --build` starts a service that counts clicks in Redis.
# If your clicks are already in a Redis stream, [the worker](../service.md#the-worker) reads them from there.
