"""Text that wants to be more than text, wherever agents and people can leave some: on every page it is text."""

import csv
import io
import json
import os
import re
import subprocess
import time
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlencode, urljoin, urlsplit

import pytest
from tasks import assets
from tasks.web import pages
from tasks.web.frame import Page
from tasks.web.tables import Table

from .markup import parse
from .money import Spent, fill
from .site import PASSWORD, SESSION, Answer, Browser, Site, log_in, site_in

SCRIPT = "<script>alert(1)</script>"
IMAGE = "\"><img src=x onerror='alert(2)'>"
#: All of it at once: markup, an end of anything it may be in, a template, an entity, a formula, marks of direction, half a
#: character, control characters, terminal sequences.
EVIL = (
    f"=1+1;{SCRIPT}{IMAGE}</textarea></title></pre></template>--><svg/onload=alert(3)>{{{{7777*7777}}}}{{% raw %}}&lt;&#60;"
    "javascript:alert(4)\u202egnp.exe\u2066\x1b]0;x\x07\x1b[2J\x00\x08\x7f\x85\r\n\tevent: gone\ndata: \"x\"\n\n"
)  # fmt: skip
#: The same for what is refused with control characters in it.
WORD = "".join(sign for sign in EVIL if sign >= " " and sign != "\x7f")[:200]
#: Names of accounts have no spaces and no slashes.
PERSON = "<script>alert(1)<b>{{7777*7777}}"
HALF = "\ud83d and \udc00"
LONG = "x<b>" * (1 << 20)  # 4 MiB
#: What a file may be called.
NAMES = [
    "<script>alert(5)<x>.txt", "a\"'><img src=x onerror=alert(6)>.txt", "\u202etxt.exe", "new\nline\x1b[31m", "{{7777*7777}}",
    "=cmd|x", "-rf", "javascript:alert(7)", "%3Cscript%3E", "&lt;b&gt;",
]  # fmt: skip
ODD_SESSIONS = [
    f"s-{SCRIPT}".replace("/", "|"),
    "s-\u202e",
    's-"onmouseover=alert(1) x="',
    "s-{{7777*7777}}",
    "s-..",
    "s-&amp;",
    "s-%2f?#",
]
#: The names that queries of pages have or could have.
QUERY = (
    "days", "hours", "since", "until", "zone", "by", "tool", "category", "model", "workflow", "agent_type", "agent", "session",
    "task", "project", "status", "live", "page", "after", "before", "limit", "view", "kind", "user", "action", "sort", "q",
    "attempt", "stream", "file", "folder", "text", "next", "older",
)  # fmt: skip


PLACES: tuple[Page | Table, ...] = (*pages.PAGES, *pages.TABLES)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    for made in site_in(tmp_path_factory.mktemp("s")):
        by_hooks(made)
        by_the_spool(made)
        by_transcripts(made)
        by_tasks(made)
        by_people(made)
        made.stored()
        yield made


def event(kind: str, **fields: object) -> bytes:
    return json.dumps({"session_id": SESSION, "hook_event_name": kind, "cwd": f"/srv/{EVIL}"} | fields).encode()


def by_hooks(site: Site) -> None:
    """As the client runs them."""
    call = {
        "tool_name": "Bash",
        "tool_use_id": "t1",
        "prompt_id": "p1",
        "tool_input": {"command": EVIL, "description": EVIL},
    }
    for payload in (
        event("SessionStart", source="startup", model=EVIL),
        event("UserPromptSubmit", prompt=EVIL + HALF, prompt_id="p1"),
        event("UserPromptSubmit", prompt=LONG, prompt_id="p2"),
        event("PreToolUse", **call),
        event("PostToolUseFailure", **call, error=f"Exit code 1\n{EVIL}{HALF}", duration_ms=5),
        event("Notification", message=EVIL, notification_type="permission_prompt"),
        event(WORD, anything=EVIL),
        event(EVIL, anything=EVIL),
    ):
        done = subprocess.run(
            [str(assets.path("hooks/record"))],
            input=payload,
            env=site.environ,
            capture_output=True,
            timeout=60,
            check=True,
        )
        assert (done.stdout, done.stderr) == (b"", b"")
    site.stored()


