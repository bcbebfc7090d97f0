"""`python -m agent` is `wgpy-agent`."""

import sys

from agent.cli import main

sys.exit(main())
