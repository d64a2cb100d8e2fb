"""Container engines behind one interface; only this package knows any of them."""

from collections.abc import Callable, Mapping

from slurmlet.supervisor.engines.apptainer import Apptainer
from slurmlet.supervisor.engines.crun import Crun
from slurmlet.supervisor.engines.interface import Engine

_ENGINES: Mapping[str, Callable[[], Engine]] = {"crun": Crun, "apptainer": Apptainer}


def engine_of(name: str) -> Engine:
    """The engine of this name.

    Raises:
        KeyError: there is none.
    """
    return _ENGINES[name]()
