"""Helpers for tests of pages in a browser."""

import time

CHROMIUM = "/usr/bin/chromium"  # Debian's


def until(tab, expression, arg=None, seconds=30):
    """Wait until an expression is true. Playwright's own wait needs `eval`, which the policy forbids."""
    end = time.monotonic() + seconds
    while not tab.evaluate(expression, arg):
        assert time.monotonic() < end, expression
        time.sleep(0.02)


def rows(tab, section="rows"):
    """Return the visible cells of a section's tables."""
    return [
        [cell.inner_text() for cell in row.query_selector_all("td")]
        for row in tab.query_selector_all(f"#{section} tbody tr")
    ]
