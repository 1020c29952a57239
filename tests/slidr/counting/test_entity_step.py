"""Each kind of entity counted by itself gives the numbers of all kinds counted together."""

import numpy as np
from hypothesis import given, settings

from onlineguard.slidr.clicks.clicks import prefix
from onlineguard.slidr.counting.click_clock import Clock
from onlineguard.slidr.counting.counters import ProcessStore
from onlineguard.slidr.counting.entities import Ids
from onlineguard.slidr.counting.entity_step import BATCH, KINDS, NEVER, Tally, columns_of
from onlineguard.slidr.counting.windows import COLUMNS, HOUR_MS
from tests.support.slidr_streams import gateway, streams


def alone(kind, keys):
    """What the clicks see of a kind, and which of them name an entity of it."""
    reading = Clock().read(keys.ts)
    counted = reading.counted & ~Ids().seen(keys.click_ids, reading.now // HOUR_MS, reading.era)
    of = {"user": keys.users, "session": keys.sessions, "ip": keys.ips, "ad": keys.ads}
    names = of["ip"] if kind == "prefix" else of[kind]
    names = [prefix(name) for name in names] if kind == "prefix" else names
    named = np.array([name is not None for name in names])
    rows = np.unique(np.array([str(name) for name in names]), return_inverse=True)[1].astype(np.int32)
    users, sessions = (np.array([name is not None for name in who]) for who in (keys.users, keys.sessions))
    user, session = (counted, counted) if kind in ("user", "session") else (counted & users, counted & sessions)
    pairs, known = None, dict[str, int]()
    if kind == "ip":
        members = [
            [None if name is None else f"{number} {ip} {name}" for ip, name in zip(keys.ips, who, strict=True)]
            for number, who in enumerate((keys.users, keys.sessions))
        ]
        known = {name: at for at, name in enumerate(dict.fromkeys(name for each in members for name in each if name))}
        pairs = np.array([[known.get(name, -1) for name in each] for each in members], np.int32)
    tally = Tally(kind, int(rows.max()) + 1, len(known))
    numbers = np.empty((len(rows), len(columns_of(kind))), np.int32)
    for era in range(int(reading.era.max()) + 1):
        tally.forget()
        here = (reading.era == era) & named
        numbers[here] = tally.count(
            rows[here],
            reading.times[here],
            [user[here], session[here], counted[here], np.array(keys.signed_in)[here]],
            None if pairs is None else pairs[:, here],
        )
    if not named.all():
        numbers[~named] = NEVER
    return numbers


@given(keys=streams())
@settings(max_examples=15, deadline=None)
def test_a_kind_by_itself_gives_the_numbers_of_all_kinds_together(keys):
    together = ProcessStore().count(keys)
    for kind in KINDS:
        assert np.array_equal(alone(kind, keys), together[:, columns_of(kind)]), kind


def test_so_it_does_for_several_batches_of_many_users_behind_one_address():
    keys = gateway(BATCH + 100, 700, 1)
    together = ProcessStore().count(keys)
    for kind in KINDS:
        assert np.array_equal(alone(kind, keys), together[:, columns_of(kind)]), kind


def test_all_kinds_give_all_columns_once():
    assert sorted(column for kind in KINDS for column in columns_of(kind)) == [*range(len(COLUMNS))]
