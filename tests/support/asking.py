"""What is sent to a service in tests of its HTTP, one of each kind, and what a refusal looks like."""

import json

EVENT = {"slice": "a", "x": [1.5, None], "id": "1"}
CLICK = {
    "click_id": "c",
    "ts": 1,
    "ip": "192.0.2.1",
    "user_agent": "u",
    "device": "phone",
    "marketplace": "US",
    "ad_id": "ad",
    "logged_in": True,
}
LABEL = {"click_id": "c", "purchase_ts": 5}
WAS = {"model_version": "v0", "decision": "valid", "p_robot": 0.25, "threshold": 0.9}
DECISION = {"click_id": "c", "slice": "a", **WAS, "decision": "robotic", "model_version": "v1", "replaces": WAS}
HOT = [
    ("/v1/update", EVENT),
    ("/v1/score", EVENT),
    ("/v1/clicks", CLICK),
    ("/v1/labels", LABEL),
    ("/v1/decisions", DECISION),
]
NDJSON = "application/x-ndjson"


def problem(answer: tuple[int, dict[str, str], bytes], status: int) -> str:
    """The detail of a problem, which has the status and is one in all its parts."""
    assert answer[0] == status
    assert answer[1]["content-type"] == "application/problem+json"
    body = json.loads(answer[2])
    assert body["status"] == status
    assert body["title"]
    return body["detail"]
