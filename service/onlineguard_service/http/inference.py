"""The Open Inference Protocol (V2) for the network that judges clicks: what clients of KServe and Triton speak.

The one model is `clicks`, and its one version is that of the model that decides. It learns nothing.

    inputs   features    FP32 [n, WIDTH]   as `features.NAMES` has them, which the metadata of the model is tagged with
             categories  UINT32 [n, 3]  only for a network of the kind "embedding"
             slice       BYTES [n]      optional: names of slices, as answers to clicks have them
    outputs  p_robot     FP32 [n]       to the last bit what a click with these features gets
             threshold   FP64 [n]       of the slice at present      } only with the input slice
             decision    BYTES [n]      "robotic" or "valid"         }

Tensors are JSON, or binary behind the JSON of a request or response.

Source: KServe, "Open Inference Protocol" (REST), and "Binary Tensor Data Extension". An error is {"error": "..."}.
"""

from collections.abc import Awaitable, Callable
from itertools import chain
from typing import Any, NamedTuple, Protocol

import msgspec
import numpy as np
from starlette.requests import Request
from starlette.responses import Response

import onlineguard
from onlineguard.slidr.features import NAMES, WIDTH
from onlineguard.wire.operations import Operation
from onlineguard_service.answering import Inferred
from onlineguard_service.http.problems import SAFE, Refused, shown

NAME = "clicks"
LENGTH = "Inference-Header-Content-Length"  # the header that says how long the JSON before binary tensors is
_MODEL = "/v2/models/{name}"
_TYPES = {"FP32": "<f4", "FP64": "<f8", "UINT32": "<u4", "BYTES": "O"}
_INPUTS = {"features": ("FP32", [-1, WIDTH]), "categories": ("UINT32", [-1, 3]), "slice": ("BYTES", [-1])}
_OUTPUTS = {"p_robot": ("FP32", [-1]), "threshold": ("FP64", [-1]), "decision": ("BYTES", [-1])}

SERVER = Operation("GET", "/v2", None, "What the server is.")
LIVE = SERVER._replace(path="/v2/health/live", summary="Whether it answers.")
READY = SERVER._replace(path="/v2/health/ready", summary="Whether it is ready.")
METADATA = Operation("GET", _MODEL, "score", "Inputs and outputs of the model.", apart=True)
MODEL_READY = SERVER._replace(path=f"{_MODEL}/ready", summary="Whether the model is ready.")
INFER = Operation("POST", f"{_MODEL}/infer", "score", "p_robot of features; learns nothing.", apart=True)


class Infers(Protocol):
    """What is asked for answers."""

    async def infer(self, X: np.ndarray, codes: np.ndarray | None, slices: list[str] | None) -> Inferred: ...
    def model_version(self) -> str: ...


class _Tensor(msgspec.Struct):
    name: str
    shape: list[int]
    datatype: str
    data: list[Any] | None = None
    parameters: dict[str, Any] = {}


class _Wanted(msgspec.Struct):
    name: str
    parameters: dict[str, Any] = {}


class _Asked(msgspec.Struct):
    inputs: list[_Tensor]
    id: str | None = None
    outputs: list[_Wanted] = []
    parameters: dict[str, Any] = {}


class Reading(NamedTuple):
    """How the application serves these routes."""

    within: Callable[[Request], Awaitable[Infers]]
    body: Callable[[Request], Awaitable[bytes]]
    ready: Callable[[], bool]
    most: int  # rows of a request


