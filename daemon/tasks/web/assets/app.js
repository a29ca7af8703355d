// What pages do in the browser: stay up to date, say times from now, carry out what forms ask for. Nothing else is needed to read them.
"use strict";

const token = document.querySelector("meta[name=csrf-token]")?.content ?? "";
const byId = (id) => document.getElementById(id);

// Times

const UNITS = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];

function span(seconds) {
  let left = Math.max(0, Math.floor(seconds));
  const parts = [];
  for (const [size, unit] of UNITS) {
    if (left >= size || parts.length) {
      const number = Math.floor(left / size);
      if (number) parts.push(`${number} ${unit}`);
      left %= size;
      if (parts.length === 2 || (parts.length && size <= 60)) break;
    }
  }
  return parts.join(" ") || "0 s";
}

function ago(seconds) {
  if (seconds < 1) return "just now";
  const [size, unit] = UNITS.find(([one]) => seconds >= one);
  return `${Math.floor(seconds / size)} ${unit} ago`;
}

function tellTimes(within = document) {
  const now = Date.now() / 1000;
  for (const element of within.querySelectorAll("time[data-time]")) {
    const then = Number(element.dataset.ms) / 1000;
    const kind = element.dataset.time;
    const text = kind === "ago" ? ago(now - then) : kind === "since" ? span(now - then) : null;
    if (text !== null && element.textContent !== text) element.textContent = text;
  }
}

// Staying up to date: the sections that changed come as HTML; what is the same keeps its focus, selection and scrolling.

function sameKind(one, other) {
  return one.nodeType === other.nodeType && one.nodeName === other.nodeName
    && (one.dataset?.key ?? null) === (other.dataset?.key ?? null);
}

function morph(present, wanted) {
  if (present.isEqualNode(wanted)) return;
  if (present.nodeType === Node.TEXT_NODE) {
    if (present.data !== wanted.data) present.data = wanted.data;
    return;
  }
  if (present.nodeType !== Node.ELEMENT_NODE) return;
  if (present.nodeName === "TIME" && present.dataset.ms === wanted.dataset.ms) return;
  const isOpen = present.nodeName === "DETAILS" || present.nodeName === "DIALOG";
  for (const { name } of [...present.attributes]) {
    if (!wanted.hasAttribute(name) && !(isOpen && name === "open")) present.removeAttribute(name);
  }
  for (const { name, value } of wanted.attributes) {
    if (present.getAttribute(name) !== value && !(isOpen && name === "open")) present.setAttribute(name, value);
  }
  if (present.hasAttribute("data-keep")) return;
  morphChildren(present, wanted);
}

function morphChildren(present, wanted) {
  const keyed = new Map();
  for (const child of present.children) if (child.dataset.key) keyed.set(child.dataset.key, child);
  let at = present.firstChild;
  for (const want of [...wanted.childNodes]) {
    const key = want.nodeType === Node.ELEMENT_NODE ? want.dataset.key : undefined;
    const known = key ? keyed.get(key) : undefined;
    if (known && known.nodeName === want.nodeName) {
      if (known !== at) present.insertBefore(known, at);
      else at = at.nextSibling;
      morph(known, want);
    } else if (at && !(at.dataset?.key) && sameKind(at, want)) {
      const next = at.nextSibling;
      morph(at, want);
      at = next;
    } else {
      present.insertBefore(want, at);
    }
  }
  while (at) {
    const next = at.nextSibling;
    at.remove();
    at = next;
  }
}

function show(sections) {
  for (const [name, html] of Object.entries(sections)) {
    const section = byId(name);
    if (!section) continue;
    const fresh = document.createElement("template");
    fresh.innerHTML = html;
    const typing = document.activeElement;
    // What somebody is filling in is left alone until it has been sent.
    if (section.contains(typing) && /^(INPUT|TEXTAREA|SELECT)$/.test(typing.nodeName)) continue;
    const ended = [...section.querySelectorAll("[data-tail]")].filter((one) => one.scrollTop + one.clientHeight >= one.scrollHeight - 8);
    morphChildren(section, fresh.content);
    tellTimes(section);
    for (const one of ended) one.scrollTop = one.scrollHeight;
  }
  document.dispatchEvent(new CustomEvent("tasksd:shown"));
}

