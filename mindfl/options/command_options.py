"""The options of the commands beside ``simulate``, ``client``, ``server`` and ``data``, and of their functions.

An option that a job has too is taken from its declaration, with the default of the command.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from mindfl.options.declaration import option, same_option
from mindfl.options.job_options import (
    DataSource,
    DeviceTarget,
    EngineName,
    EvaluateName,
    InitName,
    JobOptions,
    LossName,
    NetworkSource,
    OptimizerName,
    StackName,
)

if TYPE_CHECKING:
    from mindfl.algorithms.algorithm import Algorithm

WeightFormat = Literal["ckpt", "npz", "safetensors", "mindir", "onnx"]
TrackerName = Literal["mlflow"]
TableForm = Literal["text", "csv", "markdown", "latex"]
XAxisName = Literal["rounds", "seconds", "bytes"]
BandName = Literal["sd", "range", "clients", "none"]
FigureKind = Literal["curves", "clients"]
NiidDataName = Literal["fashion_mnist", "mnist"]

#: the tutorial's: the name of the federated learning jar
KILL_TAG = "mindspore-lite-java-flclient"

_of_job = partial(same_option, JobOptions)


@dataclass(frozen=True, kw_only=True)
class ReportOptions:
    """How a result is printed."""

    as_json: bool = option(False, spellings=("--json",), help="Print the result as JSON.")


@dataclass(frozen=True, kw_only=True)
class NetworkOptions:
    """Which network is exported."""

    model: NetworkSource = _of_job("model", default="lenet", shown="")
    num_class: int | None = option(None, least=1, shown="the network's own", help="Number of classes.")
    num_channel: int | None = option(None, least=1, shown="the network's own", help="Channels of the images.")
    image_size: tuple[int, int] | None = option(
        None, least=1, shown="the network's own", help="Height and width of the images."
    )
    length: int | None = option(None, least=1, shown="the network's own", help="Tokens of a text.")
    vocabulary: int | None = option(None, least=1, shown="the network's own", help="Number of different tokens.")


@dataclass(frozen=True, kw_only=True)
class ExportOptions(NetworkOptions):
    """The export of a training graph."""

    batch_size: int = _of_job("batch_size", default=32, shown="", help="Samples per batch; fixed in the graph.")
    mindir_path: Path | None = option(
        None, shown="the network's, such as lenet_train.mindir", help="MINDIR file to write; folders are created."
    )
    epochs: int = option(
        1, least=1, help="Training steps, one random batch each; the file holds the initial weights all the same."
    )
    optimizer: OptimizerName = _of_job("optimizer", default="momentum", shown="", help="Optimizer of the graph.")
    learning_rate: float = _of_job("learning_rate", default=0.01, shown="", help="Learning rate of the graph.")
    momentum: float = _of_job("momentum", default=0.9, shown="")
    weight_decay: float = _of_job("weight_decay", default=0.0, shown="")
    loss: LossName = _of_job("loss", default="sparse", shown="")
    init: InitName | None = _of_job("init")
    init_from: Path | None = _of_job("init_from")
    seed: int = _of_job("seed", help="Seed of the initial weights and the random batches.")
    device_target: DeviceTarget = _of_job(
        "device_target", help="Device that MindSpore uses, if the installed MindSpore supports it."
    )


@dataclass(frozen=True, kw_only=True)
class TrainedOptions(NetworkOptions):
    """The export of trained weights."""

    batch_size: int | None = _of_job(
        "batch_size", shown="any number", help="Samples per batch of an exported network; for one that needs a number."
    )
    source: Path | None = option(
        None, spellings=("--from",), help="Trained weights to write for MindSpore: .ms, or a file as for --init_from."
    )
    output: Path | None = option(None, help="With --from: file to write; folders are created.")
    format: WeightFormat | None = option(None, shown="the suffix of --output", help="With --from: format to write.")
    device_model: Path | None = option(
        None, help="With --from a server's file of weights: the .ms file of its devices."
    )


@dataclass(frozen=True, kw_only=True)
class ExportCommandOptions(TrainedOptions, ExportOptions):
    """Both exports: the options of ``mindfl export``."""

    batch_size: int = same_option(ExportOptions, "batch_size")


@dataclass(frozen=True, kw_only=True)
class ConvertOptions:
    """The conversion of a MINDIR."""

    mindir_path: Path | None = option(None, spellings=("--modelFile", "--input"), help="MINDIR to convert.")
    output_path: Path | None = option(
        None, spellings=("--outputFile", "--output"), help="File to write; .ms is appended, folders are created."
    )
    fmk: str = option("MINDIR", help="Format of the model; only MINDIR is supported.")
    train: bool = option(True, spellings=("--trainModel",), takes_value=True, help="Make a training model.")
    converter: Path | None = _of_job("converter", shown="converter_lite on PATH, else the downloaded library")
    operator: object = _of_job("operator")
    fetch: bool = option(False, help="Download the converter library into the cache; needs no model.")
    verbose: bool = option(False, help="Show the converter's log.")


@dataclass(frozen=True, kw_only=True)
class InspectOptions:
    """The inspection of a model file."""

    operator: object = _of_job("operator")
    operators: bool = option(
        False, help="List MindSpore Lite's operators for training, and which the device runtime has; needs no FILE."
    )


@dataclass(frozen=True, kw_only=True)
class PlanOptions:
    """What a stock device has to do for an algorithm."""

    algorithm: Algorithm | str = _of_job("algorithm", default="fedavg")
    optimizer: OptimizerName = _of_job(
        "optimizer", default="momentum", shown="", help="Optimizer in the device's graph."
    )
    momentum: float = _of_job("momentum", default=0.9, shown="")


@dataclass(frozen=True, kw_only=True)
class BenchOptions:
    """The measurement of training speed."""

    seconds: float = option(8.0, above=0, help="Approximate length of each of the two measurements.", unit="s")
    workers: int | None = _of_job("workers", help="Number of threads in the second measurement.")
    work_dir: Path | None = option(None, shown="bench in the cache folder", help="Folder that keeps model and data.")
    quiet: bool = option(False, help="No progress.")


@dataclass(frozen=True, kw_only=True)
class FinishOptions:
    """The end of processes."""

    work_dirs: tuple[Path, ...] = option(
        (Path("mindfl_work"),),
        spellings=("--work_dir",),
        several=True,
        shown="mindfl_work",
        help="Work folder. May be given several times.",
    )
    dry_run: bool = option(False, help="List the processes only.")
    grace_seconds: float = option(5.0, least=0, unit="s", help="Time between SIGTERM and SIGKILL.")
    kill_tag: str | None = option(
        None,
        bare=KILL_TAG,
        pattern=r"(?s)\s*\S.{2,}\S\s*",  # a shorter one is in nearly every command line
        form=f"a text of at least 4 letters, such as {KILL_TAG}",
        help=f"Then end this user's processes with TEXT in their command line too; without TEXT: {KILL_TAG}.",
    )


@dataclass(frozen=True, kw_only=True)
class WatchOptions:
    """The live page of a run."""

    live_port: int = option(
        0, least=0, most=65535, shown="any free one", help="Port of the live page, on 127.0.0.1 only."
    )


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """One run of an experiment file."""

    run: str | None = option(None, shown="the only one", help="Name of a run of its [sweep], to repeat it alone.")
    work_dir: Path | None = _of_job("work_dir", default=None, shown="the file's, else mindfl_work")
    resume: bool = _of_job("resume")
    overwrite: bool = _of_job("overwrite")
    workers: int | None = _of_job("workers", shown="the file's, else one per processor")
    template: bool = option(False, help="Print an experiment file with all options and what they mean.")
    quiet: bool = option(False, help="No progress.")
    live: bool = option(False, help="Show the training in the browser as it runs (docs/live.md); prints the address.")
    live_port: int = same_option(WatchOptions, "live_port", help="With --live: port of the page.")


@dataclass(frozen=True, kw_only=True)
class SweepOptions:
    """All runs of an experiment file."""

    work_dir: Path | None = _of_job("work_dir", default=None, shown="the file's", help="Folder of the sweep.")
    jobs: int | None = option(None, least=1, shown="one per processor", help="Number of runs side by side.")
    workers: int = _of_job(
        "workers", default=1, shown="", help="Threads of each run; its result does not depend on it."
    )
    overwrite: bool = _of_job("overwrite", help="Run all runs anew. Without it those that ended are kept.")
    dry_run: bool = option(False, help="List the runs only; with --work_dir it says how far each is.")
    quiet: bool = option(False, help="No progress.")


_template = partial(option, False, help="Print the experiment file, to change and run it, and do nothing else.")


@dataclass(frozen=True, kw_only=True)
class _StudyOptions:
    """The options that both experiments have."""

    train_dataset: DataSource | None = _of_job("train_dataset")
    overwrite: bool = _of_job("overwrite")
    client_num: int = _of_job("client_num")
    epochs: int = _of_job("epochs", default=20, help="Local epochs per iteration.")
    learning_rate: float = _of_job("learning_rate", default=0.01, shown="")
    init: InitName | None = _of_job("init", shown="lecun")
    seed: int = _of_job("seed")
    workers: int | None = _of_job("workers")
    train_model_path: Path | None = _of_job("train_model_path")
    converter: Path | None = _of_job("converter")
    template: bool = _template()
    quiet: bool = option(False, help="No progress.")


@dataclass(frozen=True, kw_only=True)
class Femnist50Options(_StudyOptions):
    """The tutorial's experiment."""

    work_dir: Path = _of_job("work_dir", default=Path("mindfl_experiment"))
    resume: bool = _of_job("resume")
    clients_per_iteration: int | None = _of_job("clients_per_iteration")
    evaluate: EvaluateName | None = _of_job("evaluate", default=None, shown="all")
    evaluate_every: int | None = _of_job("evaluate_every")
    stack: StackName = _of_job("stack")
    server_num: int | None = _of_job(
        "server_num", default=None, shown="16 with --stack federated", help="Number of servers, 0.5 GiB each."
    )
    iterations: int = _of_job("iterations", default=100, help="Number of federated iterations.")
    batch_size: int = _of_job("batch_size", default=32, shown="")
    engine: EngineName = _of_job("engine")


