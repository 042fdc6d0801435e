"use strict";
// highlight a series in all figures that share a key while the pointer is on it, or after a click until the next click
for (const figures of document.querySelectorAll(".figures")) {
  const keys = [...figures.querySelectorAll(".legend button")];
  const light = (chosen) => {
    figures.classList.toggle("lit", chosen !== undefined);
    for (const figure of figures.querySelectorAll("figure")) {
      let told = "";
      for (const series of figure.querySelectorAll("g[data-s]")) {
        series.classList.toggle("on", series.dataset.s === chosen);
        if (series.dataset.s === chosen) told = series.querySelector("title").textContent;
      }
      figure.querySelector("output").textContent = told;
    }
  };
  const kept = () => keys.find((key) => key.getAttribute("aria-pressed") === "true")?.dataset.s;
  const under = (event) => event.target.closest("[data-s]")?.dataset.s;
  figures.addEventListener("pointerover", (event) => light(under(event) ?? kept()));
  figures.addEventListener("pointerleave", () => light(kept()));
  figures.addEventListener("click", (event) => {
    const chosen = under(event);
    const before = kept();
    if (chosen === undefined) return;
    for (const key of keys) key.setAttribute("aria-pressed", String(key.dataset.s === chosen && chosen !== before));
    light(kept());
  });
}