let stream = null;
let again = 0;

function link(state, words) {
  const element = byId("link");
  if (!element) return;
  element.dataset.state = state;
  if (element.textContent !== words) element.textContent = words;
}

function follow() {
  if (stream || document.hidden || !document.body.hasAttribute("data-live")) return;
  stream = new EventSource(location.pathname + location.search);
  stream.addEventListener("open", () => link("live", "live"));
  stream.addEventListener("sections", (event) => show(JSON.parse(event.data)));
  stream.addEventListener("trouble", (event) => {
    const reason = JSON.parse(event.data);
    link(reason ? "lost" : "live", reason ? "not up to date" : "live");
    say(reason, true);
  });
  stream.addEventListener("gone", (event) => {
    rest();
    link("lost", "gone");
    say(JSON.parse(event.data), true);
  });
  stream.addEventListener("error", () => {
    if (stream && stream.readyState === EventSource.CLOSED) {
      rest();
      link("lost", "not live");
      clearTimeout(again);
      again = setTimeout(lookAgain, 3000);
    } else {
      link("lost", "connecting");
    }
  });
}

async function lookAgain() {
  try {
    const answer = await fetch("/v1/me");
    if (answer.status === 401) location.reload();
    else follow();
  } catch {
    again = setTimeout(lookAgain, 3000);
  }
}

function rest() {
  stream?.close();
  stream = null;
}

// Browsers allow six connections to one server: pages that nobody sees give theirs back.
document.addEventListener("visibilitychange", () => (document.hidden ? rest() : follow()));
addEventListener("pagehide", rest);
addEventListener("pageshow", follow);

// Saying and asking

let silence = 0;

function say(text, isBad = false) {
  const said = byId("said");
  if (!said) return;
  said.textContent = text;
  said.classList.toggle("bad", isBad);
  clearTimeout(silence);
  if (text) silence = setTimeout(() => say(""), isBad ? 15000 : 5000);
}

// What is said on the page that comes next.
function sayThere(text) {
  try {
    sessionStorage.setItem("tasksd-said", text.trim());
  } catch {
    // it is not said
  }
}

function sayHere() {
  try {
    const text = sessionStorage.getItem("tasksd-said");
    sessionStorage.removeItem("tasksd-said");
    if (text) say(text);
  } catch {
    // nothing was kept
  }
}

function ask(question) {
  const dialog = byId("ask");
  byId("ask-text").textContent = question;
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise((resolve) => dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true }));
}

// Forms with data-api ask the API: data-api="POST /v1/tasks/abc/cancel", the fields as JSON. data-confirm asks first, data-done is said
// afterwards, data-then is where to go ({field} of the answer).

function fieldsOf(form) {
  const fields = {};
  for (const element of form.elements) {
    if (!element.name || element.disabled) continue;
    if (element.type === "checkbox") fields[element.name] = element.checked;
    else if (element.type === "radio" && !element.checked) continue;
    else if (element.value === "" && !element.required) continue;
    else fields[element.name] = element.type === "number" ? Number(element.value) : element.value;
  }
  return fields;
}

function reason(answer, document_) {
  const detail = document_?.detail;
  if (Array.isArray(detail)) return detail.map((one) => `${(one.loc ?? []).slice(1).join(".")}: ${one.msg}`).join("; ");
  return detail ? String(detail) : `the daemon answered with status ${answer.status}`;
}

