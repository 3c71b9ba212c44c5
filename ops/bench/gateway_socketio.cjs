// The reference that the specification names: a Socket.IO server that emits one message a second
// to everyone. `node gateway_socketio.cjs PORT`; NODE_PATH leads to the installed package.
"use strict";
const { createServer } = require("node:http");
const { Server } = require("socket.io");

const PULSE = {
  index: "4304240283865562043733333333",
  reward: "1.00000000",
  weight_total: "17974123",
  prices: { "DUR-CNY": "10.00120000" },
};

const http = createServer();
const io = new Server(http, { transports: ["websocket"], perMessageDeflate: false });
http.listen({ port: Number(process.argv[2]), host: "127.0.0.1", backlog: 4096 });

let second = 0;
setInterval(() => {
  second += 1;
  // The clock that the load generator reads too.
  const at = process.hrtime.bigint().toString();
  io.emit("pulse", { op: "pub", ch: "pulse", offset: second, data: PULSE, at });
}, 1000);
