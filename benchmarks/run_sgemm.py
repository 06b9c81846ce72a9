"""The roof: what one thread reaches in a large single-precision matrix product, with NumPy's BLAS."""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path

SIZES = (1024, 2048)
REPETITIONS = 7
#: each BLAS has its own way to be told how many threads to use, heeded when it is loaded
_THREADS = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS", "OMP_NUM_THREADS")


def gflops(size: int) -> float:
    """Return 10^9 floating-point operations a second, of the best of some products of square matrices."""
    import numpy as np

    random = np.random.default_rng(0)
    a, b = (random.standard_normal((size, size), np.float32) for _ in range(2))
    result = np.empty_like(a)
    np.matmul(a, b, out=result)
    best = 0.0
    for _ in range(REPETITIONS):
        begin = time.perf_counter()
        np.matmul(a, b, out=result)
        best = max(best, 2 * size**3 / (time.perf_counter() - begin) / 1e9)
    return best


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", help="not used")
    parser.add_argument("result")
    arguments = parser.parse_args()
    os.environ.update(dict.fromkeys(_THREADS, "1"))
    import numpy as np

    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    content = {
        "gflops": max(gflops(size) for size in SIZES),
        "versions": {"numpy": np.__version__, "BLAS": f"{blas['name']} {blas['version']}"},
    }
    Path(arguments.result).write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
