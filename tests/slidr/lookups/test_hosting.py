"""Networks of hosting companies: the longest prefix decides, and a line that is wrong is named."""

import ipaddress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onlineguard.errors import SourceError
from onlineguard.slidr.lookups.columns import address
from onlineguard.slidr.lookups.hosting import ranges, read_hosting

V4 = st.builds(
    lambda n, bits: ipaddress.ip_network((n << 8, bits), strict=False), st.integers(0, 63), st.integers(0, 32)
)
V6 = st.builds(
    lambda n, bits: ipaddress.ip_network((n << 68, bits), strict=False), st.integers(0, 63), st.integers(0, 64)
)
WHOLE = [ipaddress.ip_network(text) for text in ("0.0.0.0/0", "::/0", "255.0.0.0/8", "ffff::/16")]


def decided(networks, ip):
    """By the longest prefix, looked for one by one; of equal ones the last."""
    holding = [(n.prefixlen, i, flag) for i, (n, flag) in enumerate(networks) if n.version == ip.version and ip in n]
    return max(holding, default=(0, 0, False))[2]


@given(st.dictionaries(st.one_of(V4, V6, st.sampled_from(WHOLE)), st.booleans(), min_size=1, max_size=8))
def test_the_longest_prefix_that_holds_an_address_decides(tmp_path_factory, networks):
    path = tmp_path_factory.mktemp("hosting") / "hosting.csv"
    path.write_text("name,prefix\n" + "".join(f"a firm,{n},{int(flag)}\n" for n, flag in networks.items()))
    tables = ranges(read_hosting(path))
    edges = {address_ for n in networks for address_ in (n[0], n[-1])}
    for ip in edges | {ip + 1 for ip in edges if int(ip) < 2**32 - 1} | {ip - 1 for ip in edges if int(ip)}:
        table = tables[f"networks{ip.version}"]
        key = address(str(ip))
        if key.version != ip.version:  # ::ffff:0:0/96 is of IPv4
            continue
        at = np.searchsorted(table.keys, np.uint64(key.number), side="right") - 1
        assert (at >= 0 and table.values[at, 0] == 1.0) == decided(list(networks.items()), ip)


def test_a_line_may_be_a_prefix_alone_and_remarks_are_passed_over(tmp_path):
    (tmp_path / "list").write_text("# clouds\n\n198.18.0.0/15\nname, prefix\n")
    (network,) = read_hosting(tmp_path / "list")
    assert (network.end - network.start, network.hosting) == (1 << 17, True)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("firm,198.18.0.0/33\n", r"'198\.18\.0\.0/33' in line 1; it must be a prefix"),
        ("ok,10.0.0.0/8\nfirm,10.1.0.0/8\n", r"in line 2.*has host bits set"),
        ("firm,2001:db8::/65\n", "networks of IPv6 must be /64 or larger"),
        ("firm,10.0.0.0/8,yes\n", "'yes' in line 1; a third column must be 1, or 0"),
        ("# none\n", "has no prefixes"),
    ],
)
def test_a_line_that_is_no_network_is_named(tmp_path, text, why):
    (tmp_path / "list").write_text(text)
    with pytest.raises(SourceError, match=why):
        read_hosting(tmp_path / "list")
