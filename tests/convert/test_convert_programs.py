from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from process_end import await_end

from mindfl.convert import convert_model, programs
from mindfl.convert.programs import LibraryBackend, ProgramBackend, find_backend
from mindfl.errors import ConverterCrashedError, ConverterMissingError, ConvertError

WriteProgram = Callable[..., Path]
TOOL = Path(__file__).parents[2] / "tools" / "converter" / "converter_lite"


@pytest.fixture
def empty_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return folder


def test_named_program_folder_and_tarball(write_program: WriteProgram, tmp_path: Path) -> None:
    program = write_program("#!/bin/sh\n", "lite/tools/converter/converter")
    for path in (program, program.parent, program.parent.parent, tmp_path / "lite"):
        assert find_backend(path) == ProgramBackend(program)


def test_named_program_that_is_unusable(write_program: WriteProgram, tmp_path: Path) -> None:
    program = write_program("#!/bin/sh\n")
    program.chmod(0o644)
    with pytest.raises(ConverterMissingError, match="is not executable"):
        find_backend(program)
    with pytest.raises(ConverterMissingError, match="does not exist"):
        find_backend(tmp_path / "none")
    (tmp_path / "folder").mkdir()
    with pytest.raises(ConverterMissingError, match="holds no converter_lite"):
        find_backend(tmp_path / "folder")


def test_program_on_path_comes_before_the_library(write_program: WriteProgram, empty_path: Path) -> None:
    program = write_program("#!/bin/sh\n", "bin")
    assert find_backend() == ProgramBackend(program)


def test_own_tool_on_path_is_not_called_back(empty_path: Path, converter_library: Path) -> None:
    shutil.copy(TOOL, empty_path)
    assert find_backend() == LibraryBackend(converter_library)


def test_nothing_at_hand_names_both_ways(empty_path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MINDFL_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("MINDFL_CONVERTER_LIB", raising=False)
    monkeypatch.setenv("MINDFL_OFFLINE", "1")
    with pytest.raises(ConverterMissingError) as caught:
        find_backend()
    assert "--converter PATH" in caught.value.hint
    assert "--fetch" in caught.value.hint


def test_program_gets_the_tarballs_libraries(
    write_program: WriteProgram, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LD_LIBRARY_PATH", "/users/own")
    program = write_program('#!/bin/sh\necho "$LD_LIBRARY_PATH" "$@"; echo > model.ms\n', "lite/converter")
    log = ProgramBackend(program).run(tmp_path, train=True)
    libraries, *arguments = log.split()
    assert libraries == f"{tmp_path}/lite/lib:/users/own"
    assert arguments == ["--fmk=MINDIR", "--trainModel=true", "--modelFile=model.mindir", "--outputFile=model"]


@pytest.mark.parametrize(
    ("script", "error", "text"),
    [
        ("kill -SEGV $$", ConverterCrashedError, "killed by SIGSEGV: it gave no reason"),
        ("echo '[ERROR] LITE(1,2) [a/b.cc:3] Run] Out of memory'; exit 1", ConvertError, "status 1.: Out of memory"),
        ("echo fine; exit 0", ConvertError, "refused the model .exit status 0.: fine"),
        ("echo '  what():  too new'; kill -ABRT $$", ConverterCrashedError, "SIGABRT: too new"),
    ],
)
def test_failing_program_is_one_line(
    script: str, error: type[ConvertError], text: str, write_program: WriteProgram, tmp_path: Path
) -> None:
    program = write_program(f"#!/bin/sh\n{script}\n")
    with pytest.raises(error, match=text) as caught:
        ProgramBackend(program).run(tmp_path, train=True)
    assert type(caught.value) is error
    assert "\n" not in caught.value.line()


def test_hanging_program_is_ended_with_its_children(
    write_program: WriteProgram, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(programs, "TIME_LIMIT", 0.5)
    program = write_program("#!/bin/sh\nsleep 1000 & echo $! > child; wait\n")
    with pytest.raises(ConverterCrashedError, match="did not end within"):
        ProgramBackend(program).run(tmp_path, train=True)
    await_end(int((tmp_path / "child").read_text()))


def test_file_that_is_no_program(write_program: WriteProgram, tmp_path: Path) -> None:
    program = write_program("\x7fELF nothing")
    with pytest.raises(ConverterMissingError, match="cannot be started: Exec format error"):
        ProgramBackend(program).run(tmp_path, train=True)


def test_library_that_cannot_be_loaded(tmp_path: Path) -> None:
    (tmp_path / "model.mindir").write_bytes(b"")
    with pytest.raises(ConverterMissingError, match="cannot be loaded"):
        LibraryBackend(tmp_path).run(tmp_path, train=True)


def test_library_refuses_a_damaged_model(tmp_path: Path, converter_library: Path) -> None:
    (tmp_path / "model.mindir").write_bytes(b"not a model")
    with pytest.raises(ConvertError, match=r"exit status 3.: Load MindIR file failed"):
        LibraryBackend(converter_library).run(tmp_path, train=True)


def test_library_aborts_on_a_version_3_model(
    tmp_path: Path, converter_library: Path, exported: Callable[..., Path]
) -> None:
    (tmp_path / "model.mindir").write_bytes(exported().read_bytes())
    with pytest.raises(ConverterCrashedError, match="SIGABRT: This software can only support the maximum mind ir"):
        LibraryBackend(converter_library).run(tmp_path, train=True)


def test_stand_in_for_an_old_program_gets_the_rewritten_file(
    stand_in: Path, exported: Callable[..., Path], tmp_path: Path
) -> None:
    result = convert_model(exported(), tmp_path / "out", converter=stand_in)
    assert result.rewritten
    assert result.backend == str(stand_in)
    assert "library path" in result.log


def test_stand_in_for_a_new_program_gets_the_file_as_exported(
    stand_in: Path, write_program: WriteProgram, exported: Callable[..., Path], tmp_path: Path
) -> None:
    rewriting = (
        "from pathlib import Path\n"
        "from mindfl.convert.mindir import read_mindir\n"
        "from mindfl.convert.rewrite import rewrite\n"
        "model = read_mindir('model.mindir')\n"
        "assert model.mind_ir_version == 3\n"
        "Path('model.mindir').write_bytes(rewrite(model).SerializeToString())\n"
    )
    shebang, rest = stand_in.read_text().split("\n", 1)
    program = write_program("\n".join((shebang, rewriting, rest)), "new")
    result = convert_model(exported(), tmp_path / "out", converter=program)
    assert not result.rewritten


def test_stand_in_that_imitates_is_caught(
    write_program: WriteProgram, exported: Callable[..., Path], converted: Callable[..., Path], tmp_path: Path
) -> None:
    other = converted("momentum", 10, 1, 4)
    program = write_program(f"#!/bin/sh\ncp {other} model.ms\n")
    with pytest.raises(ConvertError, match="not the one that was exported"):
        convert_model(exported(), tmp_path / "out", converter=program)
    assert not (tmp_path / "out.ms").exists()


def test_paths_are_found_relative_to_the_users_folder(
    stand_in: Path, exported: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    relative = os.path.relpath(stand_in, tmp_path)
    assert convert_model(exported(), "out", converter=relative).path == Path("out.ms")
    assert (tmp_path / "out.ms").is_file()
