"""What a person sees and does on the page: logging in, roles, staying up to date, handing over work, steering it."""

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, expect

from .rig.browser import PATIENCE, Person, Site, playing, site_in, unfold, until

expect.set_options(timeout=PATIENCE)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with playing() as browser:
        yield browser


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with site_in(tmp_path_factory.mktemp("b")) as site:
        yield site


@pytest.fixture
def person(browser: Browser, site: Site) -> Iterator[Person]:
    """Somebody who has not logged in yet."""
    context = browser.new_context()
    made = Person(context, site)
    yield made
    context.close()
    assert made.faults == []


@pytest.fixture
def operator(person: Person) -> Person:
    person.log_in("olga")
    expect(person.page.get_by_role("heading", level=1)).to_have_text("Now")
    return person


# Logging in


def test_who_has_not_logged_in_comes_to_the_login_and_then_to_where_they_wanted_to_go(person: Person) -> None:
    page = person.go("/costs?days=7")
    assert person.where() == "/login"
    page.get_by_label("User").fill("vic")
    page.get_by_label("Password").fill("correct horse battery")
    page.keyboard.press("Enter")
    page.wait_for_url("**/costs?days=7")
    assert page.get_by_role("heading", level=1).inner_text() == "Costs"


def test_a_wrong_password_says_no_more_than_that_and_keeps_the_name(person: Person) -> None:
    texts = []
    for name in ("ada", "nobody-of-that-name"):
        page = person.log_in(name, "wrong password")
        expect(page.get_by_role("alert")).to_be_visible()
        texts.append(page.get_by_role("alert").inner_text())
        assert page.get_by_label("User").input_value() == name
        assert page.get_by_label("Password").input_value() == ""
    assert texts[0] == texts[1]
    assert person.context.cookies() == []
    person.forgive("status of 401")


def test_the_cookie_is_out_of_reach_of_scripts_and_gone_after_logging_out(operator: Person) -> None:
    page = operator.page
    (cookie,) = operator.context.cookies()
    assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
    assert page.evaluate("document.cookie") == ""
    page.locator("summary", has_text="olga").click()
    page.get_by_role("button", name="Log out").click()
    page.wait_for_url("**/login")
    assert operator.context.cookies() == []
    # The cookie itself is worth nothing any more, whoever has a copy of it.
    operator.context.add_cookies([{"name": cookie["name"], "value": cookie["value"], "url": operator.site.url}])
    operator.go("/")
    assert operator.where() == "/login"


def test_a_page_that_is_open_notices_that_its_login_was_ended(operator: Person) -> None:
    expect(operator.page.locator("#link")).to_have_text("live")
    operator.site.desk.run("users", "logout", "olga")
    operator.page.wait_for_url("**/login**", timeout=60_000)
    operator.forgive("status of 401")


def test_a_code_logs_in_once(browser: Browser, person: Person) -> None:
    url = person.site.desk.client.post("/v1/dashboard", {"username": "ada"})["url"]
    person.page.goto(url)
    expect(person.page.get_by_role("heading", level=1)).to_have_text("Now")
    assert "once" not in person.page.url
    other = Person(browser.new_context(), person.site)
    other.page.goto(url)
    expect(other.page.get_by_role("alert")).to_contain_text("good for one login")
    other.context.close()


def test_a_code_changes_who_is_logged_in(operator: Person) -> None:
    operator.page.goto(operator.site.desk.client.post("/v1/dashboard", {"username": "ada"})["url"])
    expect(operator.page.locator(".person summary")).to_have_text("ada")
    assert "once" not in operator.page.url


# Staying up to date


