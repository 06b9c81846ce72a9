"""Lets a command that a test starts run the mindfl that is tested, and use what was made for the same run.

Python imports it where ``PYTHONPATH`` names this folder (``made_once``). It patches some modules when something
imports them, and imports nothing of mindfl itself.
"""

import os
import sys

FOLDER = os.environ.get("TESTS_KEPT_ANSWERS")
#: where the tests' own process found mindfl: in a clone, python -m mindfl would find the clone's, not the installed one
PLACE = os.environ.get("TESTS_PLACE_OF_MINDFL")


def version(module):
    in_child = of_the_tests("mindspore_forks").forked(folder(), module.in_child)
    asked = of_the_tests("kept_answers").keep_exports(folder(), in_child)
    module.try_import = lambda: asked(module.mindspore_version)


def exports(module):
    in_child = of_the_tests("mindspore_forks").forked(folder(), module.in_child)
    module.in_child = of_the_tests("kept_answers").keep_exports(folder(), in_child)


def conversions(module):
    backend = module.LibraryBackend
    backend.run = of_the_tests("kept_answers").keep_conversions(folder(), backend.run)


def figures(module):
    module.save_figure = of_the_tests("empty_figures").emptied(module.save_figure)


PATCHES = {
    "mindfl.export.process": version,
    "mindfl.export.graph_mode": exports,
    "mindfl.convert.programs": conversions,
    "mindfl.sim.plot": figures,
}


class Finder:
    """Finds mindfl where the tests do, and patches each module of ``PATCHES`` after its import."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        if name != "mindfl" and name not in PATCHES:
            return None
        from importlib.machinery import PathFinder

        if name == "mindfl":
            return PathFinder.find_spec(name, [PLACE], target)
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and FOLDER:
            execute = spec.loader.exec_module

            def patched(module):
                execute(module)
                PATCHES[name](module)

            spec.loader.exec_module = patched
        return spec


def folder():
    from pathlib import Path

    return Path(FOLDER)


def of_the_tests(name):
    """Return a module of the folder ``tests``, which is not where this process finds modules."""
    from importlib.util import module_from_spec, spec_from_file_location
    from pathlib import Path

    spec = spec_from_file_location(name, Path(__file__).parents[1] / f"{name}.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if PLACE:
    sys.meta_path.insert(0, Finder)
    os.fsync = os.fdatasync = os.fstat  # no test sees a power cut
