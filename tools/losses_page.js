// What moves docs/losses.html: its controls set one state, and all that it shows is computed from the state.

const DATA = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
// log: the slider holds the logarithm; digits: to which a value of a slider is rounded
const SLIDERS = {
  prior: { log: true, digits: 2, none: "none", start: 0.01 },
  gamma: {},
  alpha: { none: "none", start: 0.25 },
  anchors: { log: true, digits: 3 },
  objects: {},
  classes: {},
  cat: {}, dog: {}, boat: {}, empty: {},
};
const RADIOS = ["activation", "background"];
const LARGEST_COST = 10; // of the plotted ones
const LOGITS = { cat: 2, dog: 1, boat: -1, empty: 0 };
let state = { ...DATA.presets[0], ...DATA.images[0], ...LOGITS };

function number(x) {
  if (x === 0) return "0";
  if (Math.abs(x) < 1e-5) return x.toExponential(1).replace("-", "−");
  if (Math.abs(x) < 1e-3) return String(Number(x.toPrecision(2)));
  if (Math.abs(x) >= 100) return Math.round(x).toLocaleString("en-US");
  return String(Number(x.toPrecision(3))).replace("-", "−");
}

// A probability near 1 would be rounded to it.
const probability = ({ logP, logQ }) => (logQ < Math.log(1e-3) ? `1 − ${number(Math.exp(logQ))}` : number(Math.exp(logP)));

function percent(share) {
  if (share > 0.9999 && share < 1) return "more than 99.99 %";
  if (share < 0.0001 && share > 0) return "less than 0.01 %";
  return `${Number((100 * share).toFixed(share > 0.99 || share < 0.01 ? 2 : 0))} %`;
}

const times = (n) => (n === 1 ? "once" : `${n} times`);
const counted = (n, one, many) => `${number(n)} ${n === 1 ? one : many}`;

// The state in the address, so that it can be shared: #activation=softmax&prior=none&gamma=2
function readAddress() {
  for (const [key, text] of new URLSearchParams(location.hash.slice(1))) {
    if (RADIOS.includes(key) && document.querySelector(`input[name="${key}"][value="${CSS.escape(text)}"]`)) state[key] = text;
    const slider = SLIDERS[key];
    if (!slider) continue;
    if (slider.none && text === "none") state[key] = null;
    const value = parseFloat(text);
    if (!Number.isFinite(value)) continue;
    const [low, high] = [$(key).min, $(key).max].map((end) => (slider.log ? 10 ** end : Number(end)));
    state[key] = Math.min(Math.max(value, low), high);
    if (["anchors", "objects", "classes"].includes(key)) state[key] = Math.round(state[key]);
    else if (key === "prior") state[key] = Number(state[key].toPrecision(2));
  }
}

const address = () => "#" + [...RADIOS, ...Object.keys(SLIDERS)].map((key) => `${key}=${state[key] ?? "none"}`).join("&");

function fromSlider(key) {
  const value = Number($(key).value);
  return SLIDERS[key].log ? Number((10 ** value).toPrecision(SLIDERS[key].digits)) : value;
}

function showControls() {
  for (const key of RADIOS) document.querySelector(`input[name="${key}"][value="${state[key]}"]`).checked = true;
  for (const [key, { log, none }] of Object.entries(SLIDERS)) {
    const value = state[key];
    const text = value === null ? none : value >= 1e-4 && value < 1 ? String(value) : number(value);
    $(key).disabled = value === null;
    if (value !== null) $(key).value = log ? Math.log10(value) : value;
    $(key).setAttribute("aria-valuetext", text);
    $(`${key}-value`).textContent = text;
    if (none) $(`${key}-none`).checked = value === null;
  }
  const pressed = (button, part) => button.setAttribute("aria-pressed", Object.keys(part).every((key) => key === "name" || state[key] === part[key]));
  document.querySelectorAll("[data-preset]").forEach((button) => pressed(button, DATA.presets[button.dataset.preset]));
  document.querySelectorAll("[data-image]").forEach((button) => pressed(button, DATA.images[button.dataset.image]));
}

