"use strict";
const runs = JSON.parse(document.getElementById("data").textContent);
const PAGE = 50; // facts shown at first, and with each click on more
const make = (tag, props = {}, ...children) => {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(props)) key in node ? (node[key] = value) : node.setAttribute(key, value);
  node.append(...children);
  return node;
};
const has = (value) => value !== null && value !== undefined;
const words = (name) => name.replaceAll("_", " ");
// text direction of most letters, not of the first one
const way = (text) => (2 * (text.match(/[\u0590-\u08ff]/g)?.length ?? 0) > text.length ? "rtl" : "ltr");
const one = (text) => text.trim().replace(/\s*\n\s*/g, " ⏎ ");
const shown = (metric, value) => {
  if (!has(value)) return "";
  if (!metric.share) return value.toFixed(metric.digits);
  return value === 1 ? "✓ 100 %" : `${value === 0 ? "✗" : "◐"} ${Math.round(100 * value)} %`;
};

class Explorer {
  constructor(place, number) {
    this.number = number;
    this.run = runs[number];
    this.texts = this.run.facts.map(([prompt, target]) => `${prompt} ${target}`.toLowerCase());
    const option = (text, value) => make("option", { value, textContent: text });
    this.recipe = make("select", {}, ...this.run.recipes.map((r) => option(r.name, r.name)));
    this.metric = make("select", {}, ...this.run.metrics.map((m) => option(words(m.name), m.name)));
    this.outcome = make("select", {}, option("all", "metric"), option("failed", "failed"), option("passed", "passed"));
    this.search = make("input", { type: "search" });
    this.count = make("p", { role: "status" });
    this.about = make("small");
    this.body = make("tbody");
    this.more = make("button", { type: "button" });
    const heads = ["prompt", "new answer", "what the model says"].map((text) =>
      make("th", { scope: "col", textContent: text })
    );
    this.head = make("th", { scope: "col" });
    const label = (text, control) => make("label", {}, text, control);
    place.replaceChildren(
      make(
        "p",
        {},
        "What each recipe did to each fact. Click a prompt to see all recipes side by side. " +
          "The page's address keeps the selection below and can be shared."
      ),
      make(
        "div",
        { className: "controls" },
        label("recipe", this.recipe),
        label("metric", this.metric),
        label("facts that", this.outcome),
        label("words in prompt or answer", this.search)
      ),
      this.about,
      this.count,
      make("table", { className: "facts" }, make("thead", {}, make("tr", {}, ...heads, this.head)), this.body),
      this.more
    );
    for (const control of [this.recipe, this.metric, this.outcome, this.search]) {
      control.addEventListener("input", () => this.changed());
    }
    this.more.addEventListener("click", () => this.add());
    this.place = place;
    const edited = this.run.recipes.find((r) => r.edited);
    this.first = {
      recipe: (edited ?? this.run.recipes[0]).name,
      metric: (this.run.metrics.find((m) => m.name === "strict") ?? this.run.metrics[0])?.name
    };
    this.set(new URLSearchParams());
  }

  /** Take the selection from an address. */
  set(wanted) {
    const pick = (select, value, otherwise) => {
      select.value = value ?? otherwise;
      if (select.selectedIndex < 0) select.value = otherwise;
    };
    const outcome = ["failed", "passed", "metric"].find((key) => wanted.has(key)) ?? "metric";
    pick(this.recipe, wanted.get("recipe"), this.first.recipe);
    pick(this.metric, wanted.get(outcome), this.first.metric);
    this.outcome.value = outcome;
    this.search.value = wanted.get("words") ?? "";
    this.show();
  }

  changed() {
    this.show();
    const choice = new URLSearchParams({ run: this.number, recipe: this.recipe.value, [this.part]: this.metric.value });
    if (this.search.value) choice.set("words", this.search.value);
    history.replaceState(null, "", `#${choice}`);
  }

