"""What a run folder says of its run, apart from its rounds: settings, data, and whether it goes on."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mindfl.live.run_rows import from_json, is_number
from mindfl.locks import is_held
from mindfl.work_files import CARD, CLIENTS, RECORD

#: stands for config.json in the folder of a server's job
SERVER = "server.json"
_SHOWN = {
    "algorithm": "algorithm",
    "epochs": "local epochs",
    "batch_size": "batch size",
    "learning_rate": "learning rate",
    "lr_schedule": "learning rate schedule",
    "clients_per_iteration": "clients drawn per round",
    "sampler": "sampler",
    "encrypt_type": "upload mode",
    "engine": "engine",
    "seed": "seed",
}
#: values that say nothing
_USUAL = {"encrypt_type": "NOT_ENCRYPT", "engine": "lite", "lr_schedule": "constant"}


def holds_run(folder: Path) -> bool:
    """Return whether ``folder`` is that of a run, or of a server's job."""
    return any((folder / name).exists() for name in (RECORD, SERVER))


def read_header(folder: Path) -> dict[str, Any]:
    """Return what the page shows above the curves; the files may be missing, or be being written.

    ``problems`` names files that are damaged. Raises ``OSError`` if the folder itself cannot be looked at.
    ``state``: "missing" (no folder), "waiting" (no run yet), "training", "stopped" (before its end) or "ended".
    """
    problems: list[str] = []
    config = json_object(folder / RECORD, problems) or json_object(folder / SERVER, problems)
    card = json_object(folder / CARD, problems)
    title = card.get("title") or config.get("title")
    settings, data = _part(config, "settings"), _part(config, "data")
    return {
        "name": folder.name,
        "folder": str(folder),
        "state": _state(folder, config, card),
        "title": title if isinstance(title, str) else _title(settings, _part(config, "model")),
        "iterations": _number(settings.get("iterations")),
        "began": _text(config.get("began")),
        "ended": _text(config.get("ended")),
        "stopped": _text(card.get("stopped")),
        "clients": _number(data.get("users")),
        "facts": [*_facts(settings, card), *_data_facts(data)],
        "problems": problems,
    }


def read_clients(folder: Path) -> list[str]:
    """Return the clients' names by number, from ``clients.csv``; empty where it is missing or of another form."""
    try:
        path = folder / CLIENTS
        text = path.read_bytes().decode(errors="replace") if path.is_file() else ""
        rows = list(csv.reader(io.StringIO(text, newline="")))
    except (OSError, csv.Error):
        return []
    names = [row[1] for row in rows[1:] if len(row) > 1]
    return names if rows and rows[0][:2] == ["client", "name"] and len(set(names)) == len(rows) - 1 else []


def _state(folder: Path, config: Mapping[str, Any], card: Mapping[str, Any]) -> str:
    if not config:
        return "waiting" if folder.is_dir() else "missing"
    if config.get("ended"):
        # A server's job has no card.
        asked = card.get("iterations_asked") if card else _part(config, "settings").get("iterations")
        done = (card or config).get("iterations")
        left = is_number(asked) and is_number(done) and asked > done and not card.get("stopped")
        return "stopped" if left else "ended"
    return "training" if is_held(folder / ".lock") else "stopped"


def _title(settings: Mapping[str, Any], model: Mapping[str, Any]) -> str:
    network = settings.get("model") or model.get("name") or settings.get("train_ms_name") or ""
    data = settings.get("train_dataset")
    return ", ".join(
        filter(None, (str(network), Path(str(data)).name if data else "synthetic handwriting" * bool(settings)))
    )


def _facts(settings: Mapping[str, Any], card: Mapping[str, Any]) -> list[tuple[str, str]]:
    resolved = {**settings, **{name: value for name, value in _part(card, "settings").items() if value is not None}}
    found = ((name, resolved.get(name)) for name in _SHOWN)
    return [(_SHOWN[name], str(value)) for name, value in found if value is not None and value != _USUAL.get(name)]


def _data_facts(data: Mapping[str, Any]) -> list[tuple[str, str]]:
    names = {"users": "clients", "samples": "samples", "classes": "classes"}
    return [(names[name], f"{data[name]:,}") for name in names if isinstance(data.get(name), int)]


def file_stamp(path: Path) -> tuple[int, ...] | None:
    """Return what differs where a file has been replaced or changed; None if there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


def json_object(path: Path, problems: list[str]) -> dict[str, Any]:
    """Return what a file holds, empty where it is missing; a file that holds no object is added to ``problems``."""
    if not path.exists():
        return {}
    try:
        found = from_json(path.read_bytes()) if path.is_file() else None  # a pipe would never end
    except FileNotFoundError:
        return {}
    except OSError as error:
        problems.append(f"{path.name}: {error.strerror or error}")
        return {}
    except (ValueError, RecursionError):
        found = None
    if isinstance(found, dict):
        return found
    problems.append(f"{path.name} is damaged: it holds no JSON object")
    return {}


def _number(value: object) -> object:
    return value if is_number(value) else None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _part(record: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = record.get(name)
    return found if isinstance(found, dict) else {}
