"""Arrow over HTTP: a table is answered as the same objects in JSON are, and refused with the same words."""

import json

import msgspec
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onlineguard_service.config import Settings
from onlineguard_service.http.app import application

from onlineguard.client import Client
from onlineguard.wire import arrow
from onlineguard.wire.requests import Click
from tests.support.double import Double, ask, served
from tests.support.tables import stream

NUMBER = st.one_of(st.none(), st.floats(-1e9, 1e9, width=32))
EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", "é" * 9]), st.lists(NUMBER, min_size=2, max_size=2), st.none() | st.text("xyz")
    ),
    min_size=1,
    max_size=20,
)
CLICK = {
    "click_id": "c",
    "ts": 1,
    "user_id": None,
    "ip": "192.0.2.1",
    "user_agent": "u",
    "device": "phone",
    "marketplace": "US",
    "ad_id": "ad",
    "logged_in": True,
}


def asked(core, path, table, accept=None):
    headers = {} if accept is None else {"accept": accept}
    return ask(application(core, Settings(batch_limit=50)), "POST", path, stream(table), arrow.MEDIA, headers)


@settings(deadline=None, max_examples=30)
@given(EVENTS, st.booleans(), st.booleans())
def test_a_table_of_events_is_answered_and_learned_as_the_same_events_in_json(sent, fixed, by_name):
    slices, xs, ids = (list(column) for column in zip(*sent, strict=True))
    objects = [{"slice": s, "x": x, "id": i} for s, x, i in zip(slices, xs, ids, strict=True)]
    columns = {"slice": pa.array(slices), "id": pa.array(ids, pa.string())}
    if by_name:
        objects = [{"slice": e["slice"], "features": {"p": e["x"][0], "q": e["x"][1]}, "id": e["id"]} for e in objects]
        columns |= {name: pa.array([x[j] for x in xs], pa.float64()) for j, name in enumerate("pq")}
    else:
        columns["x"] = pa.array(xs, pa.list_(pa.float32(), 2) if fixed else pa.list_(pa.float64()))
    one, other = Double(), Double()
    status, _, answer = asked(one, "/v1/update", pa.table(columns))
    plain = ask(application(other, Settings()), "POST", "/v1/update", json.dumps(objects).encode())
    assert (status, answer) == (plain[0], plain[2])
    assert one.learned == other.learned
    status, headers, answer = asked(one, "/v1/score", pa.table(columns), arrow.MEDIA)
    assert (status, headers["content-type"]) == (200, arrow.MEDIA)
    assert arrow.table(answer).to_pylist() == json.loads(plain[2])


def test_a_table_of_clicks_is_answered_and_learned_as_the_same_clicks_in_json():
    sent = [CLICK | {"click_id": str(n), "user_id": "u" if n % 2 else None} for n in range(20)]
    one, other = Double(), Double()
    status, _, answer = asked(one, "/v1/clicks", pa.Table.from_pylist(sent), arrow.MEDIA)
    plain = ask(application(other, Settings()), "POST", "/v1/clicks", json.dumps(sent).encode())
    assert status == 200
    assert one.learned == other.learned == msgspec.convert(sent, list[Click])
    assert arrow.table(answer).to_pylist() == json.loads(plain[2])


@pytest.mark.parametrize(
    ("path", "rows", "status"),
    [
        ("/v1/update", [{"slice": "a", "x": [1.0]}, {"slice": None, "x": [1.0]}], 422),
        ("/v1/update", [{"slice": "a" * 600, "x": [1.0]}], 422),
        ("/v1/update", [{"slice": "a", "x": [1.0], "ts": -1}], 422),
        ("/v1/update", [{"slice": "a"}], 422),
        ("/v1/clicks", [CLICK, CLICK | {"ts": 1_790_000_000}], 422),
        ("/v1/clicks", [CLICK | {"rfm": 99.0}], 422),
        ("/v1/clicks", [CLICK | {"devise": "phone"}], 422),
        ("/v1/clicks", [{name: CLICK[name] for name in ("click_id", "ts")}], 422),
    ],
)
def test_a_wrong_row_is_refused_with_the_words_of_json(path, rows, status):
    app = application(Double(), Settings())
    plain = ask(app, "POST", path, json.dumps(rows).encode())
    table = ask(app, "POST", path, stream(pa.Table.from_pylist(rows)), arrow.MEDIA)
    assert table[::2] == plain[::2]
    assert plain[0] == status


def test_limits_hold_for_tables():
    body = pa.table({"slice": ["a"] * 51, "x": [[1.0]] * 51})
    status, _, answer = asked(Double(), "/v1/score", body)
    assert (status, b"more than the batch_limit of 50" in answer) == (413, True)
    app = application(Double(), Settings(body_limit=1_024))
    assert ask(app, "POST", "/v1/score", stream(pa.table({"slice": ["a" * 2_000]})), arrow.MEDIA)[0] == 413
    status, _, answer = ask(app, "POST", "/v1/score", b"no table", arrow.MEDIA)
    assert (status, b"is no stream of Arrow" in answer) == (400, True)
    assert ask(app, "POST", "/v1/explain", stream(body), arrow.MEDIA)[0] == 415
    assert asked(Double(), "/v1/score", body.slice(0, 0), arrow.MEDIA)[0] == 200


def test_a_client_sends_tables_in_parts_and_gets_one_table():
    frame = pl.DataFrame({"slice": [f"s{n % 3}" for n in range(25)], "load": [float(n) for n in range(25)]})
    with served() as address, Client(address, batch=10, encoding="zstd") as client:
        answers = client.score(frame.to_arrow())
        plain = client.score(frame)
        assert client.score(frame.to_arrow().slice(0, 0)).schema == answers.schema
    assert isinstance(answers, pa.Table)
    assert [row | {"id": None} for row in answers.to_pylist()] == [
        msgspec.to_builtins(each) | {"id": None} for each in plain
    ]
    assert len(set(answers["id"].to_pylist())) == 25


@pytest.mark.parametrize(
    "keys", [["a", "b"], [1, 2], [("a", "b"), ("c",)], [(1,), (2, 3)], [], ["a", 1], [("a", 1), "b"]]
)
def test_the_slices_of_answers_keep_their_kind_or_are_json_where_they_differ(keys):
    from onlineguard.wire.answers import EventAnswer

    made = [EventAnswer(key, None, None, None, False, False) for key in keys]
    found = arrow.table(arrow.encoded(made, EventAnswer))["slice"].to_pylist()
    same = len({str(type(key)) for key in keys}) < 2
    assert found == (
        [list(key) if isinstance(key, tuple) else key for key in keys]
        if same
        else [msgspec.json.encode(key).decode() for key in keys]
    )
