"""The options of ``mindfl client``, with the names that MindSpore Federated 0.1.0's client has for them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mindfl.options.declaration import option
from mindfl.options.job_options import SslProtocol

Task = Literal["train", "inference", "getModel"]


@dataclass(frozen=True, kw_only=True)
class ClientOptions:
    """Declarations of one device's options."""

    task: Task = option("train", help="Task: take part in a job, predict labels, or fetch the model.")
    domain_name: str | None = option(
        None, help="URL of the server: http://HOST:PORT or https://HOST:PORT, then its URL prefix if it has one."
    )
    train_model_path: Path = option(spellings=("--train_model", "--train_model_path"), help="The .ms file to train.")
    infer_model_path: Path | None = option(
        None, spellings=("--infer_model", "--infer_model_path"), help="A second .ms file, for the final model."
    )
    train_data_dir: Path | None = option(
        None,
        help="Training data: IMAGES,LABELS, a user's folder of bins, or a data set with --user. With --fl_name "
        "...AlbertClient also a file of texts <<<label>>>text.",
    )
    eval_data_dir: Path | None = option(None, help="Test data, in a form of --train_data_dir.")
    infer_data_dir: Path | None = option(
        None, shown="--eval_data_dir", help="Data for inference, in a form of --train_data_dir."
    )
    path_regex: str = option(",", help="Regular expression that separates IMAGES and LABELS.")
    vocab_path: Path | None = option(
        None, help="With --fl_name ...AlbertClient, whose data are text files: vocabulary, a word piece a line."
    )
    ids_path: Path | None = option(
        None, shown="the lines' numbers", help="Number of each word piece, in the lines of --vocab_path."
    )
    user: str | None = option(None, help="User of the data set: name, or position from 0.")
    cert_path: Path | None = option(
        None, shown="the system's", help="With https: certificate of the authority to trust."
    )
    ssl_protocol: SslProtocol | None = option(None, shown="either", help="With https: version of TLS.")
    client_cert: Path | None = option(
        None, help="With https: certificate of this client, for a server that demands one."
    )
    client_key: Path | None = option(None, shown="in the same file", help="Private key for --client_cert.")
    crl_path: Path | None = option(None, help="With https: revocation list of the authority.")
    use_elb: bool = option(
        False, takes_value=True, help="Send each request to a random one of --server_num consecutive ports."
    )
    server_num: int = option(1, least=1, help="Number of consecutive ports of the server, with --use_elb.")
    batch_size: int | None = option(
        None, least=1, shown="that of the model file", help="Samples per training step; must be the model file's."
    )
    input_shape: str | None = option(
        None, help="Shapes of the model's inputs, checked against the model file, such as 32,32,32,3;32."
    )
    train_weight_name: str | None = option(
        None, shown="all", help="Names of the weights to train together, separated by --name_regex."
    )
    infer_weight_name: str | None = option(
        None, shown="all", help="Names of the weights that the second file gets, separated by --name_regex."
    )
    name_regex: str = option(",", help="Regular expression that separates names of weights.")
    fl_name: str | None = option(None, shown="LeNet's", help="Client class, as it appears in messages and log.")
    fl_id: str | None = option(None, shown="a random one", help="Name of this client in the job.")
    log_file: Path = option(Path("client.log"), help="File to append the log to.")
    sleep_time: int = option(200, least=1, unit="ms", help="Polling interval for the model (the reference: 10000).")
    wait_limit: int = option(
        1800, least=0, unit="s", help="Time limit for the model of an iteration (the reference: 180)."
    )
    timeout: float = option(
        30.0, above=0, most=3_000_000, unit="s", help="Time limit to connect and to send; three times that to receive."
    )
    retry_limit: int = option(60, least=0, unit="s", help="Time limit for retries of a request without an answer.")
    max_restarts: int = option(5, least=0, help="Consecutive refusals by the server before the client gives up.")
