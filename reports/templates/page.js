"use strict";

const EMBED = { mode: "vega-lite", renderer: "svg", actions: false, ast: true };

function json(element) {
  return JSON.parse(element.textContent);
}

async function draw(figure) {
  const place = figure.querySelector(".chart");
  try {
    const { view } = await vegaEmbed(place, json(figure.querySelector("script")), EMBED);
    offerChoices(figure, view);
  } catch (error) {
    place.textContent = "This chart could not be drawn; its numbers stand in the tables.";
    console.error(error);
  }
}

function offerChoices(figure, view) {
  const select = figure.querySelector("select");
  if (!select) return;
  const choices = json(figure.querySelector("script.choices"));
  const show = () => {
    const choice = choices[select.selectedIndex];
    for (const [name, values] of Object.entries(choice.data)) view.data(name, values);
    view.runAsync();
    figure.querySelector(".chart").setAttribute("aria-label", choice.message);
    figure.querySelector("figcaption").textContent = choice.message;
  };
  select.addEventListener("change", show);
  if (select.selectedIndex > 0) show();
}

for (const figure of document.querySelectorAll("figure")) draw(figure);

addEventListener("beforeprint", () => {
  for (const details of document.querySelectorAll("details")) details.open = true;
});
