# A tutorial of the documentation: docs/notebooks.py makes its page.

# %% [markdown]
# # A dashboard

# %% [markdown]
# The service has a page of its own at `/`. To watch it beside other services, there are a dashboard for Grafana and
# alerts for Prometheus: `docker compose -f service/compose.yaml --profile grafana up --build` starts all three.
#
# This page starts the service alone and looks at what they would see. It needs `pip install 'onlineguard[plot,serve]'`.

# %%
import re
import socket
import subprocess
import sys
from pathlib import Path

import httpx2
import matplotlib.pyplot as plt
import numpy as np

from onlineguard.client import Client

with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    port = probe.getsockname()[1]
log = Path("log.txt").open("w")
serve = [sys.executable, "-m", "onlineguard", "serve", "--port", str(port), "--features", "ms", "--state", "state"]
process = subprocess.Popen(serve, stdout=log, stderr=log)
guard = Client(f"http://127.0.0.1:{port}")
guard.wait_until_ready(timeout=300)

# %% [markdown]
# Events of three hosts; one becomes slow at the end.

# %%
rng = np.random.default_rng(0)
ms = rng.lognormal(3.0, 0.2, (1_500, 3))
ms[1_400:, 2] *= 4.0
events = [
    {"slice": f"web-{host}", "features": {"ms": float(value)}} for row in ms for host, value in enumerate(row, start=1)
]
answers = guard.update(events)
flagged = np.array([answer.anomalous for answer in answers]).reshape(ms.shape)
flagged[1_400:].mean(axis=0)

# %% [markdown]
# What Prometheus reads every ten seconds:

# %%
metrics = httpx2.get(f"http://127.0.0.1:{port}/metrics").text
shown = [line for line in metrics.splitlines() if re.match(r"onlineguard_(events|anomal|alarms|slices)", line)]
print("\n".join(shown[:12]))
assert shown

# %% [markdown]
# The panel *Anomalies* of the dashboard shows the share of anomalies of a whole service. Here it is for each host, from
# the answers:

# %%
figure, ax = plt.subplots(figsize=(8, 3), layout="constrained")
for host in range(3):
    share = flagged[:, host].reshape(-1, 50).mean(axis=1)
    ax.plot(np.arange(len(share)) * 50, 100.0 * share, label=f"web-{host + 1}")
ax.set(xlabel="event of the host", ylabel="anomalies, %")
ax.legend(frameon=False)
assert flagged[1_400:, 2].mean() > 0.9 > 0.1 > flagged[1_400:, :2].mean()

# %%
guard.close()
process.terminate()
process.wait(60)
log.close()

# %% [markdown]
# `service/deploy` has `prometheus.yml`, `alerts.yml` and `dashboard.json`. Each alert says what to do when it fires;
# [watching](../service.md#watching) lists them all.
