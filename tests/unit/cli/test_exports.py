"""Which exports let pods in."""

from ipaddress import IPv4Network

import pytest

from slurmlet.cli import exports
from slurmlet.cli.exports import Export

PODS = [IPv4Network("10.78.1.0/24"), IPv4Network("10.78.2.0/24")]


def test_the_lines_of_a_server_are_understood() -> None:
    text = """
# /old 10.0.0.0/8(rw)
/home 10.77.0.0/24(rw,sync) login.example.org(ro) @trusted
"/with space" -sync,sec=sys 192.0.2.0/255.255.255.0(rw) \\
    *.example.org(ro)
/open
/world (ro)
"""
    assert exports.parse(text) == [
        Export("/home", "10.77.0.0/24"),
        Export("/home", "login.example.org"),
        Export("/home", "@trusted"),
        Export("/with space", "192.0.2.0/255.255.255.0"),
        Export("/with space", "*.example.org"),
        Export("/open", "*"),
        Export("/world", "*"),
    ]


def test_the_lines_of_showmount_are_understood() -> None:
    text = "/home 10.77.0.0/24,10.78.0.0/16\n/pub  (everyone)\n"
    assert exports.parse(text) == [
        Export("/home", "10.77.0.0/24"),
        Export("/home", "10.78.0.0/16"),
        Export("/pub", "*"),
    ]


@pytest.mark.parametrize(
    ("client", "hit"),
    [
        ("10.78.0.0/16", True),
        ("10.78.2.0/255.255.255.0", True),
        ("10.78.1.9", True),
        ("*", True),
        ("0.0.0.0/0", True),
        ("10.77.0.0/24", False),
        ("fd00::/8", False),
        ("*.example.org", False),
        ("@nodes", False),
        ("gss/krb5", False),
    ],
)
def test_an_export_that_includes_pods_is_a_problem(client: str, hit: bool) -> None:
    found = exports.examine([Export("/home", client)], PODS)
    assert len(found) == hit
    for finding in found:
        assert finding.problem
        assert f"/home is exported to {client}" in finding.text
        assert "nodes' networks only" in finding.text


def test_an_export_is_told_once_for_all_ranges() -> None:
    (finding,) = exports.examine([Export("/home", "10.0.0.0/8")], PODS)
    assert "10.78.1.0/24 and 1 more" in finding.text


def test_file_servers_are_found_by_what_is_mounted() -> None:
    mounts = """\
proc /proc proc rw 0 0
fs1:/home /home nfs4 rw,vers=4.2,clientaddr=10.77.0.11,addr=10.0.0.5 0 0
fs1:/opt /opt nfs4 ro,addr=10.0.0.5 0 0
fs6:/x /x nfs4 ro,addr=fd00::5 0 0
"""
    assert exports.mounted(mounts) == {"10.0.0.5": "/home, /opt"}
