"""The device runtime: reads and executes MindSpore Lite ``.ms`` training files."""

from mindfl.lite.executable import Executable
from mindfl.lite.inspection import Inspection, inspect_ms
from mindfl.lite.model import LiteModel, Node, Tensor
from mindfl.lite.session import Batches, Session

__all__ = ["Batches", "Executable", "Inspection", "LiteModel", "Node", "Session", "Tensor", "inspect_ms"]
