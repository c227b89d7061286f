"""run.json tells where everything is, and a damaged one tells which file it is."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from servers.cli import main
from servers.run_file import read_run_file, run_file_of, write_run_file
from zerosum.settings import Settings

EVERYWHERE = "0.0.0.0"  # noqa: S104 - read, not bound


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"7", b'{"psp": "http://x"}', b"\xff\xfe"])
def test_a_damaged_run_file_is_one_line_that_names_it(tmp_path: Path, content: bytes) -> None:
    """Status 2 of whatever command needs it, and no traceback."""
    run_file_of(tmp_path).write_bytes(content)

    result = CliRunner().invoke(main, ["audit", "--data-dir", str(tmp_path)])

    told = f"{tmp_path / 'run.json'} is damaged: it is no list of what runs; start `zerosum up` anew, which writes it"
    assert (result.exit_code, result.stderr) == (2, f"zerosum: {told}\n")


def test_every_server_has_its_metrics_page_in_it_the_edge_too(tmp_path: Path) -> None:
    """Under the host where this machine finds them: nobody is called at 0.0.0.0."""
    settings = Settings(data_dir=tmp_path, bind_host=EVERYWHERE, edge_port=9_000, metrics_port_offset=10)

    write_run_file(settings, {"edge": 7, "psp": None})

    run = read_run_file(tmp_path)
    assert list(run["metrics"]) == ["payment", "wallet", "ledger", "reconciliation", "edge"]
    assert run["metrics"]["edge"] == "http://127.0.0.1:9010/metrics"
    assert (run["edge"], run["wallet"]) == ("http://127.0.0.1:9000", "127.0.0.1:7402")
    assert run["pids"] == {"edge": 7, "psp": None}
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]
