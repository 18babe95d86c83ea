// The page of the server: everything it shows comes from /v1, by the same requests that anybody may send.
"use strict";

const byId = (id) => document.getElementById(id);
const drawing = byId("drawing").elements;
const FRAMES = 16;
let model = null;
let latest = 0; // of the pictures that were asked for, the last one is shown
let picturesUrls = [];

// -- asking --------------------------------------------------------------------------------------------------------

async function ask(path, body) {
  const headers = body ? { "Content-Type": "application/json" } : {};
  if (drawing.token.value) headers.Authorization = `Bearer ${drawing.token.value}`;
  const answer = await fetch(path, { method: body ? "POST" : "GET", headers, body });
  if (answer.ok) return answer;
  const problem = await answer.json().catch(() => ({ detail: `the server answered ${answer.status}` }));
  const again = answer.headers.get("Retry-After");
  if (answer.status === 401) byId("of-token").hidden = false;
  throw new Error(problem.detail + (answer.status === 429 && again ? ` (in ${again} s)` : ""));
}

// Seeds have up to 19 digits, more than a JavaScript number holds: they are sent as they were written.
function seedOf(input) {
  const text = input.value.trim();
  if (!/^[0-9]+$/.test(text)) throw new Error(`A number is written in digits, from 0 up; ${text || "nothing"} will not do.`);
  return text;
}

function how() {
  const given = {};
  if (drawing.sampler.value !== drawing.sampler.dataset.own) given.sampler = drawing.sampler.value;
  for (const name of ["steps", "label", "guidance"]) {
    const value = drawing[name].value;
    if (value !== "" && value !== drawing[name].dataset.own) given[name] = Number(value);
  }
  return given;
}

function query(more) {
  const alias = drawing.alias.value ? { alias: drawing.alias.value } : {};
  return new URLSearchParams({ ...how(), ...alias, ...more }).toString();
}

async function pictures(wish, alias) {
  const rest = JSON.stringify({ ...how(), format: "json", n: wish.n });
  const seeds = Object.entries(wish).filter(([name]) => name !== "n").map(([name, text]) => `"${name}":${BigInt(text)},`);
  const path = `/v1/images${alias ? `?alias=${encodeURIComponent(alias)}` : ""}`;
  const answer = await ask(path, `{${seeds.join("")}${rest.slice(1)}`);
  return (await answer.json()).images;
}

// -- saying --------------------------------------------------------------------------------------------------------

function says(id, text, wrong = false) {
  byId(id).textContent = text;
  byId(id).classList.toggle("wrong", wrong);
}

function onSubmit(id, what) {
  byId(id).addEventListener("submit", async (event) => {
    event.preventDefault();
    const button = event.target.querySelector("button");
    button.disabled = true;
    says(`${id}-says`, "Drawing …");
    const began = performance.now();
    try {
      const said = await what(event.target.elements);
      says(`${id}-says`, said || `Drawn in ${((performance.now() - began) / 1000).toFixed(1)} s.`);
    } catch (problem) {
      says(`${id}-says`, problem instanceof TypeError ? "The server does not answer." : problem.message, true);
    } finally {
      button.disabled = false;
    }
  });
}

function made(kind, text, attributes = {}) {
  const node = document.createElement(kind);
  if (text) node.textContent = text;
  return Object.assign(node, attributes);
}

// A picture that leads to itself: pressed, its number is drawn above, large.
function tile(image, seed, caption) {
  const item = made("li");
  const button = made("button", "", { type: "button", title: `draw ${seed} above` });
  button.append(made("img", "", { src: image, alt: `the picture of ${caption}` }), made("span", caption));
  button.addEventListener("click", () => show(seed));
  item.append(button);
  return item;
}

const dataUrl = (image) => blobUrl(Uint8Array.from(atob(image.png), (c) => c.charCodeAt(0)));
const blobUrl = (bytes) => URL.createObjectURL(new Blob([bytes], { type: "image/png" }));

