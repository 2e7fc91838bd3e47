"""`python -m cnnbench` is the same command as `cnnbench`."""

import sys

from cnnbench.cli import main

sys.exit(main())