class InferenceRoutes:
    """See this module."""

    def __init__(self, reading: Reading):
        self._reading = reading

    def handlers(self) -> list[tuple[Operation, Callable[[Request], Awaitable[Response]]]]:
        """Each operation, and what answers it."""
        of_model = [(METADATA, self._metadata), (MODEL_READY, self._model_ready), (INFER, self._infer)]
        of_version = [
            (each._replace(path=each.path.replace(_MODEL, f"{_MODEL}/versions/{{version}}")), answer)
            for each, answer in of_model
        ]
        return [(SERVER, self._server), (LIVE, self._live), (READY, self._ready), *of_model, *of_version]

    async def _server(self, request: Request) -> Response:
        told = {"name": "onlineguard", "version": onlineguard.__version__, "extensions": ["binary_tensor_data"]}
        return _json(told)

    async def _live(self, request: Request) -> Response:
        return _json({"live": True})

    async def _ready(self, request: Request) -> Response:
        ready = self._reading.ready()
        return _json({"ready": ready}, 200 if ready else 503)

    async def _model_ready(self, request: Request) -> Response:
        ready = self._reading.ready() and request.path_params["name"] == NAME
        return _json({"name": request.path_params["name"], "ready": ready}, 200 if ready else 503)

    async def _metadata(self, request: Request) -> Response:
        _, version = await self._model(request)
        told: dict[str, Any] = {"name": NAME, "versions": [version], "platform": "onlineguard_slidr"}
        for which, tensors in (("inputs", _INPUTS), ("outputs", _OUTPUTS)):
            told[which] = [{"name": name, "datatype": kind, "shape": shape} for name, (kind, shape) in tensors.items()]
        told["inputs"][0]["tags"] = {"names": list(NAMES)}
        return _json(told)

    async def _model(self, request: Request) -> tuple[Infers, str]:
        """The model that is asked for, and its version. Raises Refused for another than the one there is."""
        core, name = await self._reading.within(request), request.path_params["name"]
        version = core.model_version()
        if name != NAME:
            raise Refused(404, f"there is no model {shown(name)}; the only one is {NAME}")
        if (asked := request.path_params.get("version", version)) != version:
            raise Refused(404, f"version {shown(asked)} does not decide now; {version} does")
        return core, version

    async def _infer(self, request: Request) -> Response:
        core, _ = await self._model(request)
        asked, inputs = _inputs(await self._reading.body(request), request.headers.get(LENGTH), self._reading.most)
        X, slices = inputs.pop("features"), inputs.get("slice")
        codes = inputs.get("categories")
        inferred = await core.infer(X, codes, None if slices is None else slices.tolist())
        outputs: dict[str, np.ndarray] = {"p_robot": inferred.p_robot}
        if inferred.thresholds is not None:
            robotic = inferred.p_robot.astype(np.float64) > inferred.thresholds
            outputs |= {"threshold": inferred.thresholds, "decision": np.where(robotic, "robotic", "valid")}
        return _answer(asked, inferred.version, outputs)


def refused(status: int, detail: str) -> Response:
    """An error in the words of the protocol."""
    return _json({"error": detail}, status)


def _inputs(body: bytes, length: str | None, most: int) -> tuple[_Asked, dict[str, np.ndarray]]:
    """The request, and its tensors by name. Raises Refused, with 400, for what they cannot be."""
    size = len(body) if length is None else int(length) if length.isascii() and length.isdigit() else -1
    if not 0 <= size <= len(body):
        raise Refused(400, f"{LENGTH} is {shown(length)}; it must be the length of the JSON before the tensors")
    try:
        asked = msgspec.json.decode(body[:size], type=_Asked)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refused(400, f"the request is no inference request: {error}") from None
    tensors: dict[str, np.ndarray] = {}
    at = size
    for tensor in asked.inputs:
        if tensor.name not in _INPUTS or tensor.name in tensors:
            told = "is given twice" if tensor.name in tensors else f"is unknown; inputs are {', '.join(_INPUTS)}"
            raise Refused(400, f"the input {shown(tensor.name)} {told}")
        kind, shape = _INPUTS[tensor.name]
        n = tensor.shape[0] if tensor.shape else -1
        # a column of slices may come as [n, 1], as clients of batches send it
        if tensor.datatype != kind or tensor.shape[1:] not in ([shape[1:], [1]] if not shape[1:] else [shape[1:]]):
            told = f"{kind} of the shape {shape}, where -1 is the number of rows"
            raise Refused(400, f"the input {tensor.name} is {shown(tensor.datatype)} {tensor.shape}; it must be {told}")
        if not 0 < n <= most:
            raise Refused(400, f"the input {tensor.name} has {n} rows; it must have 1 to {most}, the batch_limit")
        binary = tensor.parameters.get("binary_data_size")
        if binary is None:
            tensors[tensor.name] = _of_json(tensor, kind, [n, *shape[1:]])
            continue
        if not isinstance(binary, int) or not 0 <= binary <= len(body) - at:
            raise Refused(400, f"binary_data_size of {tensor.name} is {shown(binary)}; so many bytes do not follow")
        tensors[tensor.name] = _of_bytes(body[at : at + binary], tensor.name, kind, [n, *shape[1:]])
        at += binary
    if at != len(body):
        raise Refused(400, f"{len(body) - at} bytes follow that no input has in its binary_data_size")
    if "features" not in tensors:
        raise Refused(400, "there is no input features")
    if len({len(tensor) for tensor in tensors.values()}) > 1:
        raise Refused(400, f"the inputs have {', '.join(f'{len(t)} {name}' for name, t in tensors.items())}")
    return asked, tensors