// "98 % of the loss": true sentences on the sum.
function shareSentence({ foreground, background }) {
  const total = foreground.sum + background.sum;
  if (total === 0) return "There is no loss: nothing is learned from this image.";
  const share = background.sum / total;
  if (background.terms.length === 0) return "All of the loss comes from the anchors with an object.";
  return `Background gives ${percent(share)} of the loss, the objects ${percent(1 - share)}.`;
}

function whySentence({ foreground, background }) {
  if (background.terms.length === 0) return "";
  const product = (name, { one, anchors, sum }) => `${name} costs ${number(one)}; times ${number(anchors)} that is ${number(sum)}.`;
  const empty = product("A background anchor", background);
  if (foreground.anchors === 0) return `${empty} No object says “here”.`;
  const sums = `${empty} ${product("An anchor with an object", foreground)}`;
  const share = background.sum / (foreground.sum + background.sum);
  if (share > 0.9) return `${sums} Their number makes the sum: the objects are hardly heard.`;
  if (share < 0.1) return `${sums} The background is so cheap that the objects are heard first.`;
  return `${sums} Both are heard.`;
}

function learnedSentence(loss) {
  const { activation, background, alpha } = loss;
  if (background === "ignored")
    return "Background is not learned: an anchor without an object has no term, so whatever the model says there costs nothing. Only the objects that were labelled have a loss.";
  const how = background === "negatives"
    ? `Background is learned as ${times(loss.classes)} “no”: a term −log(1 − O) for each class.`
    : activation === "softmax"
      ? `Background is learned as class number ${loss.classes + 1}: its one term is −log O of that class, and the softmax pushes the others down.`
      : `Background is learned as ${times(loss.classes)} “no” and once “background”, a channel of its own.`;
  if (alpha === 1) return `${how} But ${silenced(loss)}`;
  if (alpha === 0) return `${how} And α = 0 weighs the true class of an object 0: nothing says “here”.`;
  return how;
}

// What alpha 1 leaves of background.
function silenced({ activation, background }) {
  if (activation === "softmax") return "α = 1 weighs the term of background 1 − α = 0: it does not count.";
  const rest = background === "class" ? "only “background” counts" : "none of them counts";
  return `α = 1 weighs every “no” 1 − α = 0: ${rest}.`;
}

function showSum(loss) {
  const both = groups(loss);
  const total = both.foreground.sum + both.background.sum;
  for (const [name, group] of Object.entries(both)) {
    document.querySelector(`.share .${name}`).style.width = total ? `${(100 * group.sum) / total}%` : "0";
    const cells = [group.anchors, group.terms.length, group.one, group.sum];
    document.querySelectorAll(`#${name} td`).forEach((cell, i) => { cell.textContent = number(cells[i]); });
  }
  $("share").textContent = shareSentence(both);
  $("why").textContent = whySentence(both);
  $("learned").textContent = learnedSentence(loss);
  const divisor = Math.max(1, loss.foreground);
  $("divided").textContent =
    `Training divides the sum by the anchors with an object (normalizer: positives): ${number(total)} / ${number(divisor)} = ${number(total / divisor)} is the first classification loss that it prints for such an image.`;
  return both;
}

function curve(loss, positive) {
  const points = [];
  for (let i = 1; i <= 400; i += 1) {
    const p = i < 100 ? 1e-6 * (1e4 ** (i / 100)) : 0.01 + (0.99 * (i - 100)) / 300;
    points.push([p, cost(loss, { logP: Math.log(p), logQ: Math.log1p(-p), positive })]);
  }
  return "M" + points.map(([p, y]) => `${plotX(p)} ${plotY(y)}`).join("L");
}

