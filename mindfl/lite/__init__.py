"""The device runtime: reads and executes MindSpore Lite ``.ms`` training files."""

from mindfl.lite.executable import Executable
from mindfl.lite.inspection import Inspection, inspect_ms
from mindfl.lite.model import LiteModel, Node, Tensor
from mindfl.lite.own import Operator, use_operators
from mindfl.lite.session import Batches, Session

__all__ = [
    "Batches",
    "Executable",
    "Inspection",
    "LiteModel",
    "Node",
    "Operator",
    "Session",
    "Tensor",
    "inspect_ms",
    "use_operators",
]
