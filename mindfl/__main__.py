"""``python -m mindfl`` is the same as ``mindfl``."""

from mindfl.cli import main

main()
