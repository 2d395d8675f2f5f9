/* Keeps the page up to date without reloading, shows times in the reader's zone, and asks before a button acts.
   The page asks once a second whether its version is still the newest: no answer stays open, so nothing hangs
   after a laptop's sleep, and when the answers stop, the page says so itself. A template of one's own may load
   this file too: what stands inside the element with the id "live" is kept up to date. */
"use strict";

(() => {
  const ASK_MS = 1000, ASK_HIDDEN_MS = 15000, PATIENCE_MS = 4000, LOST_MS = 5000, TOAST_MS = 7000, FAILED_MS = 20000, NEW_MS = 2500;
  const LOST_TITLE = "LOST · ";
  const byId = (id) => document.getElementById(id);
  const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
  const day = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short" });
  let version = null, heardAt = Date.now(), timer = 0, underWay = false;

  /* times */
  function localise(root) {
    const today = new Date().toDateString();
    for (const time of root.querySelectorAll("time[datetime]")) {
      const at = new Date(time.getAttribute("datetime"));
      if (Number.isNaN(at.getTime())) continue;
      const shown = at.toDateString() === today ? clock.format(at) : `${day.format(at)} ${clock.format(at)}`;
      if (time.textContent !== shown) time.textContent = shown;
    }
  }

  /* updates */
  async function ask() {
    clearTimeout(timer);
    if (underWay) return;
    underWay = true;
    const stop = new AbortController();
    const patience = setTimeout(() => stop.abort(), PATIENCE_MS);
    try {
      const headers = version ? { "If-None-Match": version } : {};
      const answer = await fetch(location.pathname, { headers, signal: stop.signal, cache: "no-store", credentials: "same-origin" });
      if (answer.status === 200) {
        apply(await answer.text());
        version = answer.headers.get("ETag");
      }
      if (answer.status === 500) standIn(await answer.text());
      if (answer.status === 401) return location.reload();
      if ([200, 304, 500].includes(answer.status)) heard();
    } catch { /* not heard: said below when it lasts */ } finally {
      clearTimeout(patience);
      underWay = false;
      judge();
      timer = setTimeout(ask, document.hidden ? ASK_HIDDEN_MS : ASK_MS);
    }
  }

  function apply(html) {
    const fresh = new DOMParser().parseFromString(html, "text/html");
    const next = fresh.getElementById("live"), now = byId("live");
    if (!next || !now) return;
    localise(next);
    const added = [];
    Idiomorph.morph(now, next, {
      ignoreActiveValue: true,
      callbacks: {
        afterNodeAdded: (node) => { if (node.nodeType === 1) added.push(node); },
        beforeAttributeUpdated: (name, node) =>
          !(name === "open" && node.tagName === "DETAILS") && !(name === "class" && node.matches(".new")),
      },
    });
    if (document.title !== fresh.title) document.title = fresh.title;
    announce(added);
  }

  /* a page that could not be made comes with a substitute: taken like the page, or loaded, if it is the plain one */
  function standIn(html) {
    version = null;
    if (!html.includes('id="live"')) location.reload();
    apply(html);
  }

  /* a screen reader hears new lines of the log, and nothing of the numbers that tick */
  function announce(added) {
    const lines = added.filter((node) => node.matches("#log > li[id]"));
    for (const node of added.filter((one) => one.matches("li[id], tr[id]"))) {
      node.classList.add("new");
      setTimeout(() => node.classList.remove("new"), NEW_MS);
    }
    const news = byId("news");
    if (!news || !lines.length) return;
    news.replaceChildren(...lines.slice(0, 3).map((line) => {
      const said = document.createElement("p");
      said.textContent = line.textContent.replace(/\s+/g, " ").trim();
      return said;
    }));
  }

  /* the page itself may be cut off */
  function heard() {
    heardAt = Date.now();
    const lost = byId("lost");
    if (lost && !lost.hidden) {
      lost.hidden = true;
      lost.textContent = "";
      document.documentElement.classList.remove("lost");
      if (document.title.startsWith(LOST_TITLE)) document.title = document.title.slice(LOST_TITLE.length);
    }
  }

  function judge() {
    const lost = byId("lost");
    if (!lost || !lost.hidden || Date.now() - heardAt < LOST_MS) return;
    lost.textContent = `This page has lost the executor. What you see is from ${clock.format(new Date(heardAt))}; nothing here is current. ` +
      "It keeps retrying; if this persists, check that the executor is running.";
    lost.hidden = false;
    document.documentElement.classList.add("lost");
    document.title = LOST_TITLE + document.title;
  }

  /* buttons: asked, then sent, then said */
  function question(form) {
    const dialog = byId("ask"), yes = byId("ask-yes");
    byId("ask-question").textContent = form.dataset.question;
    byId("ask-consequence").textContent = form.dataset.consequence;
    yes.textContent = form.dataset.confirm;
    yes.className = "grave" in form.dataset ? "grave" : "mild";
    dialog.returnValue = "no";
    dialog.showModal();
    return new Promise((done) => dialog.addEventListener("close", () => done(dialog.returnValue === "yes"), { once: true }));
  }

  async function send(form) {
    const body = new URLSearchParams({ confirm: "yes", csrf_token: form.elements.csrf_token.value });
    const answer = await fetch(form.action, { method: "POST", body, headers: { Accept: "application/json" }, credentials: "same-origin" });
    const said = await answer.json();
    if (answer.ok) say(said.text || "Accepted", false);
    else say(`${said.title}: ${said.detail}`, true);
  }

  async function press(form) {
    const button = form.querySelector("button");
    if (!(await question(form))) return button.focus();
    button.disabled = true;
    try {
      await send(form);
    } catch {
      say("The executor did not answer. Check the trade log before you press again.", true);
    } finally {
      button.disabled = false;
      if (button.isConnected) button.focus();
      ask();
    }
  }

  let toastTimer = 0;
  function say(text, failed) {
    const toast = byId("toast");
    toast.className = failed ? "failed" : "";
    toast.textContent = text;
    clearTimeout(toastTimer);
    toastTimer = setTimeout(() => { toast.textContent = ""; }, failed ? FAILED_MS : TOAST_MS);
  }

  document.addEventListener("submit", (event) => {
    if (!event.target.matches("form.wish") || !byId("ask")) return;
    event.preventDefault();
    press(event.target);
  });
  document.addEventListener("visibilitychange", () => { if (!document.hidden) ask(); });
  addEventListener("online", ask);
  addEventListener("pageshow", ask);
  localise(document);
  ask();
})();
