# The commands of development; each is one that can also be typed.
PYTHON ?= python
TIMES ?= 50

.PHONY: smoke test fuzz slow mutation options notebooks site ci

# Something of each package, for newcomers.
smoke:
	$(PYTHON) -m pytest -m smoke

test:
	$(PYTHON) -m pytest

# TIMES as many inputs as in a plain run, other ones each time.
fuzz:
	MINDFL_FUZZ=$(TIMES) $(PYTHON) -m pytest tests/fuzz

slow:
	$(PYTHON) -m pytest -m slow

# Small faults, one at a time: do the tests notice them? See docs/testing.md.
mutation:
	$(PYTHON) tests/mutation --measure --again all --record

# docs/options.md and mindfl/options/keywords.py, from the declarations in mindfl/options.
options:
	$(PYTHON) tests/docs/options_page.py

# What the notebooks' cells show on their pages of the site: runs them, two minutes.
notebooks:
	$(PYTHON) tests/notebooks/notebook_outputs.py

# The documentation, as it is while one writes it, on http://127.0.0.1:8000.
site:
	$(PYTHON) -m mkdocs serve

ci:
	.ci/run
