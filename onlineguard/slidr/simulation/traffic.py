"""What traffic to simulate, checked once, and when in it what happens: the attack, the holiday and the faults."""

from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Literal, get_args

from onlineguard.errors import InvalidArgument
from onlineguard.slidr.simulation.world import DAY, HOUR

World = Literal["usual", "wide"]

_FEWEST = 200  # clicks a day, at least


@dataclass(frozen=True)
class Traffic:
    """What to simulate. Raises InvalidArgument for values that make no traffic.

    holiday: on one day people click two and a half times as much, and a little more on the days beside it. These clicks
        come on top of `clicks`.
    label_outage: for this many hours no purchase is recorded in `purchase_ts`. The shop still has the orders.
    clock_fault: for two hours one of eight front ends stamps the `ts` and `purchase_ts` of its clicks wrongly: in 1970
        during the first hour, and a week ahead during the second.
    biased_purchases: people who are signed in buy more, and more with a higher RFM score. Then the false-positive rate
        over purchases is not the one over people. Without it all of people's clicks lead to a purchase with the same
        probability, so purchasing clicks are typical of people's, as SLIDR assumes.
    world: "usual" has seven kinds of robots, and all people buy alike. "wide" has the robots and people of `wide` too:
        half of the robots' clicks are theirs, two of the kinds come only in the last seven days, and an eighth of
        people's clicks is of groups that hardly ever buy.
    anonymous: the share of visits without a user id or login on top of those that have none anyway, which are a fifth;
        by default none in the usual world, and half of all in the wide one, where so 60 % of the clicks have no id.
    """

    clicks: int = 1_000_000  # about this many
    days: int = 21
    start: date = date(2026, 3, 2)  # a Monday
    robots: float = 0.2  # share of the clicks
    holiday: bool = False
    label_outage: float = 0.0  # hours
    clock_fault: bool = False
    biased_purchases: bool = False
    world: World = "usual"
    anonymous: float | None = None

    def __post_init__(self) -> None:
        if self.world not in get_args(World):
            raise InvalidArgument("world", f"is {self.world!r}; it must be one of {', '.join(get_args(World))}")
        if self.anonymous is not None and not 0.0 <= self.anonymous <= 1.0:
            raise InvalidArgument("anonymous", f"is {self.anonymous}; it must be a share from 0 to 1, e.g. 0.5")
        if not 1 <= self.days <= 366:
            raise InvalidArgument("days", f"is {self.days}; it must be 1 to 366, e.g. 21 for three weeks")
        if not _FEWEST * self.days <= self.clicks <= 2_000_000_000:
            raise InvalidArgument(
                "clicks",
                f"is {self.clicks:,}; it must be {_FEWEST * self.days:,} ({_FEWEST} a day for {self.days} days) "
                "to 2,000,000,000; ask for more clicks or fewer days",
            )
        if not 0.0 <= self.robots <= 0.9:
            raise InvalidArgument("robots", f"is {self.robots}; it must be a share from 0 to 0.9, e.g. 0.2")
        if not 0.0 <= self.label_outage <= 24.0 * self.days:
            raise InvalidArgument(
                "label_outage", f"is {self.label_outage} hours; it must be 0 to {24 * self.days}, the hours simulated"
            )
        if not date(1980, 1, 1) <= self.start <= date(2200, 1, 1):
            raise InvalidArgument("start", f"is {self.start}; it must be a day from 1980 to 2199, e.g. 2026-03-02")

    @property
    def begin(self) -> int:
        """Milliseconds since 1970 UTC of the first midnight."""
        return int(datetime(self.start.year, self.start.month, self.start.day, tzinfo=UTC).timestamp()) * 1_000

    @property
    def end(self) -> int:
        """Milliseconds since 1970 UTC of the midnight after the last day."""
        return self.begin + self.days * DAY

    @property
    def attack(self) -> range:
        """Days, counted from 0, on which a campaign is under attack: two in the second half."""
        first = self.days * 3 // 5
        return range(first, min(first + 2, self.days))

    @property
    def hidden(self) -> float:
        """The share of visits whose user id and login are taken away."""
        return (0.5 if self.world == "wide" else 0.0) if self.anonymous is None else self.anonymous

    @property
    def peak(self) -> int | None:
        """The day of the holiday."""
        return self.days * 2 // 3 if self.holiday else None

    @property
    def outage(self) -> tuple[int, int]:
        """Start and end of the time without recorded purchases, in milliseconds since 1970 UTC."""
        first = min(self.begin + self.days // 2 * DAY + 10 * HOUR, self.end - round(self.label_outage * HOUR))
        return first, first + round(self.label_outage * HOUR)

    @property
    def fault(self) -> tuple[int, int]:
        """Start and end of the time in which a front end's clock is wrong, in true milliseconds since 1970 UTC."""
        first = self.begin + self.days // 3 * DAY + 14 * HOUR
        return first, first + 2 * HOUR * self.clock_fault
