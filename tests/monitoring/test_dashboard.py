"""The dashboard's form: what Grafana would show is whole, tells its unit and what to do, and overlaps nothing."""

import re
from itertools import combinations

from tests.support.monitoring import DASHBOARD, dashboard, panels, targets

QUESTIONS = [
    "Are we answering?",
    "How fast, and from where?",
    "What is refused?",
    "Is the queue growing?",
    "Is Anchore well?",
    "Are audits behind?",
    "Certificates?",
    "Parts, NATS and processes",
]


def test_its_rows_are_an_operators_questions_in_their_order() -> None:
    assert [panel["title"] for panel in dashboard()["panels"] if panel["type"] == "row"] == QUESTIONS


def test_every_panel_has_a_query_a_unit_thresholds_and_says_what_to_do() -> None:
    for panel in panels():
        title, defaults = panel["title"], panel["fieldConfig"]["defaults"]
        assert panel["targets"], title
        assert defaults["unit"], title
        assert defaults["thresholds"]["steps"][0]["value"] is None, title
        assert len(panel["description"]) > 40, title


def test_every_query_can_be_narrowed_and_names_its_lines() -> None:
    for panel in panels():
        for target in panel["targets"]:
            selectors = re.findall(r"[a-z_]+\{([^}]*)\}", target["expr"])
            assert selectors, target["expr"]
            for selector in selectors:
                assert 'namespace=~"$namespace",job=~"$job"' in selector, target["expr"]
            assert target["legendFormat"], target["expr"]
        references = [target["refId"] for target in panel["targets"]]
        assert len(references) == len(set(references)), panel["title"]


def test_ids_and_titles_are_unique_and_nothing_overlaps() -> None:
    every = dashboard()["panels"]
    for key in ("id", "title"):
        values = [panel[key] for panel in every]
        assert len(values) == len(set(values)), key
    for one, other in combinations(every, 2):
        a, b = one["gridPos"], other["gridPos"]
        is_beside = a["x"] + a["w"] <= b["x"] or b["x"] + b["w"] <= a["x"]
        is_above = a["y"] + a["h"] <= b["y"] or b["y"] + b["h"] <= a["y"]
        assert is_beside or is_above, (one["title"], other["title"])
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in every)


def test_data_source_and_scope_are_variables_and_nothing_names_an_installation() -> None:
    content = dashboard()
    assert content["uid"] == "moorgate"
    names = [variable["name"] for variable in content["templating"]["list"]]
    assert names == ["datasource", "namespace", "job"]
    for panel in panels():
        sources = [panel["datasource"], *(target["datasource"] for target in panel["targets"])]
        assert {source["uid"] for source in sources} == {"${datasource}"}, panel["title"]
    assert "http" not in DASHBOARD.read_text().replace("HTTP", "")
    assert len(list(targets())) > 40
