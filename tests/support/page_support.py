"""Helpers of tests/comparison/report."""

import time

CHROMIUM = "/usr/bin/chromium"  # Debian's


def until(tab, expression, arg=None, seconds=30):
    """Wait until it is true. Playwright's own way needs `eval` in the page, which the policy forbids."""
    end = time.monotonic() + seconds
    while not tab.evaluate(expression, arg):
        assert time.monotonic() < end, expression
        time.sleep(0.02)


def rows(tab, section="rows"):
    """The cells of a table that are seen."""
    return [
        [cell.inner_text() for cell in row.query_selector_all("td")]
        for row in tab.query_selector_all(f"#{section} tbody tr")
    ]
