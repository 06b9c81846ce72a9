"""docs/options.md and the keywords for type checkers say what the declarations say."""

from __future__ import annotations

from typing import get_type_hints

import options_page

from mindfl.options.job import JobOptions
from mindfl.options.keywords import JobKeywords


def test_the_page_is_up_to_date() -> None:
    assert options_page.PAGE.read_text() == options_page.page(), "run: make options"


def test_the_keywords_are_up_to_date() -> None:
    assert options_page.KEYWORDS.read_text() == options_page.keywords(), "run: make options"
    assert get_type_hints(JobKeywords).keys() == JobOptions.__dataclass_fields__.keys()
