"""``mindfl simulate``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from mindfl.cli.options import echo_json, json_option, option
from mindfl.errors import OptionError

if TYPE_CHECKING:
    from mindfl.sim import FederatedLeNetJob, TrainingResult
    from mindfl.sim.federation import Progress as ClientDone
    from mindfl.sim.history import IterationRow


class Progress:
    """Shows stages as lines and training as a bar; where standard error is no terminal, as a line per iteration."""

    def __init__(self, iterations: int, *, quiet: bool) -> None:
        self._iterations = iterations
        self._quiet = quiet
        self._terminal = sys.stderr.isatty()
        self._bar: Any = None
        self._avg = "-"

    def stage(self, text: str) -> None:
        if not self._quiet:
            click.echo(f"mindfl: {text}", err=True)

    def warning(self, text: str) -> None:
        click.echo(f"mindfl: warning: {text}", err=True)

    def progress(self, progress: ClientDone) -> None:
        self._iterations = progress.iterations
        if self._quiet or not self._terminal:
            return
        text = self._text(progress.iteration, f"{progress.clients_done}/{progress.clients}", progress.loss)
        if self._bar is None:
            self._bar = _new_bar(self._iterations * progress.clients, text)
        self._bar.set_description_str(text, refresh=False)
        self._bar.update()

    def row(self, row: IterationRow) -> None:
        self._avg = f"{row.avg:.3f}"
        text = self._text(row.iteration, row.clients, row.loss)
        if self._bar is not None:
            self._bar.set_description_str(text)
        elif not self._terminal:
            self.stage(f"{text}, {row.seconds:.1f} s")
        if row.iteration == self._iterations:
            self.close()

    def close(self) -> None:
        """Leave the bar as it stands."""
        if self._bar is not None:
            self._bar.close()

    def _text(self, iteration: int, clients: object, loss: float) -> str:
        return f"iteration {iteration}/{self._iterations}, {clients} clients, loss {loss:.3f}, AVG {self._avg}"


def _new_bar(total: int, text: str) -> Any:
    from tqdm import tqdm

    form = "{desc} |{bar}| {remaining} left"
    return tqdm(total=total, desc=text, bar_format=form, dynamic_ncols=True, mininterval=0.2)


@click.command("simulate", short_help="Run the whole job: export, convert, data, federated training, report.")
@option("--work_dir", default="mindfl_work", help="Folder for everything that is written.")
@option("--train_dataset", help="Data set of `mindfl data`, or the tutorial's folders.  [default: a synthetic one]")
@option("--train_model_path", help="Folder of the model files.  [default: ms in the work folder]")
@option("--train_ms_name", default="lenet_train", help="Common part of the model files' names.")
@option("--client_num", default=50, help="Number of clients.")
@option("--clients_per_iteration", type=int, help="Clients drawn for each iteration.  [default: all]")
@option("--iterations", default=20, help="Federated iterations.")
@option("--epochs", default=5, help="Local epochs per iteration (the tutorial: 20).")
@option("--batch_size", default=32, help="Samples per training step; that of the model file.")
@option("--learning_rate", type=float, help="Local learning rate.  [default: 0.01; adam: 0.001]")
@option("--optimizer", default="momentum", help="momentum, sgd or adam.")
@option("--momentum", default=0.9, help="Of the momentum optimizer.")
@option("--init", default="lecun", help="Initial weights: lecun, he, or truncated_normal (the reference's).")
@option("--task", default="train", help="train, inference or getModel.")
@option("--server_num", default=1, help="Servers of the job, with --use_elb; the embedded server is one.")
@option("--seed", default=0, help="Of initial weights, synthetic data and the choice of clients.")
@option("--workers", type=int, help="Threads; the result does not depend on it.  [default: one per processor]")
@option("--engine", default="lite", help="lite (executes the .ms file) or mindspore (the reference).")
@option("--device_target", default="CPU", help="MindSpore's device.")
@option("--executor", default="local", help="local, or ray: spread the clients over a Ray cluster.")
@option("--transport", default="in_process", help="How clients reach the embedded server: in_process or http.")
@option("--domain_name", help="URL of a running server to join: http://HOST:PORT or https://HOST:PORT.")
@option("--cert_path", help="With https: certificate of the authority to trust.  [default: the system's]")
@option("--ssl_protocol", help="With https: TLSv1.2 or TLSv1.3.  [default: either]")
@option("--use_elb", type=bool, default=False, help="The server has --server_num consecutive ports.")
@option("--ray_address", help="Address of a running Ray cluster.  [default: the one Ray finds or starts]")
@option("--converter", help="converter_lite to use.  [default: see `mindfl convert`]")
@option("--data_format", default="compact", help="Form of a synthetic data set: compact or bin.")
@option(
    "--per_client_models/--shared_model",
    "per_client_models",
    default=None,
    show_default=False,
    help="Write a model file for each client.  [default: up to 100 clients]",
)
@option("--quiet", is_flag=True, help="No progress.")
@json_option
def simulate_command(task: str, quiet: bool, as_json: bool, **settings: Any) -> None:
    """Run the tutorial's whole job: export LeNet's training graph, convert it, give every client its model file, train
    federated on a writer-partitioned data set, and report AVG, TOP5 and LOW5 accuracy per iteration.

    Writes history.jsonl, history.csv, accuracy.png, summary.txt, client_{i}/client.log and the model files. The same
    seed gives bitwise the same weights for any number of workers."""
    from mindfl.sim import FederatedLeNetJob

    if task not in _TASKS:
        raise OptionError(f"task must be one of {', '.join(_TASKS)}, got {task!r}")
    bar = Progress(settings["iterations"], quiet=quiet)
    job = FederatedLeNetJob(reporter=bar, **settings)
    if job.config.server_num > 1 and not job.config.use_elb:
        bar.warning(f"--server_num {job.config.server_num}: the embedded server is one; the result is the same")
    try:
        _TASKS[task](job, as_json)
    finally:
        bar.close()


def _train(job: FederatedLeNetJob, as_json: bool) -> None:
    result = job.run()
    if as_json:
        echo_json(_description(job, result))
    else:
        click.echo(result.summary())
        click.echo(f"trained model {click.format_filename(job.trained_model_path)}")
        folder = click.format_filename(job.config.work_dir)
        click.echo(f"written to {folder}: accuracy.png, history.csv, history.jsonl, summary.txt, client_*/client.log")


def _description(job: FederatedLeNetJob, result: TrainingResult) -> dict[str, Any]:
    last = result.history[-1]
    return {
        "title": result.title,
        "iterations": len(result.history),
        "avg": last.avg,
        "top5": last.top5,
        "low5": last.low5,
        "loss": last.loss,
        "weights_sha256": result.hash,
        "trained_model": job.trained_model_path,
        "work_dir": job.config.work_dir,
    }


def _inference(job: FederatedLeNetJob, as_json: bool) -> None:
    predicted = job.infer()
    if as_json:
        echo_json({name: labels.tolist() for name, labels in predicted.items()})
    else:
        total = sum(len(labels) for labels in predicted.values())
        folder = click.format_filename(job.config.work_dir)
        click.echo(f"predicted {total} samples of {len(predicted)} clients: {folder}/predictions.csv")


def _get_model(job: FederatedLeNetJob, as_json: bool) -> None:
    from mindfl.sim import weight_hash

    digest = weight_hash(job.get_model())
    if as_json:
        echo_json({"weights_sha256": digest})
    else:
        click.echo(f"model fetched, weights sha256 {digest}")


_TASKS = {"train": _train, "inference": _inference, "getModel": _get_model}
