"""`slurmlet-sandbox`: python -I -m slurmlet.spank make|remove|garbage; the plugin starts it.

Ends with 0 whenever the node is not to blame: what a job's user must know is in the record.
"""

import gc
import os
import sys
from collections.abc import Sequence

_MAX_CREDENTIAL = 4096
"""Bytes read of a credential, as many as the plugin passes on."""
_USAGE = (
    "usage: slurmlet.spank make --job=N --uid=N --gid=N [--mode=MODE] | remove --job=N | garbage"
)


def main(argv: Sequence[str]) -> int:
    options = dict(word.removeprefix("--").split("=", 1) for word in argv[1:] if "=" in word)
    os.umask(0o022)
    try:
        if argv[:1] == ["make"]:
            return _make(options)
        if argv[:1] == ["remove"]:
            from slurmlet.spank.remove import remove  # noqa: PLC0415

            remove(int(options["job"]))
            return _garbage(in_prolog=False)
        if argv[:1] == ["garbage"]:
            return _garbage(in_prolog=False, refresh=True)
    except (KeyError, ValueError):
        pass
    except Exception as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    print(_USAGE, file=sys.stderr)
    return 2


def _make(options: dict[str, str]) -> int:
    from slurmlet.spank.make import make  # noqa: PLC0415

    make(
        job=int(options["job"]),
        uid=int(options["uid"]),
        gid=int(options["gid"]),
        mode=options.get("mode", ""),
        credential=os.read(0, _MAX_CREDENTIAL).decode("ascii", "replace"),
    )
    # What a killed epilog or another boot left goes with the next job.
    return _garbage(in_prolog=True)


def _garbage(*, in_prolog: bool, refresh: bool = False) -> int:
    from slurmlet.spank import remove  # noqa: PLC0415
    from slurmlet.spank.network import leases  # noqa: PLC0415

    problems = remove.collect(seconds=leases.PROLOG_SECONDS if in_prolog else leases.EPILOG_SECONDS)
    if refresh:
        problems += remove.refresh()
    if problems:
        print("; ".join(problems), file=sys.stderr)
    return int(bool(problems))


if __name__ == "__main__":
    # Nothing here lives for long enough to be looked through for cycles.
    gc.disable()
    code = main(sys.argv[1:])
    sys.stderr.flush()
    # Slurm waits for us, and to take a whole interpreter down takes a tenth of a prolog.
    os._exit(code)
