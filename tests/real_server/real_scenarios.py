"""Scenarios of a job's life: its rounds, its windows, its end, its management."""

from __future__ import annotations

from dataclasses import replace

from real_exchange import Step
from real_refusals import start_refusals, transport, update_refusals
from real_requests import MODEL, Scenario, closed, feature_map, get, get_body, start, update
from real_stack import Job

FINISHED = "The server's training job is disabled or finished."


def _round() -> Scenario:
    return Scenario(
        Job(fl_name="round", model=MODEL),
        (
            get(0, "before anything 0"),
            get(1, "before anything 1"),
            get(-1, "before anything -1"),
            get(7, "before anything 7"),
            update("a", 1, "update before start"),
            start("a"),
            start("a", "start a twice"),
            get(1, "one has started"),
            update("a", 2, "update for the next iteration"),
            update("a", 0, "update for iteration 0"),
            start("b"),
            start("c", "start with a full quota"),
            start("a", "start a twice with a full quota"),
            update("c", 1, "update by one not selected"),
            update("a", 1, value=1.0),
            update("a", 1, "update a twice"),
            get(1, "one has uploaded"),
            update("b", 1, value=2.0),
            update("c", 1, "update with a full quota"),
            closed(1),
            get(0, "second iteration 0"),
            get(2, "second iteration 2"),
            get(3, "second iteration 3"),
            update("a", 1, "update for the closed iteration, not started"),
            start("b", "start b in 2"),
            start("a", "start a in 2"),
            update("a", 1, "update for the closed iteration, started"),
            update("b", 2, value=3.0),
            update("a", 2, value=0.5),
            closed(2),
            start("a", "start when finished"),
            update("a", 2, "update when finished"),
            update("a", 3, "update of the iteration after the last"),
            get(0, "finished 0"),
            get(1, "finished 1"),
            get(3, "finished 3"),
            get(9, "finished 9"),
        ),
    )


def _prefix(prefix: str, paths: tuple[str, ...]) -> Scenario:
    host = "Host: mindfl"
    body = get_body(0)

    def verbatim(path: str) -> bytes:
        head = f"POST {path} HTTP/1.1\r\n{host}\r\nContent-Length: {len(body)}\r\n\r\n"
        return head.encode() + body

    steps = (Step(name=path, path="getModel", verbatim=verbatim(path)) for path in paths)
    return Scenario(Job(fl_name="prefix" + prefix.replace("/", "-"), model=MODEL, http_url_prefix=prefix), tuple(steps))


def _windows() -> Scenario:
    return Scenario(
        Job(
            fl_name="windows",
            model=MODEL,
            fl_iteration_num=4,
            start_fl_job_time_window=2000,
            update_model_time_window=2000,
            global_iteration_time_window=4000,
        ),
        (
            start("a", "only a starts"),
            closed(1),
            update("a", 1, "too late for the iteration that failed"),
            start("a", "start a in 2"),
            start("b", "start b in 2"),
            update("a", 2, "only a uploads"),
            closed(2),
            update("b", 2, "too late for the upload window"),
            start("b", "start b in 3"),
            start("a", "start a in 3"),
            closed(3),
            start("a", "start a in 4"),
            start("b", "start b in 4"),
            update("b", 4, "b uploads in 4", value=1.0),
            update("a", 4, "a uploads in 4", value=5.0),
            closed(4),
            start("a", "start after the last"),
        ),
    )


def _kept_models() -> Scenario:
    rounds = [
        step for k in range(1, 6) for step in (start("a", f"start in {k}"), update("a", k, value=float(k)), closed(k))
    ]
    return Scenario(
        Job(fl_name="kept models", model=MODEL, fl_iteration_num=6, start_fl_job_threshold=1),
        (*rounds, *(get(k, f"model {k} in iteration 6") for k in range(-1, 8))),
    )


def _quota() -> Scenario:
    conv, fc = feature_map(2.0, 16)
    again = feature_map(4.0, 16)[0]
    return Scenario(
        Job(fl_name="quota", model=MODEL, start_fl_job_threshold=5, update_model_ratio=0.8),
        (
            *(start(fl_id) for fl_id in "vwxyz"),
            start("u", "one too many"),
            update("v", 1, "v uploads one weight", feature_map=[conv]),
            update("w", 1, "w uploads the same weight", feature_map=[again]),
            update("x", 1, "x uploads the other weight", feature_map=[fc]),
            get(1, "three of four"),
            update("y", 1, "y uploads the other weight", feature_map=[fc]),
            closed(1),
            *(start(fl_id, f"start {fl_id} in 2") for fl_id in "vwxy"),
            update("v", 2, "v uploads a weight twice", feature_map=[conv, again, fc]),
            *(update(fl_id, 2) for fl_id in "wxy"),
            closed(2),
        ),
    )


def _unheard_weight() -> Scenario:
    return Scenario(
        Job(fl_name="unheard", model=MODEL, start_fl_job_threshold=1),
        (
            start("a"),
            update("a", 1, "one weight only", value=3.0, feature_map=feature_map(3.0, 16)[:1]),
            closed(1),
            start("a", "start in 2"),
            update("a", 2, "both weights", value=5.0),
            closed(2),
        ),
    )