def by_the_spool(site: Site) -> None:
    """Everything that an event can hold."""
    for number, tool in enumerate(("Read", "Edit", "Bash", WORD, f"mcp__{SCRIPT}__x", "Agent", "WebFetch")):
        call: dict[str, Any] = {
            "tool_name": tool, "tool_use_id": f"{WORD[:60]}{number}", "prompt_id": "p1", "agent_id": f"a{SCRIPT}",
            "agent_type": EVIL,
            "tool_input": {"file_path": f"/srv/{NAMES[number]}", "url": "javascript:alert(8)", EVIL: HALF, "x": LONG[:9999]},
        }  # fmt: skip
        site.leave("PreToolUse", **call)
        if number % 2:
            site.leave("PostToolUse", **call, tool_response={"stdout": EVIL, "agentId": EVIL}, duration_ms=1)
        elif number:
            site.leave("PostToolUseFailure", **call, error=f"<b>{EVIL}", is_interrupt=False)
    site.leave("SubagentStart", agent_id=f"a{SCRIPT}", agent_type=EVIL, prompt_id="p1")
    site.leave("Stop", prompt_id="p1", last_assistant_message=EVIL, stop_hook_active=False)
    for session in ODD_SESSIONS:
        site.leave("SessionStart", session, source=WORD, cwd=f"/srv/{SCRIPT}", transcript_path=f"/x/{EVIL}")
        site.leave("UserPromptSubmit", session, prompt=f"{IMAGE}{HALF}", prompt_id=WORD)
        site.leave("PermissionRequest", session, tool_name=SCRIPT, tool_input={"command": EVIL}, prompt_id=WORD)
    site.leave("SessionStart", f"s-{HALF}", source="startup")
    # What will never become an event, and has had its time.
    for name, content in (
        ("-.0.9999.0.json", b"\xff\x00" + EVIL.encode()),
        ("<script>alert(9)<x>.json", EVIL.encode()),
    ):
        path = site.folder / "odd"
        path.write_bytes(content)
        path.chmod(0o600)
        os.utime(path, (time.time() - 90_000,) * 2)
        path.rename(site.data / "spool" / name)


def by_transcripts(site: Site) -> None:
    now = time.time_ns() // 1_000_000
    fill(
        site.data,
        [
            Spent(
                now - 1000,
                model=f"m-{EVIL}"[:200],
                session_uuid=SESSION,
                workflow=EVIL,
                agent_type=EVIL,
                project=f"/srv/{EVIL}",
            ),
            Spent(now - 90_000_000, model=SCRIPT, session_uuid=ODD_SESSIONS[0], priced=False, project=SCRIPT),
        ],
    )


def by_tasks(site: Site) -> None:
    for name in NAMES:
        (site.repository / name).write_text("one\n")
    site.git("add", "--all")
    site.git("commit", "-qm", SCRIPT)
    site.git("checkout", "-qb", "x<script>alert(10)</script>")
    words = {"workflow": f"w{SCRIPT}", "agent_type": f"a{IMAGE}", "model": f"m{SCRIPT}"}
    described = " ".join((EVIL + SCRIPT).replace("\x00", "").split())
    touch = f"for f in *; do printf '%s\\n' '{SCRIPT}' >\"./$f\"; done; git add -A; git commit -qm '{SCRIPT}'"
    for script in (
        f"# {described}\n{touch}; printf '{SCRIPT}\\033[31m\\n'",
        f"# {described}\nprintf '{SCRIPT}\\033[2J' >&2; exit 3",
    ):
        id_ = site.hand_over(script, **words)
        site.ended(id_, "failed" if "exit 3" in script else "completed")
    # Two of the same names that do not go together.
    first = site.hand_over(
        f"# {described}\nwhile [ ! -e ../go ]; do sleep 0.05; done; {touch.replace(SCRIPT, 'mine')}", **words
    )
    site.running(first)
    for name in NAMES:
        (site.repository / name).write_text("theirs\n")
    site.git("add", "--all")
    site.git("commit", "-qm", "theirs")
    (Path(site.task(first)["worktree"]).parent / "go").touch()
    assert site.ended(first)["merge_state"] == "conflict"
    site.hand_over(f"# {described}\nwhile :; do printf '%s\\n' '{SCRIPT}'; sleep 0.2; done", **words)


