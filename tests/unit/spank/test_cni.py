"""What comes from outside: CNI configuration and results, netlink answers; and the rules' text."""

import json
import struct
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurmlet.spank import config, record
from slurmlet.spank._core import ffi, lib
from slurmlet.spank.config import Network
from slurmlet.spank.network import NetworkError, conf, links, result, rules
from slurmlet.spank.record import Pin, Record

from .fakeos import message

PTP: dict[str, Any] = {
    "cniVersion": "1.0.0",
    "interfaces": [{"name": "veth1", "mac": "x"}, {"name": "eth0", "sandbox": "/ns"}],
    "ips": [{"interface": 1, "address": "10.78.1.2/24", "gateway": "10.78.1.1"}],
    "routes": [{"dst": "0.0.0.0/0"}],
    "dns": {},
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
# Shapes near to the real ones, in which single parts are anything.
RESULTS = st.fixed_dictionaries(
    {},
    optional={
        "interfaces": JSON | st.lists(st.fixed_dictionaries({"sandbox": JSON})),
        "ips": JSON
        | st.lists(st.fixed_dictionaries({"address": JSON, "interface": st.integers(-2, 3)})),
        "more": JSON,
    },
)
CONFS = st.fixed_dictionaries(
    {},
    optional={
        "name": JSON | st.just("n"),
        "cniVersion": JSON | st.just("1.0.0"),
        "plugins": JSON | st.lists(st.fixed_dictionaries({"type": JSON | st.just("ptp")})),
        "type": JSON | st.just("ptp"),
    },
)


def test_the_address_is_the_sandboxs() -> None:
    assert result.parse(json.dumps(PTP)).addresses == (ip_address("10.78.1.2"),)
    host = {"interface": 0, "address": "192.0.2.1/24"}
    both = PTP | {"ips": [host, *PTP["ips"], {"address": "fd00::2/64"}]}
    found = result.parse(json.dumps(both))
    assert [str(address) for address in found.addresses] == ["10.78.1.2", "fd00::2"]
    assert found.data == both


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ips": []}, "ips: no address for the sandbox"),
        ({"ips": None}, "ips: expected a list"),
        ({"ips": [{"address": "10.78.1.2/24"}] * 9}, "at most 8"),
        ({"ips": ["10.78.1.2/24"]}, r"ips\[0\]: expected an object"),
        ({"ips": [{"address": 7}]}, r"ips\[0\].address: expected"),
        ({"ips": [{"address": "10.78.1.256/24"}]}, r"ips\[0\].address: expected"),
        ({"ips": [{"address": "10.78.1.2/24", "interface": 2}]}, r"ips\[0\].interface"),
        ({"ips": [{"address": "10.78.1.2/24", "interface": True}]}, r"ips\[0\].interface"),
        ({"ips": [{"address": "127.0.0.1/8"}]}, "no address"),
        ({"interfaces": {}}, "interfaces: expected a list"),
        ({"interfaces": [{"sandbox": 1}]}, "interfaces: expected a list"),
        ({"more": 1.5}, "1.5 is no integer"),
        ({"more": 2**63}, "more than 64 bits"),
        ({"more": "\0"}, "NUL"),
        ({"more": [[[[[[[[[1]]]]]]]]]}, "not the JSON"),
        ({"more": list(range(900))}, "more than 800 values"),
        ({"more": "x" * 20000}, "more than 16384 bytes"),
    ],
)
def test_other_results_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(NetworkError, match=message):
        result.parse(json.dumps(PTP | change))


def test_a_result_that_says_a_thing_twice_is_refused() -> None:
    text = json.dumps(PTP)[:-1] + ', "ips": []}'
    with pytest.raises(NetworkError, match="twice"):
        result.parse(text)


@given(RESULTS)
def test_what_is_taken_as_a_result_the_core_reads_in_a_record(data: dict[str, Any]) -> None:
    try:
        found = result.parse(json.dumps(data))
    except NetworkError:
        return
    assert found.addresses
    written = Record(
        job=12, uid=2001, gid=2001, boot="b", host="c1", created=1, mode="net",
        namespaces={"user": Pin(dev=4, ino=101)}, interface={"name": "v", "index": 5},
        cni=found.data,
    )  # fmt: skip
    text = record.encode(written).encode()
    parsed = ffi.new("struct slurmlet_record *")
    why = message()
    assert lib.slurmlet_record_parse(ffi.new("char[]", text), len(text), parsed, why) == 0


@given(st.text() | JSON.map(json.dumps))
def test_any_output_is_a_result_or_an_error(text: str) -> None:
    assert isinstance(result.error_of(text), str)
    with pytest.raises(NetworkError):
        result.parse(text)


def test_a_plugins_error_is_told_in_its_words() -> None:
    said = '{"cniVersion": "1.0.0", "code": 7, "msg": "no", "details": "because"}'
    assert result.error_of(said) == "no: because"
    assert result.error_of("panic: x") == ""


