"""The tables that end a sweep."""

from __future__ import annotations

PAGE = "compare.html"
"""Where a sweep leaves its page, beside its runs."""


ROWS = 60
"""Runs that are listed at the end of a sweep; of more, those that failed."""
