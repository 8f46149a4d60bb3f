"""`python -m ml.simulator`, and what happens where a world cannot be written."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from ml.simulator import Drift, WorldSpec, generate_world, landing
from ml.simulator.__main__ import main
from ml.simulator.oracle import oracle_scores
from waymark.core.errors import StorageError


def test_the_command_writes_a_world_and_says_what_is_in_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(
        [
            "--landing",
            str(tmp_path / "l"),
            "--truth",
            str(tmp_path / "t"),
            "--customers",
            "40",
            "--days",
            "28",
            "--plain",
            "--rate",
            "late=0",
            "--rate",
            "broken=0.2",
        ]
    )
    said = capsys.readouterr().out
    assert code == 0
    assert said.startswith("40 customers, ") and "broken_time" in said and "late" not in said
    assert {path.suffix for path in (tmp_path / "l").iterdir()} == {".csv"}
    assert sorted(path.stem for path in (tmp_path / "t").iterdir()) == ["truth_devices", "truth_dirt", "truth_orders", "truth_persons", "truth_sessions"]


def test_the_command_makes_identified_and_drifted_worlds_with_their_oracle(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--landing", str(tmp_path / "l"), "--truth", str(tmp_path / "t"), "--customers", "40", "--days", "42"]
    assert main([*options, "--identified", "--drift", "20=0.5", "--propensity"]) == 0
    found = pq.read_table(tmp_path / "t" / "truth_propensity.parquet")
    spec = WorldSpec(customers=40, days=42, is_identified=True, drift=Drift(20, forward=0.5))
    assert found.equals(oracle_scores(spec)) and found.num_rows > 20
    for drift, message in (("20", "DAY=FACTOR"), ("soon=2", "no day"), ("20=0", "positive factors")):
        assert main([*options, "--drift", drift]) != 0
        assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("rate", "message"), [("late", "NAME=RATE"), ("late=often", "NAME=RATE"), ("moonlight=0.1", "Known are: late"), ("late=2", "share from 0 to 1")]
)
def test_a_rate_that_makes_no_sense_is_refused_in_words(tmp_path: Path, capsys: pytest.CaptureFixture[str], rate: str, message: str) -> None:
    assert main(["--landing", str(tmp_path / "l"), "--truth", str(tmp_path / "t"), "--rate", rate]) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "l").exists()


def test_a_folder_that_cannot_be_made_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(StorageError, match="taken"):
        generate_world(tmp_path / "taken", tmp_path / "t", WorldSpec(customers=1))


def test_a_disk_that_fills_up_leaves_no_half_world_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = landing.Spill.sorted_text

    def full_at_the_end(spill: landing.Spill, day: int) -> object:
        if day > 20:
            raise OSError(28, "No space left on device")
        return written(spill, day)

    monkeypatch.setattr(landing.Spill, "sorted_text", full_at_the_end)
    with pytest.raises(StorageError, match="No space left"):
        generate_world(tmp_path / "l", tmp_path / "t", WorldSpec(customers=20, days=28))
    assert list((tmp_path / "l").iterdir()) == []
    assert not [path for path in tmp_path.rglob("*") if path.name.startswith(".")]


def test_the_command_makes_worlds_with_people_in_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--landing", str(tmp_path / "l"), "--truth", str(tmp_path / "t"), "--customers", "60", "--days", "42", "--plain"]
    assert main([*options, "--rate", "names=0.6", "--rate", "consents=0.9"]) == 0
    assert "consent " in capsys.readouterr().out
    assert {"truth_names", "truth_addresses", "truth_forms", "truth_consents", "truth_consent_events"} <= {path.stem for path in (tmp_path / "t").iterdir()}
    first = next((tmp_path / "l").iterdir()).read_text().splitlines()[0].split(",")
    assert first[-9:] == ["consent", "given_name", "family_name", "street", "house_number", "postcode", "address_city", "birth_date", "staff"]
