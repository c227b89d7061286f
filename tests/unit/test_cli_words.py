"""What on-call's commands say of a word, a name or a number that is none: the option, what was given, what there is."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from loadtest.bench.psp_profile import PSP_PROFILES
from servers.child import free_port
from servers.cli import main
from servers.keys import make_keys


def _typed(data: Path, *words: str) -> tuple[int, str]:
    result = CliRunner().invoke(main, [*words, "--data-dir", str(data)])
    return result.exit_code, result.stderr


def _help(words: list[str]) -> str:
    """What `--help` says, without the frame and the breaks of lines."""
    return " ".join(CliRunner().invoke(main, [*words, "--help"]).stdout.replace("│", " ").split())


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data folder with keys."""
    make_keys(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["token", "--role", "king"], "--role: there is no role 'king'; there are service, admin, support"),
        (["token", "--tenant", ""], "tenant: a name has 1 to 64 ASCII characters; '' is none"),
        (["token", "--subject", "zoë"], "subject: a name has 1 to 64 ASCII characters; 'zoë' is none"),
        (["reconcile", "runs", "--as", "zoë"], "subject: a name has"),
        (["todo", "list", "--state", "odd"], "--state: there is no state 'odd'; there are open, dead and done"),
        (["in-flight", "--older-than-ms", "99999999999999999999"], "--older-than-ms"),
    ],
)
def test_what_is_none_is_named_with_what_there_is(data: Path, words: list[str], says: str) -> None:
    """Status 2, and no traceback."""
    status, said = _typed(data, *words)

    assert status == 2
    assert says in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--trace"], "--trace: it is of one seed; say which with --seed"),
        (["--faults", "none"], "--faults: it is of one seed"),
        (["--hours", "1"], "--hours: it is of one seed"),
        (["--page", "x.md"], "--page: it goes with --ablate all"),
        (["--seed", "5", "--seeds", "3"], "--seeds: it is of many seeds, and means nothing with --seed"),
        (["--seed", "5", "--first-seed", "0"], "--first-seed: it is of many seeds, and means nothing with --seed"),
        (["--seed", "5", "--jobs", "1"], "--jobs: it is of many seeds, and means nothing with --seed"),
        (["--seed", "5", "--state", "x.json"], "--state: it is of many seeds, and means nothing with --seed"),
        (["--seed", "5", "--rate", "1"], "--rate: it goes with --hours"),
        (["--seed", "5", "--hours", "1", "--trace"], "--trace: it means nothing with --hours"),
        (["--seed", "5", "--hours", "1", "--faults", "none"], "--faults: it means nothing with --hours"),
        (["--seed", "5", "--hours", "1", "--seeds", "2"], "--seeds: it means nothing with --hours"),
        (["--ablate", "no-fence", "--seed", "0"], "--seed: it means nothing with --ablate"),
        (["--ablate", "no-fence", "--jobs", "2"], "--jobs: it means nothing with --ablate"),
        (["--ablate", "no-fence", "--hours", "1"], "--hours: it means nothing with --ablate"),
        (["--ablate", "no-fence", "--state", "x.json"], "--state: it means nothing with --ablate"),
        (["--ablate", "foo"], "zerosum: there is no ablation 'foo'; there are all, "),
        (
            ["--seed", "0", "--faults", "foo"],
            "'foo' is no fault of the world: faults are name=figure,.. such as drop_request=30",
        ),
        (["--state", "{folder}"], "--state"),
        (["--state", "{folder}/keys/psp_api_key"], "psp_api_key is no tally"),
    ],
)
def test_an_option_that_would_not_be_heard_is_refused(data: Path, words: list[str], says: str) -> None:
    """Before a world is made."""
    result = CliRunner().invoke(main, ["simulate", *(word.format(folder=data) for word in words)])

    assert result.exit_code == 2
    assert says in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("words", "heard"),
    [
        ([], ("no-fence", None, 0)),
        (["--seeds", "7", "--first-seed", "3"], ("no-fence", 7, 3)),
    ],
)
def test_a_hunt_hears_how_far_it_goes_and_where_it_begins(
    words: list[str], heard: tuple[str, int | None, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And goes as far as the hunt's own limit where it is told nothing: not as far as a campaign."""
    told: list[tuple[str, int | None, int]] = []

    def hunt(name: str, seeds_max: int | None, *, first_seed: int, page: Path | None) -> int:
        assert page is None
        told.append((name, seeds_max, first_seed))
        return 0

    monkeypatch.setattr("simulator.world.ablation.ablate_command", hunt)

    result = CliRunner().invoke(main, ["simulate", "--ablate", "no-fence", *words])

    assert (result.exit_code, told) == (0, [heard])


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["hot", "--in-flight", "8"], "--in-flight: it goes with --against"),
        (["hot", "--against", "naive", "--tps", "20"], "--tps: with --against both go as fast as they can"),
        (["checkout", "--against", "hordak"], "--against: checkout is compared with naive, and not with 'hordak'"),
        (
            ["checkout", "--against", "naive", "--orders", "3"],
            "--orders: with --against both have one order a checkout",
        ),
        (
            ["checkout", "--mix", "101:1"],
            "--mix: a mix is reads to one write, such as 2:1, at most 100:1, and not '101:1'",
        ),
    ],
)
def test_a_bench_refuses_what_it_would_not_hear(
    tmp_path: Path, words: list[str], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before a system is started for it."""
    monkeypatch.setenv("ZEROSUM_DATA_DIR", str(tmp_path))

    result = CliRunner().invoke(main, ["bench", *words])

    assert result.exit_code == 2
    assert says in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_state_that_is_none_is_told_where_there_are_no_keys_yet(tmp_path: Path) -> None:
    """What was typed is wrong wherever it is typed."""
    status, said = _typed(tmp_path, "todo", "list", "--state", "odd")

    assert (status, said) == (2, "zerosum: --state: there is no state 'odd'; there are open, dead and done\n")


def test_whoever_has_no_name_on_this_machine_is_asked_for_one(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a container an account may have a number and no row in passwd."""

    def nobody(number: int) -> None:
        raise KeyError(f"getpwuid(): uid not found: {number}")

    monkeypatch.setattr("pwd.getpwuid", nobody)
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME", "ZEROSUM_PERSON", "ZEROSUM_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)

    status, said = _typed(data, "reconcile", "runs")

    told = "--as: this account has no name here; say in whose name, or set ZEROSUM_PERSON"
    assert (status, said) == (2, f"zerosum: {told}\n")


