"""Drive the MindSpore Lite 2.0.0 converter library through ctypes; a program of its own, standard library only.

Run as ``python -I -S child.py LIBRARY_FOLDER MINDIR OUTPUT_WITHOUT_SUFFIX TRAIN``; ``TRAIN`` is 1 for a training model.
It must be a process that never imports MindSpore, which brings another ``libmindspore_core.so`` of the same name, and
the library aborts the process on some inputs. Exit status: 0 converted, 3 refused by the converter (its code on
stderr), 4 the library cannot be loaded.

The layouts and names are those of ``mindspore-lite==2.0.0`` for x86-64 (System V ABI, libstdc++): a ``Converter`` is
one ``shared_ptr`` of two words, texts are passed as ``std::vector<char>``, three pointers.
"""

from __future__ import annotations

import ctypes
import os
import resource
import sys

#: in load order: the converter has no rpath, so each file finds the earlier ones by name
LIBRARIES = (
    "libmindspore_glog.so.0",
    "libmindspore_core.so",
    "libmslite_converter_plugin.so",
    "libopencv_core.so.4.5",
    "libopencv_imgproc.so.4.5",
    "libopencv_imgcodecs.so.4.5",
    "libmindspore_converter.so",
)
EXIT_REFUSED = 3
EXIT_NO_LIBRARY = 4

_CONSTRUCT = "_ZN9mindspore9ConverterC1Ev"
_SET_TRAIN_MODEL = "_ZN9mindspore9Converter13SetTrainModelEb"
_SET_SAVE_TYPE = "_ZN9mindspore9Converter11SetSaveTypeENS_9ModelTypeE"
_CONVERT = "_ZN9mindspore9Converter7ConvertENS_9converter7FmkTypeERKSt6vectorIcSaIcEES7_S7_"
_STATUS_CODE = "_ZNK9mindspore6Status10StatusCodeEv"
_FMK_MINDIR = 3
_SAVE_AS_MS = 4


class _CharVector(ctypes.Structure):
    """``std::vector<char>``; keeps its bytes alive."""

    _fields_ = (("begin", ctypes.c_void_p), ("end", ctypes.c_void_p), ("end_of_storage", ctypes.c_void_p))

    def __init__(self, text: str) -> None:
        content = os.fsencode(text)
        self._buffer = ctypes.create_string_buffer(content)
        start = ctypes.addressof(self._buffer)
        super().__init__(start, start + len(content), start + len(content))


def _load(folder: str) -> list[ctypes.CDLL]:
    try:
        return [ctypes.CDLL(os.path.join(folder, name)) for name in LIBRARIES]  # noqa: PTH118 - no pathlib: start-up time
    except OSError as error:
        print(f"the converter library cannot be loaded: {error}", file=sys.stderr, flush=True)
        os._exit(EXIT_NO_LIBRARY)


def _convert(folder: str, model: str, output: str, train: bool) -> int:
    libraries = _load(folder)
    core, library = libraries[1], libraries[-1]
    converter = ctypes.create_string_buffer(16)
    status = ctypes.create_string_buffer(16)
    getattr(library, _CONSTRUCT)(converter)
    getattr(library, _SET_TRAIN_MODEL)(converter, ctypes.c_bool(train))
    getattr(library, _SET_SAVE_TYPE)(converter, ctypes.c_uint32(_SAVE_AS_MS))
    texts = [_CharVector(text) for text in (model, output, "")]
    getattr(library, _CONVERT)(status, converter, ctypes.c_int(_FMK_MINDIR), *map(ctypes.byref, texts))
    status_code = getattr(core, _STATUS_CODE)
    status_code.restype = ctypes.c_uint32
    return ctypes.c_int32(status_code(status)).value


def main() -> None:
    """Convert as the command line says and leave at once: the library's static destructors must not run."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    folder, model, output, train = sys.argv[1:]
    code = _convert(folder, model, output, train == "1")
    if code:
        print(f"the converter refused the model (status {code})", file=sys.stderr, flush=True)
    os._exit(EXIT_REFUSED if code else 0)


if __name__ == "__main__":
    main()
