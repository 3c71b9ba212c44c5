// What a client in JavaScript must see of a gateway, told the same way in Node and in a browser.
// documented.mjs and first.mjs are the code blocks of docs/protocol.md: the documents are the client.
// The stage (tests/fixtures/_stage.py) makes things happen when a step is asked for.

import {accrued, applied, follow} from "./documented.mjs";

const MARKET = "DUR-CNY";
// Not mining: its snapshot is of this second, its publications are of the minute.
const PUBLIC = ["pulse", `ticker.${MARKET}`, `kline.${MARKET}.1m`, `kline.${MARKET}.1h`, `depth.${MARKET}`];
const STATES = [...PUBLIC, "account", "balance"];
const TRADES = `trades.${MARKET}`;

const DEADLINE_MS = 20000;

export function check(condition, ...told) {
  if (!condition) throw new Error(told.map((part) => (typeof part === "string" ? part : JSON.stringify(part))).join(" "));
}

// The same keys and values, in whatever order the keys came.
export function isSame(one, other) {
  const sorted = (_, value) =>
    value && typeof value === "object" && !Array.isArray(value)
      ? Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)))
      : value;
  return JSON.stringify(one, sorted) === JSON.stringify(other, sorted);
}

// Remembers what it saw, and lets others wait for it.
export class Watch {
  seen = [];
  waiting = [];

  see = (...what) => {
    this.seen.push(what.length === 1 ? what[0] : what);
    this.waiting = this.waiting.filter((look) => !look());
  };

  until(condition) {
    return new Promise((resolve, reject) => {
      const late = () => reject(new Error(`never: ${condition}; last: ${JSON.stringify(this.seen.slice(-5))}`));
      const deadline = setTimeout(late, DEADLINE_MS);
      const look = () => {
        const found = condition(this.seen);
        if (!found) return false;
        clearTimeout(deadline);
        resolve(found);
        return true;
      };
      if (!look()) this.waiting.push(look);
    });
  }
}

const lastOf = (ch) => (seen) => seen.filter((message) => message.ch === ch && "offset" in message).at(-1);
const op = (name) => (seen) => seen.find((message) => message.op === name);

function opened(url, watch = new Watch()) {
  const socket = new WebSocket(url, "durian.v1.json");
  socket.onmessage = ({data}) => watch.see(JSON.parse(data));
  watch.closed = new Promise((resolve) => {
    socket.onclose = ({code, reason}) => resolve({code, reason});
  });
  return {socket, watch, send: (message) => socket.send(JSON.stringify(message))};
}

// What a client that has just come is told of these channels.
export async function snapshots(url, token, channels) {
  const {socket, watch, send} = opened(url);
  await watch.until(op("hello"));
  send({op: "auth", token});
  send({op: "subscribe", channels: channels.map((ch) => ({ch}))});
  const shown = new Map();
  for (const ch of channels) {
    shown.set(ch, await watch.until((seen) => seen.find((m) => m.op === "snapshot" && m.ch === ch)));
  }
  socket.close(1000);
  await watch.closed;
  return shown;
}

async function caughtUp(stage, watch) {
  const fresh = await snapshots(stage.direct, stage.token, STATES);
  for (const [ch, {offset}] of fresh) await watch.until((seen) => lastOf(ch)(seen)?.offset >= offset);
  return fresh;
}

async function compareWithFresh(stage, watch, shown) {
  // A balance knows of the account's changes by the second after them.
  await caughtUp(stage, watch);
  await stage.step("second");
  for (const [ch, snapshot] of await caughtUp(stage, watch)) {
    check(isSame(shown().get(ch), snapshot.data), ch, "merged:", shown().get(ch), "fresh:", snapshot.data);
  }
}

async function firstClient(stage) {
  const watch = new Watch();
  const {log} = console;
  console.log = (...told) => watch.see(told);
  try {
    await import("./first.mjs");
    await watch.until((seen) => seen.find(([name, ch]) => name === "snapshot" && ch === TRADES));
    const {trades} = await stage.step("trade");
    const [, , {items}] = await watch.until((seen) =>
      seen.find(([name, ch, data]) => name === "pub" && ch === TRADES && data.items.length === trades));
    check(items.some(({price}) => price === "2.50000000"), "the first client saw", items);
  } finally {
    console.log = log;
  }
}