function fill(list, nodes) {
  for (const image of list.querySelectorAll("img")) URL.revokeObjectURL(image.src);
  list.replaceChildren(...nodes);
}

// -- a number becomes a picture ------------------------------------------------------------------------------------

function show(seed) {
  byId("draw").elements.seed.value = seed;
  byId("draw").requestSubmit();
  byId("draw").scrollIntoView({ block: "nearest" });
}

onSubmit("draw", async (fields) => {
  const seed = seedOf(fields.seed);
  const mine = ++latest;
  // All three are drawn in one batch, and the picture is the same in each.
  const [moving, strip, picture] = await Promise.all([
    ask(`/v1/denoising/${seed}.webp?${query({ frames: FRAMES })}`).then((answer) => answer.blob()),
    ask(`/v1/denoising/${seed}.png?${query({ frames: 8 })}`).then((answer) => answer.blob()),
    ask(`/v1/images/${seed}.png?${query({})}`).then(async (answer) => [await answer.blob(), answer.headers.get("X-Model-Version")]),
  ]);
  if (mine !== latest) return "";
  picturesUrls.forEach((url) => URL.revokeObjectURL(url));
  picturesUrls = [moving, strip, picture[0]].map((blob) => URL.createObjectURL(blob));
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  const [image, row] = [byId("picture").querySelector("img"), byId("strip").querySelector("img")];
  Object.assign(image, { src: picturesUrls[still ? 2 : 0], alt: `the picture of the number ${seed}` });
  Object.assign(row, { src: picturesUrls[1], alt: `the picture of ${seed} appearing out of noise, in eight states` });
  await image.decode().catch(() => {});
  byId("picture").querySelector("figcaption").textContent = `${seed} · ${picture[1]}`;
  Object.assign(byId("download"), { href: picturesUrls[2], download: `${seed}.png`, hidden: false });
  byId("picture").hidden = byId("strip").hidden = false;
  return "";
});

byId("another").addEventListener("click", () => {
  const [high, low] = crypto.getRandomValues(new Uint32Array(2));
  show(String((high % 1000) * 1000 + (low % 1000)));
});

// -- many ----------------------------------------------------------------------------------------------------------

onSubmit("grid", async (fields) => {
  const found = await pictures({ seed: seedOf(fields.seed), n: Number(fields.n.value) }, drawing.alias.value);
  const first = BigInt(seedOf(fields.seed));
  fill(byId("sheet"), found.map((image, i) => tile(dataUrl(image), String(first + BigInt(i)), String(first + BigInt(i)))));
});

onSubmit("walk", async (fields) => {
  const ends = [seedOf(fields.seed), seedOf(fields.walk_to)];
  const found = await pictures({ seed: ends[0], walk_to: ends[1], n: Number(fields.n.value) }, drawing.alias.value);
  const caption = (image) => (image.share === 0 ? ends[0] : image.share === 1 ? ends[1] : `${Math.round(image.share * 100)}%`);
  fill(byId("way"), found.map((image) => tile(dataUrl(image), image.share > 0.5 ? ends[1] : ends[0], caption(image))));
});

onSubmit("compare", async (fields) => {
  const seed = seedOf(fields.seed);
  const sheets = await Promise.all(
    model.versions.map(async (version) => {
      const images = await pictures({ seed, n: 8 }, version.alias);
      const side = made("div");
      const sheet = made("ul", "", { className: "sheet" });
      sheet.append(...images.map((image, i) => tile(dataUrl(image), String(BigInt(seed) + BigInt(i)), String(BigInt(seed) + BigInt(i)))));
      side.append(made("h3", `${version.alias}: ${version.version}`), made("p", figures(version), { className: "figures" }), sheet);
      return side;
    }),
  );
  fill(byId("both"), sheets);
});

function figures(version) {
  const found = version.figures;
  if (found.fid === undefined) return "It was not measured.";
  // Null is what was not finite.
  const near = (value, spread) => `${value?.toPrecision(4) ?? "unknown"} ± ${spread == null ? "?" : (1.96 * spread).toPrecision(2)}`;
  const of = found.n === undefined ? "" : `, of ${found.n} pictures`;
  return `${found.metric ?? "FID"} ${near(found.fid, found.fid_std)}, KID ${near(found.kid, found.kid_std)} (95%)${of}`;
}

