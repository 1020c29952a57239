"""The Open Inference Protocol: JSON and binary tensors give the same answers, and nothing is learned."""

import asyncio
import json

import httpx2
import numpy as np
import pytest
from onlineguard_service.config import Settings
from onlineguard_service.core import Core
from onlineguard_service.http.app import application

from onlineguard.errors import InvalidArgument
from onlineguard.slidr.features import NAMES, WIDTH
from tests.support.cores import chosen
from tests.support.double import Double, ask, served
from tests.support.keys import keys_file

INFER = "/v2/models/clicks/infer"
X = np.linspace(0.0, 1.0, 3 * WIDTH, dtype=np.float32).reshape(3, WIDTH)
TEXTS = b"".join(len(text).to_bytes(4, "little") + text for text in (b"phone", "é".encode(), b""))


@pytest.fixture
def app():
    return application(Double(), Settings(batch_limit=10))


def tensor(name="features", data=X, kind="FP32", **parameters):
    made = {"name": name, "shape": list(np.shape(data)), "datatype": kind}
    return made | ({"parameters": parameters} if parameters else {"data": np.asarray(data).tolist()})


def infer(app, request, tail=b"", path=INFER, kind="application/json"):
    head = json.dumps(request).encode()
    headers = {"inference-header-content-length": str(len(head))} if tail else {}
    return ask(app, "POST", path, head + tail, kind, headers)


def refused(app, request, tail=b"", path=INFER, status=400):
    got, _, body = infer(app, request, tail, path)
    assert (got, list(json.loads(body))) == (status, ["error"])
    return json.loads(body)["error"]


def test_the_server_and_its_one_model_describe_themselves(app):
    told = {
        path: json.loads(ask(app, "GET", path)[2]) for path in ("/v2", "/v2/models/clicks", "/v2/models/clicks/ready")
    }
    assert told["/v2"]["extensions"] == ["binary_tensor_data"]
    model = told["/v2/models/clicks"]
    assert (model["versions"], model["inputs"][0]["shape"]) == (["v1"], [-1, WIDTH])
    assert model["inputs"][0]["tags"]["names"] == list(NAMES)
    assert told["/v2/models/clicks/ready"] == {"name": "clicks", "ready": True}
    assert ask(app, "GET", "/v2/models/clicks/versions/v1")[2] == ask(app, "GET", "/v2/models/clicks")[2]
    assert ask(app, "GET", "/v2/models/clicks/versions/v0")[0] == 404
    assert ask(app, "GET", "/v2/models/other")[0] == 404
    for path in ("/v2/health/live", "/v2/health/ready"):
        assert ask(app, "GET", path)[0] == 200
    starting = application(None, Settings())
    assert [ask(starting, "GET", f"/v2/health/{of}")[0] for of in ("live", "ready")] == [200, 503]


def test_json_and_binary_tensors_are_answered_alike(app):
    names = np.array(["phone", "é", ""])
    plain = json.loads(infer(app, {"id": "7", "inputs": [tensor(), tensor("slice", names, "BYTES")]})[2])
    assert (plain["id"], plain["model_name"], plain["model_version"]) == ("7", "clicks", "v1")
    found = {each["name"]: each["data"] for each in plain["outputs"]}
    assert found["p_robot"] == X[:, 0].tolist()
    assert found["decision"] == ["robotic" if p > 0.5 else "valid" for p in X[:, 0]]
    flat = tensor() | {"data": X.ravel().tolist()}
    assert json.loads(infer(app, {"inputs": [flat]})[2])["outputs"] == plain["outputs"][:1]
    sent = [tensor(binary_data_size=X.nbytes), tensor("slice", names, "BYTES", binary_data_size=len(TEXTS))]
    tail = X.tobytes() + TEXTS
    assert json.loads(infer(app, {"inputs": sent, "id": "7"}, tail)[2]) == plain
    wanted = [{"name": "p_robot"}, {"name": "decision", "parameters": {"binary_data": True}}]
    status, headers, body = infer(app, {"inputs": sent, "outputs": wanted}, tail, kind="application/octet-stream")
    length = int(headers["inference-header-content-length"])
    p_robot, decision = json.loads(body[:length])["outputs"]
    assert (status, p_robot["data"]) == (200, found["p_robot"])
    assert decision["parameters"] == {"binary_data_size": len(body) - length}
    assert body[length:] == b"\x05\0\0\0valid\x05\0\0\0valid\x07\0\0\0robotic"
    status, headers, body = infer(app, {"inputs": sent[:1], "parameters": {"binary_data_output": True}}, X.tobytes())
    assert body[int(headers["inference-header-content-length"]) :] == X[:, 0].tobytes()
    assert infer(app, {"inputs": [tensor()]}, path="/v2/models/clicks/versions/v1/infer")[0] == 200