ONE_TENANT = (["todo", "list"], ["todo", "show"], ["todo", "replay"], ["in-flight"], ["refund"], ["account", "close"])


@pytest.mark.parametrize("words", ONE_TENANT)
def test_what_acts_for_one_tenant_says_so(words: list[str]) -> None:
    """Metrics and alerts are over all of them: an empty list is not an alert that was wrong."""
    assert "Whose: one tenant's only." in _help(words)


@pytest.mark.parametrize("name", ["checkout", "shed"])
def test_a_bench_says_how_each_psp_of_the_table_answers(name: str) -> None:
    """With the table's own figures."""
    rates = PSP_PROFILES["masonx"].rates
    faulty = sum(rate for fault, rate in rates.items() if not fault.startswith("delay_ms"))

    said = _help(["bench", name])

    assert all(profile in said for profile in PSP_PROFILES)
    assert f"p50 {rates['delay_ms_p50']}, p99 {rates['delay_ms_p99']} ms" in said
    assert f"{faulty * 1_000:.0f} calls of 1,000 go wrong" in said


def test_json_is_not_written_to_a_folder(tmp_path: Path) -> None:
    """Known before a bench of minutes, not after it."""
    result = CliRunner().invoke(main, ["bench", "card", "--json", str(tmp_path), "--data-dir", str(tmp_path)])

    assert result.exit_code == 2
    assert "--json" in result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "service"),
    [
        (["todo", "list"], "payment"),
        (["refund", "cart-1-a"], "payment"),
        (["account", "close", "seller-1", "--currency", "USD"], "wallet"),
        (["reconcile", "runs"], "reconciliation"),
    ],
)
def test_a_service_that_does_not_answer_is_named(
    data: Path, words: list[str], service: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not always the payment service: on-call looks at its log next."""
    monkeypatch.delenv("ZEROSUM_TOKEN_FILE", raising=False)
    monkeypatch.setenv(f"ZEROSUM_{service.upper()}_ADDRESS", f"127.0.0.1:{free_port()}")

    assert _typed(data, *words) == (1, f"zerosum: UNAVAILABLE: the {service} service did not answer\n")