@dataclass(frozen=True, kw_only=True)
class Privacy50Options(_StudyOptions):
    """The comparison of privacy modes."""

    work_dir: Path = _of_job("work_dir", default=Path("mindfl_privacy"))
    overwrite: bool = _of_job("overwrite", help="Replace results that were made with other settings.")
    modes: str | None = option(None, shown="all", help="Modes to compare, such as plain,quant,exact.")
    iterations: int = _of_job("iterations", help="Number of federated iterations of each mode.")
    batch_size: int | None = _of_job("batch_size")


@dataclass(frozen=True, kw_only=True)
class NiidBenchOptions:
    """The benchmark of label skew."""

    cells: str | Sequence[str] | None = option(
        None,
        shown="iid,dirichlet,classes:3",
        help="Partitions: iid, dirichlet, classes:1, classes:2 and classes:3, separated by commas.",
    )
    algorithms: str | Sequence[str] | None = option(
        None,
        shown="fedavg,fedprox,fednova",
        help="Algorithms as for `mindfl simulate --algorithm`, separated by commas; fedprox without a setting has the "
        "published mu=0.01.",
    )
    seeds: str | Sequence[int] = option("0", help="Seeds of partition and initial weights, such as 0,1,2.")
    dataset: Path = option(
        Path("/usr/share/datasets/fashion-mnist"),
        help="Folder with the four IDX files of Fashion-MNIST or MNIST, .gz or not.",
    )
    data: NiidDataName | None = option(
        None, shown="found by their labels", help="Expected data set; other files are refused."
    )
    work_dir: Path = _of_job("work_dir", default=Path("mindfl_niid"))
    rounds: int = option(50, least=1, help="Number of federated iterations.")
    epochs: int = _of_job("epochs", default=10, help="Local epochs per iteration.")
    workers: int | None = _of_job("workers")
    converter: Path | None = _of_job("converter")
    overwrite: bool = _of_job("overwrite", help="Run cells again that have ended.")
    template: bool = _template()
    quiet: bool = option(False, help="No progress.")


