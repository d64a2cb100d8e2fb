"""Prints claim → test → result of the last runs; fails when a claim has no test that passed."""

import json
import sys
import tomllib
from pathlib import Path

TESTS = Path(__file__).parents[1]


def main() -> int:
    claims = tomllib.loads((TESTS / "claims.toml").read_text())["claims"]
    recorded = TESTS.parent / "build" / "claims.json"
    results: dict[str, str] = json.loads(recorded.read_text()) if recorded.exists() else {}
    gaps = 0
    for number, text in claims.items():
        print(f"{number}  {text}")
        rows = [
            (key.split(" ", 1)[1], r) for key, r in results.items() if key.startswith(number + " ")
        ]
        for test, result in rows:
            print(f"      {result:8} {test}")
        # A skip has its reason in the test; but something must have passed.
        seen = {result for _, result in rows}
        if "passed" not in seen or seen - {"passed", "skipped"}:
            gaps += 1
            print("      GAP      " + ("not every test passed" if rows else "no test has run"))
    print(f"{len(claims) - gaps} of {len(claims)} claims shown")
    return 1 if gaps else 0


if __name__ == "__main__":
    sys.exit(main())
