// The page, from top to bottom.

function showRuns() {
  const nav = document.getElementById("runs");
  for (const run of RUNS)
    nav.append(el("button", {type: "button", "aria-pressed": "true", title: "show or hide this run", onclick: event => {
      run.shown = !run.shown;
      event.currentTarget.setAttribute("aria-pressed", run.shown);
      redrawAll();
    }}, runName(run)));
}

document.getElementById("made").textContent = `${RUNS.length} run${RUNS.length === 1 ? "" : "s"}, made ${DATA.created} by ballast ${DATA.version} (${DATA.commit})`;
showRuns();
showOverview();
showTraining();
showStreaming();
showSpans();
showAttention();
showOutliers();
showSamples();
showConfiguration();
showMachine();

let width = document.documentElement.clientWidth;
addEventListener("resize", () => {
  if (document.documentElement.clientWidth === width) return;  // phones resize when their address bar goes
  width = document.documentElement.clientWidth;
  redrawAll();
});
