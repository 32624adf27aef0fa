"""Where nothing is sent: addresses inside in every spelling, names that lead there, urls that read in two ways."""

from __future__ import annotations

from pathlib import Path

import pytest

from poolwise.connect.guard import Guard, read_networks, read_url
from poolwise.core.values import Refused
from poolwise.run.settings import load

NAMES = {
    "hooks.example": ["93.184.216.34", "2606:2800:220:1:248:1893:25c8:1946"],
    "localhost": ["127.0.0.1"],
    "metadata.internal": ["169.254.169.254"],
    "one-of-two.example": ["93.184.216.34", "10.0.0.7"],
    "two-of-two.example": ["10.0.0.7", "93.184.216.34"],
    "mapped.example": ["::ffff:127.0.0.1"],
    "nowhere.example": [],
    "receiver.inside": ["10.1.2.3"],
    "beside.inside": ["10.1.2.3", "10.2.0.1"],
}
GUARD = Guard(read_networks("10.1.0.0/16, fd00:1::/32"), lambda name, _port: NAMES[name])
INSIDE = "address inside"
PORT = "has a port that is no number from 1 to 65535"

REFUSED = {
    # what it is: url, words of the reason
    "loopback": ("https://127.0.0.1/", INSIDE),
    "another loopback": ("https://127.8.9.10/", INSIDE),
    "private 10": ("https://10.0.0.1/", INSIDE),
    "private 172": ("https://172.31.255.255/", INSIDE),
    "private 192": ("https://192.168.0.1:8443/", INSIDE),
    "link-local": ("https://169.254.1.1/", INSIDE),
    "metadata of clouds": ("https://169.254.169.254/latest/meta-data", INSIDE),
    "carrier's": ("https://100.64.0.1/", INSIDE),
    "unspecified": ("https://0.0.0.0/", INSIDE),
    "this network": ("https://0.1.2.3/", INSIDE),
    "multicast": ("https://224.0.0.1/", INSIDE),
    "reserved": ("https://240.0.0.1/", INSIDE),
    "broadcast": ("https://255.255.255.255/", INSIDE),
    "documentation": ("https://192.0.2.1/", INSIDE),
    "benchmarks": ("https://198.18.0.1/", INSIDE),
    "6to4 relay": ("https://192.88.99.1/", INSIDE),
    "loopback 6": ("https://[::1]/", INSIDE),
    "loopback 6 in full": ("https://[0:0:0:0:0:0:0:1]/", INSIDE),
    "unspecified 6": ("https://[::]/", INSIDE),
    "mapped": ("https://[::ffff:127.0.0.1]/", INSIDE),
    "mapped in hex": ("https://[::ffff:7f00:1]/", INSIDE),
    "mapped and public": ("https://[::ffff:93.184.216.34]/", INSIDE),
    "compatible": ("https://[::127.0.0.1]/", INSIDE),
    "6to4": ("https://[2002:7f00:1::]/", INSIDE),
    "NAT64": ("https://[64:ff9b::7f00:1]/", INSIDE),
    "NAT64 of a site": ("https://[64:ff9b:1::7f00:1]/", INSIDE),
    "Teredo": ("https://[2001:0:7f00:1::]/", INSIDE),
    "documentation 6": ("https://[2001:db8::1]/", INSIDE),
    "unique local": ("https://[fd12::1]/", INSIDE),
    "link-local 6": ("https://[fe80::1]/", INSIDE),
    "site-local 6": ("https://[fec0::1]/", INSIDE),
    "multicast 6": ("https://[ff02::1]/", INSIDE),
    "zone": ("https://[fe80::1%25eth0]/", "no host"),
    "decimal": ("https://2130706433/", "no host"),
    "octal": ("https://0177.0.0.1/", "no host"),
    "octal in one": ("https://017700000001/", "no host"),
    "hex": ("https://0x7f000001/", "no host"),
    "hex in parts": ("https://0x7f.0.0.0x1/", "no host"),
    "short": ("https://127.1/", "no host"),
    "dot at the end": ("https://127.0.0.1./", "no host"),
    "five numbers": ("https://127.0.0.1.1/", "no host"),
    "percent": ("https://%31%32%37.0.0.1/", "no host"),
    "full-width digits": ("https://１２７.0.0.1/", "has to encode"),
    "full-width dots": ("https://127。0。0。1/", "has to encode"),
    "circled letters": ("https://ⓛocalhost/", "has to encode"),
    "user": ("https://hooks.example@127.0.0.1/", "names a user"),
    "user and password": ("https://a:b@hooks.example/", "names a user"),
    "backslash": ("https://hooks.example\\@127.0.0.1/", "has to encode"),
    "tab": ("https://127.0.0\t.1/", "has to encode"),
    "space": ("https://hooks.example /", "has to encode"),
    "fragment": ("https://hooks.example/#@127.0.0.1", "fragment"),
    "localhost": ("https://localhost/", INSIDE),
    "localhost with a dot": ("https://localhost./", INSIDE),
    "localhost in capitals": ("https://LOCALHOST/", INSIDE),
    "name of metadata": ("https://metadata.internal/", INSIDE),
    "name with one address inside": ("https://one-of-two.example/", INSIDE),
    "name with the first inside": ("https://two-of-two.example/", INSIDE),
    "name of a mapped one": ("https://mapped.example/", INSIDE),
    "name of nothing": ("https://nowhere.example/", "no address"),
    "allowed and inside": ("https://beside.inside/", INSIDE),
    "not encrypted": ("http://hooks.example/", "https://"),
    "not encrypted, to an address": ("http://93.184.216.34/", "https://"),
    "another scheme": ("ftp://hooks.example/", "https://"),
    "file": ("file:///etc/passwd", "https://"),
    "no scheme": ("hooks.example/", "https://"),
    "no slashes": ("https:hooks.example", "https://"),
    "no host": ("https:///path", "no host"),
    "port of letters": ("https://hooks.example:https/", PORT),
    "port beyond": ("https://hooks.example:65536/", PORT),
    "port far beyond": ("https://hooks.example:99999/", PORT),
    "port 0": ("https://hooks.example:0/", PORT),
    "bracket left open": ("https://[::1/", "IPv6"),
    "long": ("https://hooks.example/" + "x" * 2_000, "longer than"),
    "nothing": ("", "https://"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_nothing_is_sent_to(name: str) -> None:
    url, reason = REFUSED[name]
    assert reason in GUARD.url_fault(url)


@pytest.mark.parametrize(
    "url",
    [
        "https://hooks.example/poolwise?shop=7",
        "https://HOOKS.example.:8443",
        "https://93.184.216.34/",
        "https://[2606:2800:220:1:248:1893:25c8:1946]/",
        "https://receiver.inside/",
        "http://receiver.inside:8080/",
        "http://10.1.255.255/",
        "http://[fd00:1::5]/",
    ],
)
def test_something_may_be_sent_to(url: str) -> None:
    assert GUARD.url_fault(url) == ""


def test_a_url_is_read_once() -> None:
    target = read_url("https://HOOKS.Example.:8443?a=1")
    assert (target.scheme, target.host, target.port, target.path) == ("https", "hooks.example", 8443, "/?a=1")
    assert target.authority == "hooks.example:8443"
    assert read_url("https://[2606:2800::1]/x").authority == "[2606:2800::1]"


def test_without_the_setting_nothing_inside_is_allowed() -> None:
    assert INSIDE in Guard(read_networks(""), lambda name, _port: NAMES[name]).url_fault("https://receiver.inside/")


@pytest.mark.parametrize("value", ["10.1.0.0/16", "10.1.0.0/16, fd00:1::/32", "127.0.0.1/32", ""])
def test_networks_inside_are_a_setting(tmp_path: Path, value: str) -> None:
    (tmp_path / "p.toml").write_text(f'internal_webhooks = "{value}"')
    assert load(tmp_path / "p.toml", {}).internal_webhooks == value
    assert len(read_networks(value)) == value.count("/")


@pytest.mark.parametrize("value", ["inside", "10.1.0.1/16", "10.1.0.0/33", "10.0.0.0/8,", "*"])
def test_what_is_no_network_is_no_setting(value: str) -> None:
    with pytest.raises(Refused) as refused:
        load(None, {"POOLWISE_INTERNAL_WEBHOOKS": value})
    assert [fault.field for fault in refused.value.problems] == ["internal_webhooks"]
