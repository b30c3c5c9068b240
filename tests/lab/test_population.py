"""Population files: what is shipped loads, what is wrong is said in one line."""

from pathlib import Path

import pytest

from lab.population import POPULATIONS_DIR, PopulationError, load_population, load_shipped

BASE = (POPULATIONS_DIR / "base.toml").read_text()


@pytest.mark.parametrize("path", sorted(POPULATIONS_DIR.glob("*.toml")), ids=lambda path: path.stem)
def test_shipped_populations_load_under_their_names(path: Path) -> None:
    """Every file in lab/populations is valid and named as its file."""
    assert load_population(path).name == path.stem


@pytest.mark.parametrize(
    ("right", "wrong", "message"),
    [
        ("noise = 0.03", "noise = 3", "noise = 3: Input should be less than or equal to 1"),
        ("noise = 0.03", "", "noise is missing"),
        ("noise = 0.03", "noise = 0.03\nnoize = 1", "noize = 1: Extra inputs are not permitted"),
        ("issuers = 40", 'issuers = "many"', "issuers = 'many'"),
        ("share = 0.61", "share = 0.5", "the shares of funding = [0.5, 0.39] add up to 0.89"),
        ("pay = [0, 0, 0, 1]", "pay = [0, 0, 1]", "funding.0.pay"),
        ("pay = [0, 0, 0, 1]", "pay = [0, 0, 0, 0.5]", "funding.0: pay"),
        ("weights = [0.16, 0.14, 0.7]", "weights = [0.3, 0.7]", "hold: mean_days has 3 values"),
        ("days = [0, 3, 7, 14]", "days = [0, 3, 7]", "mail: acts has 4 values"),
        ("night_hours = [1, 5]", "night_hours = [5, 1]", "night_hours = [5, 1], expected"),
        ('name = "base"', "name = base", "not TOML"),
    ],
)
def test_a_wrong_file_is_one_line_that_names_the_field(
    tmp_path: Path, right: str, wrong: str, message: str
) -> None:
    """The error says file, field, value and what was expected."""
    path = tmp_path / "wrong.toml"
    path.write_text(BASE.replace(right, wrong, 1))
    with pytest.raises(PopulationError) as caught:
        load_population(path)
    text = str(caught.value)
    assert text.startswith(f"{path}: ")
    assert message in text
    assert "\n" not in text


def test_a_missing_file_and_an_unknown_name_are_said(tmp_path: Path) -> None:
    """What cannot be read names its path; an unknown name lists what is shipped."""
    with pytest.raises(PopulationError, match="cannot be read: No such file"):
        load_population(tmp_path / "none.toml")
    with pytest.raises(PopulationError, match="expected one of base, emerging"):
        load_shipped("nowhere")
