const runs = JSON.parse(document.getElementById("data").textContent);
const make = (tag, props = {}, ...children) => {
  const node = Object.assign(document.createElement(tag), props);
  node.append(...children);
  return node;
};
for (const place of document.querySelectorAll(".explorer")) {
  const run = runs[Number(place.dataset.run)];
  const recipe = make("select", { ariaLabel: "recipe" }, ...run.recipes.map((r, i) => make("option", { value: i, textContent: r.name })));
  const metric = make("select", { ariaLabel: "metric" }, ...run.metrics.map((m) => make("option", { value: m, textContent: m.replaceAll("_", " ") })));
  const missed = make("input", { type: "checkbox" });
  const text = make("input", { type: "search", placeholder: "words in prompt or answer", ariaLabel: "words" });
  const count = make("small");
  const body = make("tbody");
  const show = () => {
    const words = text.value.toLowerCase();
    const facts = run.recipes[Number(recipe.value)].facts.filter((f) =>
      (!missed.checked || (f.scores[metric.value] ?? 1) < 1) && `${f.prompt} ${f.target} ${f.says}`.toLowerCase().includes(words));
    count.textContent = `${facts.length} facts`;
    body.replaceChildren(...facts.slice(0, 500).map((f) => {
      const share = f.scores[metric.value];
      const cells = [f.prompt, f.target, f.says, share === undefined ? "" : metric.value === "neighbour_kl" ? share.toFixed(3) : `${Math.round(100 * share)} %`];
      return make("tr", { className: share < 1 && metric.value !== "neighbour_kl" ? "miss" : "" }, ...cells.map((c) => make("td", { textContent: c })));
    }));
  };
  for (const control of [recipe, metric, missed, text]) control.addEventListener("input", show);
  recipe.value = String(run.recipes.length - 1);
  const heads = make("tr", {}, ...["prompt", "new answer", "what the model says", "share"].map((h) => make("th", { textContent: h })));
  place.append(
    make("div", { className: "controls" }, recipe, metric, make("label", {}, missed, " only what misses"), text, count),
    make("div", { className: "wide" }, make("table", {}, make("thead", {}, heads), body)));
  show();
}
