"""Namespaces: each gets what it would get alone, and none sees or changes anything of another."""

import asyncio

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onlineguard_service.config import Settings
from onlineguard_service.core import Core
from onlineguard_service.entries import Clicks, Decisions, Events, Labels, Options, Switch, Tune, decode, encode
from onlineguard_service.guard import Guard
from onlineguard_service.http.app import application
from onlineguard_service.http.auth import ApiKeys
from onlineguard_service.journal.packing import pack, unpack
from onlineguard_service.models import Models

from onlineguard.errors import InvalidArgument
from onlineguard.records.decisions import Decision, Standing
from onlineguard.wire.requests import Event, Label
from tests.support.cores import chosen, crashed
from tests.support.double import Double, ask
from tests.support.events import events
from tests.support.keys import keys_file

SPACES = ("", "acme", "other")
OPTIONS = Options(detector="marginal", namespace_share=1.0, max_slices=1_000, remember=1_000, max_entities=10_000)


@pytest.fixture(scope="module")
def models(model_folder, other_folder, tmp_path_factory):
    kept = Models(tmp_path_factory.mktemp("models"))
    kept.first, kept.second = kept.put(model_folder).version, kept.put(other_folder).version
    return kept


def tried(one, entry, sequence):
    """The answers, or what is refused."""
    try:
        return msgspec.to_builtins(one.apply(entry, sequence))
    except InvalidArgument as error:
        return str(error)


LATER = {"decision": "robotic", "p_robot": 0.7, "threshold": 0.5, "slice": "all", "model_version": "later"}

# What may be sent, the same names by all: parts of streams of which the second has other features than the first.
PARTS = st.lists(
    st.tuples(st.sampled_from(SPACES), st.sampled_from(["events", "wide", "clicks", "labels", "decisions", "model"])),
    min_size=4,
    max_size=10,
)


@pytest.mark.slow
@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(parts=PARTS, cut=st.integers(0, 9))
def test_interleaved_namespaces_each_get_what_they_would_get_alone_whatever_comes(models, sending, parts, cut):
    interleaved(models, sending, parts, cut)


def test_interleaved_namespaces_with_the_same_names_each_get_what_they_would_get_alone(models, sending):
    kinds = ["events", "clicks", "labels", "events", "decisions", "clicks"]
    interleaved(models, sending, [(name, kind) for kind in kinds for name in SPACES], 9)


class Sending:
    """Entries of a kind: the n-th names what the others of that kind do in other namespaces."""

    def __init__(self, clicks):
        self._clicks = clicks
        self._streams = {
            "events": events(1_200, ids=True),
            "wide": [Event(n % 3, [0.5 * n, 1.0, n % 7], id=str(n)) for n in range(1_200)],
        }

    def __call__(self, kind, n, namespace=""):
        if kind in self._streams:
            return Events(self._streams[kind][60 * n : 60 * n + 60], n, namespace)
        if kind == "clicks":
            return Clicks(self._clicks[64 * n : 64 * n + 64], n, namespace=namespace)
        if kind == "labels":
            return Labels([Label(click.click_id, click.ts) for click in self._clicks[:256]], n, namespace)
        was = Standing("none", "valid", 0.1, 0.5)
        return Decisions([Decision(click_id=self._clicks[0].click_id, replaces=was, **LATER)], n, namespace)

    def __repr__(self):
        return "Sending(clicks)"


@pytest.fixture(scope="module")
def sending(clicks):
    return Sending(clicks)


def interleaved(models, sending, parts, cut):
    """Send parts to a guard of many namespaces, and to one guard for each: the answers and figures are the same."""
    together = Guard(OPTIONS, models.first, models.get)
    alone = {name: Guard(OPTIONS, models.first, models.get) for name in SPACES}
    for n, (name, kind) in enumerate(parts):
        if kind == "model":
            switch = Switch(models.second if n % 2 else models.first, n)
            for one in (together, *alone.values()):
                one.apply(switch, n + 1)
        else:
            of = n // len(SPACES)
            entry = decode(encode(sending(kind, of, name)))
            assert tried(together, entry, n + 1) == tried(alone[name], sending(kind, of), n + 1)
        if n == cut:
            together = Guard.restored({part: unpack(pack(held)) for part, held in together.dump().items()}, models.get)
    assert together.born.keys() == {name for name, kind in parts if name and kind != "model"}
    for name, one in together.born.items():
        assert figures(one) == figures(alone[name])


def figures(one):
    """What the slices of a guard are shown with, to the last bit; not what came again, which no snapshot holds."""
    shown = [(each.totals(), each.tables(), repr(each.dump())) for each in (one.event_figures, one.click_figures)]
    return shown, repr(one.watch.dump()), None if one.events is None else repr(one.events.dump())


def test_without_namespaces_a_dump_and_a_digest_have_nothing_of_them(models):
    one = Guard(OPTIONS, models.first, models.get)
    one.apply(Events(events(60), 0), 1)
    before = one.digest()
    one.within("acme")
    assert "namespaces" not in one.dump()
    assert one.digest() == before
    one.apply(Events(events(60), 0, "acme"), 2)
    assert "namespaces" in one.dump()
    assert one.digest() != before


def test_what_the_operator_chooses_anew_reaches_namespaces_by_their_share(models):
    one = Guard(msgspec.structs.replace(OPTIONS, namespace_share=0.5), models.first, models.get)
    one.apply(Labels([], 0, "acme"), 1)
    one.within("unborn")
    assert one.within("acme").options.max_slices == 500
    one.apply(Tune(msgspec.structs.replace(OPTIONS, max_slices=100, namespace_share=0.25, rollback=True), 0), 2)
    assert {one.within(name).options.max_slices for name in ("acme", "unborn")} == {25}
    assert not one.within("acme").options.rollback