def _of_json(tensor: _Tensor, kind: str, shape: list[int]) -> np.ndarray:
    """The data of a tensor, flat or nested."""
    data = tensor.data or []
    while data and isinstance(data[0], list):
        if not all(isinstance(row, list) for row in data):
            raise Refused(400, f"the data of {tensor.name} is nested unevenly")
        data = list(chain.from_iterable(data))
    right = {"BYTES": (str,), "UINT32": (int,)}.get(kind, (int, float))
    if len(data) != int(np.prod(shape)) or not all(type(value) in right for value in data):
        raise Refused(400, f"the data of {tensor.name} must be {int(np.prod(shape))} values of {kind}")
    try:
        return np.array(data, _TYPES[kind]).reshape(shape)
    except OverflowError:
        raise Refused(400, f"the data of {tensor.name} has a number beyond {kind}") from None


def _of_bytes(data: bytes, name: str, kind: str, shape: list[int]) -> np.ndarray:
    if kind != "BYTES":
        expected = int(np.prod(shape)) * np.dtype(_TYPES[kind]).itemsize
        if len(data) != expected:
            raise Refused(400, f"binary_data_size of {name} is {len(data)}; {kind} {shape} has {expected} bytes")
        return np.frombuffer(data, _TYPES[kind]).reshape(shape)
    texts: list[str] = []
    at = 0
    try:
        while at < len(data):
            end = at + 4 + int.from_bytes(data[at : at + 4], "little")
            if end > len(data) or at + 4 > len(data):
                raise ValueError("a length leads beyond the end")
            texts.append(data[at + 4 : end].decode())
            at = end
    except ValueError as error:
        raise Refused(400, f"the input {name} holds no texts in UTF-8, each behind its length: {error}") from None
    if len(texts) != shape[0]:
        raise Refused(400, f"the input {name} has {len(texts)} texts; its shape says {shape[0]}")
    return np.array(texts, object)


def _answer(asked: _Asked, version: str, outputs: dict[str, np.ndarray]) -> Response:
    """The outputs that are asked for, or all of them, as JSON or behind it."""
    wanted = {each.name: each.parameters for each in asked.outputs} or {name: {} for name in outputs}
    if unknown := wanted.keys() - outputs.keys():
        why = "needs the input slice" if min(unknown) in _OUTPUTS else f"is unknown; there are {', '.join(_OUTPUTS)}"
        raise Refused(400, f"the output {shown(min(unknown))} {why}")
    all_binary = asked.parameters.get("binary_data_output") is True
    tensors: list[dict[str, Any]] = []
    tail: list[bytes] = []
    for name, parameters in wanted.items():
        kind, values = _OUTPUTS[name][0], outputs[name]
        tensor: dict[str, Any] = {"name": name, "datatype": kind, "shape": [len(values)]}
        if parameters.get("binary_data", all_binary) is True:
            tail.append(_bytes(values, kind))
            tensor["parameters"] = {"binary_data_size": len(tail[-1])}
        else:
            tensor["data"] = values.tolist()
        tensors.append(tensor)
    told: dict[str, Any] = {"model_name": NAME, "model_version": version, "outputs": tensors}
    if asked.id is not None:
        told["id"] = asked.id
    head = msgspec.json.encode(told)
    if not tail:
        return _json(told)
    body = b"".join([head, *tail])
    response = Response(body)
    response.raw_headers = [
        (b"content-type", b"application/octet-stream"),
        *SAFE,
        (LENGTH.lower().encode(), b"%d" % len(head)),
        (b"content-length", b"%d" % len(body)),
    ]
    return response


def _bytes(values: np.ndarray, kind: str) -> bytes:
    if kind != "BYTES":
        return values.astype(_TYPES[kind]).tobytes()
    return b"".join(len(text).to_bytes(4, "little") + text for text in (value.encode() for value in values.tolist()))


def _json(told: Any, status: int = 200) -> Response:
    body = msgspec.json.encode(told)
    response = Response(body, status)
    response.raw_headers = [(b"content-type", b"application/json"), *SAFE, (b"content-length", b"%d" % len(body))]
    return response
