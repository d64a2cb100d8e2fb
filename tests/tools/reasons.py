"""Why pods do not run, word for word as tests/claims.toml claims it."""

import re
import tomllib
from pathlib import Path

_CLAIMS = tomllib.loads((Path(__file__).parents[1] / "claims.toml").read_text())["claims"]


def claimed(number: str, **values: object) -> str:
    """The message of a claim, with its {places} filled."""
    kind, _, text = _CLAIMS[number].partition(": ")
    assert kind == "unschedulable", f"{number} is no reason of the scheduler"
    return re.sub(r"\{(\w+)\}", lambda place: str(values[place[1]]), text)