def by_people(site: Site) -> None:
    status, _, answer = site.ask("POST", "/v1/users", {"username": PERSON, "password": PASSWORD, "role": "admin"})
    assert status == 201, answer
    for name in (EVIL, HALF, "\u202eada", "a b", "a\x00"):
        assert site.ask("POST", "/v1/users", {"username": name, "password": PASSWORD})[0] in (400, 422), name
    for password in (PASSWORD, PASSWORD, "wrong horse"):
        log_in(site, {"username": PERSON, "password": password}, {"User-Agent": f"{SCRIPT}{IMAGE}"})
    site.ask("POST", f"/v1/users/{quote(PERSON, safe='')}/disable")
    site.ask("POST", f"/v1/users/{quote(PERSON, safe='')}/enable")
    site.ask("POST", f"/v1/users/{quote(SCRIPT + IMAGE, safe='')}/disable")


@pytest.fixture(scope="module")
def ada(site: Site) -> Browser:
    return site.browser("ada")


def is_odd(sign: str) -> bool:
    """Steers instead of showing."""
    return unicodedata.category(sign) in ("Cc", "Cf", "Cs") and sign != "\n"


def check_html(what: str, html: str) -> None:
    """Nothing in it is more than text but what is ours."""
    lowered = html.lower()
    for raw in ("<script>", "<img src=x", "<svg/", "60481729", "<x>", "<b>x<b>"):
        assert raw not in lowered, f"{what}: {raw} at {html[max(0, lowered.find(raw) - 200) :][:500]!r}"
    for one in parse(html).walk():
        # Fields have what was typed into them as it was, and keys are shown to nobody.
        shown = [one.get(name) for name in ("title", "aria-label", "alt", "placeholder", "label")]
        odd = {sign for text in (one.content, *shown) for sign in text if is_odd(sign)}
        assert not odd, f"{what}: {odd} in {one}"
        strange = [
            name for name in one.attributes if name.startswith("on") or not re.fullmatch(r"[a-zA-Z][\w:-]*", name)
        ]
        assert not strange, f"{what}: {one.tag} {strange}"
        assert one.tag != "script" or one.get("src").startswith("/assets/"), f"{what}: {one}"
        for name in ("href", "src", "action", "formaction", "xlink:href"):
            value = one.attributes.get(name, "")
            assert re.match(r"^(/(?![/\\])|#|\?|$|[\w.-]+\.csv)", value), f"{what}: {one.tag} {name}={value!r}"


def check(what: str, answer: Answer) -> None:
    assert answer.status < 500, (what, answer.status, answer.body[-2000:])
    assert len(answer.body) < 300_000, (what, len(answer.body))
    kind = answer.header("content-type") or ""
    if kind.startswith("text/html"):
        check_html(what, answer.text)
    elif kind.startswith("text/csv"):
        rows = list(csv.reader(io.StringIO(answer.text)))
        assert len({len(row) for row in rows}) == 1, what
        formulas = [cell for row in rows for cell in row if re.match(r"[=+@\t\r]|-(?!\d)", cell)]
        assert not formulas, (what, formulas)
    assert answer.header("x-content-type-options") == "nosniff"


def filled_in(site: Site, path: str) -> str:
    """With a session and a task that exist."""
    live = site.ask("GET", "/v1/tasks?live=true")[2][0]["task_id"]
    return path.replace("{session_uuid}", SESSION).replace("{task_id}", live)


def addresses(site: Site) -> list[str]:
    """Every page and table, with parameters that exist and that do not."""
    tasks = [one["task_id"] for one in site.ask("GET", "/v1/tasks")[2]]
    assert len(tasks) == 4
    known = {"session_uuid": [SESSION, *ODD_SESSIONS], "task_id": tasks}
    found = []
    for one in PLACES:
        names = re.findall(r"\{(\w+)", one.path)
        values = [*known.get(names[0], []), EVIL, SCRIPT, "x" * 300, "..", "%"] if names else [""]
        found += [re.sub(r"\{[^}]+\}", quote(value, safe=""), one.path) for value in values]
    return found


