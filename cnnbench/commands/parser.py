"""Parser of a verb's command line."""

from __future__ import annotations

import argparse
import sys
from typing import NoReturn

from cnnbench.safe_text import clean


class Parser(argparse.ArgumentParser):
    """Parser whose errors are clean: they repeat words of the command line, such as names of files."""

    def error(self, message: str) -> NoReturn:
        """Print the usage and the error, and exit with 2."""
        self.print_usage(sys.stderr)
        self.exit(2, f"{self.prog}: error: {clean(message)}\n")
