# The commands of development; each is one that can also be typed.
PYTHON ?= python
TIMES ?= 50

.PHONY: test fuzz slow ci

test:
	$(PYTHON) -m pytest

# TIMES as many inputs as in a plain run, other ones each time.
fuzz:
	MINDFL_FUZZ=$(TIMES) $(PYTHON) -m pytest tests/fuzz

slow:
	$(PYTHON) -m pytest -m slow

ci:
	.ci/run
