"""Lets a command that a test starts use what MindSpore and the converter made for the same run (``made_once``).

Python imports it where ``PYTHONPATH`` names this folder. It patches two modules when something imports them, and
imports nothing of mindfl itself.
"""

import os
import sys

FOLDER = os.environ.get("TESTS_KEPT_ANSWERS")


def exports(module, folder, kept):
    module.in_child = kept.keep_exports(folder, module.in_child)


def conversions(module, folder, kept):
    backend = module.LibraryBackend
    backend.run = kept.keep_conversions(folder, backend.run)


PATCHES = {"mindfl.export.graph_mode": exports, "mindfl.convert.programs": conversions}


class Finder:
    """Finds the modules of ``PATCHES`` as Python does, and patches each after its import."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        if name not in PATCHES:
            return None
        from importlib.machinery import PathFinder

        spec = PathFinder.find_spec(name, path, target)
        if spec is not None:
            execute = spec.loader.exec_module

            def patched(module):
                execute(module)
                PATCHES[name](module, *kept_answers())

            spec.loader.exec_module = patched
        return spec


def kept_answers():
    from importlib.util import module_from_spec, spec_from_file_location
    from pathlib import Path

    spec = spec_from_file_location("kept_answers", Path(__file__).parents[1] / "kept_answers.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return Path(FOLDER), module


if FOLDER:
    sys.meta_path.insert(0, Finder)
