"""A loss of power at every change of a file during a training, then the same command again.

Of a file survives what was synced last, or nothing. Of a folder survive the entries that it had when it was
synced last ("late"), or those at the end ("early"): a file system may have written its renames at any moment.
"""

import pytest
from fault_search import CASES, Search, report
from faults import Fault
from search import sample


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("early", [False, True], ids=["folders_late", "folders_early"])
@pytest.mark.parametrize("case", [case for case in CASES if case != "sweep"])
def test_a_loss_of_power_at_every_step(case, early, server, tmp_path):
    search = Search(server, tmp_path, case)
    faults = [Fault(n, "kill before", call=call) for n, call in enumerate(search.calls, 1)]
    tried = [*sample(faults, 0.05), Fault(len(faults) + 1, "kill before", call="after the end")]
    wrong = {fault: complaint for fault in tried if (complaint := search.without_power(fault, early=early))}
    report(f"{case}, loss of power", len(faults) + 1, tried, wrong)
