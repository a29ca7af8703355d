"""The pages of tasks: the list, handing over, one task with all its views, clearing away."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tasks.database import SyncDatabase

from .desk import until
from .markup import Element
from .site import Site

EVIL = "<script>alert(1)</script>"
HOSTILE = f'{EVIL}"><img src=x onerror=alert(2)> {{{{7*7}}}} \u202egnp.exe\x1b[31m'
OLD = """
INSERT INTO tasks (task_id, user_id, description, status, workflow, workspace, created_at, started_at, finished_at)
VALUES (?, 0, 'of long ago', 'completed', 'old', '/nowhere', ?, ?, ?)
"""
SESSION = "0a1b2c3d-1111-4222-8333-444455556666"
VIEWS = ("timeline", "calls", "changes", "output", "conflict")


@dataclass
class Work:
    site: Site
    done: str
    failed: str
    conflict: str
    #: at work, and with a session that tells of calls
    running: str


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Work]:
    folder = tmp_path_factory.mktemp("s")
    # Nothing is cut before it is stored, so that pages have to.
    site = Site(folder, agents=2, queue=30, privacy_level="full")
    site.data.mkdir()
    database = SyncDatabase(site.data / "tasks.db")
    # Some of one moment, so that pages end between them.
    database.transaction(
        lambda connection: connection.executemany(OLD, [(f"{n:06x}", n // 7, n, n + 60_000) for n in range(120)])
    )
    database.close()
    site.start()
    try:
        yield fill(site, folder)
    finally:
        site.close()


def fill(site: Site, folder: Path) -> Work:
    script = "printf 'two\\nthree\\n' >> file; mkdir src; echo '<b>' > 'src/a <b>.py'; git add -A; git commit -qm x; echo said"
    done = site.hand_over(f"{script}\n# {HOSTILE}", workflow="nightly", agent_type="builder")
    failed = site.hand_over("echo out; echo 'no library <b>' >&2; exit 3", priority="high")
    site.ended(done)
    site.ended(failed, "failed")
    script = f"until [ -e {folder}/go ]; do sleep 0.05; done; echo '<i>theirs' > file; git commit -qam theirs"
    conflict = site.hand_over(script)
    site.running(conflict)
    (site.repository / "file").write_text("<i>ours\n")
    site.git("commit", "-qam", "ours")
    (folder / "go").touch()
    site.ended(conflict)
    running = site.hand_over(f"echo '{EVIL}'; sleep 1000", budget_usd=2.5)
    site.running(running)
    tell(site, running)
    return Work(site, done, failed, conflict, running)


def tell(site: Site, task: str) -> None:
    """Sixty calls, every tenth failed, and one in flight."""
    site.leave("SessionStart", SESSION, task=task, source="startup", model="claude-sonnet-5")
    for number in range(60):
        call = {
            "tool_name": "Read", "tool_use_id": f"t{number}", "prompt_id": "p1",
            "tool_input": {"file_path": f"{site.repository}/{number % 30} <b>.py"},
        }  # fmt: skip
        site.leave("PreToolUse", SESSION, task=task, **call)
        if number % 10:
            site.leave("PostToolUse", SESSION, task=task, **call, duration_ms=number, tool_response={})
        else:
            site.leave(
                "PostToolUseFailure", SESSION, task=task, **call, duration_ms=number, error=f"no file\n{HOSTILE}"
            )
    site.leave(
        "PreToolUse", SESSION, task=task, tool_name="Bash", tool_use_id="now", tool_input={"command": f"make {EVIL}"}
    )
    site.stored()
    until(lambda: site.task(task)["running"], "the call in flight is known")


def ids_of(page: Element) -> list[str]:
    return [row.get("data-key") for row in page.one("section", id="rows").all("tr") if row.get("data-key")]


def page(work: Work, id_: str, view: str = "timeline", name: str = "vic") -> Element:
    return work.site.browser(name).page(f"/tasks/{id_}?view={view}")


def orders(found: Element) -> set[str]:
    """What the forms of a page ask of the API, without the ids."""
    return {
        re.sub(r"/tasks/[0-9a-f]{6}/", "/tasks/…/", form.get("data-api"))
        for form in found.all("form")
        if form.get("data-api")
    }


def test_the_list_is_what_the_api_tells_page_by_page(work: Work) -> None:
    browser = work.site.browser("vic")
    whole = [one["task_id"] for one in work.site.ask("GET", "/v1/tasks?limit=1000")[2]]
    found: list[str] = []
    target = "/tasks"
    while True:
        one = browser.page(target)
        found += ids_of(one)
        older = one.all("a", rel="next")
        if not older:
            break
        target = "/tasks" + older[0].get("href")
    assert found == whole
    assert len(found) == 124


def test_the_list_is_filtered(work: Work) -> None:
    browser = work.site.browser("vic")
    assert ids_of(browser.page("/tasks?status=failed")) == [work.failed]
    assert ids_of(browser.page("/tasks?status=live")) == [work.running]
    assert ids_of(browser.page("/tasks?workflow=nightly&agent_type=builder")) == [work.done]
    assert len(ids_of(browser.page("/tasks?workspace=/nowhere&status="))) == 50
    assert "No task fits" in browser.page("/tasks?workflow=none").one("section", id="rows").text


def test_a_row_says_what_one_looks_for(work: Work) -> None:
    rows = {
        row.get("data-key"): row for row in work.site.browser("vic").page("/tasks").all("tr") if row.get("data-key")
    }
    told = {
        work.done: ("completed merged", "nightly · builder"),
        work.failed: ("failed", "no library <b>"),
        work.conflict: ("completed conflict", "does not fit into main"),
        work.running: ("running", EVIL),
    }
    for id_, (status, words) in told.items():
        assert rows[id_].all("td")[0].text == status
        assert words in rows[id_].text
    assert rows[work.failed].all("td")[3].text == "high"


@pytest.mark.parametrize(
    "query", ["status=x", "before=%00", "before=" + "a" * 300, "status=%3Cscript%3E", "workflow=%F0%9F%92%A9&limit=-1"]
)
def test_nonsense_in_the_address_of_the_list_does_no_harm(work: Work, query: str) -> None:
    answer = work.site.browser("vic").get(f"/tasks?{query}")
    assert answer.status == 200
    assert EVIL[:8] not in answer.text.replace("<script src=", "")


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize(
    "query", ["before=-1", "before=99999999999999999999", "left=x", "stream=%00", "before=1&left=9999", "attempt=0"]
)
def test_nonsense_in_the_address_of_a_task_does_no_harm(work: Work, view: str, query: str) -> None:
    assert work.site.browser("vic").get(f"/tasks/{work.running}?view={view}&{query}").status == 200


@pytest.mark.parametrize("id_", ["ffffff", "%25", "a" * 2000, "%00", "%3Cscript%3E"])
def test_a_task_that_is_not_there_has_a_page_that_says_so(work: Work, id_: str) -> None:
    found = work.site.browser("vic").page(f"/tasks/{id_}", 404)
    assert "no task has the id" in found.text


def test_whatever_an_agent_wrote_is_shown_as_text(work: Work) -> None:
    browser = work.site.browser("olga")
    pages = [
        "/tasks",
        *(
            f"/tasks/{id_}?view={view}"
            for id_ in (work.done, work.failed, work.conflict, work.running)
            for view in VIEWS
        ),
    ]
    for target in pages:
        text = browser.get(target).text
        for raw in (EVIL, "<img src=x", "<b>.py", "<i>ours", "<i>theirs", "library <b>", "\x1b", "\u202e"):
            assert raw not in text, (target, raw)
        assert "{{7*7}}" in text or "49 " not in text
        assert len(text) < 300_000


def test_a_viewer_has_no_forms_and_an_operator_those_that_fit(work: Work) -> None:
    tasks = (work.done, work.failed, work.conflict, work.running)
    assert all(not orders(page(work, id_)) for id_ in tasks)
    assert not orders(work.site.browser("vic").page("/tasks"))
    assert orders(work.site.browser("olga").page("/tasks")) == {"POST /v1/tasks"}
    wanted: list[set[str]] = [
        set(), {"POST /v1/tasks/…/retry"}, {"POST /v1/tasks/…/merge"}, {"POST /v1/tasks/…/cancel"}
    ]  # fmt: skip
    assert [orders(page(work, id_, name="olga")) for id_ in tasks] == wanted


def test_a_task_is_handed_over_tried_again_and_cancelled_by_what_the_forms_send(work: Work) -> None:
    browser = work.site.browser("olga")
    form = browser.page("/tasks").one("form", data_api="POST /v1/tasks")
    fields = {one.get("name") for one in form.walk() if one.get("name")}
    assert fields == {
        "description", "workspace", "priority", "agent_type", "workflow", "model", "budget_usd", "max_turns", "isolate",
    }  # fmt: skip
    order = {
        "description": "sleep 1000", "workspace": str(work.site.repository), "priority": "low", "budget_usd": 1.5,
        "max_turns": 3, "isolate": True, "workflow": "by hand",
    }  # fmt: skip
    answer = browser.send("POST", "/v1/tasks", order)
    assert answer.status == 201
    id_ = answer.json()["task_id"]
    found = page(work, id_, name="olga")
    facts = dict(zip((one.text for one in found.all("dt")), (one.text for one in found.all("dd")), strict=True))
    assert facts["Budget"] == "$1.50"
    assert facts["Workflow"] == "by hand"
    assert "by hand" in browser.page("/tasks?workflow=by+hand").text
    assert browser.send("POST", f"/v1/tasks/{id_}/cancel").status == 200
    assert "POST /v1/tasks/…/retry" in orders(page(work, id_, name="olga"))
    assert work.site.browser("vic").send("POST", "/v1/tasks", order).status == 403


def test_what_is_wrong_and_what_to_do_is_said_as_the_command_line_says_it(work: Work) -> None:
    found = page(work, work.conflict).one("section", id="head")
    assert "does not fit into main: file" in found.text
    shown = work.site.run("show", work.conflict).stdout
    commands = found.one("div", class_="next").one("pre").raw.splitlines()
    assert commands[1] == "git merge main"
    assert all(command in shown for command in commands)
    failed = page(work, work.failed).one("section", id="head")
    assert failed.one("p", class_="alert").text.startswith("agent error: ")
    assert f"tasksd retry {work.failed}" in failed.text


def test_the_conflict_is_shown_with_both_sides(work: Work) -> None:
    found = page(work, work.conflict, "conflict").one("section", id="view")
    (told,) = work.site.ask("GET", f"/v1/tasks/{work.conflict}/conflict")[2]["files"]
    assert found.one("pre").raw == told["text"]
    assert found.one("span", class_="ours").raw == "<i>ours\n"
    assert found.one("span", class_="theirs").raw == "<i>theirs\n"


def test_the_changes_are_those_of_its_branch(work: Work) -> None:
    found = page(work, work.done, "changes").one("section", id="view")
    told = work.site.ask("GET", f"/v1/tasks/{work.done}/diff")[2]
    names = [one.one("summary").text for one in found.all("details", class_="patchfile")]
    assert names == [f"{one['status']} {one['path']} +{one['added']} −{one['deleted']}" for one in told["files"]]
    added = "".join(one.raw for one in found.all("ins"))
    assert added == "".join(f"{line}\n" for line in told["patch"].split("\n") if re.match(r"\+(?!\+\+)", line))


def test_the_calls_are_those_of_its_agent_with_durations_and_errors(work: Work) -> None:
    browser = work.site.browser("vic")
    told = work.site.ask("GET", f"/v1/tasks/{work.running}/calls?limit=500")[2]
    first = browser.page(f"/tasks/{work.running}?view=calls").one("section", id="view")
    rows = [row for row in first.all("tr") if row.get("data-key")]
    rest = browser.page(f"/tasks/{work.running}" + first.one("a", rel="next").get("href"))
    rows += [row for row in rest.one("section", id="view").all("tr") if row.get("data-key")]
    assert [int(row.get("data-key")) for row in rows] == [one["id"] for one in told]
    for row, one in zip(rows, told, strict=True):
        cells = row.all("td")
        assert cells[1].text == one["tool_name"]
        assert cells[4].text == f"{one['duration_ms']:.0f} ms"
        assert cells[5].text == ("ok" if one["success"] else one["error_category"].replace("_", " "))
        assert json.dumps(one["parameters"]["file_path"]) in row.raw
        assert one["success"] or "no file\n<script>" in row.one("pre", class_="error").raw


def test_the_timeline_has_everything_once(work: Work) -> None:
    browser = work.site.browser("vic")
    keys: list[str] = []
    target = f"/tasks/{work.running}"
    while True:
        found = browser.page(target).one("section", id="view")
        keys += [one.get("data-key") for one in found.all("li") if one.get("data-key") and one.get("class") != "day"]
        older = found.all("a", rel="next")
        if not older:
            break
        target = f"/tasks/{work.running}" + older[0].get("href")
    told: Any = work.site.task(work.running)
    calls = work.site.ask("GET", f"/v1/tasks/{work.running}/calls?limit=500")[2]
    assert len(keys) == len(set(keys))
    assert {key for key in keys if key.startswith("c")} == {f"c{one['id']}" for one in calls}
    assert {key for key in keys if key.startswith("a")} == {f"a{one['id']}" for one in told["activity"]}
    assert sum(key.startswith("v") for key in keys) == len(told["verdicts"])
    assert "b1" in keys


def test_what_its_agent_wrote_is_shown_to_its_end(work: Work) -> None:
    assert page(work, work.done, "output").one("pre", class_="output").raw == "said\n"
    errors = work.site.browser("vic").page(f"/tasks/{work.failed}?view=output&stream=errors")
    assert errors.one("pre", class_="output").raw == "no library <b>\n"
    long = work.site.hand_over("seq 100000")
    work.site.ended(long)
    found = page(work, long, "output").one("section", id="view")
    lines = found.one("pre", class_="output").raw.splitlines()
    assert lines[-1] == "100000"
    assert [int(line) for line in lines] == list(range(int(lines[0]), 100001))
    assert "tasksd logs --raw" in found.text


def test_what_is_under_way_is_shown_with_a_running_clock(work: Work) -> None:
    now = page(work, work.running).one("section", id="running")
    assert "Bash make <script>" in now.text
    (told,) = work.site.task(work.running)["running"]
    assert now.one("time").get("data-ms") == str(told["started_at"])


def test_a_call_is_seen_live(work: Work) -> None:
    with work.site.browser("vic").stream(f"/tasks/{work.running}") as changes:
        assert set(next(changes)) == {"head", "running", "view", "facts", "money", "work"}
        work.site.leave(
            "PreToolUse",
            SESSION,
            task=work.running,
            tool_name="Grep",
            tool_use_id="new",
            tool_input={"pattern": "here"},
        )
        assert "Grep" in next(change["running"] for change in changes if "running" in change)
    work.site.leave("PostToolUse", SESSION, task=work.running, tool_name="Grep", tool_use_id="new", tool_response={})
    work.site.stored()


def test_long_texts_are_cut_and_say_so(work: Work) -> None:
    id_ = work.site.hand_over("true\n" + "# <x> and more\n" * 50_000)
    work.site.ended(id_)
    answer = work.site.browser("olga").get(f"/tasks/{id_}")
    assert len(answer.body) < 300_000
    assert "characters more)" in answer.text


def test_clearing_away_shows_what_would_go_and_removes_it_when_told(work: Work) -> None:
    browser = work.site.browser("olga")
    assert work.site.browser("vic").get("/tasks/clean").status == 403
    found = browser.page("/tasks/clean?days=0")
    told = work.site.ask("POST", "/v1/tasks/clean", {"older_than_ms": 0, "dry_run": True})[2]
    tables = [table.rows()[1:] for table in found.all("table")]
    assert [tuple(row) for row in tables[0]] == [(one["task_id"], one["what"]) for one in told if one["removed"]]
    assert work.conflict in {row[0] for row in tables[1]}
    form = found.one("form", data_api="POST /v1/tasks/clean")
    answer = browser.send("POST", "/v1/tasks/clean", form.fields())
    assert answer.status == 200
    assert work.done in {one["task_id"] for one in answer.json() if one["removed"]}
    assert "of long ago" in browser.page("/tasks?workflow=old").text


@pytest.mark.parametrize("days", ["x", "-1", "31", "1e9"])
def test_clearing_away_takes_only_the_ages_that_it_offers(work: Work, days: str) -> None:
    found = work.site.browser("olga").page(f"/tasks/clean?days={days}")
    assert found.one("option", selected="").text == "30 days"
