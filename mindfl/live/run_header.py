"""What a run folder says of its run, apart from its rounds: settings, data, and whether it goes on."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mindfl.locks import holder_lives

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


def read_header(folder: Path) -> dict[str, Any]:
    """Return what the page shows above the curves; the files may be missing, or be being written.

    ``state``: "missing" (no folder), "waiting" (no run yet), "training", "stopped" (its process is dead) or "ended".
    """
    config, card = _object(folder / "config.json") or _object(folder / SERVER), _object(folder / "result.json")
    title = card.get("title") or config.get("title")
    settings, data = _part(config, "settings"), _part(config, "data")
    return {
        "name": folder.name,
        "folder": str(folder),
        "state": _state(folder, config),
        "title": title if isinstance(title, str) else _title(settings),
        "iterations": settings.get("iterations"),
        "began": config.get("began"),
        "ended": config.get("ended"),
        "stopped": card.get("stopped"),
        "clients": data.get("users"),
        "facts": [*_facts(settings, card), *_data_facts(data)],
    }


def read_clients(folder: Path) -> list[str]:
    """Return the clients' names by number, from ``clients.csv``; empty where it is missing or of another form."""
    try:
        text = (folder / "clients.csv").read_bytes().decode(errors="replace")
        rows = list(csv.reader(io.StringIO(text, newline="")))
    except (OSError, csv.Error):
        return []
    names = [row[1] for row in rows[1:] if len(row) > 1]
    return names if rows and rows[0][:2] == ["client", "name"] and len(set(names)) == len(rows) - 1 else []


def _state(folder: Path, config: Mapping[str, Any]) -> str:
    if not config:
        return "waiting" if folder.is_dir() else "missing"
    if config.get("ended"):
        return "ended"
    return "training" if holder_lives(folder / ".lock") else "stopped"


def _title(settings: Mapping[str, Any]) -> str:
    network = settings.get("model") or settings.get("train_ms_name") or ""
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


def _object(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes(), parse_constant=lambda _: None)
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _part(record: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = record.get(name)
    return found if isinstance(found, dict) else {}
