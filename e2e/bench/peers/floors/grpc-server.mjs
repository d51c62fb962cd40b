// A gRPC server that does nothing: it answers Version with the bytes it was given. What any server on grpc-js costs.
// JavaScript, so that no compiler of TypeScript weighs in its memory.

import { Buffer } from "node:buffer";
import process from "node:process";
import { Server, ServerCredentials } from "@grpc/grpc-js";

const [socket, hex] = process.argv.slice(2);
const answer = Buffer.from(hex, "hex");
const same = (bytes) => bytes;
const method = {
  path: "/runtime.v1.RuntimeService/Version",
  requestStream: false,
  responseStream: false,
  requestSerialize: same,
  requestDeserialize: same,
  responseSerialize: same,
  responseDeserialize: same,
};
const server = new Server();
server.addService({ Version: method }, { Version: (_, respond) => respond(null, answer) });
server.bindAsync(`unix:${socket}`, ServerCredentials.createInsecure(), (error) => {
  if (error !== null) throw error;
});
