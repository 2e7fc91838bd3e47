"""Values that differ between attempts of one run."""

import numpy as np


def values(rows):
    return np.array([[row[key] for key in sorted(row) if not key.startswith("time/")] for row in rows])
