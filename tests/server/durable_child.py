"""A server process to be killed: devices upload in two threads, and every answer is printed when it may be sent.

    python durable_child.py STATE_DIR

Lines: "opening", "ready ITERATION", then "ITERATION DEVICE RETCODE" per answered upload, "done HASH" at the end.
"""

from __future__ import annotations

import hashlib
import os
import sys
import threading

import numpy as np

from mindfl.protocol import PlainText, RequestFLJob, RequestUpdateModel, ResponseUpdateModel, Weights
from mindfl.server import Coordinator, ServerConfig
from mindfl.server.durable import DurableJob
from mindfl.server.iteration import Clock

DEVICES = 16
ITERATIONS = 6
HOUR = 3_600_000
CONFIG = ServerConfig(
    fl_iteration_num=ITERATIONS,
    start_fl_job_threshold=DEVICES,
    start_fl_job_time_window=HOUR,
    update_model_time_window=HOUR,
    global_iteration_time_window=HOUR,
)
INITIAL = {"w": np.zeros((100, 200), np.float32), "b": np.ones(7, np.float32)}


def start(device: int) -> RequestFLJob:
    return RequestFLJob(fl_name="x", fl_id=f"d{device}", data_size=device + 1, eval_data_size=1, timestamp="0")


def upload(device: int, iteration: int) -> RequestUpdateModel:
    generator = np.random.default_rng((device, iteration))
    weights = {name: generator.normal(0, 9, values.size).astype(np.float32) for name, values in INITIAL.items()}
    if device % 5 == 0:
        del weights["b"]
    loss = float(np.float32(generator.random()))
    return RequestUpdateModel(
        fl_name="x", fl_id=f"d{device}", iteration=iteration, feature_map=weights, timestamp="0", upload_loss=loss
    )


def model_hash(model: Weights) -> str:
    return hashlib.sha256(b"".join(values.tobytes() for _, values in sorted(model.items()))).hexdigest()


def undisturbed() -> str:
    """Return the hash of the model that the job ends with when nothing goes wrong."""
    server = Coordinator(CONFIG, INITIAL)
    for iteration in range(1, ITERATIONS + 1):
        for device in range(DEVICES):
            server.handle(start(device), 0)
        for device in range(DEVICES):
            server.handle(upload(device, iteration), 0)
    return model_hash(server.model)


def rate(iteration: int) -> float:
    return float(np.float32(0.01 / iteration))


def say(text: str) -> None:
    os.write(1, f"{text}\n".encode())


def serve(job: DurableJob, clock: Clock, devices: range, iteration: int, started: threading.Barrier) -> None:
    for device in devices:
        answer = job.handle(start(device), clock.now_ms()).response
        planned = getattr(answer, "iteration", iteration) != iteration or answer.fl_plan_config.lr == rate(iteration)
        assert isinstance(answer, PlainText) or planned
    started.wait()
    for device in devices:
        response, position = job.handle(upload(device, iteration), clock.now_ms())
        future = job.durable(position)
        if future:
            future.result()
        assert isinstance(response, ResponseUpdateModel | PlainText)
        say(f"{iteration} {device} {response.retcode if isinstance(response, ResponseUpdateModel) else 0}")


def main(state_dir: str) -> None:
    say("opening")
    clock = Clock()
    job = DurableJob(state_dir, CONFIG, INITIAL, clock=clock, lr_schedule=rate)
    say(f"ready {job.coordinator.iteration}")
    while job.coordinator.iteration <= ITERATIONS:
        iteration, started = job.coordinator.iteration, threading.Barrier(2)
        halves = (range(0, DEVICES, 2), range(1, DEVICES, 2))
        threads = [threading.Thread(target=serve, args=(job, clock, half, iteration, started)) for half in halves]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    say(f"done {model_hash(job.coordinator.model)}")
    job.close()


if __name__ == "__main__":
    main(sys.argv[1])
