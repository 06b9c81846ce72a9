"""The options of a server's job.

They are fields of :class:`mindfl.server.ServerConfig`, keys of the YAML file, and options of ``mindfl server
start``.

Names, ranges and the defaults of the file are those of MindSpore Federated 0.1.0.
"""

from __future__ import annotations

from dataclasses import MISSING, dataclass
from functools import partial

from mindfl.options.declaration import option
from mindfl.options.modes import ModeOptions

INT32_MAX = 2**31 - 1
INT64_MAX = 2**63 - 1
UINT32_MAX = 2**32 - 1

_plan = partial(option, group="Plan")
_window = partial(option, group="Plan", least=1, most=UINT32_MAX, unit="ms")
_mode = partial(option, group="Privacy and compression")


@dataclass(frozen=True, kw_only=True)
class ServerJobOptions(ModeOptions):
    """Declarations of a server's job. Where the file's default is another one, ``file_default`` says it."""

    fl_name: str = _plan("Lenet", file_default=MISSING, help="Name of the job.")
    fl_iteration_num: int = _plan(least=1, most=INT32_MAX, help="Number of iterations.")
    start_fl_job_threshold: int = _plan(least=1, most=UINT32_MAX, help="Clients that may start in an iteration.")
    update_model_ratio: float = _plan(
        1.0, above=0, most=1, file_default=MISSING, help="Share of these whose uploads end the iteration."
    )
    start_fl_job_time_window: int = _window(
        30_000, file_default=MISSING, help="Time in which enough clients must start."
    )
    update_model_time_window: int = _window(
        30_000, file_default=MISSING, help="Time in which enough clients must upload."
    )
    global_iteration_time_window: int = _window(
        60_000, file_default=MISSING, help="Time in which an iteration must end."
    )
    client_epoch_num: int = _plan(1, least=1, most=INT32_MAX, file_default=25, help="Local epochs per iteration.")
    client_batch_size: int = _plan(32, least=1, most=INT32_MAX, help="Samples per training step.")
    client_learning_rate: float = _plan(0.01, above=0, file_default=0.001, help="Local learning rate.")
    share_secrets_ratio: float = _mode(
        1.0, above=0, most=1, help="Secure aggregation: share of the clients that must take part in each exchange."
    )
    cipher_time_window: int = _mode(
        30_000,
        least=1,
        most=UINT32_MAX,
        unit="ms",
        file_default=1,
        help="Secure aggregation: time in which enough clients must take part in an exchange.",
    )
    reconstruct_secrets_threshold: int = _mode(
        1, least=1, most=UINT32_MAX, help="PW_ENCRYPT: number of shares that recover a lost client's secret."
    )