const plotX = (p) => (44 + 580 * p).toFixed(1);
const plotY = (y) => (290 - (270 * Math.min(y, LARGEST_COST)) / LARGEST_COST).toFixed(1);

// The distinct terms of both kinds of anchors, each with its p_t and its cost.
function distinctTerms(loss, both) {
  const found = new Map();
  for (const [owner, { terms: list }] of [["an object's anchor", both.foreground], ["a background anchor", both.background]]) {
    for (const term of list) {
      const key = `${term.positive} ${term.logP.toFixed(9)}`;
      const same = found.get(key) ?? { ...term, p: Math.exp(term.logP), cost: cost(loss, term), owners: new Map() };
      same.owners.set(owner, (same.owners.get(owner) ?? 0) + 1);
      found.set(key, same);
    }
  }
  return [...found.values()];
}

function showCurve(loss, both) {
  const ticks = [0, 2, 4, 6, 8, 10].map((y) => `<path d="M44 ${plotY(y)}H624"/><text x="38" y="${+plotY(y) + 4}" text-anchor="end">${y}</text>`)
    .concat([0, 0.25, 0.5, 0.75, 1].map((p) => `<text x="${plotX(p)}" y="311" text-anchor="middle">${p}</text>`));
  const plain = curve({ alpha: null, gamma: 0 }, true);
  const dots = distinctTerms(loss, both);
  $("curve").innerHTML = `${ticks.join("")}
    <path class="plain" d="${plain}"/>
    ${[true, false].filter((side) => dots.some((dot) => dot.positive === side))
      .map((side) => `<path class="${side ? "yes" : "no"}" d="${curve(loss, side)}"/>`).join("")}
    ${dots.map((dot) => `<circle class="${dot.positive ? "yes" : "no"}" cx="${plotX(dot.p)}" cy="${plotY(dot.cost)}" r="${dot.positive ? 9 : 5}"/>`).join("")}`;
  const at = (p) => number(cost(loss, { logP: Math.log(p), logQ: Math.log1p(-p), positive: true }));
  $("curve").setAttribute("aria-label",
    `Cost of a term against p_t. A term of an object's class costs ${at(0.01)} at 0.01, ${at(0.5)} at 0.5 and ${at(0.99)} at 0.99.`);
  $("dots").replaceChildren(...dots.map((dot) => {
    const item = document.createElement("li");
    const owners = [...dot.owners].map(([owner, n]) => `${counted(n, "term", "terms")} of ${owner}`).join(", ");
    item.innerHTML = `${owners}: p<sub>t</sub> = ${probability(dot)}, costs ${number(dot.cost)}${dot.cost > LARGEST_COST ? " (drawn at the edge)" : ""}`;
    return item;
  }));
}

function showLogits(valid) {
  const extra = state.background === "class";
  const names = ["cat", "dog", "boat", ...(extra ? ["empty"] : [])];
  const logits = names.map((name) => state[name]);
  const sigmoids = logits.map((z) => Math.exp(logSigmoid(z)));
  const softmaxes = logits.map((z) => Math.exp(z - logSumExp(logits)));
  $("empty-row").hidden = !extra;
  names.forEach((name, i) => {
    const rows = document.querySelectorAll(`#${name}-row .bars div`);
    [sigmoids[i], softmaxes[i]].forEach((score, j) => {
      rows[j].querySelector(".bar i").style.width = `${100 * score}%`;
      rows[j].querySelector("b").textContent = score.toFixed(3);
    });
  });
  const sum = (values) => values.reduce((a, b) => a + b, 0).toFixed(2);
  $("sums").textContent = `The sigmoids sum to ${sum(sigmoids)}, each a question of its own; the softmax sums to ${sum(softmaxes)}, always.`;
  $("truths").hidden = !valid;
  $("empty-says").hidden = !valid;
  if (!valid) return;
  const anchor = { ...state, classes: 3 };
  const rows = $("truths").querySelectorAll("tbody tr");
  [0, 1, 2, null].forEach((label, i) => {
    rows[0].cells[i + 1].textContent = terms(anchor, logits, label).length;
    rows[1].cells[i + 1].textContent = number(anchorLoss(anchor, logits, label));
  });
  $("empty-says").textContent = emptySentence(state);
}

