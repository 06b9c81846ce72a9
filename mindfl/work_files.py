"""Names of the files in the folder of a run, and of a sweep, that several packages read. Importing it costs nothing."""

from __future__ import annotations

#: how the run was made
RECORD = "config.json"
#: the result card
CARD = "result.json"
#: a row for each iteration, with the clients' accuracies
HISTORY = "history.jsonl"
#: the clients by number
CLIENTS = "clients.csv"
#: when the uploads of each round came
TIMELINE = "timeline.jsonl"
#: list of a sweep's runs, in its folder
SWEEP = "sweep.json"