def test_the_stored_text_is_there(site: Site, ada: Browser) -> None:
    told = json.dumps(ada.get(f"/v1/sessions/{SESSION}/turns").json())
    assert "<script>alert(1)" in told
    assert {one["session_uuid"] for one in ada.get("/v1/sessions").json()} >= {SESSION, *ODD_SESSIONS}
    assert ada.get("/v1/quarantine").json()
    shown = ada.get("/").text + ada.get("/tasks").text
    assert "&lt;script&gt;alert(1)" in shown


def test_every_page_shows_hostile_text_as_text(site: Site, ada: Browser) -> None:
    for target in addresses(site):
        check(target, ada.get(target))


VALUES = (
    EVIL,
    SCRIPT,
    HALF.encode("utf-8", "surrogatepass"),
    "-1",
    "9" * 20,
    "nan",
    "1e308",
    "",
    "\u0661",
    "2026-02-30",
)


def test_parameters_of_pages_are_text_too(site: Site, ada: Browser) -> None:
    for one in PLACES:
        path = filled_in(site, one.path)
        for value in VALUES:
            check(f"{path} with {value!r:.40}", ada.get(f"{path}?{urlencode(dict.fromkeys(QUERY, value))}"))
        for name in QUERY:
            check(f"{path}?{name}", ada.get(f"{path}?{urlencode({name: EVIL})}"))


def test_what_pages_lead_to_is_there_and_harmless(site: Site, ada: Browser) -> None:
    """Every link of every page, and the links there."""
    seen: set[str] = set()
    ahead = ["/"]
    while ahead and len(seen) < 400:
        target = ahead.pop(0)
        if target in seen:
            continue
        seen.add(target)
        answer = ada.get(target)
        assert answer.status == 200, (target, answer.status)
        check(target, answer)
        if (answer.header("content-type") or "").startswith("text/html"):
            for one in answer.document.all("a"):
                led = urlsplit(urljoin(target, one.get("href")))
                ahead.append(led.path + f"?{led.query}" * bool(led.query))
    assert len(seen) > 20, seen
    assert {unquote(one) for one in seen} >= {f"/sessions/{session}" for session in ODD_SESSIONS[:1]}


def test_streams_of_pages_are_as_harmless_as_pages(site: Site, ada: Browser) -> None:
    for page in pages.PAGES:
        if not page.live:
            continue
        path = page.path.replace("{session_uuid}", SESSION).replace(
            "{task_id}", site.ask("GET", "/v1/tasks?live=true")[2][0]["task_id"]
        )
        with ada.stream(path) as changes:
            sections = next(changes)
        assert set(sections) == set(page.sections), path
        for name, html in sections.items():
            check_html(f"{path} {name}", html)


def test_the_login_shows_what_was_typed_as_text(site: Site) -> None:
    for text in (EVIL, SCRIPT, IMAGE, "\u202e"):
        check("the login", log_in(site, {"username": text, "password": "x", "next": text}))
        check("the login", site.request("GET", f"/login?next={quote(text)}"))
        check("a refusal", site.browser("ada").get(f"/{quote(text)}"))
    somebody = Browser(site, PERSON)
    for page in pages.PAGES:
        if "{" not in page.path:
            check(page.path, somebody.get(page.path))


def test_logs_of_agents_are_no_documents(site: Site, ada: Browser) -> None:
    """What an agent wrote is handed out raw; no browser shows it as a page."""
    for one in site.ask("GET", "/v1/tasks")[2]:
        answer = ada.get(f"/v1/tasks/{one['task_id']}/logs")
        assert (answer.header("content-type") or "").startswith(("text/plain", "application/json"))
        assert answer.header("x-content-type-options") == "nosniff"
        assert "script-src 'self'" in (answer.header("content-security-policy") or "")


def test_the_log_of_the_daemon_has_a_line_for_a_line(site: Site) -> None:
    log = (site.folder / "daemon.log").read_text()
    assert "Traceback" not in log, log[log.find("Traceback") :][:3000]
    assert not [line for line in log.splitlines() if any(map(is_odd, line))]
