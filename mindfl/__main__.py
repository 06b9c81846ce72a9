"""The program ``mindfl``, also as ``python -m mindfl``: Ctrl-C ends it in one line, as early as Python runs it."""

from __future__ import annotations

import os


def main() -> None:
    """Run the command line of this process; see :func:`mindfl.cli.main`."""
    try:
        from mindfl.cli import main

        main()
    except KeyboardInterrupt:  # while modules were imported, or before the handlers of the command were there
        os.write(2, b"mindfl: error: interrupted [E-INTERRUPTED]\n")
        os._exit(130)


if __name__ == "__main__":
    main()