async function cutAndResumed(stage, watch, shown) {
  const before = watch.seen.length;
  const last = lastOf(TRADES)(watch.seen).offset;
  const {trades} = await stage.step("cut");
  await watch.until((seen) => seen.slice(before).some((m) => m.op === "recovered" && m.ch === TRADES));
  await watch.until((seen) => lastOf(TRADES)(seen).offset === trades);
  const after = watch.seen.slice(before);
  check(after.some((m) => m.op === "hello"), "it did not come back");
  check(!after.some((m) => m.op === "snapshot" && m.ch === TRADES), "it was given a snapshot");
  const got = after.filter((m) => m.op === "pub" && m.ch === TRADES).map((m) => m.offset);
  const missed = Array.from({length: trades - last}, (_, n) => last + 1 + n);
  check(missed.length > 3 && isSame(got, missed), "missed", missed, "got", got);
  await compareWithFresh(stage, watch, shown);
}

async function closeCodes(stage) {
  const flood = opened(stage.direct);
  await flood.watch.until(op("hello"));
  for (let id = 1; id <= 200; id += 1) flood.send({op: "ping", id});
  const giant = opened(stage.direct);
  await giant.watch.until(op("hello"));
  giant.send({op: "ping", filler: "x".repeat(20000)});
  const expired = opened(stage.direct);
  await expired.watch.until(op("hello"));
  expired.send({op: "auth", token: (await stage.step("short_token")).token});
  const seen = [await flood.watch.closed, await giant.watch.closed, await expired.watch.closed];
  check(isSame(seen.map(({code}) => code), [4500, 1009, 4002]), "close codes", seen);
  check(seen[0].reason === "too_many_messages" && seen[2].reason === "token_expired", "reasons", seen);
  return seen.map(({code}) => code);
}

async function drained(stage, watch) {
  const raw = opened(stage.direct);
  await raw.watch.until(op("hello"));
  await stage.step("drain");
  const {reconnect_within_ms: longest} = await raw.watch.until(op("draining"));
  check(longest > 0, "reconnect_within_ms", longest);
  check(isSame(await raw.watch.closed, {code: 4000, reason: "going_away"}), "drained by", await raw.watch.closed);
  await watch.until(op("draining"));
}

// stage: {direct, linked: URLs of the gateway, token, step(name)}; returns what it did, or throws.
export async function story(stage) {
  await firstClient(stage);
  const watch = new Watch();
  let newest = new Map();
  const client = follow(stage.linked, [...STATES, TRADES], {
    token: () => stage.token,
    changed: (message, shown) => {
      newest = shown;
      watch.see(message);
    },
  });
  const shown = () => newest;
  check((await watch.until(op("hello"))).limits.message_bytes === 16384, "limits of the hello");
  for (const ch of [...STATES, TRADES]) await watch.until(lastOf(ch));
  for (let turn = 0; turn < 3; turn += 1) {
    const {trades} = await stage.step("trade");
    await watch.until((seen) => lastOf(TRADES)(seen).offset === trades);
    await compareWithFresh(stage, watch, shown);
  }
  const deltas = watch.seen.filter((m) => m.op === "pub" && m.ch === "pulse" && !("reward" in m.data));
  check(deltas.length > 0, "the pulse was never sent as changes");

  const {account, balance, pulse} = Object.fromEntries(newest);
  const computed = accrued(pulse, account.mining);
  check(pulse.second === balance.second && computed > 0n, "pulse and balance", pulse, balance);
  check(computed === BigInt(balance.accrued.replace(".", "")), "accrued", String(computed), balance);

  await cutAndResumed(stage, watch, shown);
  const codes = await closeCodes(stage);
  await drained(stage, watch);
  client.stop();
  return {messages: watch.seen.length, codes, browser: globalThis.navigator?.userAgent ?? "none"};
}