  show() {
    const recipe = this.run.recipes.find((r) => r.name === this.recipe.value);
    const metric = this.run.metrics.find((m) => m.name === this.metric.value) ?? { name: "", share: false };
    const scores = recipe.scores[metric.name] ?? [];
    const share = metric.share;
    this.outcome.disabled = !share;
    this.part = share ? this.outcome.value : "metric";
    const asked = this.search.value.toLowerCase();
    const among = (i) => {
      if (this.part !== "metric" && (!has(scores[i]) || (scores[i] === 1) !== (this.part === "passed"))) return false;
      return this.texts[i].includes(asked) || recipe.says[i].toLowerCase().includes(asked);
    };
    this.found = [...this.run.facts.keys()].filter(among);
    if (!share && metric.name) {
      const sign = metric.higherIsBetter ? 1 : -1;
      const rank = (i) => (has(scores[i]) ? sign * scores[i] : Infinity);
      this.found.sort((a, b) => (rank(a) < rank(b) ? -1 : rank(a) > rank(b) ? 1 : a - b));
    }
    this.now = { recipe, metric, scores };
    this.head.textContent = words(metric.name);
    this.about.textContent = metric.name
      ? `${words(metric.name)}: ${metric.about}${share ? "" : "; worst first"}`
      : "";
    this.count.textContent = `${this.found.length} of ${this.run.facts.length} facts`;
    this.body.replaceChildren();
    this.add();
  }

  add() {
    const start = this.body.querySelectorAll("tr[data-fact]").length;
    const rows = this.found.slice(start, start + PAGE).map((i) => this.row(i));
    this.body.append(...rows);
    const left = this.found.length - start - rows.length;
    this.more.hidden = left === 0;
    this.more.textContent = `Show ${Math.min(left, PAGE)} more`;
    if (start) rows[0]?.querySelector("button").focus();
  }

  row(i) {
    const [prompt, target] = this.run.facts[i];
    const { recipe, metric, scores } = this.now;
    const open = make("button", { type: "button", dir: way(prompt), textContent: prompt });
    open.setAttribute("aria-expanded", "false");
    const row = make(
      "tr",
      { "data-fact": i },
      make("td", {}, open),
      make("td", { dir: way(target), textContent: target, "data-label": "new answer" }),
      make("td", { dir: way(recipe.says[i]), textContent: one(recipe.says[i]), "data-label": "the model says" }),
      make("td", {
        className: metric.share && has(scores[i]) && scores[i] < 1 ? "miss" : "",
        textContent: shown(metric, scores[i]),
        "data-label": words(metric.name)
      })
    );
    open.addEventListener("click", () => {
      const wanted = open.getAttribute("aria-expanded") === "false";
      open.setAttribute("aria-expanded", String(wanted));
      if (wanted) row.after(make("tr", {}, make("td", { colSpan: 4 }, this.sides(i))));
      else row.nextElementSibling.remove();
    });
    return row;
  }

  /** All recipes on one fact. */
  sides(i) {
    const metrics = this.run.metrics.filter((m) => this.run.recipes.some((r) => has(r.scores[m.name]?.[i])));
    const heads = ["recipe", "says", ...metrics.map((m) => words(m.name))].map((text) =>
      make("th", { scope: "col", textContent: text })
    );
    const rows = this.run.recipes.map((r) =>
      make(
        "tr",
        {},
        make("th", { scope: "row", textContent: r.name }),
        make("td", { dir: way(r.says[i]), textContent: one(r.says[i]) }),
        ...metrics.map((m) => make("td", { textContent: shown(m, r.scores[m.name]?.[i]) }))
      )
    );
    return make(
      "div",
      { className: "wide", tabIndex: 0 },
      make("table", {}, make("thead", {}, make("tr", {}, ...heads)), make("tbody", {}, ...rows))
    );
  }
}

const explorers = [...document.querySelectorAll(".explorer")].map(
  (place) => new Explorer(place, Number(place.dataset.run))
);
const follow = () => {
  const wanted = new URLSearchParams(location.hash.slice(1));
  const explorer = wanted.has("run") ? explorers[Number(wanted.get("run"))] : undefined;
  if (!explorer) return;
  explorer.set(wanted);
  explorer.place.previousElementSibling.scrollIntoView();
  explorer.recipe.focus({ preventScroll: true });
};
addEventListener("hashchange", follow);
document.addEventListener("click", (event) => {
  if (event.target.closest('a[href^="#run="]')?.hash === location.hash) follow(); // the same number again: no hashchange event
});
follow();
