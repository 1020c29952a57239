"""A detector in a river pipeline: a measure of its scores, a measure of its verdicts, and why an event is odd.

python examples/river_pipeline.py
"""

import random

from river import evaluate, metrics, preprocessing

from onlineguard.estimators import DriftRobustDetector, judge_one

rng, stream = random.Random(0), []
for i in range(3_000):
    odd = rng.random() < 0.01
    stream.append(({"ms": rng.gauss(90.0 if odd else 20.0 + i / 300, 4.0), "kb": rng.gauss(3e6, 1e5)}, odd))

model = preprocessing.StandardScaler() | DriftRobustDetector(bounded_score=True)  # from 0 to 1, as ROCAUC needs it
auc = evaluate.progressive_val_score(stream, model.clone(), metrics.ROCAUC(n_thresholds=100))
print(auc)

f1 = metrics.F1()
for x, odd in stream:
    f1.update(odd, judge_one(model, x).anomalous)
    model.learn_one(x)
print(f1)

x = {"ms": 95.0, "kb": 3e6}
print(judge_one(model, x).p_value, model[-1].explain_one(model.transform_one(x)))
model.mutate({"DriftRobustDetector": {"target_rate": 0.001}})  # fewer alarms from now on
