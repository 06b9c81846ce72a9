"""The callback of ``--tensorboard``: writes what happened in each round into event files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mindfl.sim.callbacks import Callback, Model
from mindfl.sim.config import JobConfig
from mindfl.sim.history import IterationRow
from mindfl.sim.result import Result
from mindfl.sim.run_record import recorded_settings
from mindfl.tracking.event_files import EventFile, event_files, keep_events
from mindfl.tracking.measurements import hyperparameters, scalars

if TYPE_CHECKING:
    # messages of TensorBoard's protocol; the generated classes have no static types
    Event = Any
    Summary = Any

#: intervals of a histogram
_INTERVALS = 40
_FIGURE = "accuracy"


class TensorBoardWriter(Callback):
    """Writes scalars and histograms after each round, and at the end the figure and how the run ended.

    Args:
        rows: the rounds that were finished before. Those that no event file has are written first.
        picture: the accuracy figure, a PNG that is drawn before the end.
    """

    def __init__(self, rows: Sequence[IterationRow], picture: Path) -> None:
        self._rows = rows
        self._picture = picture

    def begin(self, config: JobConfig, model: Model) -> None:
        """Begin a file. Earlier ones keep the rounds that the run goes on from."""
        done = {row.iteration for row in self._rows}
        written: set[int] = set()

        def kept(event: Event) -> bool:
            of_round = event.step in done and not any(
                value.tag == _FIGURE or value.metadata.plugin_data.content for value in event.summary.value
            )
            written.update([event.step] if of_round else [])
            return of_round

        if event_files(config.work_dir):
            keep_events(config.work_dir, kept)
        self._file = EventFile(config.work_dir)
        self._file.add(0, [_start_of_session(config)])
        for row in self._rows:
            if row.iteration not in written:
                self.row(row, model if row is self._rows[-1] else {})

    def row(self, row: IterationRow, model: Model) -> None:
        """Write a round: its numbers, and histograms of the clients' values and of the weights."""
        numbers = scalars(row)
        histograms: dict[str, ArrayLike] = {f"{row.metric}/clients": list(row.accuracies.values())}
        if model:
            histograms |= {f"weights/{name}": values for name, values in model.items()}
            numbers["weights/not_finite"] = sum(int((~np.isfinite(each)).sum()) for each in model.values())
        self._file.add(row.iteration, [_scalars(numbers), *_histograms(histograms)])

    def end(self, result: Result) -> None:
        """Write the figure, and whether the run is complete."""
        if not len(result.history):
            return
        self._file.add(result.history[-1].iteration, [_figure(self._picture), _end_of_session(result.complete)])


def _scalars(numbers: dict[str, float]) -> Summary:
    from tensorboard.compat.proto.summary_pb2 import Summary

    return Summary(value=[Summary.Value(tag=tag, simple_value=value) for tag, value in numbers.items()])


def _histograms(values: dict[str, ArrayLike]) -> list[Summary]:
    """Return a histogram of the finite numbers of each array that has any."""
    from tensorboard.compat.proto.summary_pb2 import Summary

    arrays = {tag: np.asarray(each, np.float64).ravel() for tag, each in values.items()}
    finite = {tag: array[np.isfinite(array)] for tag, array in arrays.items()}
    return [
        Summary(value=[Summary.Value(tag=tag, histo=_histogram(array))]) for tag, array in finite.items() if array.size
    ]


def _histogram(values: NDArray[np.float64]) -> Any:
    from tensorboard.compat.proto.summary_pb2 import HistogramProto

    counts, edges = np.histogram(values, _INTERVALS)
    # The protocol names the upper end of each interval: an empty one before them tells where the first begins.
    return HistogramProto(
        min=values.min(),
        max=values.max(),
        num=values.size,
        sum=values.sum(),
        sum_squares=np.square(values).sum(),
        bucket_limit=edges.tolist(),
        bucket=[0.0, *counts.tolist()],
    )


def _figure(picture: Path) -> Summary:
    from PIL import Image
    from tensorboard.compat.proto.summary_pb2 import Summary

    with Image.open(picture) as image:
        width, height = image.size
    drawn = Summary.Image(height=height, width=width, colorspace=4, encoded_image_string=picture.read_bytes())
    return Summary(value=[Summary.Value(tag=_FIGURE, image=drawn)])


def _start_of_session(config: JobConfig) -> Summary:
    from tensorboard.plugins.hparams import metadata, plugin_data_pb2

    info = plugin_data_pb2.SessionStartInfo()
    for name, value in hyperparameters(recorded_settings(config)).items():
        kind = "bool" if isinstance(value, bool) else "string" if isinstance(value, str) else "number"
        setattr(info.hparams[name], f"{kind}_value", value)
    return _session(metadata.SESSION_START_INFO_TAG, session_start_info=info)


def _end_of_session(complete: bool) -> Summary:
    from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2

    status = api_pb2.STATUS_SUCCESS if complete else api_pb2.STATUS_FAILURE
    return _session(metadata.SESSION_END_INFO_TAG, session_end_info=plugin_data_pb2.SessionEndInfo(status=status))


def _session(tag: str, **content: Any) -> Summary:
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.hparams import metadata, plugin_data_pb2

    about = metadata.create_summary_metadata(plugin_data_pb2.HParamsPluginData(**content))
    return Summary(value=[Summary.Value(tag=tag, metadata=about, tensor=metadata.NULL_TENSOR)])
