"""The Java clients of MindSpore Federated as processes of this machine: started, followed, judged by their logs."""

from mindfl.sim.java.client import JavaOutcome, launch_command
from mindfl.sim.java.clients import JavaClients
from mindfl.sim.java.files import JavaClientFiles, client_files, copy_models, final_accuracies
from mindfl.sim.java.log import ClientIteration, JavaLog
from mindfl.sim.java.rows import history_rows
from mindfl.sim.java.settings import JavaSettings

__all__ = [
    "ClientIteration",
    "JavaClientFiles",
    "JavaClients",
    "JavaLog",
    "JavaOutcome",
    "JavaSettings",
    "client_files",
    "copy_models",
    "final_accuracies",
    "history_rows",
    "launch_command",
]
