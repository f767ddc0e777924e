// Shows the OpenAPI document of the server that it came from, and lets each operation be tried. Everything
// is put into the page as text, never as markup.
"use strict";

const METHODS = ["get", "post", "put", "delete"];
const STREAM_BYTES_MAX = 100_000;

function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

async function start() {
  const place = document.getElementById("operations");
  const answer = await fetch("/v1/openapi.json", { headers: credentials() });
  if (!answer.ok) {
    const hint = answer.status === 401 ? ": enter an API key above, and press Enter" : "";
    place.replaceChildren(element("p", { textContent: `The description could not be read (${answer.status})${hint}` }));
    return;
  }
  const api = await answer.json();
  const sections = api.tags.map((tag) => section(api, tag));
  place.replaceChildren(element("p", { className: "about", textContent: api.info.description }), ...sections);
  find();
}

function section(api, tag) {
  const made = element("section", {}, element("h2", { textContent: tag.name }),
    element("p", { className: "about", textContent: tag.description }));
  for (const [path, methods] of Object.entries(api.paths)) {
    for (const method of METHODS) {
      const operation = methods[method];
      if (operation?.tags?.includes(tag.name)) made.append(shown(api, path, method, operation));
    }
  }
  return made;
}

// Its inside is made when it is opened first.
function shown(api, path, method, operation) {
  const summary = element("summary", {},
    element("span", { className: "method", textContent: method.toUpperCase() }),
    element("span", { className: "path", textContent: path }),
    element("span", { className: "about", textContent: `  ${operation.summary}` }));
  const made = element("details", { className: "operation", id: operation.operationId ?? "" }, summary);
  made.dataset.words = `${method} ${path} ${operation.summary}`.toLowerCase();
  made.addEventListener("toggle", () => {
    if (made.open && made.childElementCount === 1) made.append(inside(api, path, method, operation));
  });
  return made;
}

function inside(api, path, method, operation) {
  const made = element("div", { className: "inside" });
  if (operation.description) made.append(element("p", { textContent: operation.description }));
  const parameters = (operation.parameters ?? []).map((one) => resolve(api, one));
  const fields = parameters.map((parameter) => [parameter, element("input", {
    placeholder: parameter.schema?.default ?? "", spellcheck: false, ariaLabel: parameter.name,
  })]);
  const sample = operation["x-codeSamples"]?.[0]?.request;
  const target = element("input", { size: 60, ariaLabel: "path and query", spellcheck: false });
  target.value = sample?.target ?? path;
  if (fields.length > 0) made.append(element("h3", { textContent: "Parameters" }), table(fields));
  const content = operation.requestBody?.content ?? {};
  const kind = Object.keys(content)[0];
  let body;
  if (kind) {
    body = element("textarea", { spellcheck: false, ariaLabel: "body", value: pretty(sample?.body ?? "") });
    made.append(element("h3", { textContent: `Body (${Object.keys(content).join(", ")})` }), body,
      schemaOf(api, "What it may say", content[kind].schema));
  }
  const output = element("div");
  const request = () => requestOf(target.value, method, kind, fields, body);
  const send = element("button", { textContent: "Send", onclick: () => ask(request(), output) });
  const copy = element("button", { textContent: "Copy as curl", onclick: () => navigator.clipboard.writeText(curl(request())) });
  made.append(element("h3", { textContent: "Try it" }), element("p", {}, target), element("p", {}, send, copy), output);
  made.append(element("h3", { textContent: "Answers" }));
  for (const [status, given] of Object.entries(operation.responses ?? {})) {
    const response = resolve(api, given);
    const schema = Object.values(response.content ?? {})[0]?.schema;
    const text = `${status}: ${response.description}`;
    made.append(schema ? schemaOf(api, text, schema) : element("p", { textContent: text }));
  }
  return made;
}

function table(fields) {
  const rows = fields.map(([parameter, field]) => element("tr", {},
    element("td", {}, element("code", { textContent: parameter.name })),
    element("td", { textContent: parameter.in + (parameter.required ? ", required" : "") }),
    element("td", {}, field),
    element("td", { className: "about", textContent: parameter.description ?? "" })));
  return element("table", {}, ...rows);
}

