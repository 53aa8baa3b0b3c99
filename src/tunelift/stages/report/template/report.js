// The browser of answers. What a model wrote is only ever shown as text: nodes are made by hand, filled by textContent.
(() => {
  const PAGE_SIZE = 5;
  const byId = (id) => document.getElementById(id);
  const content = JSON.parse(byId("items").textContent);
  const { arms, focus, tasks } = content;
  const focusAt = arms.indexOf(focus);
  const state = { task: "", rival: "", by: "score", tag: "", fails: "", outcome: "all", query: "", page: 0 };
  const OUTCOMES = { all: "All", win: "Wins", loss: "Losses", tie: "Ties", right: "Both right", wrong: "Both wrong" };
  const BADGES = { win: "win", loss: "loss", tie: "tie", right: "both right", wrong: "both wrong" };

  // Characters that show nothing, move the text about, or are no characters at all.
  const HIDDEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff\u{e0000}-\u{e007f}]+/gu;

  function make(tag, className, ...inside) {
    const node = document.createElement(tag);
    if (className) node.className = className;
    node.append(...inside.filter((one) => one !== undefined && one !== null));
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

  // The text with what cannot be seen named.
  function visible(node, text) {
    let end = 0;
    for (const match of text.matchAll(HIDDEN)) {
      node.append(text.slice(end, match.index), make("span", "ctl", codes(match[0])));
      end = match.index + match[0].length;
    }
    node.append(text.slice(end));
    return node;
  }

  const plain = (value) => (Array.isArray(value) ? value[0] : value);
  function textBlock(value) {
    const [text, left] = Array.isArray(value) ? value : [value, 0];
    const block = document.createDocumentFragment();
    const node = visible(make("pre", "text"), text);
    node.dir = "auto";
    if (!text.trim()) node.append(make("span", "quiet", text ? `only white space, ${text.length} characters` : "empty"));
    if (text.length > 400) node.tabIndex = 0;
    block.append(node);
    if (left) block.append(make("p", "quiet cut", `cut: ${left.toLocaleString("en")} more characters stand in samples.jsonl`));
    return block;
  }

  const words = (name) => name.replaceAll("_", " ").replace(/\bjson\b/, "JSON").replace(/\bf1\b/, "F1");
  for (const item of content.items) {
    const texts = [item.id, item.request, ...item.expected, ...item.tags, ...item.answers.map((answer) => (answer ? answer.output : ""))];
    item.haystack = texts.map(plain).join("\n").toLowerCase();
  }

  // --- Scores and outcomes -----------------------------------------------------------------------------------------

  const goodness = (metric, score) => (metric.less ? -score : score);
  const isRight = (metric, score) => metric.bounded && (metric.less ? score <= 0 : score >= 1);
  const isWrong = (metric, score) => metric.bounded && (metric.less ? score >= 1 : score <= 0);
  const primary = (item) => tasks[item.task].metrics[0];

  function judged(item) {
    return (item.judged || []).find((one) => one.a === focusAt && one.b === arms.indexOf(state.rival));
  }

  function outcomeOf(item) {
    if (focusAt < 0 || !state.rival) return "all";
    if (state.by === "judge") {
      const found = judged(item);
      return found ? { a: "win", b: "loss", tie: "tie" }[found.winner] || "all" : "all";
    }
    const [ours, theirs] = [focusAt, arms.indexOf(state.rival)].map((at) => item.answers[at]);
    const metric = primary(item);
    if (!tasks[item.task].arms.includes(arms.indexOf(state.rival))) return "all";
    if (!ours || !theirs) return ours ? (isWrong(metric, ours.scores[0]) ? "wrong" : "win") : theirs && !isWrong(metric, theirs.scores[0]) ? "loss" : "wrong";
    const difference = goodness(metric, ours.scores[0]) - goodness(metric, theirs.scores[0]);
    if (difference) return difference > 0 ? "win" : "loss";
    return isRight(metric, ours.scores[0]) ? "right" : isWrong(metric, ours.scores[0]) ? "wrong" : "tie";
  }

  function scoreText(metric, score) {
    if (metric.binary) return `${words(metric.name)} ${isRight(metric, score) ? "✓" : "✗"}`;
    return `${words(metric.name)} ${Number(score.toPrecision(3))}`;
  }

  function markText(metric, score) {
    if (isRight(metric, score)) return "✓ right";
    if (isWrong(metric, score)) return "✗ wrong";
    return metric.bounded ? `◐ ${Number(score.toPrecision(3))}` : `${Number(score.toPrecision(4))}`;
  }

  // --- One item ----------------------------------------------------------------------------------------------------

  const SIGNS = { missing: "− missing", extra: "+ extra", differs: "≠ differs" };
  // The rows are made where the scorers are, so that both take the same values for equal.
  function fieldList(found) {
    const list = make("ul", "fields");
    for (const row of found.rows) {
      const line = make("li", row.kind, visible(make("span", "path-name"), plain(row.path)), " ", make("span", "sign", SIGNS[row.kind]));
      for (const [key, className, name] of [["got", "got", "got "], ["expected", "wanted", "expected "]]) {
        if (row[key] === undefined) continue;
        line.append(make("span", className, make("span", "said-by", name), visible(make("span", ""), plain(row[key]) + (Array.isArray(row[key]) ? "…" : ""))));
      }
      list.append(line);
    }
    const left = found.total - found.rows.length;
    if (left) list.append(make("li", "quiet", `and ${left} more`));
    const title = `${found.total} field${found.total > 1 ? "s" : ""} unlike the expected answer, ${found.equal} equal`;
    return make("div", "", make("p", "fields-title", title), list);
  }

  // How likely each choice was, among the choices.
  function choiceBars(item, answer) {
    const most = Math.max(...answer.logprobs);
    const odds = answer.logprobs.map((value) => Math.exp(value - most));
    const total = odds.reduce((sum, value) => sum + value, 0);
    const bars = make("div", "choices");
    odds.forEach((value, at) => {
      const text = plain(item.choices[at]);
      const right = text !== null && item.expected.some((one) => plain(one).trim() === text.trim());
      const bar = make("span", "share-bar");
      bar.style.width = `${(100 * value) / total}%`;
      const name = visible(make("span", "choice-name"), text === null ? `choice ${at + 1}` : text.trim());
      name.dir = "auto";
      const row = make("div", `choice${value === 1 ? " likeliest" : ""}`, name, make("span", "share", make("span", "share-track", bar)), make("span", "share-value", `${((100 * value) / total).toFixed(1)}%${right ? " ✓" : ""}`));
      row.title = `log-probability ${answer.logprobs[at]} nats`;
      bars.append(row);
    });
    return bars;
  }

  function answerCard(item, arm, index) {
    const answer = item.answers[index];
    const { metrics } = tasks[item.task];
    const score = answer ? answer.scores[0] : 0;
    const kind = answer && isRight(metrics[0], score) ? " right" : !answer || isWrong(metrics[0], score) ? " wrong" : "";
    const card = make("section", `answer${kind}`);
    card.append(make("div", "answer-head", make("span", `arm${arm === focus ? " focus" : ""}`, arm), make("span", "mark", answer ? markText(metrics[0], score) : "✗ wrong")));
    if (!answer) {
      card.append(make("p", "quiet", "no answer, counted as wrong"));
      return card;
    }
    if (answer.error) card.append(make("p", "quiet", `The request failed: ${plain(answer.error)}`));
    if (answer.thinking) card.append(make("details", "judge", make("summary", "", "thinking, which is not scored"), textBlock(answer.thinking)));
    if (answer.logprobs && answer.logprobs.length > 1) card.append(choiceBars(item, answer));
    else if (answer.logprobs) card.append(make("p", "judge-said", `log-probability of the text ${answer.logprobs[0]} nats`));
    else card.append(textBlock(answer.output));
    if (answer.fields && kind !== " right") card.append(fieldList(answer.fields));
    for (const one of (item.judged || []).filter((one) => one.arm === index)) {
      card.append(make("p", "judge-said", make("strong", "", one.mark === null ? "judge: no mark" : `judge: ${one.mark}`), " ", visible(make("span", ""), plain(one.reason))));
    }
    const [tokensIn, tokensOut, seconds] = answer.cost;
    const known = [[tokensIn, "tokens in"], [tokensOut, "out"], [seconds, "s"]].filter(([value]) => value !== null && value !== undefined);
    card.append(make("div", "foot",
      make("div", "scores", ...metrics.slice(1).map((metric, at) => make("span", "", scoreText(metric, answer.scores[at + 1])))),
      make("div", "", known.map(([value, unit]) => `${value} ${unit}`).join(", "))));
    return card;
  }

  const OVER = {
    a: (one) => `${arms[one.a]} over ${arms[one.b]}`,
    b: (one) => `${arms[one.b]} over ${arms[one.a]}`,
    tie: (one) => `a tie with ${arms[one.b]}`,
  };
  const told = (words, winner, one, otherwise) => (Object.hasOwn(words, winner) ? words[winner](one) : otherwise);
  const SAID = { a: (one) => `prefers ${arms[one.a]}`, b: (one) => `prefers ${arms[one.b]}`, tie: () => "sees a tie" };
  function judgeBlock(item) {
    const pairs = (item.judged || []).filter((one) => one.b !== undefined);
    if (!pairs.length) return null;
    const block = make("details", "judge");
    block.append(make("summary", "", `Judge: ${pairs.map((one) => told(OVER, one.winner, one, `no judgement against ${arms[one.b]}`)).join(", ")}`));
    for (const one of pairs) {
      if (plain(one.error)) block.append(visible(make("p", "quiet"), plain(one.error)));
      for (const [ours, winner, reason] of one.orders) {
        const first = arms[ours ? one.a : one.b];
        block.append(make("p", "judge-said", make("strong", "", `${first} shown first: ${told(SAID, winner, one, "no judgement")}. `), visible(make("span", ""), plain(reason))));
      }
    }
    return block;
  }

  function field(name, className, ...nodes) {
    return make("div", `field ${className}`, make("span", "name", name), make("div", "", ...nodes));
  }

  function itemCard(item) {
    const outcome = outcomeOf(item);
    const card = make("article", "item");
    card.tabIndex = -1;
    card.setAttribute("aria-label", item.id);
    const head = make("div", "item-head");
    if (BADGES[outcome]) head.append(make("span", `badge ${outcome}`, BADGES[outcome]));
    head.append(visible(make("span", "item-id"), item.id), make("span", "", tasks[item.task].name));
    if (item.tags.length) head.append(make("span", "", item.tags.join(", ").replaceAll("_", " ")));
    card.append(head);
    if (item.request !== "" || item.expected.length) card.append(field("Request", "request", textBlock(item.request)));
    const expected = item.expected.flatMap((answer, at) => (at ? [make("span", "or", "or"), textBlock(answer)] : [textBlock(answer)]));
    if (expected.length) card.append(field("Expected", "expected", ...expected));
    card.append(make("div", "answers", ...tasks[item.task].arms.map((index) => answerCard(item, arms[index], index))));
    const said = judgeBlock(item);
    if (said) card.append(said);
    return card;
  }

  // --- The list and its filters ------------------------------------------------------------------------------------

  function fails(item) {
    if (!state.fails) return true;
    const [at, name] = JSON.parse(state.fails);
    const index = tasks[item.task].metrics.findIndex((metric) => metric.name === name);
    if (index < 0 || !tasks[item.task].arms.includes(at)) return false;
    const answer = item.answers[at];
    return !answer || !isRight(tasks[item.task].metrics[index], answer.scores[index]);
  }

  function show() {
    const query = state.query.toLowerCase().trim();
    const inScope = content.items.filter((item) => (state.task === "" || item.task === Number(state.task))
      && (!state.tag || item.tags.includes(state.tag)) && fails(item) && (!query || item.haystack.includes(query)));
    const counts = { all: inScope.length, win: 0, loss: 0, tie: 0, right: 0, wrong: 0 };
    const found = inScope.filter((item) => {
      const outcome = outcomeOf(item);
      if (outcome !== "all") counts[outcome] += 1;
      return state.outcome === "all" || outcome === state.outcome;
    });
    for (const button of byId("outcome").children) {
      button.textContent = `${OUTCOMES[button.value]} ${counts[button.value]}`;
      button.setAttribute("aria-pressed", String(button.value === state.outcome));
      button.hidden = button.value === "tie" && !anyTie;
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
    select.replaceChildren(...values.map(([value, text]) => {
      const option = make("option", "", text);
      option.value = value;
      return option;
    }));
  }

  // Tags and metrics are those of the chosen task.
  function scopedOptions() {
    const chosen = state.task === "" ? tasks.map((_, at) => at) : [Number(state.task)];
    const tags = [...new Set(content.items.filter((item) => chosen.includes(item.task)).flatMap((item) => item.tags))].sort();
    options(byId("tag"), [["", "all"], ...tags.map((tag) => [tag, words(tag)])]);
    byId("tag-label").hidden = !tags.length;
    const names = [...new Set(chosen.flatMap((at) => tasks[at].metrics.filter((metric) => metric.bounded).map((metric) => metric.name)))];
    options(byId("fails"), [["", "nothing"], ...arms.flatMap((arm, at) => names.map((name) => [JSON.stringify([at, name]), `${arm}: ${words(name)}`]))]);
    byId("fails-label").hidden = !names.length;
    for (const key of ["tag", "fails"]) {
      byId(key).value = state[key];
      if (byId(key).selectedIndex < 0) byId(key).value = state[key] = "";
    }
  }

  function change(update) {
    Object.assign(state, { page: 0 }, update);
    if ("task" in update) scopedOptions();
    for (const key of ["task", "tag", "fails", "rival", "by"]) byId(key).value = state[key];
    show();
  }

  function turn(by) {
    state.page += by;
    show();
    byId("answers").scrollIntoView();
  }

  function step(by) {
    const cards = [...byId("list").children];
    const at = cards.indexOf(document.activeElement.closest(".item"));
    if (at >= 0 && !cards[at + by]) {
      const button = byId(by > 0 ? "next" : "previous");
      if (button.disabled) return;
      turn(by);
      byId("list").children[by > 0 ? 0 : PAGE_SIZE - 1].focus();
    } else if (cards.length) cards[at < 0 ? 0 : at + by].focus();
  }

  const nameOf = (task) => (task.shown < task.total ? `${task.name} (${task.shown.toLocaleString("en")} of ${task.total.toLocaleString("en")})` : task.name);
  const rivals = focus ? arms.filter((arm) => arm !== focus) : [];
  const anyTie = tasks.some((task) => !task.metrics[0].binary) || content.items.some((item) => (item.judged || []).some((one) => one.winner));
  options(byId("task"), [...(tasks.length > 1 ? [["", "all"]] : []), ...tasks.map((task, index) => [String(index), nameOf(task)])]);
  options(byId("rival"), rivals.map((arm) => [arm, arm]));
  state.rival = rivals[0] || "";
  byId("rival-label").hidden = !rivals.length;
  byId("by-label").hidden = !content.items.some((item) => (item.judged || []).some((one) => one.b !== undefined));
  for (const outcome of rivals.length ? Object.keys(OUTCOMES) : []) {
    const button = make("button", "");
    button.type = "button";
    button.value = outcome;
    button.addEventListener("click", () => change({ outcome }));
    byId("outcome").append(button);
  }
  for (const key of ["task", "rival", "by", "tag", "fails"]) byId(key).addEventListener("change", (event) => change({ [key]: event.target.value }));
  for (const button of document.querySelectorAll(".to-slice")) {
    if (!content.items.some((item) => tasks[item.task].name === button.dataset.task && item.tags.includes(button.dataset.slice))) {
      button.disabled = true; // It would lead to other items.
      button.title = "None of these items is on this page; they are in samples.jsonl";
    }
    button.addEventListener("click", () => {
      change({ task: String(tasks.findIndex((task) => task.name === button.dataset.task)), tag: button.dataset.slice, outcome: "all", query: "", fails: "" });
      byId("query").value = "";
      byId("answers").scrollIntoView();
      byId("tag").focus({ preventScroll: true });
    });
  }
  let waiting;
  const search = () => {
    clearTimeout(waiting);
    if (state.query !== byId("query").value) change({ query: byId("query").value });
  };
  byId("query").addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(search, 120);
  });
  byId("query").addEventListener("blur", search); // Before the keys move among items that are about to be replaced.
  byId("previous").addEventListener("click", () => turn(-1));
  byId("next").addEventListener("click", () => turn(1));
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select, textarea")) return;
    const does = { j: () => step(1), k: () => step(-1), "/": () => byId("query").focus() }[event.key];
    if (!does) return;
    event.preventDefault();
    does();
  });
  byId("controls").hidden = false;
  change({ task: byId("task").value });
})();
