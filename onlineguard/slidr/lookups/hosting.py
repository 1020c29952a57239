"""Networks of hosting companies: a list of prefixes that the operator has, as ranges of addresses.

    name,prefix
    Example Cloud,198.18.0.0/15
    Example Cloud,2001:db8:4000::/36
    Example VPN,198.18.7.0/24,0

A third column of 0 takes a network out of a larger one that is listed: of all prefixes that hold an address the longest
decides. Lines that are empty, begin with #, or are the header are passed over. Without commas a line is a prefix.

Who has no list: the ranges of large clouds are published by them, and `ip prefix` lists by the regional registries.
"""

import csv
import ipaddress
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from onlineguard.errors import SourceError
from onlineguard.slidr.lookups.columns import NETWORKS
from onlineguard.slidr.lookups.single import Table

_BITS = (32, 64)  # of the keys of addresses of IPv4 and IPv6


class Network(NamedTuple):
    """A prefix of a list, as the keys of its addresses: start <= key < end."""

    version: int
    start: int
    end: int
    hosting: bool


def read_hosting(path: Path) -> list[Network]:
    """The networks of a file. Raises SourceError, which names the line."""
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"{path} cannot be read: {error}; name a text of prefixes") from error
    found: list[Network] = []
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith("#") or line.replace(" ", "").startswith("name,prefix"):
            continue
        fields = [field.strip() for field in next(csv.reader([line]))]
        text, flag = (fields[0], "1") if len(fields) == 1 else (fields[1], fields[2] if len(fields) > 2 else "1")
        try:
            network = ipaddress.ip_network(text)
        except ValueError as error:
            raise SourceError(f"{path} has {text!r} in line {number}; it must be a prefix: {error}") from error
        if flag not in ("0", "1"):
            raise SourceError(f"{path} has {flag!r} in line {number}; a third column must be 1, or 0 for no hosting")
        bits = _BITS[network.version == 6]
        if network.prefixlen > bits:
            raise SourceError(f"{path} has {text} in line {number}; networks of IPv6 must be /64 or larger")
        start = int(network.network_address) >> (network.max_prefixlen - bits)
        found.append(Network(network.version, start, start + (1 << (bits - network.prefixlen)), flag == "1"))
    if not found:
        raise SourceError(f"{path} has no prefixes; leave it out, or name a list with some")
    return found


def ranges(networks: Iterable[Network]) -> dict[str, Table]:
    """The tables `networks4` and `networks6`: where the longest prefix says something else than just before."""
    listed = list(networks)
    return {
        name: _flattened([network for network in listed if network.version == version])
        for name, version in zip(NETWORKS, (4, 6), strict=True)
    }


def _flattened(networks: list[Network]) -> Table:
    starts: list[int] = []
    flags: list[bool] = []

    def begins(at: int, flag: bool) -> None:
        if starts and starts[-1] == at:
            starts.pop()
            flags.pop()
        if flag != (flags[-1] if flags else False):
            starts.append(at)
            flags.append(flag)

    within: list[Network] = []  # networks that are open, each inside the one before
    for network in sorted(networks, key=lambda network: (network.start, -network.end)):
        while within and within[-1].end <= network.start:
            begins(within.pop().end, within[-1].hosting if within else False)
        begins(network.start, network.hosting)
        within.append(network)
    while within:
        end = within.pop().end
        if end < 1 << 64:
            begins(end, within[-1].hosting if within else False)
    return Table(np.array(starts, np.uint64), np.array(flags, np.float32).reshape(-1, 1))
