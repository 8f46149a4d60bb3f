"""The mixture finds the shares that pairs were drawn with; the artifact says what it is, and nothing that was altered passes for it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.unit.identity.linkage.people import PARTS, SECRET, forms_of, load_facts
from waymark.core.errors import WaymarkError
from waymark.core.home import Home
from waymark.core.warehouse import connect, rows
from waymark.identity.linkage import (
    EstimateReport,
    Estimation,
    current_estimation,
    estimate,
    estimation_charts,
    keep_estimation,
    link_records,
    put_in_force,
    records_sql,
)  # fmt: skip
from waymark.identity.linkage.comparisons import EXACT, LEVELS
from waymark.identity.linkage.links import LINKS
from waymark.identity.linkage.mixture import Pairs, fit, responsibilities


def made(count: int = 300) -> EstimateReport:
    with connect() as connection:
        load_facts(connection, forms_of(count, seed=1)[0])
        connection.execute(f"create temp table known as {records_sql('temp.told')}")
        return estimate(connection, "temp.known", PARTS, fingerprint=SECRET.fingerprint)


@pytest.fixture(scope="module")
def report() -> EstimateReport:
    return made()


def drawn(shares: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:  # type: ignore[type-arg]
    return np.stack([rng.choice(len(LEVELS), count, p=share) for share in shares], axis=1).astype(np.int8)


def test_a_mixture_finds_the_shares_that_pairs_were_drawn_with() -> None:
    rng = np.random.default_rng(5)
    is_shared = np.array([False, False, True, True])
    m = np.array([[0.75, 0.03, 0.08, 0.05, 0.02, 0.02, 0.01, 0.04]] * 4)
    u = np.array([[0.01, 0.002, 0.003, 0.01, 0.005, 0.02, 0.03, 0.92]] * 4)
    household = np.where(is_shared[:, None], m, u)
    levels = np.concatenate([drawn(m, 1000, rng), drawn(household, 1500, rng), drawn(u, 17_500, rng)])
    levels[rng.random(levels.shape) < 0.05] = -1
    found = fit(Pairs(levels, np.zeros(levels.shape), 20_000, u, is_shared), 250)
    assert abs(found.match - 0.05) < 0.005 and abs(sum(found.shares) - 0.075) < 0.01
    assert np.abs(found.m - m).max() < 0.05
    assert np.abs(found.alike[0][2:] - m[2:]).max() < 0.05


def test_no_household_is_told_apart_where_there_is_none() -> None:
    rng = np.random.default_rng(6)
    m = np.array([[0.7, 0.03, 0.08, 0.05, 0.02, 0.02, 0.01, 0.09]] * 4)
    u = np.array([[0.01, 0.002, 0.003, 0.01, 0.005, 0.02, 0.03, 0.92]] * 4)
    levels = np.concatenate([drawn(m, 1500, rng), drawn(u, 25_000, rng)])
    found = fit(Pairs(levels, np.zeros(levels.shape), 26_500, u, np.array([False, True, True, True])), 500)
    assert found.shares == () and abs(found.match - 1500 / 26_500) < 0.003


@pytest.mark.prove
def test_an_estimation_depends_on_the_records_alone(report: EstimateReport) -> None:
    again = made()
    assert again.estimation == report.estimation and again.estimation.version == report.estimation.version
    assert replace(report.estimation, seed=8).version != report.estimation.version
    assert 1 <= report.estimation.number < 2**31


@pytest.mark.prove
def test_few_links_are_wrong_and_most_are_found() -> None:
    forms, person = forms_of(400, seed=8)
    with connect() as connection:
        load_facts(connection, forms)
        connection.execute(f"create temp table known as {records_sql('temp.told')}")
        report = estimate(connection, "temp.known", PARTS, fingerprint=SECRET.fingerprint)
        link_records(connection, report.estimation, "from temp.told")
        links = rows(connection, f"select node_a, node_b from {LINKS} where probability >= 0.95 order by 1, 2")
    right = [person[int(str(a))] == person[int(str(b))] for a, b in links]
    true = len(person) - len(set(person.values()))
    assert sum(right) / len(right) > 0.98 and sum(right) / true > 0.85


def test_an_artifact_is_read_as_it_was_written_and_by_its_owner_alone(tmp_path: Path, report: EstimateReport) -> None:
    home = Home(tmp_path)
    assert current_estimation(home, SECRET.fingerprint) is None
    path = keep_estimation(home, report.estimation)
    assert current_estimation(home, SECRET.fingerprint) is None
    put_in_force(home, report.estimation)
    assert current_estimation(home, SECRET.fingerprint) == report.estimation
    assert path.stat().st_mode & 0o077 == 0 and path.parent.stat().st_mode & 0o077 == 0
    assert Estimation.from_json(report.estimation.to_json(), "x").to_json() == report.estimation.to_json()


def test_an_artifact_that_was_altered_or_is_of_another_secret_is_refused(tmp_path: Path, report: EstimateReport) -> None:
    home = Home(tmp_path)
    path = keep_estimation(home, report.estimation)
    put_in_force(home, report.estimation)
    with pytest.raises(WaymarkError, match="another secret"):
        current_estimation(home, "0" * 16)
    text = path.read_text()
    path.write_text(text.replace('"seed": 7', '"seed": 8'))
    with pytest.raises(WaymarkError, match="altered"):
        current_estimation(home, SECRET.fingerprint)
    path.write_text("{}")
    with pytest.raises(WaymarkError, match="cannot be read"):
        current_estimation(home, SECRET.fingerprint)
    path.unlink()
    with pytest.raises(WaymarkError, match="is gone"):
        current_estimation(home, SECRET.fingerprint)


def test_too_few_records_are_refused_with_a_remedy() -> None:
    with pytest.raises(WaymarkError, match="an estimation needs 200"):
        made(count=50)
    with connect() as connection, pytest.raises(WaymarkError, match="no mapping compares anything"):
        estimate(connection, "x", [], fingerprint="")


def test_its_charts_need_no_network_and_show_every_part(report: EstimateReport) -> None:
    pages = estimation_charts(report.estimation)
    assert set(pages) == {"match_weights.html", "m_u_parameters.html"}
    for page in pages.values():
        assert all(part.name in page for part in PARTS) and "<script src=" not in page


def test_pairs_that_are_alike_by_chance_do_not_pass_for_households() -> None:
    """Few families, and more pairs that are like each other in what a household shares, and the same in none of it: the families are still not one person's."""
    rng = np.random.default_rng(6)
    is_shared = np.array([False, False, True, True, True])
    m = np.array([[0.75, 0.03, 0.08, 0.05, 0.02, 0.02, 0.01, 0.04]] * 5)
    u = np.array([[0.01, 0.002, 0.003, 0.01, 0.005, 0.02, 0.03, 0.92]] * 5)
    household = np.where(is_shared[:, None], m, u)
    likeness = np.where(is_shared[:, None], [0.02, 0.002, 0.008, 0.6, 0.2, 0.05, 0.02, 0.1], u)
    levels = np.concatenate([drawn(m, 800, rng), drawn(household, 150, rng), drawn(likeness, 600, rng), drawn(u, 18_450, rng)])
    pairs = Pairs(levels, np.zeros(levels.shape), 2_000_000, u, is_shared)
    found = fit(pairs, 800)
    assert abs(found.match * pairs.total - 800) < 80
    of_family = responsibilities(pairs, found)[0][0][800:950]
    assert float(of_family.mean()) < 0.05
    assert all(shares[EXACT] >= 0.5 - 1e-9 for shares in found.alike[0][is_shared])
