"""The peer of `bench_service`: the same job written the usual way, with FastAPI, a Redis pipeline and river.

For each click it counts user, session, ip and prefix in fixed windows by INCR and EXPIRE in one pipeline, makes a
dict of features of the counts, scores and learns a river model of the click's slice, scores a river logistic
regression, and answers. Nothing is journaled: a crash loses what was learned.

    python -m benchmarks.peer_service PORT REDIS_URL
"""

import math
import sys
from typing import Any

import redis.asyncio
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel
from river import anomaly, compose, linear_model, preprocessing

from onlineguard.slidr.clicks.clicks import prefix

WINDOWS = {"1m": 60_000, "5m": 300_000, "1h": 3_600_000, "24h": 86_400_000}


class Click(BaseModel):
    """A click as it comes."""

    click_id: str
    ts: int
    user_id: str | None = None
    session_id: str | None = None
    ip: str
    user_agent: str
    device: str
    marketplace: str
    ad_id: str
    logged_in: bool


def service(url: str) -> FastAPI:
    """The application."""
    app = FastAPI()
    client = redis.asyncio.from_url(url)
    slices: dict[str, Any] = {}
    robots = compose.Pipeline(preprocessing.StandardScaler(), linear_model.LogisticRegression())

    async def judged(clicks: list[Click]) -> list[dict[str, Any]]:
        pipeline = client.pipeline(transaction=False)
        names: list[str] = []
        for click in clicks:
            entities = {"user": click.user_id, "session": click.session_id, "ip": click.ip, "prefix": prefix(click.ip)}
            for entity, value in entities.items():
                for window, length in WINDOWS.items():
                    key = f"{entity}:{value}:{window}:{click.ts // length}"
                    pipeline.incr(key)
                    pipeline.expire(key, 2 * length // 1_000)
                    names.append(f"{entity}_{window}")
        counts = (await pipeline.execute())[::2]
        each = len(names) // len(clicks)
        answers: list[dict[str, Any]] = []
        for i, click in enumerate(clicks):
            part = slice(i * each, (i + 1) * each)
            features = {name: math.log1p(count) for name, count in zip(names[part], counts[part], strict=True)}
            slice_ = f"{click.device} / {click.marketplace} / {click.logged_in}"
            model = slices.get(slice_)
            if model is None:
                model = slices[slice_] = compose.Pipeline(
                    preprocessing.StandardScaler(), anomaly.QuantileFilter(anomaly.OneClassSVM(), q=0.99)
                )
            score = model.score_one(features)
            anomalous = model["QuantileFilter"].classify(score)
            model.learn_one(features)
            p_robot = robots.predict_proba_one(features).get(True, 0.5)
            answers.append(
                {
                    "click_id": click.click_id,
                    "decision": "robotic" if p_robot > 0.9 else "valid",
                    "p_robot": p_robot,
                    "slice": slice_,
                    "anomaly": {"score": score, "anomalous": anomalous},
                }
            )
        return answers

    @app.post("/v1/clicks")
    async def clicks(body: Click | list[Click]) -> Any:
        return await judged(body) if isinstance(body, list) else (await judged([body]))[0]

    @app.get("/readyz")
    async def ready() -> dict[str, bool]:
        return {"ready": True}

    return app


if __name__ == "__main__":
    uvicorn.run(service(sys.argv[2]), port=int(sys.argv[1]), log_level="error", access_log=False)
