"""The list of crash points is the code's: pairs are whole, and every point stands somewhere. Method: read the sources."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from loadtest.chaos.case import CASES, RECONCILER_CASES
from zerosum.crash import POINTS_OF, Point, Process

ROOT = Path(__file__).resolve().parents[2]
REACHED = re.compile(r"\breach\(Point\.([A-Z_]+)")

OUTSIDE = {
    "_gateway.call": "", "_adapters[].call": "psp", "_risk.assess": "risk", "_wallet.apply": "wallet", "_ledger.post": "ledger",
    "_shards.submit": "reply webhook", "exchange(COMMIT)": "commit",
    "SENDERS[]": "delivery",
}  # fmt: skip
"""How code leaves its process for something that lasts, and the pair around it; "" = what it calls has one."""

NO_STORY = {"servers/oncall.py", "servers/wallet.py", "servers/ledger.py"}
"""Doors whose callers are people, or the payment shard that has the pair on its own side of the call."""


def test_every_commit_and_every_call_to_the_outside_has_a_point_before_and_after() -> None:
    """A commit or call without a pair is a step nobody dies at. Method: every such `await` of the product, by its shape."""
    found, bare = set[str](), []
    for place, function, shape, line in outside_calls():
        found.add(shape)
        passed = dict(points_in(function))
        pairs = OUTSIDE[shape].upper().split()
        if pairs and not any(passed.get(f"{p}_BEFORE", line) < line < passed.get(f"{p}_AFTER", line) for p in pairs):
            bare.append(f"{place}:{line} {shape}")

    assert bare == []
    assert found == set(OUTSIDE)


def outside_calls() -> Iterator[tuple[str, ast.AST, str, int]]:
    """(file, function, shape, line) of each call in `OUTSIDE`. A look's COMMIT ends a transaction that cannot write."""
    for room in ("zerosum", "actors", "servers"):
        for path in sorted((ROOT / room).rglob("*.py")):
            place = path.relative_to(ROOT).as_posix()
            for function in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(function, ast.AsyncFunctionDef) and place not in NO_STORY and function.name != "look":
                    yield from ((place, function, shape, line) for shape, line in _shapes(function))


def _shapes(function: ast.AST) -> Iterator[tuple[str, int]]:
    for node in ast.walk(function):
        if isinstance(node, ast.Await) and isinstance(node.value, ast.Call):
            text = re.sub(r"\[.*?\]", "[]", ast.unparse(node.value.func)).removeprefix("self.")
            if text == "exchange" and "_COMMIT" in ast.unparse(node.value):
                yield "exchange(COMMIT)", node.lineno
            elif text in OUTSIDE:
                yield text, node.lineno


def test_no_port_leads_out_without_a_pair() -> None:
    """A new port, or a new method of one, is not overlooked: whoever awaits it does so in a shape that has a pair."""
    awaited = {
        text
        for room in ("zerosum", "actors", "servers")
        for path in sorted((ROOT / room).rglob("*.py"))
        for text in _awaited(ast.parse(path.read_text(encoding="utf-8")))
        if text.rpartition(".")[2] in port_methods()
    }

    assert {"call", "assess", "apply", "post"} <= port_methods()
    assert awaited - set(OUTSIDE) == set()


def port_methods() -> set[str]:
    """What the ports of the actors can do outside; a store's own end is the COMMIT, wherever that is sent."""
    ports = ast.parse((ROOT / "zerosum/ports.py").read_text(encoding="utf-8"))
    return {
        method.name
        for port in ports.body
        if isinstance(port, ast.ClassDef) and "Protocol" in ast.unparse(port) and port.name != "Store"
        for method in port.body
        if isinstance(method, ast.AsyncFunctionDef)
    }


def _awaited(tree: ast.AST) -> Iterator[str]:
    """What is called and awaited, without the object itself."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Await) and isinstance(node.value, ast.Call):
            yield re.sub(r"\[.*?\]", "[]", ast.unparse(node.value.func)).removeprefix("self.")


def points_in(function: ast.AST) -> Iterator[tuple[str, int]]:
    """(name, line) of each point that a function passes."""
    for node in ast.walk(function):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "reach":
            yield ast.unparse(node.args[0]).removeprefix("Point."), node.lineno


def test_every_point_is_one_of_a_pair() -> None:
    """A crash before without one after, or the reverse, leaves half of a step unproven."""
    pairs = {str(point).rpartition(".")[0] for point in Point}

    assert {f"{pair}.{side}" for pair in pairs for side in ("before", "after")} == {str(point) for point in Point}
    assert all(point.name == str(point).replace(".", "_").upper() for point in Point)


def test_every_pair_is_passed_by_some_process() -> None:
    """A pair that no process owns could never be ordered."""
    assert set(POINTS_OF) == set(Process)
    assert {pair for pairs in POINTS_OF.values() for pair in pairs} == {str(point).partition(".")[0] for point in Point}


def test_every_point_stands_in_the_code() -> None:
    """A listed point that nobody reaches proves nothing."""
    sources = [
        path.read_text(encoding="utf-8")
        for room in ("zerosum", "actors", "servers")
        for path in sorted((ROOT / room).rglob("*.py"))
    ]

    reached = {name for source in sources for name in REACHED.findall(source)}

    assert reached == {point.name for point in Point}


def test_every_point_of_every_process_is_died_at_in_a_test() -> None:
    """A point without a case is a promise without a proof."""
    ordered = {(case.process, str(case.point)) for case in (*CASES, *RECONCILER_CASES)}
    owned = {
        (process, f"{pair}.{side}")
        for process, pairs in POINTS_OF.items()
        for pair in pairs
        for side in ("before", "after")
    }

    assert ordered == owned
