// The story in Node, whose WebSocket is npm's ws; and the documented MessagePack client, which must
// see what JSON clients see. Usage: node node.mjs STAGE_URL

import WebSocket from "ws";

globalThis.WebSocket = WebSocket;
const {story, snapshots, check, isSame, Watch} = await import("./story.mjs");
const {openMsgpack} = await import("./msgpack.mjs");

const origin = process.argv[2];
const ask = async (path, method, content) => {
  const answer = await fetch(origin + path, {method, body: JSON.stringify(content)});
  if (!answer.ok) throw new Error(`${path}: ${answer.status}`);
  return answer.json();
};
const stage = {...(await ask("/stage", "GET")), step: (name) => ask(`/step/${name}`, "POST")};

async function msgpackSaysTheSame() {
  const channels = ["pulse", "ticker.DUR-CNY", "depth.DUR-CNY", "account", "balance"];
  const watch = new Watch();
  const {socket, send} = openMsgpack(stage.direct, watch.see);
  await watch.until((seen) => seen.find(({op}) => op === "hello"));
  send({op: "auth", id: 1, token: stage.token});
  send({op: "subscribe", id: 2, channels: channels.map((ch) => ({ch}))});
  const inJson = await snapshots(stage.direct, stage.token, channels);
  for (const ch of channels) {
    const found = await watch.until((seen) => seen.find((m) => m.op === "snapshot" && m.ch === ch));
    check(isSame(found, inJson.get(ch)), "MessagePack:", found, "JSON:", inJson.get(ch));
  }
  const {second} = await stage.step("trade");
  const pub = await watch.until((seen) => seen.find((m) => m.op === "pub" && m.ch === "pulse"));
  check(pub.offset === second && typeof pub.data.index === "string", "a pulse in MessagePack", pub);
  socket.close(1000);
}

await msgpackSaysTheSame();
await ask("/done", "POST", await story(stage));
process.exit(0);
