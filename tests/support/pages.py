"""Reports to draw, and the pages they become as a reader of HTML sees them."""

import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
from hypothesis import strategies as st

from onlineguard.report import Alarm, SliceReport, write_report
from onlineguard.report.template import SCRIPT

VOID = {"meta", "link", "br", "img", "input", "hr"}
any_float = st.floats(width=32, allow_subnormal=False) | st.sampled_from([0.0, 1.0, 1e9, 3e38, np.nan, np.inf])


class Page(HTMLParser):
    """A page as elements; raises at one that is not closed in its turn."""

    def __init__(self, path: Path):
        super().__init__()
        self.source = path.read_text(encoding="utf-8")
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: dict[str, list[str]] = {}
        self.open: list[str] = []
        self.feed(self.source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        assert len(dict(attrs)) == len(attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        assert "svg" in self.open, f"<{tag}/> closes itself outside of an svg"
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open:
            self.texts.setdefault(self.open[-1], []).append(data)

    def all(self, tag: str, **wanted: str) -> list[dict[str, str]]:
        return [attrs for name, attrs in self.elements if name == tag and wanted.items() <= attrs.items()]

    def check(self) -> "Page":
        assert self.source.startswith("<!doctype html>\n<html lang=")
        ids = [attrs["id"] for _, attrs in self.elements if "id" in attrs]
        assert len(set(ids)) == len(ids)
        for _, attrs in self.elements:
            for name in ("href", "aria-labelledby", "clip-path"):
                for target in re.findall(r"[\w-]+", attrs.get(name, "").removeprefix("url")):
                    assert target in ids
        assert self.texts.get("script", []) in ([], [SCRIPT])
        assert self.all("script") == [{}] * self.source.count("script-src")  # and no other runs
        for tag, attrs in self.elements:
            assert tag not in {"link", "img", "iframe", "object", "base"}
            assert not any(name.startswith("on") or name == "src" for name in attrs)
            if tag == "path":
                assert re.fullmatch(r"([MlhvVHz]|-?\d+| )*", attrs["d"]), attrs["d"]
        assert "http:" not in self.source
        assert "https:" not in self.source
        assert "url(" not in self.source.replace("url(#", "")
        for svg in self.all("svg"):
            assert svg.get("aria-hidden") == "true" or svg["role"] == "img"
        return self


def a_slice(**changes) -> SliceReport:
    n = 500
    random = np.random.default_rng(0)
    scores = np.abs(random.normal(size=n))
    base = {
        "name": "host",
        "times": 1_700_000_000_000_000 + 60_000_000 * np.arange(n),
        "index": np.arange(n),
        "values": random.normal(size=n),
        "scores": scores,
        "thresholds": np.full(n, 2.5),
        "alarms": [Alarm(100, 120, 9.0, 1e-5), Alarm(300, 300, 4.0, 1e-3)],
        "labels": (np.arange(n) // 50 == 2).astype(np.int8),
        "drivers": {"cpu": 0.75, "net": 0.25},
        "n_events": n,
        "n_anomalies": 22,
    }
    return SliceReport(**base | changes)


def written(path: Path, *slices: SliceReport, **summary: object) -> Page:
    write_report(path, list(slices), summary)
    return Page(path).check()
