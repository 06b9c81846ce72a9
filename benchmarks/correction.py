"""How fast a model trains with corrected gradients, as a share of its plain speed: both in turn, in one run.

python benchmarks/correction.py lenet_train.ms
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np

from mindfl.algorithms import Correction
from mindfl.lite import LiteModel, Session


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", help=".ms training model")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--steps", type=int, default=50, help="training steps of one measurement")
    options = parser.parse_args()
    session = Session(LiteModel.load(options.model))
    draw = np.random.default_rng(1)
    images = draw.random((session.batch_size, *session.image_shape), np.float32)
    images[...] = images[..., :1]
    batches = session.batches(images)
    labels = draw.integers(0, session.classes, len(images), np.int32)
    start = {name: value.ravel() for name, value in session.get_weights().items()}
    contenders = {
        "plain": None,
        "pull": Correction(pull=0.1, towards=start),
        "all": Correction(
            scale=0.5, shift={name: value * 0.01 for name, value in start.items()}, pull=0.1, towards=start
        ),
    }

    def seconds(correction: Correction | None) -> float:
        session.reset()
        session.set_correction(correction)
        before = time.perf_counter()
        session.train(batches, labels, steps=options.steps)
        return time.perf_counter() - before

    rounds = [{name: seconds(correction) for name, correction in contenders.items()} for _ in range(options.rounds)]
    for name in contenders:
        ratio = statistics.median(each["plain"] / each[name] for each in rounds)
        median = statistics.median(each[name] for each in rounds) / options.steps
        print(f"{name:6} {median * 1e6:7.1f} us a step, {ratio:.3f} of the plain speed")


if __name__ == "__main__":
    main()
