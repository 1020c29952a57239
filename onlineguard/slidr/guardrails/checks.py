"""A guardrail: a named function with a reason and limits, and how a set of them is run.

A check looks at training data (`data`) or at a candidate (`comparison`), and returns a `Finding`: whether it holds, the
figures it rests on, and a sentence for whoever is woken by it. Where there is too little to judge by, it says so and is
skipped. It never guesses.

The limits stand beside the checks as defaults, and an operator may set each in a TOML file:

    [outages]
    least = 0.2

    [latency]
    off = true
"""

import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from onlineguard.errors import InvalidArgument, SourceError
from onlineguard.records.versions import Outcome

About = Literal["data", "candidate"]


class Finding(NamedTuple):
    """What a check found. `holds` is None where it could not be judged."""

    holds: bool | None
    sentence: str
    figures: Mapping[str, float] = {}


@dataclass(frozen=True)
class Check[Subject]:
    """A named check. Its reason is why it is there, and its limits are the defaults."""

    name: str
    about: About
    reason: str
    judge: Callable[[Subject, Mapping[str, float]], Finding]
    limits: Mapping[str, float] = field(default_factory=dict[str, float])


@dataclass(frozen=True)
class Settings:
    """The limits that an operator has set, by check; "off" leaves a check out."""

    tables: Mapping[str, Mapping[str, float | bool]] = field(default_factory=dict[str, Mapping[str, float | bool]])

    @staticmethod
    def load(path: str | Path, known: Sequence[Check[Any]]) -> "Settings":
        """The settings in a TOML file. Raises SourceError if it cannot be read, InvalidArgument for unknown names."""
        try:
            tables = tomllib.loads(Path(path).read_text("utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise SourceError(f"guardrails {path} cannot be read: {error}") from error
        checks = {check.name: check for check in known}
        for name, table in tables.items():
            if name not in checks or not isinstance(table, dict):
                raise InvalidArgument(f"guardrails {path}: {name} is no guardrail; they are {', '.join(checks)}")
            for key, value in table.items():
                allowed = ("off", *checks[name].limits)
                kind = bool if key == "off" else (int, float)
                if key not in allowed or not isinstance(value, kind):
                    raise InvalidArgument(
                        f"guardrails {path}: {name}.{key} is {value!r}; {name} has the settings {', '.join(allowed)}"
                    )
        return Settings(tables)

    def limits(self, check: Check[Any]) -> Mapping[str, float]:
        """The limits of a check, those set in place of the defaults."""
        return {
            **check.limits,
            **{key: value for key, value in self.tables.get(check.name, {}).items() if key != "off"},
        }

    def off(self, check: Check[Any]) -> bool:
        """Whether the check is left out."""
        return bool(self.tables.get(check.name, {}).get("off", False))


def run[Subject](checks: Sequence[Check[Subject]], subject: Subject, settings: Settings) -> list[Outcome]:
    """The outcome of every check, in their order. All are run, so that one report names all that is wrong."""
    outcomes: list[Outcome] = []
    for check in checks:
        limits = settings.limits(check)
        if settings.off(check):
            finding = Finding(None, "switched off by the settings")
        else:
            try:
                finding = check.judge(subject, limits)
            except InvalidArgument as error:  # e.g. data that no model could be trained on
                finding = Finding(False, str(error))
        outcome = {True: "passed", False: "failed", None: "skipped"}[finding.holds]
        figures = {name: float(value) if value == value else None for name, value in finding.figures.items()}
        outcomes.append(
            Outcome(check.name, check.about, outcome, finding.sentence, check.reason, figures, dict(limits))
        )
    return outcomes


def failed(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Those that failed."""
    return [outcome for outcome in outcomes if outcome.outcome == "failed"]
