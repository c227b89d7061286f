"""Rules of the house that ruff, mypy and import-linter cannot say. Method: read every file of the tree.

Each test lists what breaks its rule, so that a failure names the places to mend.
"""

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

from tests.conftest import SYSTEMS
from tests.tidy.tree import GENERATED, ROOT, files, name_of, sources

LINES_MAX = 400
FUNCTION_LINES_MAX = 60

MIGRATIONS = "zerosum/store/migrations/versions/"
"""A revision is a list of statements: it is as long as what it changes."""


def test_files_are_at_most_400_lines_long() -> None:
    long = {name_of(path): lines for path in sources() if (lines := len(_text(path).splitlines())) > LINES_MAX}

    assert long == {}


def test_functions_are_at_most_60_lines_long() -> None:
    long = {
        f"{name_of(path)}:{node.lineno} {node.name}": lines
        for path in sources()
        if not name_of(path).startswith(MIGRATIONS)
        for node in ast.walk(ast.parse(_text(path)))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (lines := (node.end_lineno or node.lineno) - node.lineno + 1) > FUNCTION_LINES_MAX
    }

    assert long == {}


def test_nothing_is_left_for_later_in_a_comment() -> None:
    """What is to be done is an issue, or it is done."""
    later = re.compile(r"\b(?:FIX" + r"ME|TO" + r"DO|XXX:)\b")
    kept = files(".py", ".proto", ".toml", ".yml", ".yaml", ".sql", "Makefile", "Dockerfile")

    assert [place for path in kept for place in _places(path, later)] == []


def test_every_package_says_what_it_is() -> None:
    packages = [path for path in sources() if path.name == "__init__.py"]

    assert [name_of(path) for path in packages if not ast.get_docstring(ast.parse(_text(path)))] == []


def test_every_module_says_what_lives_in_it() -> None:
    modules = [path for path in sources() if path.name != "__init__.py"]

    assert [name_of(path) for path in modules if not ast.get_docstring(ast.parse(_text(path)))] == []


def test_money_is_never_a_float_or_a_decimal() -> None:
    """Design section 6: inside, money is integer minor units. Method: names and literals of the domain."""
    found = [
        f"{name_of(path)}:{node.lineno}"
        for path in sources()
        if name_of(path).startswith("zerosum/domain/")
        for node in ast.walk(ast.parse(_text(path)))
        if (isinstance(node, ast.Name) and node.id in {"float", "Decimal"})
        or (isinstance(node, ast.Constant) and isinstance(node.value, float))
        or (isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div))
        or (isinstance(node, ast.ImportFrom) and node.module == "decimal")
    ]

    assert found == []


def test_no_path_of_somebodys_machine_is_in_the_tree() -> None:
    """A clone works anywhere. Method: folders where people keep their work, in every text file."""
    machine = re.compile(r"(?<![\w.}])/(?:work|root|home|Users)/[\w.]")
    texts = [path for path in files() if path.suffix not in {".png", ".gz", ".whl", ".ico"}]

    assert [place for path in texts for place in _places(path, machine)] == []


def test_every_ignore_names_its_code_and_its_reason() -> None:
    """Style: a reason beside every lint ignore. In code: `# noqa: CODE - reason`, `# type: ignore[code] # reason`."""
    with_reason = re.compile(
        r"#\s*(?:ruff:\s*)?noqa:\s*[A-Z]+\d+(?:,\s*[A-Z]+\d+)*[\s(#\x22-]+\w|#\s*type:\s*ignore\[[\w, -]+\][\s(#\x22-]+\w"
    )
    bare = [
        f"{name_of(path)}:{number}"
        for path in sources()
        for number, line in enumerate(_text(path).splitlines(), 1)
        if re.search(r"#\s*(?:ruff:\s*)?noqa\b|#\s*type:\s*ignore\b", line) and not with_reason.search(line)
    ]

    assert [place for place in bare if not place.startswith("tests/tidy/")] == []


def test_every_ignore_of_the_configuration_has_its_reason() -> None:
    lines = _text(ROOT / "pyproject.toml").splitlines()
    ignores = [line for line in lines if re.match(r'\s+"[A-Z]+\d+",|"[^"]+" = \["[A-Z]+\d+"', line)]

    assert ignores
    assert [line for line in ignores if "#" not in line] == []


def test_every_package_is_installed() -> None:
    """`pyproject.toml` names packages one by one: one that is forgotten works in a clone and is missing in the image."""
    listed = tomllib.loads(_text(ROOT / "pyproject.toml"))["tool"]["setuptools"]["packages"]
    found = {
        name_of(path.parent).replace("/", ".")
        for path in files("__init__.py")
        if path.parent != ROOT and not name_of(path).startswith(("tests/", "docs/"))
    }

    assert sorted(found) == sorted(listed)


def test_make_runs_every_folder_of_tests() -> None:
    """A folder that the Makefile does not name would be run by nobody."""
    makefile = _text(ROOT / "Makefile")
    folders = {path.parent for path in files(".py") if path.name.startswith("test_")}

    assert [name_of(folder) for folder in sorted(folders) if name_of(folder) not in makefile] == []


def test_whatever_starts_a_system_is_in_the_lane_of_systems() -> None:
    """Beside another system it would wait for the cores, at the limits of recovery. Method: who may start one imports it."""
    named = ("tests.e2e.system", "servers.supervisor", "actors.ray_cluster")
    starting = [
        name_of(path)
        for path in files(".py")
        if path.name.startswith(("test_", "conftest"))
        and any(f"from {module} import" in _text(path) for module in named)
    ]

    assert starting
    assert [name for name in starting if not name.startswith(SYSTEMS)] == []


def test_every_test_the_documents_name_exists() -> None:
    """A guarantee that points to no test is a wish."""
    defined = {
        node.name
        for path in sources()
        for node in ast.walk(ast.parse(_text(path)))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    named = {
        (name_of(path), name) for path in files(".md") for name in re.findall(r"`(?:\w+\.)?(test_\w+)`", _text(path))
    }

    assert sorted(place for place in named if place[1] not in defined and not _is_module(place[1])) == []


def test_every_file_the_documents_name_exists() -> None:
    """Links and paths in backticks that look like ours."""
    ours = re.compile(
        r"`((?:zerosum|actors|servers|simulator|loadtest|tests|docs|protos)/[\w./-]+\.(?:py|md|proto|json))`"
    )
    missing = [
        (name_of(path), name)
        for path in files(".md")
        for name in [*ours.findall(_text(path)), *_links(path)]
        if not (ROOT / name).exists()
    ]

    assert missing == []


def test_every_decision_is_listed() -> None:
    """A page that the list of decisions leaves out is read by nobody."""
    folder = ROOT / "docs" / "adr"
    pages = {path.relative_to(ROOT).as_posix() for path in folder.glob("0*.md")}

    assert sorted(pages - set(_links(folder / "README.md"))) == []


# ---- helpers -------------------------------------------------------------------------------------------------------


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def _places(path: Path, wanted: re.Pattern[str]) -> Iterator[str]:
    if name_of(path).startswith((*GENERATED, "tests/tidy/")):
        return
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        if wanted.search(line):
            yield f"{name_of(path)}:{number}"


def _links(path: Path) -> Iterator[str]:
    """Relative links of a page, as paths below the root."""
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", _text(path)):
        if "://" not in target:
            yield (path.parent / target).resolve().relative_to(ROOT).as_posix()


def _is_module(name: str) -> bool:
    return any(path.stem == name for path in files(".py"))
