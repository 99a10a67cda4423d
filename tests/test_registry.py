"""Which model is champion: gates before it, one step to it, one step back."""

from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from esmm import claims, gates, registry, versions
from esmm.config import Gates
from esmm.errors import ConflictError, DataError
from tests import hadoop as hadoop


@pytest.fixture(params=["file", "memory", "hadoop"])
def models(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Three models, v1 to v3."""
    root = str(tmp_path / "models") if request.param == "file" else f"{request.param}:/{tmp_path}/models"
    for number in (1, 2, 3):
        directory = tmp_path / f"made{number}"
        directory.mkdir()
        (directory / "graph").write_text(f"graph {number}")
        versions.put(root, f"v{number}", directory, {})
    return root


def promote(models: str, version: str) -> registry.Champion:
    """Over whoever is champion."""
    return registry.promote(models, version, over=registry.champion(models))


def test_scores_are_made_with_the_champion_else_with_the_latest(models: str) -> None:
    with capture_logs() as lines:
        assert registry.resolve(models, None) == "v3"
    assert [line["event"] for line in lines] == ["no model is champion: taking the latest"]
    promote(models, "v2")
    with capture_logs() as lines:
        assert registry.resolve(models, None) == "v2"
    assert not lines
    assert (registry.resolve(models, "v1"), registry.latest(models)) == ("v1", "v3")


def test_no_models_or_another_one(tmp_path: Path, models: str) -> None:
    with pytest.raises(DataError, match="expected a published model, found none"):
        registry.resolve(str(tmp_path / "nowhere"), None)
    for act in (registry.resolve, promote):
        with pytest.raises(DataError, match="expected the published model v4, found v1, v2, v3"):
            act(models, "v4")


def test_rolling_back_goes_from_champion_to_champion(models: str) -> None:
    with pytest.raises(
        DataError, match=r"champion.json: expected a champion before this one, found no champion"
    ):
        registry.roll_back(models)
    for version in ("v1", "v3", "v3", "v2"):
        assert promote(models, version).version == version
    found = registry.champion(models)
    assert found is not None
    assert found.before == ("v1", "v3"), "a second promotion of the same is none"
    assert [registry.roll_back(models).version for _ in range(2)] == ["v3", "v1"]
    with pytest.raises(DataError, match=r"expected a champion before this one, found v1, the first one"):
        registry.roll_back(models)
    assert registry.resolve(models, None) == "v1"


def test_a_model_that_was_changed_is_not_promoted(tmp_path: Path) -> None:
    (tmp_path / "made").mkdir()
    (tmp_path / "made/graph").write_text("graph")
    models = str(tmp_path / "models")
    versions.put(models, "v1", tmp_path / "made", {})
    (tmp_path / "models/v1/graph").write_text("grabh")
    with pytest.raises(DataError, match=r"v1/graph: expected the file with SHA-256"):
        promote(models, "v1")
    assert registry.champion(models) is None


def test_one_promotion_at_a_time(models: str) -> None:
    with claims.directory_claimed(f"{models}/champion.json", claims.new_run()):
        for act in (lambda: promote(models, "v1"), lambda: registry.roll_back(models)):
            with pytest.raises(ConflictError):
                act()
    assert registry.champion(models) is None


def test_a_champion_of_the_meantime_is_not_replaced_unseen(models: str) -> None:
    """Promoted, or rolled back to, while another model was compared with who was champion then."""
    promote(models, "v1")
    with pytest.raises(ConflictError, match=r"expected no champion, as before the evaluation, found v1$"):
        registry.promote(models, "v2", over=None)
    seen = promote(models, "v2")
    registry.roll_back(models)
    with pytest.raises(ConflictError, match=r"expected v2, as before the evaluation, found v1$"):
        registry.promote(models, "v3", over=seen)
    found = registry.champion(models)
    assert found is not None
    assert registry.promote(models, "v1", over=seen) == found, "it is champion already"
    assert registry.promote(models, "v3", over=found).before == ("v1",)


def test_a_champions_file_that_is_none_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "champion.json").write_text('{"version": "v1"}')
    with pytest.raises(
        DataError, match=r"champion.json: expected the champion's version and time, found 1 errors"
    ):
        registry.resolve(str(tmp_path), None)


def results(ctr: Any, ctcvr: Any, pcoc: Any = 1.0) -> dict[str, Any]:
    return {"ctr": {"auc": ctr, "pcoc": pcoc}, "ctcvr": {"auc": ctcvr, "pcoc": pcoc}}


GATES = Gates.model_validate(
    {"min_auc": {"ctr": 0.7}, "max_auc_drop": {"ctcvr": 0.005}, "pcoc": {"ctr": [0.9, 1.1]}}
)
CASES: dict[str, tuple[dict[str, Any], dict[str, Any] | None, list[str]]] = {
    "all hold": (results(0.7, 0.795), results(0.9, 0.8), []),
    "without a champion": (results(0.7, 0.1), None, []),
    "below the least": (results(0.6999, 0.8), None, ["ctr.auc: expected at least 0.7, found 0.6999"]),
    "below the champion": (
        results(0.8, 0.7949),
        results(0.7, 0.8),
        ["ctcvr.auc: expected at least 0.7950, 0.005 below the champion's, found 0.7949"],
    ),
    "runs high": (results(0.7, 0.8, 1.11), None, ["ctr.pcoc: expected 0.9 to 1.1, found 1.1100"]),
    "not defined": (
        results(None, None, None),
        results(None, 0.8),
        [
            "ctr.auc: expected at least 0.7, found none",
            "ctcvr.auc: expected at least 0.7950, 0.005 below the champion's, found none",
            "ctr.pcoc: expected 0.9 to 1.1, found none",
        ],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_gates(case: str) -> None:
    model, champion, expected = CASES[case]
    assert gates.refusals(GATES, model, champion) == expected