// -- the card: the little Markdown that cards are written in -------------------------------------------------------------

function card(text) {
  const nodes = [];
  const lines = text.split("\n");
  for (let i = 0; i < lines.length; i++) {
    const block = (is) => {
      const from = i;
      while (i + 1 < lines.length && is(lines[i + 1])) i++;
      return lines.slice(from, i + 1);
    };
    const line = lines[i];
    if (line.startsWith("```")) {
      const inside = block((next) => !next.startsWith("```")).slice(1);
      i++;
      nodes.push(made("pre", inside.join("\n")));
    } else if (line.startsWith("    ")) nodes.push(made("pre", block((next) => next.startsWith("    ")).map((l) => l.slice(4)).join("\n")));
    else if (line.startsWith("#")) nodes.push(made("h3", line.replace(/^#+ */, "")));
    else if (line.startsWith("- ")) {
      const list = made("ul");
      list.append(...block((next) => next.startsWith("- ")).map((item) => made("li", item.slice(2))));
      nodes.push(list);
    } else if (line.startsWith("|")) nodes.push(table(block((next) => next.startsWith("|"))));
    else if (line.startsWith("![")) continue; // the pictures that a card names lie elsewhere
    else if (line.trim()) nodes.push(made("p", block((next) => next.trim() && !/^([#|`-]|    )/.test(next)).join(" ")));
  }
  return nodes;
}

function table(lines) {
  const rows = lines.filter((line) => !/^[|\s:-]+$/.test(line)).map((line) => line.split("|").slice(1, -1));
  const whole = made("table");
  rows.forEach((cells, number) => {
    const row = made("tr");
    row.append(...cells.map((cell) => made(number ? "td" : "th", cell.trim())));
    whole.append(row);
  });
  const wide = made("div", "", { className: "wide", tabIndex: 0, role: "region", ariaLabel: "table" });
  wide.append(whole);
  return wide;
}

// -- the model -----------------------------------------------------------------------------------------------------

function option(value, text) {
  return made("option", text || value, { value });
}

function settle() {
  const version = model.versions.find((one) => one.alias === drawing.alias.value) || model.versions[0];
  drawing.sampler.dataset.own = version.drawing.sampler;
  drawing.sampler.value = version.drawing.sampler;
  drawing.steps.dataset.own = drawing.steps.value = version.drawing.sampling_steps;
  drawing.steps.max = model.limits.most_steps;
  drawing.guidance.dataset.own = drawing.guidance.value = version.drawing.guidance;
  byId("of-classes").hidden = !version.classes;
  byId("of-guidance").hidden = !version.classes && !version.guide_sha256; // it leads away from no class, or from the guide
  drawing.label.replaceChildren(option("", "each number's own"), ...Array.from({ length: version.classes }, (_, i) => option(String(i))));
  byId("card").replaceChildren(...card(version.card));
}

async function open() {
  try {
    model = await (await ask("/v1/model")).json();
  } catch (problem) {
    says("who", problem.message, true);
    return;
  }
  const lead = model.versions[0];
  says("who", `${lead.alias}: ${lead.version}, pictures of ${lead.image_size}×${lead.image_size} pixels`);
  drawing.sampler.replaceChildren(...model.samplers.map((name) => option(name)));
  drawing.alias.replaceChildren(
    ...(model.versions.length > 1 ? model.versions : []).map((one) => option(one.alias, `${one.alias} (${one.version})`)),
  );
  byId("of-versions").hidden = byId("beside").hidden = model.versions.length < 2;
  byId("grid").elements.n.max = byId("walk").elements.n.max = model.limits.most_n;
  settle();
}

drawing.alias.addEventListener("change", settle);
drawing.token.addEventListener("change", open);
byId("drawing").addEventListener("submit", (event) => event.preventDefault());
open();