@dataclass(frozen=True, kw_only=True)
class ExportRunOptions:
    """The export of runs to another program."""

    to: TrackerName = option("mlflow", help="Program to export to.")
    uri: str | None = option(
        None,
        shown="the variable MLFLOW_TRACKING_URI",
        help="MLflow's tracking URI: http://HOST:PORT, https://HOST:PORT or file:FOLDER.",
    )
    experiment: str = option("mindfl", help="Name of the experiment, which is created if there is none.")


@dataclass(frozen=True, kw_only=True)
class CompareOptions:
    """The comparison of runs in a table."""

    columns: str | None = option(
        None,
        shown="the usual ones that are known of any run",
        help="Columns, separated by commas: avg, best, top5, low5, weighted_avg, loss, rounds, rounds_to_target, "
        "seconds_to_target, bytes_down, bytes_up, seconds, steps_per_s, epsilon, difference, "
        "or a metric of a callback.",
    )
    target: float | None = option(
        None, shown="none", help="AVG whose first round, and seconds until then, are columns, such as 0.7."
    )
    baseline: str | None = option(
        None, shown="the first group", help="Label of the group that the differences of AVG, paired by seed, are to."
    )


@dataclass(frozen=True, kw_only=True)
class CompareCommandOptions(CompareOptions):
    """Where the table goes."""

    form: TableForm | None = option(
        None, spellings=("--format",), shown="as the name of --out ends, else text", help="Format of the table."
    )
    out: Path | None = option(None, shown="standard output", help="File to write: .txt, .csv, .md or .tex.")


@dataclass(frozen=True, kw_only=True)
class PlotOptions:
    """A figure of runs."""

    column: str = option(
        "avg", help="What is drawn: avg, top5, low5, loss, another column of history.csv, or a metric of a callback."
    )
    x: XAxisName = option("rounds", help="What it is drawn over: rounds, or the sum of seconds or of bytes until then.")
    band: BandName = option(
        "sd",
        help="Band around a curve: standard deviation over seeds, from the lowest to the highest seed (range), or "
        "10 to 90 % of the clients.",
    )
    kind: FigureKind = option("curves", help="curves, or the last accuracy of each client, group by group (clients).")
    title: str = option("", shown="none", help="Title of the figure.")


@dataclass(frozen=True, kw_only=True)
class PlotCommandOptions(PlotOptions):
    """Where the figure goes."""

    out: Path = option(help="File to write: .png, .pdf or .svg.")
