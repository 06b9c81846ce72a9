"""The settings file of a server in tests."""

from __future__ import annotations

#: certificates for ``enable_ssl``: none of the files exists
WITH_CERTIFICATES = (
    "ssl: {server_cert_path: s.p12, client_cert_path: c.p12, ca_cert_path: ca.crt, cipher_list: ECDHE-R}\n"
)


def server_yaml(
    *,
    fl_name: str = "Lenet",
    iterations: int = 3,
    clients: int = 2,
    window: int = 30_000,
    whole_window: int | None = None,
    ratio: float = 1.0,
    cache: str = 'type: redis, address: "127.0.0.1:6379"',
    more: str = "",
) -> str:
    """Return the text of ``fl.yaml``: the keys that a file must have, and the lines ``more``.

    Windows are in milliseconds; ``whole_window``, that of an iteration, is twice ``window`` by default.
    """
    return f"""\
fl_name: {fl_name}
fl_iteration_num: {iterations}
server_mode: FEDERATED_LEARNING
enable_ssl: false
distributed_cache: {{{cache}}}
round:
  start_fl_job_threshold: {clients}
  start_fl_job_time_window: {window}
  update_model_ratio: {ratio}
  update_model_time_window: {window}
  global_iteration_time_window: {2 * window if whole_window is None else whole_window}
summary: {{metrics_file: metrics.json, failure_event_file: event.txt}}
{more}"""
