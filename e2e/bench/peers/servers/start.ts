// Starts every server whose programs are available, each in its own environment, and pulls the images for its pods.

import type { CriClient } from "../../../fixtures/client.ts";
import { images } from "../images.ts";
import type { Programs } from "../programs.ts";
import type { ServerName } from "../report/samples.ts";
import { containerdProcess } from "./containerd.ts";
import { crioProcess } from "./crio.ts";
import { keelsonProcess } from "./keelson.ts";
import { makePlace, type Place } from "./place.ts";
import { createServer, type Server, type ServerProcess } from "./server.ts";

export interface Servers {
  readonly servers: readonly Server[];
  readonly onOwnPlugins: readonly Server[];
}

export async function startServers(base: string, cgroup: string, programs: Programs): Promise<Servers> {
  const { cniPlugins, ownPlugins, containerd, runc, crio, crun, conmon } = programs;
  let number = 0;
  const start = async (name: ServerName, make: (place: Place) => Promise<ServerProcess>): Promise<Server> => {
    number += 1;
    const place = await makePlace(base, cgroup, name, number);
    const server = createServer(name, await make(place), place);
    await server.ready(hasNetwork);
    for (const image of [images.busybox, images.pause]) await server.client.pullImage({ image: { image } });
    return server;
  };
  const servers: Server[] = [];
  if (containerd !== undefined && runc !== undefined)
    servers.push(await start("containerd", (place) => containerdProcess(place, { containerd, runc, cniPlugins })));
  const crioPrograms =
    crio === undefined || crun === undefined || conmon === undefined ? undefined : { crio, crun, conmon };
  if (crioPrograms !== undefined)
    servers.push(await start("cri-o", (place) => crioProcess(place, { ...crioPrograms, cniPlugins })));
  servers.push(await start("keelson", (place) => keelsonProcess(place, cniPlugins)));

  const onOwnPlugins: Server[] = [];
  if (ownPlugins !== undefined) {
    if (crioPrograms !== undefined)
      onOwnPlugins.push(
        await start("cri-o-own", (place) => crioProcess(place, { ...crioPrograms, cniPlugins: ownPlugins })),
      );
    onOwnPlugins.push(await start("keelson-own", (place) => keelsonProcess(place, ownPlugins)));
  }
  return { servers, onOwnPlugins };
}

async function hasNetwork(client: CriClient): Promise<boolean> {
  const { status } = await client.status({});
  const conditions = status?.conditions ?? [];
  // Servers have further conditions of their own, such as deprecation warnings.
  return ["RuntimeReady", "NetworkReady"].every((type) =>
    conditions.some((condition) => condition.type === type && condition.status === true),
  );
}