def test_a_call_is_seen_within_a_second_of_its_hook_and_gone_when_it_has_ended(operator: Person) -> None:
    page, site = operator.page, operator.site
    expect(page.locator("#link")).to_have_text("live")
    session = "33333333-aaaa-4bbb-8ccc-444444444444"
    site.record("SessionStart", session, source="startup")
    site.record("UserPromptSubmit", session, prompt="hello", prompt_id="p1")
    expect(page.locator("#sessions")).to_contain_text(session[:8])
    fastest = 1e9
    for number in range(5):
        call: dict[str, Any] = {
            "tool_name": "Bash",
            "tool_use_id": f"t{number}",
            "tool_input": {"command": f"make check-{number}"},
        }
        site.record("PreToolUse", session, **call)
        recorded = time.monotonic()
        expect(page.locator("#sessions")).to_contain_text(f"make check-{number}")
        fastest = min(fastest, time.monotonic() - recorded)
        site.record("PostToolUse", session, **call, tool_response={"stdout": ""}, duration_ms=5)
        expect(page.locator("#sessions")).not_to_contain_text(f"make check-{number}")
    assert fastest < 1.0
    site.record("SessionEnd", session, reason="other")
    expect(page.locator("#sessions")).not_to_contain_text(session[:8])


def test_who_waits_for_a_person_comes_first(operator: Person) -> None:
    page, site = operator.page, operator.site
    session = "55555555-aaaa-4bbb-8ccc-666666666666"
    site.record("SessionStart", session, source="startup")
    site.record("UserPromptSubmit", session, prompt="hello", prompt_id="p1")
    site.record("PermissionRequest", session, tool_name="Bash", tool_input={"command": "rm -r build"})
    notices = page.locator("#attention").get_by_role("listitem")
    expect(notices.filter(has_text=session[:8])).to_have_count(1)
    expect(notices.filter(has_text=session[:8])).to_contain_text("waiting permission")
    site.record("SessionEnd", session, reason="other")
    expect(notices.filter(has_text=session[:8])).to_have_count(0)