@pytest.mark.slow
def test_a_core_keeps_namespaces_over_a_crash_and_erases_in_one_of_them_alone(tmp_path, model_folder, clicks):
    more = {"n_features": 1, "namespace_share": 1.0}
    user = next(click.user_id for click in clicks[:100] if click.user_id is not None)

    async def run():
        core = await Core.open(chosen(tmp_path, model_folder, **more))
        acme, other = await core.within("acme"), await core.within("other")
        sent = [Event("a", [float(n)], id=str(n)) for n in range(150)]
        for one in (core, acme, other):
            await one.update(sent)
            await one.clicks(clicks[:100])
        assert await acme.update([Event("only", [1.0])]) != []
        pages = [await one.slices("events") for one in (core, acme, other)]
        assert [page["total"] for page in pages] == [1, 2, 1]
        with pytest.raises(KeyError):
            core.slice("events", "only")
        status = core.status()
        assert (status["events"], status["clicks"]) == (451, 3 * len({click.click_id for click in clicks[:100]}))
        assert status["namespaces"]["acme"]["events"] == 151
        await acme.erase(user)
        assert other.explain(sent[0]) == core.explain(sent[0])
        users = {name: one.store.sizes()["users"] for name, one in core._guard.born.items()}
        assert users["acme"] == users["other"] - 1
        digest = core.digest()
        await crashed(core)
        again = await Core.open(chosen(tmp_path, **more))
        assert again.digest() == digest
        assert (await again.within("acme")).slice("events", "only")["events"] == 1
        await again.close()

    asyncio.run(run())


class Spaces(Double):
    """A double with a double of its own for each namespace."""

    def __init__(self):
        super().__init__()
        self.spaces = {}

    async def within(self, namespace):
        return self.spaces.setdefault(namespace, Double())


@pytest.fixture
def spaces(tmp_path):
    confined = {"tenant": "acme", "reader": "other"}
    path, keys = keys_file(
        tmp_path,
        confined,
        tenant=["score", "update"],
        reader=["score"],
        operator=["score", "update", "admin"],
        own=["score"],
    )
    core = Spaces()
    app = application(core, Settings(keys=path, rate_limit=0.0))

    def told(key, method, path, body=b"", space=None):
        headers = {"x-api-key": keys[key]} | ({} if space is None else {"x-namespace": space})
        status, _, answer = ask(app, method, path, body, headers=headers)
        return status, answer.decode()

    return core, told


EVENT = b'{"slice": "a", "x": [1.0]}'


def test_a_key_of_a_namespace_works_in_it_and_nowhere_else(spaces):
    core, told = spaces
    assert told("tenant", "POST", "/v1/update", EVENT)[0] == 200
    assert (len(core.learned), len(core.spaces["acme"].learned)) == (0, 1)
    assert told("tenant", "POST", "/v1/update", EVENT, "acme")[0] == 200
    assert told("operator", "POST", "/v1/update", EVENT)[0] == 200
    assert len(core.learned) == 1
    refused = [told("tenant", "GET", "/v1/slices", space=space) for space in ("other", "nowhere")]
    assert refused[0] == refused[1]  # it cannot even tell which there are
    assert refused[0][0] == 403
    for path in ("/v1/live", "/metrics", "/v1/registry", "/v1/trial"):
        status, answer = told("tenant", "GET", path)
        assert status == 403
        assert "is about the whole service" in answer
    for path in ("/v1/slices", "/v1/slices/web?of=events", "/v1/watch"):
        assert told("tenant", "GET", path)[0] == 200
    assert told("reader", "POST", "/v1/update", EVENT)[0] == 403


def test_an_admin_may_work_inside_any_namespace_and_nobody_else_may_name_one(spaces):
    core, told = spaces
    assert told("operator", "POST", "/v1/erase", b'{"user_id": "u"}', "acme")[0] == 200
    assert (core.erased, core.spaces["acme"].erased) == ([], ["u"])
    assert told("operator", "GET", "/v1/slices", space="nowhere")[0] == 404
    assert told("operator", "POST", "/v1/snapshot", space="acme")[0] == 403
    assert told("own", "GET", "/v1/slices", space="acme")[0] == 403
    status, _, answer = ask(application(Double(), Settings()), "GET", "/v1/slices", headers={"x-namespace": "acme"})
    assert (status, b"there are no keys" in answer) == (422, True)


def test_the_keys_of_a_namespace_share_its_rate(tmp_path):
    path, keys = keys_file(tmp_path, {"a": "acme", "b": "acme", "c": "other"}, a=["score"], b=["score"], c=["score"])
    app = application(Spaces(), Settings(keys=path, rate_limit=1.0))
    got = [ask(app, "GET", "/v1/slices", headers={"x-api-key": keys[name]})[0] for name in "abc"]
    assert got == [200, 429, 200]


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ('namespace = "a b"', "must be up to 64 letters"),
        ("namespace = 7", "must be up to 64 letters"),
        ('namespace = ""', "must be up to 64 letters"),
        ('namespace = "acme"', "changes the service for all"),
    ],
)
def test_a_namespace_that_cannot_be_is_refused(tmp_path, lines, told):
    path, _ = keys_file(tmp_path, one=["admin"])
    path.write_text(f"{path.read_text()}{lines}\n")
    with pytest.raises(InvalidArgument, match=told):
        ApiKeys.load(path)
