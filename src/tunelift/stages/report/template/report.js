// What a model wrote is only ever shown as text: nodes are made by hand, their content set by textContent.
"use strict";
(() => {
  const PAGE_SIZE = 10;
  const byId = (id) => document.getElementById(id);
  const content = JSON.parse(byId("items").textContent);
  const { arms, focus, tasks } = content;
  const state = { task: "", rival: "", outcome: "all", query: "", page: 0 };
  const OUTCOMES = { all: "All", win: "Wins", loss: "Losses", right: "Both right", wrong: "Both wrong" };
  const BADGES = { win: "win", loss: "loss", right: "both right", wrong: "both wrong" };

  // Characters that show nothing, move the text about, or are no characters at all.
  const HIDDEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff\u{e0000}-\u{e007f}]+/gu;

  function make(tag, className, text) {
    const node = document.createElement(tag);
    if (className) node.className = className;
    if (text !== undefined) node.textContent = text;
    return node;
  }

  function codes(run) {
    const counts = [];
    for (const character of run) {
      const code = "U+" + character.codePointAt(0).toString(16).toUpperCase().padStart(4, "0");
      const last = counts[counts.length - 1];
      if (last && last[0] === code) last[1] += 1;
      else counts.push([code, 1]);
    }
    return counts.map(([code, count]) => (count > 1 ? `${code} ×${count}` : code)).join(" ");
  }

  function textBlock(value) {
    const [text, left] = Array.isArray(value) ? value : [value, 0];
    const block = document.createDocumentFragment();
    const node = make("pre", "text");
    node.dir = "auto";
    let end = 0;
    for (const match of text.matchAll(HIDDEN)) {
      node.append(text.slice(end, match.index), make("span", "ctl", codes(match[0])));
      end = match.index + match[0].length;
    }
    node.append(text.slice(end));
    if (!text.trim()) node.append(make("span", "quiet", text ? `only white space, ${text.length} characters` : "empty"));
    if (text.length > 400) node.tabIndex = 0;
    block.append(node);
    if (left) block.append(make("p", "quiet cut", `cut: ${left.toLocaleString("en")} more characters stand in samples.jsonl`));
    return block;
  }

  const plain = (value) => (Array.isArray(value) ? value[0] : value);
  for (const item of content.items) {
    const texts = [item.id, item.request, ...item.expected, ...item.tags, ...item.answers.map((answer) => (answer ? answer.output : ""))];
    item.haystack = texts.map(plain).join("\n").toLowerCase();
  }
  const primaryOf = (item, arm) => {
    const answer = item.answers[arms.indexOf(arm)];
    return answer ? answer.scores[0] : 0;
  };

  function outcomeOf(item) {
    if (!focus || !state.rival) return "all";
    const difference = primaryOf(item, focus) - primaryOf(item, state.rival);
    if (difference) return difference > 0 ? "win" : "loss";
    return primaryOf(item, focus) >= 1 ? "right" : "wrong";
  }

  function scoreText(name, score) {
    const label = name.replaceAll("_", " ").replace(/\bjson\b/, "JSON").replace(/\bf1\b/, "F1");
    return `${label} ${score === 1 ? "✓" : score === 0 ? "✗" : score}`;
  }

  function answerCard(item, arm, index) {
    const answer = item.answers[index];
    const metrics = tasks[item.task].metrics;
    const score = answer ? answer.scores[0] : 0;
    const card = make("section", `answer${score >= 1 ? " right" : ""}`);
    const head = make("div", "answer-head");
    head.append(make("span", `arm${arm === focus ? " focus" : ""}`, arm));
    head.append(make("span", "mark", score >= 1 ? "✓ right" : score > 0 ? `◐ ${score}` : "✗ wrong"));
    card.append(head);
    if (!answer) {
      card.append(make("p", "quiet", "no answer, counted as wrong"));
      return card;
    }
    if (answer.error) card.append(make("p", "quiet", `The request failed: ${plain(answer.error)}`));
    card.append(textBlock(answer.output));
    const foot = make("div", "foot");
    const scores = make("div", "scores");
    scores.append(...metrics.slice(1).map((name, at) => make("span", "", scoreText(name, answer.scores[at + 1]))));
    foot.append(scores);
    const [tokensIn, tokensOut, seconds] = answer.cost;
    const known = [[tokensIn, "tokens in"], [tokensOut, "out"], [seconds, "s"]].filter(([value]) => value !== null && value !== undefined);
    foot.append(make("div", "", known.map(([value, unit]) => `${value} ${unit}`).join(", ")));
    card.append(foot);
    return card;
  }

  function field(name, className, ...nodes) {
    const row = make("div", `field ${className}`);
    const value = make("div");
    value.append(...nodes);
    row.append(make("span", "name", name), value);
    return row;
  }

  function itemCard(item) {
    const outcome = outcomeOf(item);
    const card = make("article", "item");
    const head = make("div", "item-head");
    if (BADGES[outcome]) head.append(make("span", `badge ${outcome}`, BADGES[outcome]));
    head.append(make("span", "", item.id), make("span", "", tasks[item.task].name));
    if (item.tags.length) head.append(make("span", "", item.tags.join(", ").replaceAll("_", " ")));
    card.append(head, field("Request", "request", textBlock(item.request)));
    const expected = item.expected.flatMap((answer, at) => (at ? [make("span", "or", "or"), textBlock(answer)] : [textBlock(answer)]));
    card.append(field("Expected", "expected", ...expected));
    const answers = make("div", "answers");
    answers.append(...arms.map((arm, index) => answerCard(item, arm, index)));
    card.append(answers);
    return card;
  }

  function show() {
    const words = state.query.toLowerCase().trim();
    const inScope = content.items.filter((item) => (state.task === "" || item.task === Number(state.task)) && (!words || item.haystack.includes(words)));
    const counts = { all: inScope.length, win: 0, loss: 0, right: 0, wrong: 0 };
    const found = inScope.filter((item) => {
      const outcome = outcomeOf(item);
      if (outcome !== "all") counts[outcome] += 1;
      return state.outcome === "all" || outcome === state.outcome;
    });
    for (const button of byId("outcome").children) {
      button.textContent = `${OUTCOMES[button.value]} ${counts[button.value]}`;
      button.setAttribute("aria-pressed", String(button.value === state.outcome));
    }
    const pages = Math.max(1, Math.ceil(found.length / PAGE_SIZE));
    state.page = Math.min(state.page, pages - 1);
    const start = state.page * PAGE_SIZE;
    byId("list").replaceChildren(...found.slice(start, start + PAGE_SIZE).map(itemCard));
    byId("count").textContent = found.length ? `${start + 1} to ${Math.min(start + PAGE_SIZE, found.length)} of ${found.length} items` : "No item matches.";
    byId("page").textContent = `Page ${state.page + 1} of ${pages}`;
    byId("pager").hidden = pages === 1;
    byId("previous").disabled = state.page === 0;
    byId("next").disabled = state.page === pages - 1;
  }

  function options(select, values) {
    for (const [value, text] of values) {
      const option = make("option", "", text);
      option.value = value;
      select.append(option);
    }
  }

  function change(update) {
    Object.assign(state, { page: 0 }, update);
    show();
  }

  function turn(by) {
    state.page += by;
    show();
    byId("answers").scrollIntoView();
  }

  const rivals = focus ? arms.filter((arm) => arm !== focus) : [];
  options(byId("task"), [...(tasks.length > 1 ? [["", "all"]] : []), ...tasks.map((task, index) => [String(index), task.name])]);
  options(byId("rival"), rivals.map((arm) => [arm, arm]));
  state.task = byId("task").value;
  state.rival = rivals[0] || "";
  byId("rival-label").hidden = !rivals.length;
  for (const outcome of rivals.length ? Object.keys(OUTCOMES) : []) {
    const button = make("button");
    button.type = "button";
    button.value = outcome;
    button.addEventListener("click", () => change({ outcome }));
    byId("outcome").append(button);
  }
  byId("task").addEventListener("change", (event) => change({ task: event.target.value }));
  byId("rival").addEventListener("change", (event) => change({ rival: event.target.value }));
  let waiting;
  byId("query").addEventListener("input", (event) => {
    clearTimeout(waiting);
    waiting = setTimeout(() => change({ query: event.target.value }), 120);
  });
  byId("previous").addEventListener("click", () => turn(-1));
  byId("next").addEventListener("click", () => turn(1));
  byId("controls").hidden = false;
  show();

  // Light and dark: what the system asks for, until the reader chooses.
  const theme = byId("theme");
  const dark = () => (document.documentElement.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
  const caption = () => {
    theme.textContent = dark() ? "Light" : "Dark";
    theme.setAttribute("aria-label", `${theme.textContent} colours`);
  };
  theme.addEventListener("click", () => {
    document.documentElement.dataset.theme = dark() ? "light" : "dark";
    caption();
  });
  theme.hidden = false;
  caption();

  if (navigator.clipboard) {
    const copy = byId("copy");
    copy.hidden = false;
    copy.addEventListener("click", async () => {
      await navigator.clipboard.writeText(byId("command").textContent);
      copy.textContent = "Copied";
    });
  }
  addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((details) => { details.open = true; }));
})();
