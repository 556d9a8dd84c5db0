// What is read rather than looked at: overview, configurations, samples, parameters, memory, environment.

function statusText(run) {
  if (run.is_model) return "a model's folder";
  const status = run.status?.status ?? "unknown", step = last(run.metrics.step) ?? run.status?.step;
  return `${status}, step ${whole(step)}${run.steps ? ` of ${whole(run.steps)}` : ""}`;
}
function meanSpeed(run) {
  const tokens = last(run.metrics.tokens), share = run.metrics.lines && last(run.metrics.step) ? run.metrics.lines / last(run.metrics.step) : 0;
  return tokens && run.metrics.seconds ? tokens * share / run.metrics.seconds : null;
}

function showOverview() {
  const host = section("overview"), of = el("div");
  host.append(of);
  for (const run of RUNS) for (const note of run.notes) host.append(missing(`${run.label}: ${note}`));
  const row = run => {
    const validation = last(run.metrics.validation.mean);
    return el("tr", {}, el("td", {}, runName(run)), el("td", {class: "text"}, statusText(run)), el("td", {}, run.updated || "–"),
      el("td", {}, run.parameters ? short(run.parameters.total) : "–"), el("td", {}, short(last(run.metrics.tokens))),
      el("td", {}, fixed(last(run.metrics.series.loss?.mean), 3)), el("td", {}, fixed(validation, 3)), el("td", {}, validation === null ? "–" : fixed(Math.exp(validation), 2)),
      el("td", {}, whole(meanSpeed(run))), el("td", {}, duration(run.metrics.seconds)));
  };
  onRedraw(() => of.replaceChildren(table(["run", el("th", {class: "text"}, "status"), "last step written", "parameters", "tokens", "last loss", "validation loss", "perplexity", "tokens/s", "training time"], shownRuns().map(row))));
}

function showConfiguration() {
  const host = section("configuration");
  if (!DATA.config.length) { host.append(missing("No run has a config.toml; ballast train writes it")); return; }
  const differing = DATA.config.filter(row => row.differs).length, several = RUNS.length > 1;
  let all = !several;
  const of = el("div");
  const draw = () => {
    const runs = shownRuns(), rows = DATA.config.filter(row => all || row.differs);
    of.replaceChildren(table(["field", ...runs.map(run => el("th", {class: "text"}, runName(run)))],
      rows.map(row => el("tr", {class: row.differs ? "differs" : null}, el("td", {}, el("code", {}, row.field)),
        runs.map(run => el("td", {class: "text"}, el("code", {}, row.values[run.index] ?? "–")))))));
  };
  if (several)
    host.append(el("div", {class: "controls"},
      el("span", {}, differing ? `${differing} of ${DATA.config.length} fields differ between the runs.` : "All runs have the same configuration."),
      checkbox("show all fields", all, on => { all = on; draw(); })));
  host.append(of);
  onRedraw(draw);
}

function showSamples() {
  const host = section("samples"), columns = el("div", {class: "columns"});
  const one = sample => el("div", {class: "sample"}, el("div", {class: "soft"}, `step ${whole(sample.step)}`), el("b", {}, sample.prompt), sample.text);
  const ofRun = run => {
    const {list, total} = run.samples, newest = [...list].reverse();
    if (!total && run.is_model) return el("div", {}, el("h3", {}, runName(run)), run.is_encoder ? missing("an encoder writes nothing") : missing("a model's folder has none. This writes one", `ballast generate ${quoted(run.folder)} "Once upon a time"`));
    if (!total) return el("div", {}, el("h3", {}, runName(run)), missing("no samples; the setting sample.every makes them while training"));
    return el("div", {}, el("h3", {}, runName(run)), one(newest[0]),
      newest.length > 1 ? el("details", {}, el("summary", {}, `${newest.length - 1} earlier${total > list.length ? ` (of ${whole(total)} in samples.jsonl)` : ""}`), newest.slice(1).map(one)) : null);
  };
  host.append(columns);
  onRedraw(() => columns.replaceChildren(...shownRuns().map(ofRun)));
}

function parameterTable(run) {
  if (run.is_encoder) return missing("The parameters of encoders are not listed");
  if (!run.parameters) return missing("config.toml is not one this version understands, so the parameters are not known");
  const {rows, total} = run.parameters;
  return table(["parameter", "shape", "tensors", "elements", "share"], [
    ...rows.map(row => el("tr", {}, el("td", {}, el("code", {}, row.name)), el("td", {}, row.shape.join(" × ")), el("td", {}, whole(row.tensors)), el("td", {}, whole(row.count)), el("td", {}, `${(100 * row.count / total).toFixed(1)} %`))),
    el("tr", {}, el("td", {}, el("b", {}, "all")), el("td"), el("td"), el("td", {}, el("b", {}, whole(total))), el("td"))]);
}
function memoryTable(run) {
  const plan = run.environment?.run?.memory_plan_bytes;
  if (run.is_model) return null;
  if (!plan) return missing("environment.json is not there; ballast train writes it when a run starts or resumes");
  const parts = Object.entries(plan).filter(([, size]) => size > 0);
  return table(["memory", "planned"], [...parts.map(([name, size]) => el("tr", {}, el("td", {}, name), el("td", {}, bytes(size)))),
    el("tr", {}, el("td", {}, el("b", {}, "all")), el("td", {}, el("b", {}, bytes(parts.reduce((sum, [, size]) => sum + size, 0)))))]);
}
function environmentTable(run) {
  const env = run.environment;
  if (!env) return null;
  const rows = [["ballast", `${env.version} (${env.commit}, ${env.compiler}, ${env.build_type})`], ["backend", `${env.run?.backend ?? "–"}, ${env.run?.threads ?? "–"} threads`],
    ["processor", `${env.processor?.model} (${env.processor?.units})`], ["memory", env.memory ? bytes(env.memory.total_bytes) : "–"],
    ...(env.backends ?? []).filter(backend => backend.usable).map(backend => [`${backend.name} kernels`, backend.details])];
  return table(["environment", ""], rows.map(([name, value]) => el("tr", {}, el("td", {}, name), el("td", {class: "text"}, value))));
}

function showMachine() {
  const host = section("machine");
  const of = el("div");
  host.append(of);
  onRedraw(() => of.replaceChildren(...shownRuns().map((run, i) => el("details", i === 0 ? {open: ""} : {},
    el("summary", {}, runName(run)), el("div", {class: "columns wide"}, parameterTable(run), el("div", {}, memoryTable(run), environmentTable(run)))))));
}