function emptySentence(loss) {
  if (loss.background === "ignored") return "Without an object it has no term, and costs 0 at any logits: move them and see.";
  return loss.alpha === 1 ? silenced(loss) : "Without an object it costs the more, the surer it is of some class.";
}

function show() {
  showControls();
  const refused = DATA.refusals[refusalKey(state)];
  const loss = { ...state, foreground: Math.round(state.objects * DATA.anchorsPerObject) };
  $("refusal").hidden = !refused;
  $("answer").hidden = $("curve").parentElement.hidden = $("copy").disabled = Boolean(refused);
  $("copied").textContent = "";
  $("yaml").textContent = (refused ? "# refused\n" : "") + yaml(state);
  if (refused) {
    $("refusal").textContent = refused.replace("PRIOR", state.prior);
    $("share").textContent = "Training refuses this loss:";
    document.querySelectorAll(".share i").forEach((bar) => { bar.style.width = "0"; });
  } else showCurve(loss, showSum(loss));
  showLogits(!refused);
  clearTimeout(show.timer); // the address and the spoken sentence follow when a slider rests
  show.timer = setTimeout(() => {
    history.replaceState(null, "", address());
    if (!refused) $("spoken").textContent = `${$("share").textContent} ${$("learned").textContent}`;
  }, 400);
}

async function copyYaml() {
  try {
    await navigator.clipboard.writeText(yaml(state));
    $("copied").textContent = "copied";
  } catch { // some browsers give a page from disk no clipboard
    getSelection().selectAllChildren($("yaml"));
    $("copied").textContent = "selected: copy it with Ctrl+C or ⌘C";
  }
}

function listen() {
  const change = (part) => { state = { ...state, ...part }; show(); };
  for (const key of RADIOS)
    document.querySelectorAll(`input[name="${key}"]`).forEach((radio) => radio.addEventListener("change", () => change({ [key]: radio.value })));
  for (const [key, { start }] of Object.entries(SLIDERS)) {
    $(key).addEventListener("input", () => change({ [key]: fromSlider(key) }));
    $(`${key}-none`)?.addEventListener("change", (event) => change({ [key]: event.target.checked ? null : start }));
  }
  document.querySelectorAll("[data-preset]").forEach((button) => button.addEventListener("click", () => change(DATA.presets[button.dataset.preset])));
  document.querySelectorAll("[data-image]").forEach((button) => button.addEventListener("click", () => change(DATA.images[button.dataset.image])));
  $("copy").addEventListener("click", copyYaml);
  addEventListener("hashchange", () => { readAddress(); show(); });
}

// Whether this browser computes what the detector computes: data-check of <html> is "ok" or "wrong".
function check() {
  const apart = distance(DATA.checks);
  const right = apart < 1e-4;
  document.documentElement.dataset.check = right ? "ok" : "wrong";
  $("check").textContent = right
    ? `all ${DATA.checks.length} cases agree (largest relative difference ${number(apart)}).`
    : "they differ.";
  if (right) return;
  console.error(`losses.html: differs from the detector's losses by ${apart}`);
  $("broken").hidden = false;
  $("broken").textContent = "This browser computes other losses than the detector does: do not trust the figures below.";
}

// A copy of this page, in a mail or on a site, has no lesson beside it: there its name is no link.
function showLesson() {
  const beside = new URL("losses.md", location).pathname.endsWith("/docs/losses.md");
  if (!beside) $("lesson").replaceWith($("lesson").textContent);
}

readAddress();
listen();
showLesson();
show();
check();
