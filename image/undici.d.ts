// The parts of undici that http.ts loads, in place of the package's index. That one has fetch, WebSocket and mocks too: at a
// daemon's first pull it costs 4 MB of heap and 75 ms of processor time, these parts 1.3 MB and 20 ms. They are no part of
// undici's API, so package.json keeps to its patch releases.

declare module "undici/lib/api/index.js" {
  import type { Dispatcher } from "undici";

  const api: {
    request(this: Dispatcher, options: Dispatcher.RequestOptions): Promise<Dispatcher.ResponseData>;
    connect: Dispatcher["connect"];
  };
  export default api;
}

declare module "undici/lib/core/errors.js" {
  import { errors } from "undici";
  export default errors;
}

declare module "undici/lib/dispatcher/agent.js" {
  import { Agent } from "undici";
  export default Agent;
}

declare module "undici/lib/dispatcher/proxy-agent.js" {
  import { ProxyAgent } from "undici";
  export default ProxyAgent;
}
