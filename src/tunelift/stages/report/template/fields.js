// How a JSON answer differs from the expected one, field by field.
const fieldDifferences = (() => {
  const DEEPEST = 12; // Below this, and in long lists, a value is compared as a whole.
  const LONGEST = 40;
  const isObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value);
  const isTree = (value) => typeof value === "object" && value !== null;

  function parse(text) {
    const fenced = /```(?:json)?\s*([\s\S]*?)```/.exec(text);
    for (const candidate of fenced ? [text, fenced[1]] : [text]) {
      try {
        const value = JSON.parse(candidate);
        if (isTree(value)) return value;
      } catch { /* Not JSON: there are no fields to compare. */ }
    }
    return null;
  }

  function leaves(value, path = "", found = new Map(), depth = 0) {
    const whole = !isTree(value) || depth >= DEEPEST || (Array.isArray(value) && value.length > LONGEST) || !Object.keys(value).length;
    if (whole) {
      if (value !== undefined) found.set(path || "the whole answer", JSON.stringify(value));
      return found;
    }
    for (const [key, inner] of Object.entries(value)) {
      leaves(inner, Array.isArray(value) ? `${path}[${Number(key) + 1}]` : path ? `${path}.${key}` : key, found, depth + 1);
    }
    return found;
  }

  // Calls that may come in any order are set beside those that they are most like.
  function align(expected, got, depth = 0) {
    if (depth >= DEEPEST || !isTree(got)) return got;
    if (isObject(expected) && isObject(got)) {
      return Object.fromEntries(Object.entries(got).map(([key, value]) => [key, Object.hasOwn(expected, key) ? align(expected[key], value, depth + 1) : value]));
    }
    const lists = [expected, got];
    if (!lists.every((list) => Array.isArray(list) && list.length <= LONGEST && list.every(isObject))) return got;
    const [wanted, given] = lists.map((list) => list.map((value) => leaves(value)));
    const pairs = wanted.flatMap((one, at) => given.map((other, from) => [[...one].filter(([path, value]) => other.get(path) === value).length, at, from]));
    pairs.sort((one, other) => other[0] - one[0]);
    const placed = new Array(expected.length).fill(undefined);
    const used = new Set();
    for (const [, at, from] of pairs) {
      if (placed[at] !== undefined || used.has(from)) continue;
      placed[at] = align(expected[at], got[from], depth + 1);
      used.add(from);
    }
    return [...placed, ...got.filter((_, from) => !used.has(from))];
  }

  function compare(expected, got) {
    const [wanted, given] = [leaves(expected), leaves(align(expected, got))];
    const rows = [];
    let equal = 0;
    for (const [path, value] of wanted) {
      if (!given.has(path)) rows.push({ path, kind: "missing", expected: value });
      else if (given.get(path) !== value) rows.push({ path, kind: "differs", expected: value, got: given.get(path) });
      else equal += 1;
    }
    for (const [path, value] of given) if (!wanted.has(path)) rows.push({ path, kind: "extra", got: value });
    return { equal, rows };
  }

  // Against the accepted answer that is nearest; null where either is no JSON object or list.
  return (accepted, output) => {
    try {
      const got = parse(output);
      const wanted = got === null ? [] : accepted.map(parse).filter((value) => value !== null);
      return wanted.map((value) => compare(value, got)).sort((one, other) => one.rows.length - other.rows.length)[0] || null;
    } catch {
      return null; // Nested deeper than the engine's stack.
    }
  };
})();
