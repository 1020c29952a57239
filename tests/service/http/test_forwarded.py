import pytest
from onlineguard_service.config import Settings
from onlineguard_service.http.forwarded import HOPS, Proxies

from onlineguard.errors import InvalidArgument

TRUSTED = Proxies(["10.0.0.0/8", "192.0.2.1", "2001:db8::/64"])


def asked(peer, *headers, proxies=TRUSTED):
    return proxies.client(peer, [(b"x-forwarded-for", header.encode()) for header in headers])


@pytest.mark.parametrize(
    ("peer", "headers", "client"),
    [
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.7"], "198.51.100.7"),
        ("::ffff:10.0.0.1", ["198.51.100.7"], "198.51.100.7"),
        ("2001:db8::1", ["2001:db8:1::7"], "2001:db8:1::7"),
        ("10.0.0.1", ["203.0.113.9, 198.51.100.7"], "198.51.100.7"),
        ("10.0.0.1", ["203.0.113.9, 198.51.100.7,192.0.2.1 , 10.9.9.9"], "198.51.100.7"),
        ("10.0.0.1", ["203.0.113.9", "198.51.100.7", "10.9.9.9"], "198.51.100.7"),
        ("10.0.0.1", ["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        ("10.0.0.1", ["198.51.100.7:1234"], "198.51.100.7"),
        ("10.0.0.1", ["[2001:db8:1::7]:1234"], "2001:db8:1::7"),
        ("10.0.0.1", ["2001:DB8:1:0::7"], "2001:db8:1::7"),
        ("10.0.0.1", ["198.51.100.7, unknown"], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.7, _hidden, 10.9.9.9"], "10.9.9.9"),
        ("10.0.0.1", [""], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.7,"], "10.0.0.1"),
        ("192.0.2.2", ["198.51.100.7"], "192.0.2.2"),
        ("2001:db8:1::1", ["198.51.100.7"], "2001:db8:1::1"),
        ("", ["198.51.100.7"], ""),
    ],
)
def test_the_client_is_the_last_address_that_is_no_trusted_proxys(peer, headers, client):
    assert asked(peer, *headers) == client


def test_without_trusted_proxies_nobody_is_believed():
    assert asked("127.0.0.1", "198.51.100.7", proxies=Proxies()) == "127.0.0.1"


def test_a_proxy_is_trusted_by_its_address_and_nobody_where_none_is_named():
    assert TRUSTED.trusts("10.9.9.9")
    assert TRUSTED.trusts("::ffff:10.0.0.1")
    assert not TRUSTED.trusts("192.0.2.2")
    assert not TRUSTED.trusts("")
    assert not Proxies().trusts("10.9.9.9")


def test_another_header_is_not_read():
    assert TRUSTED.client("10.0.0.1", [(b"forwarded", b"for=198.51.100.7")]) == "10.0.0.1"


def test_of_a_header_of_any_length_a_few_addresses_are_looked_at():
    assert asked("10.0.0.1", ",".join(["198.51.100.7"] + ["10.0.0.2"] * HOPS)) == "10.0.0.2"
    assert asked("10.0.0.1", ",".join(["198.51.100.7"] + ["10.0.0.2"] * (HOPS - 1))) == "198.51.100.7"


@pytest.mark.parametrize("wrong", ["proxy.example", "10.0.0.0/99", "10.0.0.1:80"])
def test_a_proxy_that_is_no_address_is_refused_at_the_start(wrong):
    with pytest.raises(InvalidArgument, match="it must be an address or a network"):
        Settings(trusted_proxies=("192.0.2.1", wrong))