def test_one_plugin_alone_is_a_list_of_one() -> None:
    text = '{"cniVersion": "0.4.0", "name": "n", "type": "ptp", "mtu": 9000}'
    found = conf.parse(text, path="f")
    assert (found.name, found.version) == ("n", "0.4.0")
    assert [plugin["type"] for plugin in found.plugins] == ["ptp"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": ""}, "f: name: expected"),
        ({"name": "../x"}, "f: name: expected"),
        ({"cniVersion": "0.2.0"}, "f: cniVersion: '0.2.0' is none of"),
        ({"cniVersion": None}, "f: cniVersion: None is none of"),
        ({"plugins": []}, "f: plugins: expected"),
        ({"plugins": {}}, "f: plugins: expected"),
        ({"plugins": [{"type": "ptp"}, {"type": "../../bin/sh"}]}, r"f: plugins\[1\].type"),
        ({"plugins": [{"type": "/bin/sh"}]}, r"f: plugins\[0\].type"),
        ({"plugins": ["ptp"]}, r"f: plugins\[0\].type"),
    ],
)
def test_other_configurations_are_refused(change: dict[str, Any], message: str) -> None:
    good = {"cniVersion": "1.0.0", "name": "n", "plugins": [{"type": "ptp"}]}
    assert conf.parse(json.dumps(good), path="f").name == "n"
    with pytest.raises(NetworkError, match=message):
        conf.parse(json.dumps(good | change), path="f")


@given(st.text() | JSON.map(json.dumps) | CONFS.map(json.dumps))
def test_any_configuration_names_programs_or_is_refused(text: str) -> None:
    try:
        found = conf.parse(text, path="f")
    except NetworkError as error:
        assert str(error).startswith("f: ")
        return
    assert all("/" not in plugin["type"] for plugin in found.plugins)


def test_the_first_configuration_by_name_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(NetworkError, match="has no CNI configuration"):
        conf.load(tmp_path)
    for name, network in (("20.conflist", "b"), ("10.conf", "a"), ("00.txt", "c")):
        (tmp_path / name).write_text(
            json.dumps({"cniVersion": "1.0.0", "name": network, "type": "ptp"})
        )
    if (tmp_path / "10.conf").stat().st_uid == 0:
        assert conf.load(tmp_path).name == "a"
        (tmp_path / "10.conf").chmod(0o666)
    with pytest.raises(NetworkError, match=r"10.conf: others than root can write it"):
        conf.load(tmp_path)
    with pytest.raises(NetworkError, match="No such file"):
        conf.load(tmp_path / "none")


def attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + b"\0" * (-len(value) % 4)


def test_an_interface_is_read_from_netlink() -> None:
    body = struct.pack("=BxHiII", 0, 1, 7, 0, 0) + b"".join(
        [
            attribute(3, b"veth1\0"),
            attribute(4, struct.pack("=I", 9000)),
            attribute(5, struct.pack("=I", 2)),
            attribute(18, attribute(1, b"veth\0")),
        ]
    )
    assert links.link_of(body) == links.Link(name="veth1", index=7, kind="veth", mtu=9000, peer=2)


@given(st.binary())
def test_any_netlink_answer_is_an_interface(tail: bytes) -> None:
    assert links.link_of(struct.pack("=BxHiII", 0, 1, 7, 0, 0) + tail).index == 7


def test_the_rules_hold_what_there_is_and_nothing_else() -> None:
    network = Network(deny=("192.0.2.0/24", "fd00::/8"), forwards=True)
    one = rules.Attached(interface="veth1", addresses=(ip_address("10.78.1.2"),))
    two = rules.Attached(
        interface="veth2", addresses=(ip_address("10.78.1.3"), ip_address("fd00::3"))
    )
    lines = rules.text(network, [one, two]).splitlines()
    assert 'add element inet slurmlet interfaces { "veth1", "veth2" }' in lines
    assert (
        'add element inet slurmlet addresses { "veth1" . 10.78.1.2, "veth2" . 10.78.1.3 }' in lines
    )
    assert 'add element inet slurmlet addresses6 { "veth2" . fd00::3 }' in lines
    assert 'add element inet slurmlet interfaces6 { "veth2" }' in lines
    assert "add element inet slurmlet deny { 192.0.2.0/24 }" in lines
    assert "add element inet slurmlet deny6 { fd00::/8 }" in lines
    assert any("forward iifname != @interfaces oifname != @interfaces" in line for line in lines)
    bare = rules.text(Network(), [])
    assert "add element" not in bare
    assert "rule inet slurmlet forward" not in bare


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('conf_dir = "net.d"', "sandbox.network.conf_dir: 'net.d' is no absolute path"),
        ('bin_dirs = ["/a:/b"]', "sandbox.network.bin_dirs: '/a:/b' is no absolute path"),
        ('deny = ["10.0.0.1/8"]', "sandbox.network.deny: 10.0.0.1/8 has host bits set"),
        ('ranges = ["x"]', "sandbox.network.ranges: 'x' does not appear to be"),
        ('rangs = ["x"]', "rangs: unknown key"),
    ],
)
def test_a_wrong_table_is_named(tmp_path: Path, line: str, message: str) -> None:
    (tmp_path / "f").write_text(f"[sandbox.network]\n{line}\n")
    with pytest.raises(config.ConfigError, match=message):
        config.load(str(tmp_path / "f"))
