from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurmlet.controlplane import config
from slurmlet.controlplane.errors import ControlPlaneError


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "slurmlet.toml"
    path.write_text(text)
    return path


def test_one_key_is_enough_and_other_tables_are_left_alone(tmp_path: Path) -> None:
    path = write(tmp_path, '[kubelet]\nx = 1\n[controlplane]\nadvertise_address = "10.77.0.1"\n')
    loaded = config.load(path)
    assert loaded.advertise_address == "10.77.0.1"
    assert loaded.secure_port == 6443
    assert loaded.etcd_fsync


@pytest.mark.parametrize(
    ("lines", "parts"),
    [
        ("", ["advertise_address", "missing"]),
        ('advertise_address = "ctl"', ["advertise_address", "'ctl'", "IP address"]),
        ('advertise_address = "0.0.0.0"', ["advertise_address", "0.0.0.0"]),
        ('advertise_address = "10.0.0.1"\nport = 1', ["'port'", "secure_port"]),
        ('advertise_address = "10.0.0.1"\nsecure_port = "6443"', ["secure_port", "'6443'", "int"]),
        ('advertise_address = "10.0.0.1"\nsecure_port = true', ["secure_port", "True", "int"]),
        (
            'advertise_address = "10.0.0.1"\nnode_grace_seconds = 10',
            ["node_grace_seconds", "10", "30"],
        ),
        ('advertise_address = "10.0.0.1"\nsecure_port = 0', ["secure_port", "0", "65535"]),
        ('advertise_address = "10.0.0.1"\nsecure_port = 2379', ["2379", "etcd_client_port"]),
        ('advertise_address = "10.0.0.1"\npki_dir = "pki"', ["pki_dir", "'pki'", "absolute"]),
        (
            'advertise_address = "10.0.0.1"\nservice_cidr = "10.0.0.1/8"',
            ["service_cidr", "10.0.0.1/8"],
        ),
        ('advertise_address = "10.0.0.1"\nservice_cidr = "10.0.0.0/31"', ["service_cidr", "4"]),
        ('advertise_address = "10.0.0.1"\ncluster_domain = "a\\nb"', ["cluster_domain", "control"]),
    ],
)
def test_a_bad_table_is_one_line_that_names_the_field(
    tmp_path: Path, lines: str, parts: list[str]
) -> None:
    with pytest.raises(ControlPlaneError) as caught:
        config.load(write(tmp_path, f"[controlplane]\n{lines}\n"))
    message = str(caught.value)
    assert "\n" not in message
    assert all(part in message for part in [*parts, "slurmlet.toml"])


@pytest.mark.parametrize(
    ("text", "part"), [("x = 1", "no [controlplane] table"), ("x = ", "not valid TOML")]
)
def test_a_bad_file_is_one_line(tmp_path: Path, text: str, part: str) -> None:
    with pytest.raises(ControlPlaneError, match=part.replace("[", r"\[")):
        config.load(write(tmp_path, text))


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ControlPlaneError, match="does not exist"):
        config.load(tmp_path / "none.toml")


values = st.one_of(st.text(), st.integers(), st.booleans(), st.floats(), st.lists(st.text()))


@given(
    st.dictionaries(
        st.one_of(st.sampled_from(sorted(config.Config.__dataclass_fields__)), st.text()), values
    )
)
def test_any_table_gives_a_config_or_one_clear_line(table: dict[str, object]) -> None:
    try:
        parsed = config.parse(table)
    except ControlPlaneError as error:
        assert "\n" not in str(error)
    else:
        assert parsed.advertise_address == table["advertise_address"]
