import pytest

from dreamerv2.common import score_data, stated
from dreamerv2.common.tables import render


@pytest.fixture(scope="module")
def data():
    return score_data.load()


def texts(table):
    return [[cell.text() for cell in row] for row in table.rows]


def test_table_2(data):
    table = stated.paper(data, "table2")
    assert [column.heading for column in table.columns] == [
        "Method", "Gamer Median", "Gamer Mean", "Record Mean", "Clipped Record Mean",
    ]  # fmt: skip
    assert texts(table) == [
        ["DreamerV2", "1.64", "11.33", "0.36", "0.25"],
        ["No layer norm", "1.66", "5.95", "0.38", "0.25"],
        ["No reward gradients", "1.68", "6.18", "0.37", "0.24"],
        ["No discrete latents", "1.08", "3.71", "0.24", "0.19"],
        ["No KL balancing", "0.84", "3.49", "0.19", "0.16"],
        ["No policy reinforce", "0.69", "2.74", "0.16", "0.15"],
        ["No image gradients", "0.04", "0.31", "0.01", "0.01"],
    ]


def test_table_3(data):
    assert texts(stated.paper(data, "table3")) == [
        ["DreamerV2", "22M", "200M", "10"],
        ["SimPLe", "74M", "4M", "40"],
        ["MuZero", "40M", "20B", "80"],
        ["MuZero (Reanalyze)", "40M", "200M", "80"],
    ]


@pytest.mark.parametrize("name", ["table2", "table3"])
def test_is_marked_as_stated(data, name):
    table = stated.paper(data, name)
    assert table.title.endswith("(stated)")
    assert "not recomputed" in table.notes[0]
    assert data.sources["paper"]["url"] in table.notes[0]


def test_table_2_says_what_looks_copied(data):
    assert "looks copied" in render(stated.paper(data, "table2"), "text")


def test_methods_lists_everything(data):
    table = stated.methods(data)
    rows = {row[0].value: [cell.value for cell in row] for row in table.rows}
    assert set(rows) == set(data.methods)
    assert rows["iqn"][1:4] == ["IQN", 60, "5"]
    assert rows["simple"][1:4] == ["SimPLe", 26, None]
    text = render(table, "text")
    for source in data.sources.values():
        assert source["url"] in text and source["licence"] in text
    assert "Task set dmc: 20 tasks." in text
