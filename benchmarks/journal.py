"""What durability costs: uploads of LeNet's size with and without a journal, and how long recovery takes.

    python benchmarks/journal.py --uploads 3500 --threads 2 [--dir FOLDER]

Each thread hands over the uploads of its devices (decoded already) and, as an HTTP front would, keeps some of them
waiting for the disk at a time. The state folder is removed afterwards. Prints one line per measurement.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from collections import deque
from concurrent.futures import Future
from pathlib import Path

import numpy as np
from lenet_weights import BYTES, flat_weights

from mindfl.protocol import RequestFLJob, RequestUpdateModel
from mindfl.server import Coordinator, ServerConfig
from mindfl.server.durable import DurableJob
from mindfl.server.iteration import Clock

HOUR = 3_600_000


def job_config(uploads: int) -> ServerConfig:
    """Return a job in which ``uploads`` do not end the iteration."""
    return ServerConfig(
        fl_iteration_num=2,
        start_fl_job_threshold=uploads + 1,
        start_fl_job_time_window=HOUR,
        update_model_time_window=HOUR,
        global_iteration_time_window=HOUR,
    )


def drive(job: Coordinator | DurableJob, uploads: int, threads: int, in_flight: int) -> float:
    """Let ``uploads`` devices start and upload; return the seconds the uploads took until all were durable."""
    weights = flat_weights()
    now = Clock().now_ms()
    for device in range(uploads):
        job.handle(RequestFLJob(fl_name="x", fl_id=str(device), data_size=32, timestamp="0"), now)

    def work(thread: int) -> None:
        waiting: deque[Future[None]] = deque()
        for device in range(thread, uploads, threads):
            request = RequestUpdateModel(
                fl_name="x", fl_id=str(device), iteration=1, feature_map=weights, timestamp="0", upload_loss=1.0
            )
            answer = job.handle(request, now)
            future = job.durable(answer.position) if isinstance(job, DurableJob) and isinstance(answer, tuple) else None
            if future:
                waiting.append(future)
            if len(waiting) > in_flight:
                waiting.popleft().result()
        for future in waiting:
            future.result()

    workers = [threading.Thread(target=work, args=(thread,)) for thread in range(threads)]
    begin = time.perf_counter()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return time.perf_counter() - begin


def report(name: str, seconds: float, uploads: int) -> None:
    """Print one line."""
    megabytes = uploads * BYTES / 1e6
    print(
        f"{name:34} {seconds:7.2f} s  {uploads / seconds:8.0f} uploads/s  {megabytes / seconds:7.0f} MB/s", flush=True
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--uploads", type=int, default=3500)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--in-flight", type=int, default=64, help="uploads of one thread that may wait for the disk")
    parser.add_argument("--dir", type=Path, help="where the state folder goes (default: the system's temporary folder)")
    options = parser.parse_args()
    config = job_config(options.uploads)
    initial = {name: np.zeros_like(values) for name, values in flat_weights().items()}

    volatile = Coordinator(config, initial)
    report("no journal", drive(volatile, options.uploads, options.threads, options.in_flight), options.uploads)
    with tempfile.TemporaryDirectory(dir=options.dir) as folder:
        job = DurableJob(folder, config, initial, clock=Clock())
        report("journal", drive(job, options.uploads, options.threads, options.in_flight), options.uploads)
        job.close()
        begin = time.perf_counter()
        recovered = DurableJob(folder, config, initial, clock=Clock())
        report("recovery", time.perf_counter() - begin, recovered.recovery.uploads)
        recovered.close()


if __name__ == "__main__":
    main()