def _manage(path: str, step: str, body: bytes = b"", method: str = "GET") -> Step:
    framing = "none" if method == "GET" else "length"
    return Step(name=step, path=path, body=body, method=method, framing=framing, manage=True)


def _awaited(step: Step, **until: object) -> Step:
    return replace(step, until=until)


def _disabled_at_the_end() -> Scenario:
    return Scenario(
        Job(fl_name="disabled", model=MODEL, managed=True, fl_iteration_num=1),
        (
            start("a"),
            _manage("disableFLS", "disable in the last iteration"),
            _awaited(start("b", "start when disabled"), text=FINISHED),
            get(1, "get when disabled"),
            _manage("state", "state"),
            _manage("enableFLS", "enable"),
            _manage("disableFLS", "disable again"),
        ),
    )


def _management() -> Scenario:
    def new(step: str, body: bytes) -> Step:
        return _manage("newInstance", f"newInstance {step}", body, "POST")

    return Scenario(
        Job(fl_name="management", model=MODEL, managed=True, fl_iteration_num=3, start_fl_job_threshold=2),
        (
            _manage("state", "state"),
            _manage("state", "state by POST", b"", "POST"),
            _manage("state", "state by POST with a body", b"{}", "POST"),
            _manage("queryInstance", "queryInstance"),
            _manage("nonsense", "unknown"),
            _manage("enableFLS", "enable while enabled"),
            start("a"),
            _manage("disableFLS", "disable"),
            _awaited(get(0, "get when disabled"), text=FINISHED),
            start("b", "start when disabled"),
            update("a", 1, "update when disabled"),
            _manage("state", "state when disabled"),
            _manage("queryInstance", "queryInstance when disabled"),
            _manage("disableFLS", "disable twice"),
            _manage("enableFLS", "enable", b"", "POST"),
            # The real server is enabled a moment before it moves to the next iteration.
            _awaited(get(0, "get when enabled"), retcode=200, iteration=2),
            start("c", "start when enabled"),
            new("without a body", b""),
            new("no JSON", b"{not json"),
            new("an array", b"[1, 2]"),
            new("a text for a number", b'{"start_fl_job_threshold": "many"}'),
            new("a negative number", b'{"start_fl_job_threshold": -1}'),
            new("a fraction for a whole number", b'{"client_epoch_num": 1.5}'),
            new("rate 0", b'{"client_learning_rate": 0}'),
            new("rate below 0", b'{"client_learning_rate": -1.0}'),
            new("a text for the rate", b'{"client_learning_rate": "fast"}'),
            new("ratio above 1", b'{"update_model_ratio": 1.5}'),
            new("ratio 0", b'{"update_model_ratio": 0}'),
            new("null for a number", b'{"fl_iteration_num": null}'),
            new("a number", b"5"),
            new("two errors", b'{"update_model_ratio": 2, "client_epoch_num": "x"}'),
            new("text after the JSON", b'{"client_epoch_num": 2} and more'),
            _manage("newInstance", "newInstance by GET"),
            new("unknown keys", b'{"nonsense": 1, "client_epoch_num": 7, "client_learning_rate": 0.25}'),
            _awaited(start("d", "start in the new instance"), **{"fl_plan_config.epochs": 7, "is_selected": True}),
            _manage("queryInstance", "queryInstance of the new instance"),
            new("two iterations", b'{"fl_iteration_num": 2, "client_epoch_num": 3}'),
            _awaited(start("a", "start in the newest"), **{"fl_plan_config.epochs": 3, "is_selected": True}),
            start("b", "b starts too"),
            update("a", 1, value=4.0),
            update("b", 1, value=4.0),
            closed(1),
            start("a", "start in the last iteration"),
            start("b", "b starts in the last iteration"),
            update("a", 2, value=8.0),
            update("b", 2, value=8.0),
            closed(2),
            start("c", "start when finished"),
            _manage("state", "state when finished"),
            get(2, "get when finished"),
            _manage("disableFLS", "disable when finished"),
            _manage("enableFLS", "enable when finished"),
            new("lower threshold", b'{"start_fl_job_threshold": 1, "client_epoch_num": 5}'),
            _awaited(start("a", "one client starts"), **{"fl_plan_config.epochs": 5, "is_selected": True}),
            update("a", 1, "one client uploads"),
            get(1, "model of the one client", retcode=200),
        ),
    )


def scenarios() -> dict[str, Scenario]:
    """Return all scenarios by name."""
    return {
        "round": _round(),
        "start_refusals": start_refusals(),
        "update_refusals": update_refusals(),
        "transport": transport(),
        "prefix_with_slash": _prefix(
            "/fed/", ("/fed/getModel", "/getModel", "/fedgetModel", "/fed//getModel", "/fed/")
        ),
        "prefix_without_slash": _prefix("/fed", ("/fedgetModel", "/fed/getModel", "/getModel", "/fed")),
        "windows": _windows(),
        "kept_models": _kept_models(),
        "quota": _quota(),
        "unheard_weight": _unheard_weight(),
        "management": _management(),
        "disabled_at_the_end": _disabled_at_the_end(),
    }
