"""A regression that follows a drift though a tenth of the targets are false, beside river's own without false ones.

python examples/river_regression.py
"""

import random

from river import evaluate, linear_model, metrics, preprocessing

from onlineguard.estimators import ClippedLinearRegression

rng, stream = random.Random(0), []
for i in range(4_000):
    x = {"clicks": rng.uniform(0.0, 1_000.0), "hour": rng.uniform(0.0, 24.0)}
    price = 3.0 if i < 2_000 else -2.0  # the drift
    stream.append((x, price * x["clicks"] + 5.0 * x["hour"] + rng.gauss(0.0, 10.0)))

model, error = ClippedLinearRegression(), metrics.MAE()  # it needs no scaler
for i, (x, y) in enumerate(stream):
    error.update(y, model.predict_one(x))
    model.learn_one(x, 1e9 if i >= 10 and rng.random() < 0.1 else y)  # the very first targets are learned whole
print("ours, taught false targets too:", error)

peer = preprocessing.StandardScaler() | linear_model.LinearRegression()
peer_error = evaluate.progressive_val_score(stream, peer, metrics.MAE())
print("river's, taught the true ones: ", peer_error)
