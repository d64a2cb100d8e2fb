"""Which files are copied and which services start anew."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from slurmlab.names import SOURCE_ROOT
from slurmlab.sync import UNITS, differences, units_of

FILES = st.dictionaries(st.sampled_from(["a/x.py", "a/y.py", "b/z.py"]), st.binary(max_size=2))


@given(FILES, FILES)
def test_applied_differences_make_the_trees_equal(
    source: dict[str, bytes], installed: dict[str, bytes]
) -> None:
    changed, gone = differences(source, installed)
    after = {name: data for name, data in installed.items() if name not in gone}
    after |= {name: source[name] for name in changed}
    assert after == source
    assert all(installed.get(name) != source[name] for name in changed), "nothing is copied twice"


def test_every_component_is_known() -> None:
    rooms = {Path(path).name for path in SOURCE_ROOT.glob("*/src/slurmlet/*") if path.is_dir()}
    assert {room for room in rooms if not room.startswith("__")} <= set(UNITS)


def test_services_restart_once() -> None:
    assert units_of(["supervisor"]) == []
    assert units_of(["kubelet", "contracts"]).count("slurmlet-kubelet") == 1
    assert "slurmlet-broker" in units_of(["contracts"])
    assert "slurmlet-broker" not in units_of(["common"])
