"""The counters as their definition reads: every click is kept, and each number is counted anew from all of them."""

from typing import Any

import numpy as np

from onlineguard.slidr.counting.counters import ClickKeys
from onlineguard.slidr.counting.windows import COLUMNS

MINUTE, HOUR = 60_000, 3_600_000
DAY = 24 * HOUR
WINDOWS = {"1m": (10_000, 6), "5m": (MINUTE, 5), "1h": (5 * MINUTE, 12), "24h": (HOUR, 24), "7d": (DAY, 7)}


class Oracle:
    """A `Store` whose cost grows with the square of the clicks."""

    def __init__(self) -> None:
        self.now: int | None = None
        self.streak: list[int] = []  # the sides of the last clicks in a row that were far from the clock
        self.start_anew()

    def start_anew(self) -> None:
        self.first_seen: dict[str, int] = {}  # click id: hour of the clock
        self.clicks: list[dict[str, Any]] = []  # all that were counted

    def count(self, keys: ClickKeys) -> np.ndarray:
        rows = [self.one(*row) for row in zip(keys.click_ids, keys.ts.tolist(), *keys[2:], strict=True)]
        return np.array(rows, np.int32).reshape(len(rows), len(COLUMNS))

    def one(
        self, click_id: str, ts: int, user: str | None, session: str | None, ip: str, ad: str, signed: bool
    ) -> list[int]:
        time, counts = self.time_by_the_clock(ts)
        hour = self.now // HOUR
        if click_id in self.first_seen and hour - self.first_seen[click_id] < 24:
            counts = False
        else:
            self.first_seen[click_id] = hour
        parts = ip.split(".")
        prefix = ".".join(parts[:3]) if len(parts) == 4 else ip  # the tests use no IPv6
        click = {"user": user, "session": session, "ip": ip, "prefix": prefix, "ad": ad, "signed": signed, "time": time}
        before = [c for c in self.clicks if c["ip"] == ip]
        numbers = {}
        for entity in ("user", "session", "ip", "prefix"):
            earlier = [c["time"] for c in self.clicks if c[entity] == click[entity] and click[entity] is not None]
            here = [*earlier, time] if counts and click[entity] is not None else earlier
            end = max([*earlier, time])
            for window, (length, n) in WINDOWS.items():
                numbers[f"{entity}_{window}"] = sum(t // length > end // length - n for t in here)
            numbers[f"{entity}_since"] = DAY
            if earlier and max(earlier) // HOUR > end // HOUR - 24:
                numbers[f"{entity}_since"] = min(max(time - max(earlier), 0), DAY)
            numbers[f"{entity}_spread"] = spread(here, end)
        there = [*before, click] if counts else before
        end = max([c["time"] for c in before] + [time])
        for who in ("user", "session"):
            newest: dict[str, int] = {}
            for c in there:
                if c[who] is not None:
                    newest[c[who]] = max(newest.get(c[who], 0), c["time"])
            for window in ("1h", "24h"):
                length, n = WINDOWS[window]
                distinct = sum(t // length > end // length - n for t in newest.values())
                numbers[f"ip_{who}s_{window}"] = min(distinct, 256)
            click[f"{who}s_in_1h"], click["end"] = numbers[f"ip_{who}s_1h"], end
            hours = [c[f"{who}s_in_1h"] for c in there if c["end"] // HOUR > end // HOUR - 24]
            numbers[f"ip_{who}s_largest"] = max(hours, default=0)
        on_ad = [c for c in self.clicks if c["ad"] == ad] + [click] * counts
        end = max([c["time"] for c in on_ad] + [time])
        visits = [c for c in on_ad if c["time"] // HOUR > end // HOUR - 24]
        numbers["ad_clicks_24h"] = len(visits)
        numbers["ad_signed_24h"] = sum(c["signed"] for c in visits)
        numbers["ad_unknown_24h"] = sum(c["user"] is None for c in visits)
        if counts:
            self.clicks.append(click)
        return [numbers[column] for column in COLUMNS]

    def time_by_the_clock(self, ts: int) -> tuple[int, bool]:
        """When the click counts, and whether it does."""
        if self.now is None:
            self.now = ts
        ahead, behind = ts - self.now > HOUR // 2, self.now - ts >= DAY
        if not ahead and not behind:
            self.now, self.streak = max(self.now, ts), []
            return ts, True
        if self.streak and self.streak[-1] != ahead:
            self.streak = []
        self.streak.append(ahead)
        if abs(ts - self.now) > 2 ** len(self.streak) * MINUTE:
            return self.now, ahead
        self.now, self.streak = ts, []
        if behind:
            self.start_anew()
        return ts, True


def spread(times: list[int], end: int) -> int:
    """The spread of an entity's pauses, given the times of its counted clicks in order of arrival; seen at `end`."""
    n = total = squares = 0
    head: int | None = None
    for time in times:
        if head is None or silent(head, time):
            n = total = squares = 0
        elif 0 <= time - head < 30 * MINUTE:
            length = time - head + 1
            octave = length.bit_length() - 1
            x = 64 * octave + (64 * length >> octave) - 64
            fades = n == 16
            n += not fades
            total += x - (total // 16 if fades else 0)
            squares += x * x - (squares // 16 if fades else 0)
        head = time if head is None else max(head, time)
    if head is None or silent(head, end):
        n = total = squares = 0
    about = max(squares - total * total // max(n, 1), 0)
    return (about + 2 * 8_100) // (n + 2)


def silent(head: int, time: int) -> bool:
    """Whether the 24 h window that ends with the later of the two does not hold the head."""
    return max(head, time) // HOUR - head // HOUR >= 24
