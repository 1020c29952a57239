import inspect
import subprocess
import sys

import msgspec
import pytest
from onlineguard_service.http.openapi import build

from onlineguard.records import versions
from onlineguard.records.click import Click
from onlineguard.records.decisions import Decision
from onlineguard.wire import alarms, answers, registry, requests
from onlineguard.wire.operations import OPERATIONS

STRUCTS = {
    kind
    for module in (requests, answers, registry, alarms)
    for kind in vars(module).values()
    if inspect.isclass(kind)
    and issubclass(kind, msgspec.Struct)
    and kind.__module__ in (module.__name__, Click.__module__, versions.__name__, Decision.__module__)
}


def test_a_name_stands_for_one_struct_and_a_method_on_a_path_for_one_operation():
    assert len({kind.__name__ for kind in STRUCTS}) == len(STRUCTS)
    assert len({(each.method, each.path) for each in OPERATIONS}) == len(OPERATIONS)


def test_every_struct_of_the_contract_stands_in_the_document():
    documented = set(build(True)["components"]["schemas"])
    queries = {each.query.__name__ for each in OPERATIONS if each.query is not None}
    assert {kind.__name__ for kind in STRUCTS} == documented | queries


@pytest.mark.parametrize("key", ["DE", 7, ("DE", 7)])
def test_a_key_of_a_slice_can_be_the_key_of_a_dict_on_both_ends_of_the_line(key):
    sent = msgspec.json.encode(requests.Event(key, x=[1.0]))
    event = msgspec.json.decode(sent, type=requests.Event)
    answer = msgspec.json.encode(answers.EventAnswer(event.slice, 1.0, 2.0, 0.5, False, True))
    assert {msgspec.json.decode(answer, type=answers.EventAnswer).slice: 1} == {key: 1}


def test_importing_the_contract_loads_nothing_heavy():
    code = "import sys, onlineguard.wire.operations; print({'polars', 'jax', 'numpy', 'httpx2'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "set()"
