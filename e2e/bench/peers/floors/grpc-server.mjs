// A gRPC server that does nothing but answer each method with the bytes from a file (JSON, base64): the minimal cost of
// any server on grpc-js. It is JavaScript so that its memory includes no TypeScript compiler.

import { Buffer } from "node:buffer";
import { readFileSync } from "node:fs";
import process from "node:process";
import { Server, ServerCredentials } from "@grpc/grpc-js";

const [socket, answersFile] = process.argv.slice(2);
const answers = Object.entries(JSON.parse(readFileSync(answersFile, "utf8")));
const same = (bytes) => bytes;
const method = (name) => ({
  path: `/runtime.v1.RuntimeService/${name}`,
  requestStream: false,
  responseStream: false,
  requestSerialize: same,
  requestDeserialize: same,
  responseSerialize: same,
  responseDeserialize: same,
});
const methods = Object.fromEntries(answers.map(([name]) => [name, method(name)]));
const respondWith = (text) => {
  const answer = Buffer.from(text, "base64");
  return (_, respond) => respond(null, answer);
};
const server = new Server();
server.addService(methods, Object.fromEntries(answers.map(([name, text]) => [name, respondWith(text)])));
server.bindAsync(`unix:${socket}`, ServerCredentials.createInsecure(), (error) => {
  if (error !== null) throw error;
});