def test_a_page_comes_back_after_the_daemon_was_restarted(
    browser: Browser, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with site_in(tmp_path_factory.mktemp("r")) as site:
        context = browser.new_context()
        person = Person(context, site)
        page = person.log_in("vic")
        expect(page.locator("#link")).to_have_text("live")
        port = site.url.rsplit(":", 1)[1]
        assert site.desk.stop() == 0
        expect(page.locator("#link")).not_to_have_text("live")
        config = site.desk.folder / ".config/tasksd/config.toml"
        config.write_text(config.read_text().replace("port = 0", f"port = {port}"))
        site.start()
        expect(page.locator("#link")).to_have_text("live", timeout=60_000)
        site.record("SessionStart", "77777777-aaaa-4bbb-8ccc-888888888888", source="startup")
        expect(page.locator("#sessions")).to_contain_text("77777777")
        context.close()


# Handing over and steering work


def test_work_is_handed_over_watched_and_merged(operator: Person) -> None:
    page, desk = operator.page, operator.site.desk
    gate = desk.folder / "go-on"
    wait = f"until [ -e {gate} ]; do sleep 0.05; done"
    script = f"echo begun; {wait}; echo new >by-page; git add by-page; git commit -qm 'Made by page'"
    id_ = _submitted(operator, script)
    expect(page.locator("#head .is-running")).to_be_visible()
    gate.touch()
    expect(page.locator("#head .is-merged")).to_be_visible()
    assert (desk.repository / "by-page").read_text() == "new\n"
    page.goto(f"{operator.site.url}/tasks/{id_}?view=changes")
    expect(page.locator("main")).to_contain_text("by-page")
    expect(page.locator("main")).to_contain_text("+new")


def _submitted(operator: Person, script: str) -> str:
    page = operator.go("/tasks")
    unfold(page)
    page.get_by_label("What to do").fill(script)
    page.get_by_label("Workspace: ").fill(str(operator.site.desk.repository))
    page.get_by_role("button", name="Hand over").click()
    page.wait_for_url(re.compile(r"/tasks/[0-9a-f]{6}$"))
    return page.url.rsplit("/", 1)[1]


def test_a_running_task_is_cancelled_after_a_question(operator: Person) -> None:
    page, desk = operator.page, operator.site.desk
    id_ = _submitted(operator, "sleep 1000")
    expect(page.locator("#head .is-running")).to_be_visible()
    desk.running(id_)
    page.get_by_role("button", name="Cancel").click()
    page.get_by_role("dialog").get_by_role("button", name="Leave it").click()
    assert desk.task(id_)["status"] == "running"
    page.get_by_role("button", name="Cancel").click()
    page.get_by_role("dialog").get_by_role("button", name="Do it").click()
    expect(page.locator("#head .is-stopped")).to_be_visible()
    assert desk.task(id_)["status"] == "stopped"
    page.get_by_role("button", name="Try again").click()
    until(lambda: desk.task(id_)["attempt"] == 2, "it runs again")
    desk.client.post(f"/v1/tasks/{id_}/cancel")


def test_a_conflict_is_shown_with_its_files_and_merged_when_it_is_resolved(operator: Person) -> None:
    page, desk = operator.page, operator.site.desk
    ours = "echo ours >clash; git add clash; git commit -qm ours"
    theirs = f"cd {desk.repository}; echo theirs >clash; git add clash; git commit -qm theirs"
    id_ = desk.ended(desk.hand_over(f"{ours}; {theirs}"))["task_id"]
    operator.go("/")
    notice = page.locator("#attention").get_by_role("listitem").filter(has_text="clash")
    expect(notice).to_contain_text("conflict")
    notice.get_by_role("link").first.click()
    page.wait_for_url(f"**/tasks/{id_}")
    page.get_by_role("link", name="see the conflict").click()
    expect(page.locator("#view")).to_contain_text("<<<<<<<")
    worktree = Path(desk.task(id_)["worktree"])
    desk.git("merge", "-q", "-X", "ours", "main", cwd=worktree)
    page.get_by_role("button", name="Merge into main").click()
    page.get_by_role("dialog").get_by_role("button", name="Do it").click()
    expect(page.locator("#head .is-merged")).to_be_visible()
    assert desk.task(id_)["merge_state"] == "merged"


def test_the_pool_is_paused_resized_and_resumed(operator: Person) -> None:
    page, desk = operator.go("/pool"), operator.site.desk
    page.get_by_role("button", name="Pause").click()
    expect(page.locator("#valve")).to_contain_text("Paused by a person")
    id_ = desk.hand_over("true # while it is paused")
    expect(page.locator("#queue")).to_contain_text("while it is paused")
    page.get_by_label("Agents at once").fill("4")
    page.get_by_role("button", name="Set", exact=True).click()
    until(lambda: desk.ask("GET", "/v1/pool")[2]["total_workers"] == 4, "the pool has its new size")
    page.get_by_role("button", name="Resume").click()
    desk.ended(id_)
    expect(page.locator("#valve")).not_to_contain_text("Paused")


# Roles


def test_who_may_only_look_is_offered_nothing_to_do(person: Person) -> None:
    desk = person.site.desk
    id_ = desk.ended(desk.hand_over("exit 3"), "failed")["task_id"]
    person.log_in("vic")
    for path in ("/tasks", f"/tasks/{id_}", "/pool"):
        page = person.go(path)
        expect(page.locator("main form[data-api]")).to_have_count(0)
    assert page.evaluate("fetch('/v1/pool/pause', {method: 'POST'}).then((answer) => answer.status)") == 403
    assert desk.ask("GET", "/v1/pool")[2]["paused"] is False
    person.forgive("status of 403")


def test_an_admin_makes_an_account_that_logs_in(browser: Browser, person: Person) -> None:
    page = person.log_in("ada")
    page = person.go("/settings?view=users")
    form = page.locator("form[data-api='POST /v1/users']")
    form.get_by_label("Name").fill("nina")
    form.get_by_label("Password").fill("a password of hers")
    form.get_by_label("Role").select_option("viewer")
    form.get_by_role("button").click()
    expect(page.locator("main")).to_contain_text("nina")
    other = Person(browser.new_context(), person.site)
    expect(other.log_in("nina", "a password of hers").get_by_role("heading", level=1)).to_have_text("Now")
    other.context.close()
    assert other.faults == []
    assert any(
        (one["action"], one["username"], one["target"]) == ("POST /v1/users", "ada", "nina")
        for one in person.site.desk.ask("GET", "/v1/audit")[2]
    )
