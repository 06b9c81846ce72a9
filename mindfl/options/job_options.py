"""The options of a federated job: keywords of :class:`mindfl.FederatedJob`, and of ``mindfl simulate``.

Names are the tutorial's first, then those of MindSpore Federated 0.1.0 where they differ. Importing this module is
cheap; what checks options against each other is :class:`mindfl.sim.config.JobConfig`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from mindfl.options.declaration import option
from mindfl.options.mode_options import ModeOptions

if TYPE_CHECKING:
    from mindfl.algorithms.algorithm import Algorithm

EngineName = Literal["lite", "mindspore"]
DeviceTarget = Literal["CPU", "GPU", "Ascend"]
LossName = Literal["sparse", "onehot", "mse", "bce"]
InitName = Literal["lecun", "he", "torch", "truncated_normal"]
OptimizerName = Literal["momentum", "sgd", "adam", "adam_weight_decay"]
ExecutorName = Literal["local", "ray"]
TransportName = Literal["in_process", "http"]
DataForm = Literal["compact", "bin"]
StackName = Literal["embedded", "federated"]
ClientsName = Literal["embedded", "java"]
EvaluateName = Literal["all", "drawn", "central"]
MetricName = Literal["accuracy", "perplexity", "loss"]
SslProtocol = Literal["TLSv1.2", "TLSv1.3"]
CpuBindMode = Literal["NOT_BINDING_CORE", "BIND_LARGE_CORE", "BIND_MIDDLE_CORE"]
ServerMode = Literal["FEDERATED_LEARNING", "HYBRID_TRAINING"]
DeployEnv = Literal["x86", "android"]
#: a :class:`mindfl.algorithms.Sampler`, or its name
NamedSampler = Any
#: a :class:`mindfl.algorithms.Schedule`, a function of the iteration that returns its rate, or the name of one
NamedSchedule = Any
#: objects as :class:`mindfl.sim.callbacks.Callback`, or their names
NamedCallbacks = Sequence[Any]

if TYPE_CHECKING:
    from mindfl.data import Dataset

    DataSource: TypeAlias = str | os.PathLike[str] | Dataset
else:
    DataSource = str | os.PathLike
"""A folder, a data set, or the name of one: ``file.py:NAME``."""
NetworkSource: TypeAlias = str | Callable[..., Any]
"""The name of a network, ``file.py:CLASS``, or a class or function that makes a MindSpore cell."""

LENET_CLIENT = "com.mindspore.flclient.demo.lenet.LenetClient"
ALBERT_CLIENT = "com.mindspore.flclient.demo.albert.AlbertClient"

#: the groups in the order of the help
GROUPS = ("Job", "Data", "Model", "Server", "Privacy and compression", "Embedded clients", "Java clients", "Output")
_job, _data, _model, _server, _privacy, _embedded, _java, _ = (partial(option, group=title) for title in GROUPS)


@dataclass(frozen=True, kw_only=True)
class JobOptions(ModeOptions):
    """Declarations of a job's options."""

    work_dir: Path = _job(Path("mindfl_work"), help="Folder for everything that is written.")
    resume: bool = _job(
        False,
        help="Continue the run in --work_dir with its settings; the result is bitwise that of an uninterrupted run.",
    )
    overwrite: bool = _job(
        False, help="Replace the run in --work_dir. Without it a folder that holds a result is refused."
    )
    save_every: int | None = _job(
        None, least=1, shown="no", help="Save <name>_iteration{k}.ms after every so many iterations."
    )
    save_best: bool = _job(False, help="Save the model with the best AVG as <name>_best.ms.")
    tensorboard: bool = _job(
        False, help="Write event files for TensorBoard into the folder tensorboard: curves, histograms, the figure."
    )
    client_num: int = _job(
        50, least=1, help="Number of clients, the data set's first ones; the same for training and inference."
    )
    clients_per_iteration: int | None = _job(
        None, least=1, shown="all", help="Number of clients drawn for each iteration."
    )
    sampler: NamedSampler | None = _job(
        None,
        shown="uniform, of --clients_per_iteration",
        help="Chooses the clients of each iteration: uniform, or your own: module:attribute or file.py:attribute. "
        "Settings follow a colon.",
    )
    callbacks: NamedCallbacks = _job(
        (),
        spellings=("--callback",),
        several=True,
        help="Called during the training; may add metrics to the history, or end the run: module:attribute or "
        "file.py:attribute. Settings follow a colon. May be given several times.",
    )
    evaluate: EvaluateName = _job(
        "all",
        help="Test data on which the model is evaluated: of all clients, each separately; of the drawn clients; or a "
        "central test set: the data set's own, else the test data of all clients together.",
    )
    evaluate_every: int | None = _job(
        None,
        least=1,
        shown="every iteration; all and central less often where evaluation would cost more than training",
        help="Evaluate after every so many iterations, and after the last one.",
    )
    metric: MetricName | None = _job(
        None,
        shown="accuracy; of a regression the loss",
        help="What models are measured by on test data: accuracy, of labels for each token the share of tokens; "
        "perplexity; or the mean loss.",
    )
    per_class: bool = _job(
        False, help="Record the accuracy of each class after every evaluation, and draw confusion.png at the end."
    )
    algorithm: Algorithm | str = _job(
        "fedavg",
        objects=True,
        help="Federated algorithm, such as fedprox:mu=0.1 (`mindfl algorithms` lists all); your own: FILE.py:CLASS or "
        "MODULE:CLASS of a mindfl.algorithms.Algorithm. Settings follow a colon.",
    )
    iterations: int = _job(20, least=1, help="Number of federated iterations (the tutorial: 100).")
    epochs: int = _job(5, least=1, help="Local epochs per iteration (the tutorial: 20).")
    batch_size: int | None = _job(
        None, least=1, shown="that of the model file, else 32", help="Samples per training step."
    )
    learning_rate: float | None = _job(None, above=0, shown="0.01; with Adam: 0.001", help="Local learning rate.")
    lr_schedule: NamedSchedule = _job(
        "constant",
        help="Learning rate of each iteration, from --learning_rate: constant, step:every=10,factor=0.1, "
        "cosine:rounds=20,least=0, or a function of the iteration, module:attribute or file.py:attribute.",
    )
    seed: int = _job(0, least=0, help="Seed of initial weights, synthetic data, noise and the choice of clients.")

    train_dataset: DataSource | None = _data(
        None,
        objects=True,
        spellings=("--train_dataset", "--train_data_dir"),
        shown="synthetic handwriting",
        help="Data set made by `mindfl data`, the tutorial's folders, or FILE.py:NAME of a mindfl.data.Dataset.",
    )
    test_dataset: DataSource | None = _data(
        None,
        objects=True,
        spellings=("--test_dataset", "--eval_data_dir"),
        shown="the test parts of --train_dataset",
        help="Data set to evaluate with: the user of the same name, else the one at the same position.",
    )
    infer_dataset: DataSource | None = _data(
        None, objects=True, spellings=("--infer_data_dir",), shown="--test_dataset", help="Data set for inference."
    )
    data_format: DataForm = _data("compact", help="Form of a synthetic data set.")
    path_regex: str | None = _data(
        None, implied=",", help="Java clients: regular expression that separates the paths of a client's files."
    )
    vocal_file: str | None = _data(
        None,
        spellings=("--vocal_file", "--vocab_path"),
        help="With --flName ...AlbertClient: vocabulary, a word piece a line.",
    )
    ids_file: str | None = _data(
        None,
        spellings=("--ids_file", "--ids_path"),
        help="With --flName ...AlbertClient: number of each word piece, in the lines of --vocal_file.",
    )

    train_model_path: Path | None = _model(
        None,
        spellings=("--train_model_path", "--train_model_dir"),
        shown="ms in the work folder",
        help="Folder of the model files; models found there are used.",
    )
    train_ms_name: str | None = _model(
        None,
        shown="the network's, such as lenet_train",
        help="Common part of the model files' names: <name>.ms to start from, <name>{i}.ms of client i, "
        "<name>_trained.ms the result.",
    )
    operator: object = _model(
        None,
        shown="none",
        help="Operators of your own for the device runtime (docs/extending.md): file.py:name, module:name, or an "
        "entry point of mindfl.operators.",
    )
    origin_train_model_path: Path | None = _model(
        None, shown="<name>.ms in --train_model_path", help="The .ms file to start from."
    )
    infer_model_path: Path | None = _model(
        None,
        spellings=("--infer_model_path", "--infer_model_dir"),
        shown="--train_model_path",
        help="Folder of second model files, which get the final model and are used for inference.",
    )
    infer_ms_name: str | None = _model(
        None, shown="--train_ms_name", help="Common part of the second model files' names."
    )
    origin_infer_model_path: Path | None = _model(
        None, shown="the model to start from", help="The .ms file that second model files begin as."
    )
    train_weight_name: str | None = _model(
        None, shown="all", help="Names of the weights to exchange with the server, separated by --name_regex."
    )
    infer_weight_name: str | None = _model(
        None, shown="all", help="Names of the weights that second model files get, separated by --name_regex."
    )
    name_regex: str = _model(",", help="Regular expression that separates names of weights.")
    input_shape: str | None = _model(
        None,
        pattern=r"\d+(,\d+)*(;\d+(,\d+)*)*",
        form="numbers such as 32,32,32,3;32",
        help="Shapes of the model's inputs, checked against the model file, such as 32,32,32,3;32.",
    )
    model: NetworkSource | None = _model(
        None,
        objects=True,
        shown="lenet",
        help="Network to export, such as lenet or mobilenet_v2:width=0.5; your own: FILE.py:CLASS or MODULE:CLASS.",
    )
    init: InitName | None = _model(
        None,
        shown="lecun; your own network's",
        help="Distribution of the initial weights; torch is PyTorch's default, truncated_normal the reference's.",
    )
    optimizer: OptimizerName | None = _model(
        None, shown="that of the model file, else momentum", help="Local optimizer, fixed in the model file."
    )
    loss: LossName | None = _model(
        None,
        shown="that of the model file, else sparse",
        help="Softmax cross entropy of labels that are class numbers (sparse), or one float per class (onehot); of a "
        "regression the mean squared error (mse), or the binary cross entropy of logits (bce).",
    )
    momentum: float | None = _model(
        None, least=0, below=1, shown="that of the model file, else 0.9", help="Momentum coefficient."
    )
    weight_decay: float | None = _model(
        None,
        least=0,
        shown="that of the model file, else 0",
        help="L2 penalty: the optimizer adds so much of a weight to its gradient; adam_weight_decay subtracts it from "
        "the weight, times the learning rate.",
    )
    init_from: Path | None = _model(
        None,
        shown="--init",
        help="File with the initial weights: .ckpt, .npz, .safetensors or .mindir of MindSpore, or .ms.",
    )
    converter: Path | None = _model(
        None, shown="see `mindfl convert`", help="A converter_lite, its folder, or MindSpore Lite's tarball."
    )
    per_client_models: bool | None = _model(
        None,
        spellings=("--per_client_models/--shared_model",),
        shown="up to 100 clients",
        help="Write a model file for each client.",
    )

    stack: StackName = _server(
        "embedded", help="Server of the job; federated starts MindSpore Federated 0.1.0's own and stops it at the end."
    )
    domain_name: str | None = _server(
        None, help="URL of a running server to join: http://HOST:PORT or https://HOST:PORT."
    )
    use_elb: bool = _server(
        False,
        spellings=("--if_use_elb", "--use_elb"),
        takes_value=True,
        help="The server in --domain_name has --server_num consecutive ports.",
    )
    server_num: int = _server(1, least=1, help="Number of these ports, or of the servers to start.")
    cert_path: Path | None = _server(
        None, shown="the system's", help="With https: certificate of the authority to trust."
    )
    ssl_protocol: SslProtocol | None = _server(None, shown="either; Java: TLSv1.2", help="With https: version of TLS.")
    client_cert: Path | None = _server(
        None, help="With https: certificate of the clients, for a server that demands one."
    )
    client_key: Path | None = _server(None, shown="in the same file", help="Private key for --client_cert.")
    crl_path: Path | None = _server(None, help="With https: revocation list of the authority.")
    enable_ssl: bool = _server(False, help="--stack federated: TLS, with certificates made for the job.")
    redis_address: str | None = _server(
        None, shown="one is started", help="--stack federated: HOST:PORT of a running Redis."
    )
    python: Path | None = _server(
        None, shown="see `mindfl server install`", help="--stack federated: Python interpreter of the server."
    )
    transport: TransportName = _server(
        "in_process", help="How clients reach the embedded server; the result is the same."
    )
    server_mode: ServerMode = _server(
        "FEDERATED_LEARNING", help="Mode of the server; HYBRID_TRAINING: Java clients only."
    )

    dp_budget: float | None = _privacy(
        None,
        above=0,
        shown="no limit",
        help="Epsilon that the job never exceeds: it ends before the iteration that would.",
    )

    workers: int | None = _embedded(
        None, least=1, shown="one per processor", help="Number of threads; the result does not depend on it."
    )
    shuffle: bool = _embedded(
        False, help="Draw the order of a client's samples anew for each local epoch; devices keep that of the data."
    )
    engine: EngineName = _embedded("lite", help="lite executes the .ms file; mindspore trains with MindSpore itself.")
    device_target: DeviceTarget = _embedded(
        "CPU", help="--engine mindspore: MindSpore's device. Everything else trains on the CPU."
    )
    executor: ExecutorName = _embedded(
        "local", help="ray spreads the clients over a Ray cluster, with the same result."
    )
    ray_address: str | None = _embedded(
        None, shown="found, or started", help="--executor ray: address of a running cluster."
    )

    clients: ClientsName | None = _java(
        None, shown="java with --jarPath, else embedded", help="java starts MindSpore Federated's own clients."
    )
    jar_path: Path | None = _java(None, spellings=("--jarPath", "--fl_jar_path"), help="The federated learning jar.")
    case_jar_path: Path | None = _java(
        None, spellings=("--case_jarPath", "--case_jar_path"), help="The jar of the model script."
    )
    lite_jar_path: Path | None = _java(
        None, help="MindSpore Lite's jar: start clients as MindSpore Federated 0.1.0 does, not as the tutorial does."
    )
    fl_name: str = _java(
        LENET_CLIENT,
        spellings=("--flName", "--fl_name"),
        help="Class of the model script. Embedded clients: the name in messages and logs; with ...AlbertClient data "
        "sets may be texts <<<label>>>text, and the network is albert unless --model is given.",
    )
    heap: str | None = _java(
        None,
        implied="256m",
        pattern="[1-9][0-9]*[kKmMgG]?",
        form="a size such as 256m or 2g",
        help="Largest heap of one client.",
    )
    java: str | None = _java(None, implied="java", help="The Java program, by name or path.")
    parallel: int | None = _java(None, least=1, shown="all", help="Number of clients that run at a time.")
    thread_num: int | None = _java(None, least=1, implied=1, help="Threads of one client.")
    cpu_bind_mode: CpuBindMode | None = _java(
        None, implied="NOT_BINDING_CORE", help="Processors that a client's threads are bound to."
    )
    deploy_env: DeployEnv = _java("x86", help="Where clients run; android is refused: clients are simulated here.")


def reads_texts(fl_name: str) -> bool:
    """Return whether a model script, named by its class, is that of texts: MindSpore Federated's ALBERT demo."""
    return fl_name.rpartition(".")[2] == ALBERT_CLIENT.rpartition(".")[2]