async function carryOut(form) {
  const [method, address] = form.dataset.api.split(" ");
  if (form.dataset.confirm && !(await ask(form.dataset.confirm))) return;
  const buttons = [...form.querySelectorAll("button")];
  for (const button of buttons) button.disabled = true;
  form.setAttribute("aria-busy", "true");
  const problem = form.querySelector("[data-problem]");
  if (problem) problem.textContent = "";
  try {
    const fields = fieldsOf(form);
    const path = address.replace(/\{(\w+)\}/g, (_, name) => {
      const value = encodeURIComponent(fields[name] ?? "");
      delete fields[name];
      return value;
    });
    const body = method === "DELETE" || !Object.keys(fields).length ? undefined : JSON.stringify(fields);
    const answer = await fetch(path, {
      method,
      body,
      headers: { "X-CSRF-Token": token, ...(body ? { "Content-Type": "application/json" } : {}) },
    });
    const isTold = answer.status !== 204 && answer.headers.get("content-type")?.includes("json");
    const document_ = isTold ? await answer.json() : null;
    if (answer.status === 401) {
      location.reload();
    } else if (!answer.ok) {
      const words = reason(answer, document_);
      if (problem) problem.textContent = words;
      else say(words, true);
    } else if (form.dataset.then) {
      sayThere([form.dataset.done ?? "", ...(document_?.warnings ?? [])].join(" "));
      location.assign(form.dataset.then.replace(/\{(\w+)\}/g, (_, name) => encodeURIComponent(document_?.[name] ?? "")));
    } else {
      const words = [form.dataset.done ?? "Done.", ...(document_?.warnings ?? [])].join(" ");
      if (form.hasAttribute("data-reset")) form.reset();
      if (form.hasAttribute("data-reload")) {
        sayThere(words);
        location.reload();
      } else {
        say(words);
      }
    }
  } catch (error) {
    say(`the daemon does not answer: ${error.message}`, true);
  } finally {
    form.removeAttribute("aria-busy");
    for (const button of buttons) button.disabled = false;
  }
}

document.addEventListener("submit", (event) => {
  const form = event.target.closest("form[data-api]");
  if (!form) return;
  event.preventDefault();
  carryOut(form);
});

// A field with data-same="NAME" has to say the same as that one.
document.addEventListener("input", (event) => {
  const form = event.target.form;
  for (const again of form?.querySelectorAll("[data-same]") ?? []) {
    again.setCustomValidity(again.value === form.elements[again.dataset.same].value ? "" : "This is not the same.");
  }
});

// Choices that lead somewhere at once: a select in a form that only asks for another view.
document.addEventListener("change", (event) => {
  const form = event.target.closest("form[data-auto]");
  if (form) form.requestSubmit();
});

// Menus close when one goes elsewhere.
document.addEventListener("click", (event) => {
  for (const menu of document.querySelectorAll("details.menu[open]")) if (!menu.contains(event.target)) menu.open = false;
});
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  for (const menu of document.querySelectorAll("details.menu[open]")) {
    menu.open = false;
    menu.querySelector("summary").focus();
  }
});

// Colours: as the system has them, light, dark, and around.

const THEMES = ["", "light", "dark"];
const THEME_WORDS = { "": "Colours: as the system has them", light: "Colours: light", dark: "Colours: dark" };

function setTheme(theme) {
  if (theme) document.documentElement.dataset.theme = theme;
  else delete document.documentElement.dataset.theme;
  byId("theme")?.setAttribute("aria-label", THEME_WORDS[theme]);
  try {
    localStorage.setItem("tasksd-theme", theme);
  } catch {
    // it holds for this page alone
  }
}

byId("theme")?.addEventListener("click", () => {
  const present = document.documentElement.dataset.theme ?? "";
  const next = THEMES[(THEMES.indexOf(present) + 1) % THEMES.length];
  setTheme(next);
  say(THEME_WORDS[next]);
});
byId("theme")?.setAttribute("aria-label", THEME_WORDS[document.documentElement.dataset.theme ?? ""]);

// A code that is good once comes behind the #, which no server sees. Whoever is logged in already was sent on with it.
if (location.hash.startsWith("#once=")) {
  const form = document.createElement("form");
  const field = document.createElement("input");
  form.method = "post";
  form.action = "/login";
  form.hidden = true;
  field.name = "once";
  field.value = location.hash.slice("#once=".length);
  form.append(field);
  document.body.append(form);
  history.replaceState(null, "", location.pathname + location.search);
  form.submit();
}

sayHere();
tellTimes();
setInterval(tellTimes, 1000);
for (const one of document.querySelectorAll("[data-tail]")) one.scrollTop = one.scrollHeight;
follow();
