// Mixtures of attention spans: what each head of a plan keeps.

function showSpans() {
  const host = section("spans");
  host.hidden = !DATA.plans.length;
  host.append(
    el("p", {class: "soft"}, "The darker a head, the more of a text its cache holds. Mean cache: positions, mean over heads; attention: its share of the text; memory: the share of a dense cache's that is kept."),
    ...DATA.plans.flatMap(plan => [
      el("h3", {}, plan.name),
      el("img", {class: "plan", src: `data:image/svg+xml;base64,${plan.svg}`, alt: `${plan.name}: the share of ${whole(plan.length)} positions that each head of each layer keeps`}),
      el("pre", {}, plan.table)]));
}