@pytest.mark.parametrize(
    ("request_", "tail", "told"),
    [
        ({"inputs": []}, b"", "no input features"),
        ({}, b"", "no inference request"),
        ({"inputs": [tensor(data=X[:, 1:])]}, b"", "it must be FP32 of the shape"),
        ({"inputs": [tensor(kind="FP64")]}, b"", "it must be FP32"),
        ({"inputs": [tensor(), tensor()]}, b"", "is given twice"),
        ({"inputs": [tensor("other")]}, b"", "is unknown"),
        ({"inputs": [tensor(data=np.zeros((11, WIDTH)))]}, b"", "it must have 1 to 10"),
        ({"inputs": [tensor(), tensor("slice", ["a"], "BYTES")]}, b"", "3 features, 1 slice"),
        ({"inputs": [tensor() | {"data": [1.0]}]}, b"", "values of FP32"),
        ({"inputs": [tensor() | {"data": [[1.0], 2.0]}]}, b"", "nested unevenly"),
        ({"inputs": [tensor(), tensor("categories", np.full((3, 3), 2**32), "UINT32")]}, b"", "beyond UINT32"),
        ({"inputs": [tensor(binary_data_size=99_999)]}, b"x", "so many bytes do not follow"),
        ({"inputs": [tensor(binary_data_size=8)]}, b"x" * 8, "FP32 [3, "),
        ({"inputs": [tensor()]}, b"x", "that no input has"),
        ({"inputs": [tensor(), tensor("slice", [""] * 3, "BYTES", binary_data_size=6)]}, b"\xff" * 6, "leads beyond"),
        ({"inputs": [tensor(), tensor("slice", [""] * 3, "BYTES", binary_data_size=4)]}, b"\0" * 4, "has 1 texts"),
        ({"inputs": [tensor()], "outputs": [{"name": "decision"}]}, b"", "needs the input slice"),
        ({"inputs": [tensor()], "outputs": [{"name": "other"}]}, b"", "is unknown"),
    ],
)
def test_what_cannot_be_inferred_is_refused_in_the_protocols_words(app, request_, tail, told):
    assert told in refused(app, request_, tail)


def test_a_key_is_needed_and_a_missing_category_is_told(tmp_path):
    path, keys = keys_file(tmp_path, reader=["score"])
    core = Double()
    app = application(core, Settings(keys=path))
    assert "a key is needed" in refused(app, {"inputs": [tensor()]}, status=401)
    assert ask(app, "GET", "/v2/health/ready")[0] == 200
    body = json.dumps({"inputs": [tensor()]}).encode()
    assert ask(app, "POST", INFER, body, None, {"x-api-key": keys["reader"]})[0] == 200
    core.fails = InvalidArgument("categories", "are missing")
    assert ask(app, "POST", INFER, body, None, {"x-api-key": keys["reader"]})[0] == 422


def test_a_client_of_triton_is_answered():
    http = pytest.importorskip("tritonclient.http")
    with served() as address:
        client = http.InferenceServerClient(httpx2.URL(address).netloc.decode())
        assert client.is_server_ready()
        assert client.is_model_ready("clicks")
        for binary in (True, False):
            features = http.InferInput("features", list(X.shape), "FP32")
            features.set_data_from_numpy(X, binary_data=binary)
            slices = http.InferInput("slice", [3], "BYTES")
            slices.set_data_from_numpy(np.array([b"a", b"b", b"c"], object), binary_data=binary)
            found = client.infer("clicks", [features, slices])
            assert found.as_numpy("p_robot").tolist() == X[:, 0].tolist()
            assert found.as_numpy("decision").tolist() == [b"valid", b"valid", b"robotic"]


@pytest.mark.slow
def test_the_network_says_of_features_what_it_says_of_clicks_to_the_last_bit_and_learns_nothing(
    tmp_path, model_folder, clicks
):
    async def run():
        core = await Core.open(chosen(tmp_path, model_folder, n_features=1))
        guard, some = core._guard, clicks[:64]
        answers = await core.clicks(some)
        names = [guard.slice_of(click) for click in some]
        other = type(guard)(guard.options, guard.model.version, guard._models)
        judged = other._judging.click_judge.judge(some, names, None, None)
        digest = core.digest()
        inferred = await core.infer(judged.features, None, names)
        assert inferred.p_robot.tolist() == [answer.p_robot for answer in answers]
        assert inferred.thresholds.tolist() == [answer.threshold for answer in answers]
        assert core.digest() == digest
        await core.close()

    asyncio.run(run())
