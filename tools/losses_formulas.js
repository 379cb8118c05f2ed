// The formulas of docs/losses.html, those of detector/anchors/class_code.py and detector/loss/focal.py.
// Nothing here knows the page, so that tests/test_lesson_page.py runs it alone. A state holds activation,
// background, prior and alpha (null: none), gamma, classes, anchors, foreground (anchors with an object).

const logSigmoid = (x) => Math.min(x, 0) - Math.log1p(Math.exp(-Math.abs(x)));

function logSumExp(values) {
  const highest = Math.max(...values);
  return highest + Math.log(values.reduce((sum, x) => sum + Math.exp(x - highest), 0));
}

// The logits of every anchor under an untrained head: its biases.
function biases(state) {
  const background = state.background === "class";
  const bias = Array(state.classes + (background ? 1 : 0)).fill(0);
  if (state.prior === null) return bias;
  const odds = Math.log(state.prior / (1 - state.prior));
  if (state.activation === "sigmoid") bias.fill(odds, 0, state.classes);
  if (background) {
    const rivals = state.activation === "softmax" ? state.classes : 1;
    bias[state.classes] = Math.log(rivals) - odds;
  }
  return bias;
}

// The terms of an anchor: log p_t, log(1 - p_t), and whether alpha or 1 - alpha weighs it.
// label: the index of its class; null for background.
function terms(state, logits, label) {
  if (label === null && state.background === "ignored") return [];
  const truth = label ?? (state.background === "class" ? state.classes : -1);
  if (state.activation === "softmax") {
    const margin = logits[truth] - logSumExp(logits.filter((_, i) => i !== truth));
    return [{ logP: logSigmoid(margin), logQ: logSigmoid(-margin), positive: label !== null }];
  }
  return logits.map((logit, i) => {
    const margin = i === truth ? logit : -logit;
    return { logP: logSigmoid(margin), logQ: logSigmoid(-margin), positive: i === truth };
  });
}

// alpha_t (1 - p_t)^gamma (-log p_t)
function cost({ alpha, gamma }, { logP, logQ, positive }) {
  const weight = alpha === null ? 1 : positive ? alpha : 1 - alpha;
  return weight * (gamma === 0 ? 1 : Math.exp(gamma * logQ)) * -logP;
}

const anchorLoss = (state, logits, label) =>
  terms(state, logits, label).reduce((sum, term) => sum + cost(state, term), 0);

// Of one image under an untrained head: anchors, terms of one anchor, its loss, the sum over them.
function groups(state) {
  const logits = biases(state);
  const group = (anchors, label) => {
    const each = terms(state, logits, label);
    const one = anchorLoss(state, logits, label);
    return { anchors, terms: each, one, sum: anchors * one };
  };
  return { foreground: group(state.foreground, 0), background: group(state.anchors - state.foreground, null) };
}

// The loss as keys of a config.
const yaml = (state) =>
  ["loss:", "  classification:", "    kind: focal"]
    .concat(["activation", "background", "alpha", "gamma", "prior"].map((key) => `    ${key}: ${state[key]}`))
    .join("\n") + "\n";

// Which of Python's sentences of refusal a state meets, if any.
const refusalKey = (state) => `${state.activation} ${state.background} ${state.prior === null ? "no prior" : "prior"}`;

// The largest relative distance of a check's losses from Python's, which a test and the page itself ask for.
function distance(checks) {
  const apart = (found, expected) => Math.abs(found - expected) / Math.max(Math.abs(expected), 1e-12);
  return Math.max(...checks.flatMap(({ state, logits, losses }) =>
    [...Array(state.classes).keys(), null].map((label, i) =>
      apart(anchorLoss(state, logits ?? biases(state), label), losses[i]))));
}
