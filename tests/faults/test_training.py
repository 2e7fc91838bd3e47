"""A fault at every change of a file during a training, then the same command again, as for SQLite.

Each case is a real training whose n-th write, sync, rename, link, unlink, open, mkdir or truncation fails,
once or for good (ENOSPC, EIO, EACCES), or at which the process dies: before it, after it, or with half
of the bytes written. Afterwards the same command must give the result of an undisturbed run, bit for bit; a
command that ended with an error must have said so in a line, without a traceback.
"""

import pytest
from fault_search import CASES, Search, report
from faults import faults_at
from search import sample

SHARES = {"sweep": 0.017}
"""Share of the faults of a case that are tried; 0.07 by default. There are some seven to a call of the
system, so that faults are tried at a third of the calls, and at a tenth of those of a sweep."""


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("case", CASES)
def test_a_fault_at_every_step(case, server, tmp_path):
    search = Search(server, tmp_path, case)
    faults = faults_at(search.calls)
    tried = sample(faults, SHARES.get(case, 0.07))
    wrong = {fault: complaint for fault in tried if (complaint := search.complaint(fault))}
    report(f"{case}, {len(search.calls)} calls", len(faults), tried, wrong)
