// What the console does beyond its pages: new decisions as they come, and a word while a form is at work.
// Everything works without it. Texts are only ever put in as texts.
"use strict";

function follow(live) {
  const table = document.querySelector("#decisions tbody");
  const blank = document.querySelector("#decision-row");
  const status = document.querySelector("#live-status");
  const pause = document.querySelector("#pause");
  const most = 200;
  let paused = false;
  let added = 0;
  let told = 0;

  const say = (text) => { if (status.textContent !== text) status.textContent = text; };
  const add = (row) => {
    const fresh = blank.content.cloneNode(true);
    for (const cell of fresh.querySelectorAll("[data-field]")) cell.textContent = row[cell.dataset.field];
    for (const badge of fresh.querySelectorAll("[data-badge]")) {
      const value = row[badge.dataset.value];
      if (value) badge.classList.add(`${badge.dataset.badge}-${value}`);
      else badge.classList.remove("badge");
    }
    const link = fresh.querySelector("[data-link]");
    link.href = row.link;
    link.title = row.request_id;
    link.textContent = row.time;
    table.prepend(fresh);
    while (table.rows.length > most) table.lastElementChild.remove();
    document.querySelector("#none-yet")?.remove();
    added += 1;
  };

  live.hidden = false;
  const source = new EventSource(live.dataset.feed);
  source.addEventListener("ready", () => say(paused ? live.dataset.off : live.dataset.on));
  source.addEventListener("decision", (event) => { if (!paused) add(JSON.parse(event.data)); });
  source.addEventListener("error", () => say(live.dataset.lost));
  pause.addEventListener("click", () => {
    paused = !paused;
    pause.setAttribute("aria-pressed", String(paused));
    say(paused ? live.dataset.off : live.dataset.on);
  });
  // A screen reader hears how many are new every ten seconds, not each of them.
  setInterval(() => {
    if (added === told || paused) return;
    say(live.dataset.new.replace("{n}", String(added - told)));
    told = added;
  }, 10000);
  window.addEventListener("pagehide", () => source.close());
}

function work(form) {
  form.addEventListener("submit", (event) => {
    if (form.dataset.sent) { event.preventDefault(); return; }
    form.dataset.sent = "yes";
    const button = event.submitter;
    if (!button) return;
    button.setAttribute("aria-disabled", "true");
    button.dataset.said = button.textContent;
    button.textContent = form.dataset.busy;
  });
  // Back from the next page, the form is as it was.
  window.addEventListener("pageshow", () => {
    delete form.dataset.sent;
    for (const button of form.querySelectorAll("button[data-said]")) {
      button.textContent = button.dataset.said;
      button.removeAttribute("aria-disabled");
      delete button.dataset.said;
    }
  });
}

const live = document.querySelector("#live");
if (live) follow(live);
for (const form of document.querySelectorAll("form[data-busy]")) work(form);