function schemaOf(api, title, schema) {
  const text = element("pre");
  const made = element("details", {}, element("summary", { textContent: title }), text);
  made.addEventListener("toggle", () => {
    if (made.open) text.textContent = JSON.stringify(unfolded(api, schema, []), null, 2);
  });
  return made;
}

// A schema with those that it names in their places; one that stands within itself keeps its name.
function unfolded(api, schema, within) {
  if (Array.isArray(schema)) return schema.map((one) => unfolded(api, one, within));
  if (schema === null || typeof schema !== "object") return schema;
  if (schema.$ref) {
    if (within.includes(schema.$ref) || within.length > 4) return schema;
    return unfolded(api, resolve(api, schema), [...within, schema.$ref]);
  }
  return Object.fromEntries(Object.entries(schema).map(([key, value]) => [key, unfolded(api, value, within)]));
}

function resolve(api, given) {
  if (!given.$ref) return given;
  const steps = given.$ref.slice(2).split("/").map((step) => step.replaceAll("~1", "/").replaceAll("~0", "~"));
  return steps.reduce((place, step) => place[step], api);
}

function requestOf(target, method, kind, fields, body) {
  const url = new URL(target, location.origin);
  const headers = credentials();
  for (const [parameter, field] of fields) {
    if (field.value === "") continue;
    if (parameter.in === "query") url.searchParams.append(parameter.name, field.value);
    if (parameter.in === "header") headers[parameter.name] = field.value;
    if (parameter.in === "path") url.pathname = url.pathname.replace(encodeURI(`{${parameter.name}}`), encodeURIComponent(field.value));
  }
  if (kind) headers["content-type"] = kind;
  return { url, options: { method: method.toUpperCase(), headers, body: kind ? body.value : undefined } };
}

function credentials() {
  const key = document.getElementById("key").value.trim();
  return key ? { "x-api-key": key } : {};
}

async function ask({ url, options }, output) {
  const begun = performance.now();
  try {
    const answer = await fetch(url, options);
    const text = await textOf(answer);
    const took = Math.round(performance.now() - begun);
    const headers = [...answer.headers].map(([name, value]) => `${name}: ${value}`).join("\n");
    output.replaceChildren(element("p", { textContent: `${answer.status} ${answer.statusText}, ${took} ms` }),
      element("pre", { textContent: headers }), element("pre", { textContent: pretty(text) }));
  } catch (error) {
    output.replaceChildren(element("p", { textContent: `No answer: ${error.message}` }));
  }
}

// The text of an answer; of one that does not end, such as live events, what comes in a second.
async function textOf(answer) {
  if (!answer.headers.get("content-type")?.startsWith("text/event-stream")) return answer.text();
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  const end = new Promise((over) => setTimeout(() => over({ done: true }), 1000));
  let text = "";
  while (text.length < STREAM_BYTES_MAX) {
    const { done, value } = await Promise.race([reader.read(), end]);
    if (done) break;
    text += value;
  }
  reader.cancel();
  return text;
}

function pretty(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}

function curl({ url, options }) {
  const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;
  const headers = Object.entries(options.headers).map(([name, value]) => {
    const shown = name === "x-api-key" ? "$GRISTMILL_API_KEY" : value;
    return name === "x-api-key" ? `-H "x-api-key: ${shown}"` : `-H ${quoted(`${name}: ${shown}`)}`;
  });
  const body = options.body === undefined ? [] : [`-d ${quoted(options.body)}`];
  return ["curl", `-X ${options.method}`, quoted(url.href), ...headers, ...body].join(" ");
}

function find() {
  const wanted = document.getElementById("find").value.toLowerCase().trim();
  for (const operation of document.querySelectorAll("details.operation")) {
    operation.hidden = !operation.dataset.words.includes(wanted);
  }
}

document.getElementById("find").addEventListener("input", find);
document.getElementById("key").addEventListener("change", start);
start();
