"""That all people can use the pages: without a mouse, by screen reader, on a telephone, in the dark. And that all is right."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, expect

from .rig.browser import PASSWORD, PATIENCE, Person, Site, playing, site_in, unfold, until

expect.set_options(timeout=PATIENCE)

TRANSCRIPTS = Path(__file__).parents[1] / "data/transcripts"
SESSION = "99999999-aaaa-4bbb-8ccc-000000000000"
PAGES = (
    "/", "/tasks", "/tasks/{task}", "/tasks/{task}?view=changes", "/tasks/{task}?view=output",
    "/tasks/{task}?view=calls", "/tasks/{conflict}?view=conflict", "/sessions",
    f"/sessions/{SESSION}", "/tools?days=30", "/costs?days=90", "/files?days=30", "/pool", "/settings", "/settings?view=users",
    "/settings?view=rules", "/settings?view=settings", "/settings?view=doctor", "/settings?view=audit",
)  # fmt: skip


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with playing() as browser:
        yield browser


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """With something of everything."""
    with site_in(tmp_path_factory.mktemp("q")) as site:
        desk = site.desk
        projects = desk.folder / ".claude/projects"
        for run in TRANSCRIPTS.glob("*/projects"):
            shutil.copytree(run, projects, dirs_exist_ok=True)
        desk.run("backfill")
        site.record("SessionStart", SESSION, source="startup", model="claude-sonnet-5")
        site.record("UserPromptSubmit", SESSION, prompt="Look <b>here</b>", prompt_id="p1")
        for number, path in enumerate(("a.py", "b.py", "a.py")):
            call: dict[str, Any] = {
                "tool_name": "Read",
                "tool_use_id": f"t{number}",
                "tool_input": {"file_path": f"{desk.repository}/{path}"},
            }
            site.record("PreToolUse", SESSION, prompt_id="p1", **call)
            site.record(
                "PostToolUse", SESSION, prompt_id="p1", **call, tool_response={"type": "text"}, duration_ms=5 + number
            )
        failed: dict[str, Any] = {"tool_name": "Bash", "tool_use_id": "t9", "tool_input": {"command": "make test"}}
        site.record("PreToolUse", SESSION, prompt_id="p1", **failed)
        site.record(
            "PostToolUseFailure",
            SESSION,
            prompt_id="p1",
            **failed,
            error="Exit code 2\nmake: *** no rule",
            duration_ms=9,
        )
        site.record("SubagentStart", SESSION, agent_id="a1", agent_type="Explore")
        yield site


@pytest.fixture(scope="module")
def known(site: Site) -> dict[str, str]:
    """Ids for addresses."""
    desk = site.desk
    task = desk.ended(desk.hand_over("echo said; echo new >made; git add made; git commit -qm Made"))["task_id"]
    ours = "echo ours >clash; git add clash; git commit -qm ours"
    conflict = desk.ended(
        desk.hand_over(f"{ours}; cd {desk.repository}; echo theirs >clash; git add clash; git commit -qm theirs")
    )
    until(lambda: site.desk.ask("GET", f"/v1/sessions/{SESSION}")[2]["events"] >= 11, "all events are stored")
    return {"task": task, "conflict": conflict["task_id"]}


def visitor(browser: Browser, site: Site, **context: Any) -> Person:
    made = Person(browser.new_context(**context), site)
    made.log_in("ada")
    expect(made.page.get_by_role("heading", level=1)).to_have_text("Now")
    return made


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_page_keeps_anybody_out(browser: Browser, site: Site, known: dict[str, str], scheme: str) -> None:
    """By axe-core: nothing serious or critical on any page, contrast included."""
    person = visitor(browser, site, color_scheme=scheme)
    found = {}
    for path in PAGES:
        page = person.go(path.format(**known))
        page.wait_for_load_state("load")
        expect(page.get_by_role("heading", level=1)).to_be_visible()
        result = Axe().run(page)
        serious = [one for one in result.response["violations"] if one["impact"] in ("serious", "critical")]
        if serious:
            found[path] = [(one["id"], [node["html"][:200] for node in one["nodes"]][:3]) for one in serious]
    person.context.close()
    assert found == {}, json.dumps(found, indent=1)
    assert person.faults == []


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_login_keeps_nobody_out(browser: Browser, site: Site, theme: str) -> None:
    person = Person(browser.new_context(color_scheme=theme), site)  # type: ignore[arg-type]
    result = Axe().run(person.go("/login"))
    person.context.close()
    assert [one["id"] for one in result.response["violations"]] == []


def test_every_page_fits_a_telephone(browser: Browser, site: Site, known: dict[str, str]) -> None:
    person = visitor(browser, site, viewport={"width": 390, "height": 844}, is_mobile=True, has_touch=True)
    too_wide = {}
    for path in PAGES:
        page = person.go(path.format(**known))
        expect(page.get_by_role("heading", level=1)).to_be_visible()
        width = page.evaluate("document.documentElement.scrollWidth")
        if width > 390:
            too_wide[path] = width
    person.context.close()
    assert too_wide == {}
    assert person.faults == []


def test_colours_follow_the_system_until_somebody_chooses(browser: Browser, site: Site) -> None:
    person = visitor(browser, site, color_scheme="dark")
    page = person.page
    background = "getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(background)
    page.locator("#theme").click()  # light
    light = page.evaluate(background)
    page.reload()
    assert page.evaluate(background) == light
    page.locator("#theme").click()  # dark
    assert page.evaluate(background) == dark
    page.locator("#theme").click()  # as the system has it
    page.emulate_media(color_scheme="light")
    assert page.evaluate(background) == light
    person.context.close()
    assert light != dark


def test_everything_is_done_by_keyboard_alone(browser: Browser, site: Site) -> None:
    person = Person(browser.new_context(), site)
    page = person.go("/login")
    page.keyboard.type("olga")
    page.keyboard.press("Tab")
    page.keyboard.type(PASSWORD)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Now")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to content"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    person.go("/tasks")
    _tab_to(person, "document.activeElement.textContent.includes('Hand over a task')")
    if not page.locator("#new").evaluate("element => element.open"):
        page.keyboard.press("Enter")
    _tab_to(person, "document.activeElement.name === 'description'")
    page.keyboard.type("echo by keyboard")
    _tab_to(person, "document.activeElement.name === 'workspace'")
    page.keyboard.press("Control+a")
    page.keyboard.type(str(site.desk.repository))
    _tab_to(person, "document.activeElement.textContent.trim() === 'Hand over'")
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile(r"/tasks/[0-9a-f]{6}$"))
    expect(page.locator("main")).to_contain_text("by keyboard")
    expect(page.locator("main")).to_contain_text("completed")
    person.context.close()
    assert person.faults == []


def _tab_to(person: Person, condition: str) -> None:
    for _ in range(60):
        person.page.keyboard.press("Tab")
        if person.page.evaluate(condition):
            assert person.page.evaluate("document.activeElement.matches(':focus-visible')")
            return
    raise AssertionError(f"no Tab leads to where {condition}")


def test_what_is_typed_survives_what_happens_meanwhile(browser: Browser, site: Site) -> None:
    person = visitor(browser, site)
    page = person.go("/tasks")
    unfold(page)
    field = page.get_by_label("What to do")
    field.fill("half a sen")
    id_ = site.desk.ended(site.desk.hand_over("true"))["task_id"]
    expect(page.locator("main")).to_contain_text(id_)
    assert field.input_value() == "half a sen"
    assert field.is_visible()
    person.context.close()


def test_charts_show_the_numbers_of_the_api(browser: Browser, site: Site, known: dict[str, str]) -> None:
    person = visitor(browser, site)
    daily = site.desk.ask("GET", "/v1/costs/daily?days=3660")[2]
    spent = {one["date"]: one["cost"] for one in daily if one["cost"]}
    assert spent
    first = min(spent)
    page = person.go(f"/costs?since={first}")
    chart = page.locator("svg[role=img]").first
    expect(chart).to_be_visible()
    titles = [one.text_content() or "" for one in chart.locator("title").all()]
    for day, cost in spent.items():
        of_day = [one for one in titles if day in one]
        assert of_day, (day, titles[:10])
        shown = sum(float(one.rpartition("$")[2].replace(",", "").split()[0]) for one in of_day if "$" in one)
        assert shown == pytest.approx(cost, abs=0.011 * len(of_day))
    tools = site.desk.ask("GET", "/v1/stats/tools?days=30")[2]
    page = person.go("/tools?days=30")
    for one in tools:
        row = (
            page.locator("table tr").filter(has=page.get_by_role("rowheader", name=one["tool_name"], exact=True)).first
        )
        expect(row).to_contain_text(f"{one['count']:,}")
    person.context.close()
    assert person.faults == []
