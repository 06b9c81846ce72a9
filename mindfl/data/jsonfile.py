"""Reading small JSON files of unknown honesty."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mindfl.errors import DataError
from mindfl.files import open_file


def read_json(path: Path, owner: str) -> Any:
    """Return the content of ``path``; raise :class:`DataError`, beginning with ``owner``, for whatever is wrong."""
    try:
        with open_file(path) as file:
            return json.load(file)
    except OSError as error:
        raise DataError(f"{owner}: cannot read {path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{owner}: {path} is not valid JSON: {str(error)[:200]}") from None
