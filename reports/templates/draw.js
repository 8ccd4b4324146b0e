"use strict";
for (const chart of document.querySelectorAll(".chart")) {
  const spec = JSON.parse(chart.nextElementSibling.textContent);
  const options = { mode: "vega-lite", renderer: "svg", actions: false, ast: true };
  vegaEmbed(chart, spec, options).catch((error) => {
    chart.textContent = "This chart could not be drawn; its numbers stand in the tables.";
    console.error(error);
  });
}
addEventListener("beforeprint", () => {
  for (const details of document.querySelectorAll("details")) details.open = true;
});
