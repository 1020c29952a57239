"""Behind proxies: whom a trusted proxy asks for, by the header X-Forwarded-For.

Each proxy adds at the end the address that it was asked from. So the header is read from its end: as long as the
address is a trusted proxy's, the one before it is believed, and the first that is no such proxy's is the client. What
stands before that the client may have written itself.

The header Forwarded of RFC 7239 is not read: a proxy that writes one of the two passes on the other as it came.
"""

import ipaddress
from collections.abc import Iterable, Sequence
from functools import lru_cache

HOPS = 16  # addresses that are looked at, from the end


class Proxies:
    """The proxies that are believed, by their addresses or networks. Raises ValueError for one that is neither."""

    def __init__(self, trusted: Sequence[str] = ()):
        self._networks = [ipaddress.ip_network(each, strict=False) for each in trusted]
        self._is_trusted = lru_cache(4_096)(self._is_among)

    def trusts(self, address: str) -> bool:
        """Whether this is the address of a proxy that is believed."""
        return bool(self._networks) and self._is_trusted(address)

    def client(self, peer: str, headers: Iterable[tuple[bytes, bytes]]) -> str:
        """The address of whoever asks, given that of the connection and the headers of the request.

        Of a proxy that says nothing, or nothing that is an address, it is the proxy's own.

        >>> Proxies(["10.0.0.0/8"]).client("10.0.0.1", [(b"x-forwarded-for", b"1.1.1.1, 192.0.2.7, 10.0.0.2")])
        '192.0.2.7'
        """
        if not self.trusts(peer):
            return peer
        said = b",".join(value for name, value in headers if name == b"x-forwarded-for")
        for hop in reversed(said.rsplit(b",", HOPS)[-HOPS:]):
            address = _address(hop.decode("latin-1").strip())
            if address is None:
                break
            peer = address
            if not self.trusts(peer):
                break
        return peer

    def _is_among(self, address: str) -> bool:
        try:
            parsed = ipaddress.ip_address(address)
        except ValueError:  # of a socket of another kind
            return False
        parsed = getattr(parsed, "ipv4_mapped", None) or parsed
        return any(parsed in each for each in self._networks)


def _address(text: str) -> str | None:
    """The address of one hop, which may come with a port; None where it is none.

    >>> _address("[2001:db8::7]:443"), _address("192.0.2.7:443"), _address("unknown")
    ('2001:db8::7', '192.0.2.7', None)
    """
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return None
