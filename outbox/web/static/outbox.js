// Keeps what is on the page fresh, and the hands on the keyboard. Every page works without it.

const PERIOD_MS = 3000;
const LONGEST_PERIOD_MS = 30000;

const status = document.getElementById("live");
let failures = 0;
let timer = null;
let underWay = null;

function tell(state, text) {
  status.hidden = false;
  status.className = `live ${state}`;
  if (status.textContent !== text) status.textContent = text;
}

// The server renders; what comes is the same page, of which the live parts take the place of those that are shown.
async function refresh() {
  underWay = new AbortController();
  const giveUp = setTimeout(() => underWay.abort(), LONGEST_PERIOD_MS);
  try {
    const response = await fetch(location.href, { headers: { Accept: "text/html" }, signal: underWay.signal });
    if (response.redirected || response.status === 401) return location.reload();
    if (!response.ok) throw new Error(String(response.status));
    swap(new DOMParser().parseFromString(await response.text(), "text/html"));
    failures = 0;
    tell("", "live");
  } catch {
    failures += 1;
    if (!document.hidden) tell("lost", "no connection, trying again");
  } finally {
    clearTimeout(giveUp);
    underWay = null;
  }
}

function swap(fresh) {
  for (const part of document.querySelectorAll("[data-live]")) {
    const update = fresh.getElementById(part.id);
    if (!update || update.innerHTML === part.dataset.shown || isInUse(part)) continue;
    const kept = keep(part);
    part.dataset.shown = update.innerHTML;
    part.replaceChildren(...update.childNodes);
    restore(part, kept);
  }
}

// Nobody's selected text or half-made choice is taken away.
function isInUse(part) {
  const selection = document.getSelection();
  const active = document.activeElement;
  const types = part.contains(active) && active.matches("input:not([type=checkbox]), select, textarea");
  return types || (!selection.isCollapsed && part.contains(selection.anchorNode));
}

function keep(part) {
  const active = part.contains(document.activeElement) ? document.activeElement : null;
  return {
    ticked: new Set([...part.querySelectorAll("input[type=checkbox]:checked")].map((box) => box.value)),
    row: rows().indexOf(document.querySelector("tr.current")),
    focus: active && [...part.querySelectorAll(FOCUSABLE)].indexOf(active),
    scrolled: [...part.querySelectorAll(".scroll")].map((box) => box.scrollLeft),
  };
}

function restore(part, kept) {
  for (const box of part.querySelectorAll("input[type=checkbox]")) box.checked = kept.ticked.has(box.value);
  part.querySelectorAll(".scroll").forEach((box, number) => { box.scrollLeft = kept.scrolled[number] ?? 0; });
  if (kept.row >= 0) rows()[kept.row]?.classList.add("current");
  if (kept.focus !== null) part.querySelectorAll(FOCUSABLE)[kept.focus]?.focus({ preventScroll: true });
}

const FOCUSABLE = "a[href], button, input, select, [tabindex]";

function rows() {
  return [...document.querySelectorAll("table.rows tbody tr")];
}

function schedule() {
  clearTimeout(timer);
  if (document.hidden) return;
  timer = setTimeout(async () => { await refresh(); schedule(); }, Math.min(PERIOD_MS * 2 ** failures, LONGEST_PERIOD_MS));
}

if (document.querySelector("[data-live]")) {
  for (const part of document.querySelectorAll("[data-live]")) part.dataset.shown = part.innerHTML;
  tell("", "live");
  schedule();
  document.addEventListener("visibilitychange", async () => {
    if (document.hidden) {
      clearTimeout(timer);
      underWay?.abort();
      tell("paused", "paused");
    } else {
      await refresh();
      schedule();
    }
  });
}

// Ticking: all of the page, and the row under the cursor.
document.addEventListener("change", (event) => {
  if (event.target.id !== "tick-all") return;
  for (const box of document.querySelectorAll("input[name=id]")) box.checked = event.target.checked;
});

// A form is sent once, however often its button is pressed.
document.addEventListener("submit", (event) => {
  if (event.target.dataset.sent) event.preventDefault();
  event.target.dataset.sent = "yes";
});

// From asking for another page until it is there, this one says so; if it is not left after all, the next update ends that.
addEventListener("beforeunload", () => tell("loading", "loading"));
addEventListener("pageshow", () => {
  document.querySelectorAll("form").forEach((form) => delete form.dataset.sent);
  if (status.classList.contains("loading")) status.hidden = true;
});

// Keys: single letters, never while something is typed or held.
let leader = "";

function move(step) {
  const all = rows();
  if (!all.length) return;
  const at = all.findIndex((row) => row.classList.contains("current"));
  const next = Math.min(Math.max(at + step, 0), all.length - 1);
  all[at]?.classList.remove("current");
  all[next].classList.add("current");
  all[next].scrollIntoView({ block: "nearest" });
  all[next].querySelector("a.id").focus({ preventScroll: true });
}

const KEYS = {
  "?": () => {
    const list = document.getElementById("keys");
    list.open = !list.open;
    list.querySelector("summary").focus();
  },
  "/": () => document.getElementById("search")?.focus(),
  j: () => move(1),
  k: () => move(-1),
  x: () => document.querySelector("tr.current input[type=checkbox]")?.click(),
};

document.addEventListener("keydown", (event) => {
  const typing = event.target.matches("input:not([type=checkbox]), select, textarea");
  if (event.key === "Escape" && typing) return event.target.blur();
  if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
  const keys = leader ? `${leader} ${event.key}` : event.key;
  leader = event.key === "g" && !leader ? "g" : "";
  const element = document.querySelector(`[data-key="${CSS.escape(keys)}"]`);
  if (!element && !(keys in KEYS)) return;
  event.preventDefault();
  if (element) element.click();
  else KEYS[keys]();
});
