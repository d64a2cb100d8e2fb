"""python -m slurmlet.controlplane"""

import sys

from slurmlet.controlplane.cli import main

sys.exit(main())
