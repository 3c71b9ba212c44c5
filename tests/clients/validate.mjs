// Holds an AsyncAPI document to the specification's own JSON Schema, each example in it to the
// schema of its message, and JSON lines of real messages to the message that they claim to be.
//
//   node validate.mjs DOCUMENT LINES    LINES: {"message": NAME, "payload": …} per line
//
// Prints {"examples": n, "lines": n}; says what is wrong and exits with 1 otherwise.

import {readFileSync} from "node:fs";
import specs from "@asyncapi/specs";
import Ajv from "ajv";
import addFormats from "ajv-formats";

const [documentPath, linesPath] = process.argv.slice(2);
const document = JSON.parse(readFileSync(documentPath, "utf8"));

function fail(what, errors) {
  console.error(what, JSON.stringify(errors?.slice(0, 10), null, 1));
  process.exit(1);
}

const official = new Ajv({strict: false, allErrors: true, logger: false});
addFormats(official);
const isDocument = official.compile(specs.schemasWithoutId[document.asyncapi]);
if (!isDocument(document)) fail("not AsyncAPI:", isDocument.errors);

// Strict: a keyword that draft 7 does not know is a mistake of ours.
const ours = new Ajv({strict: true, allowUnionTypes: true});
ours.addVocabulary(["components"]);
ours.addSchema({$id: "durian", components: document.components});

const messages = document.components.messages;
const checks = new Map();
function check(name, payload) {
  if (!messages[name]) fail(`no message ${name}`);
  if (!checks.has(name)) checks.set(name, ours.compile({$ref: `durian${messages[name].payload.$ref}`}));
  const isPayload = checks.get(name);
  if (!isPayload(payload)) fail(`${name} is not like ${JSON.stringify(payload)}:`, isPayload.errors);
}

let examples = 0;
for (const [name, {examples: shown = []}] of Object.entries(messages)) {
  for (const {payload} of shown) {
    check(name, payload);
    examples += 1;
  }
}
const lines = readFileSync(linesPath, "utf8").split("\n").filter(Boolean).map(JSON.parse);
for (const {message, payload} of lines) check(message, payload);
console.log(JSON.stringify({examples, lines: lines.length}));
