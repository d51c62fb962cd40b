// The parts of undici that http.ts loads instead of the package's index, which also loads fetch, WebSocket and mocks:
// at a daemon's first pull the index costs 4 MB of heap and 75 ms of processor time, these parts 1.3 MB and 20 ms. They
// are not part of undici's API, so package.json only allows patch releases.

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
