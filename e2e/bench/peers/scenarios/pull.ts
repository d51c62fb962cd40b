// Pulls of large images from a registry on loopback, a different one each time. None is removed before all are pulled:
// ext4 checks every inode that was freed in the last minutes before it allocates a new one, which would dominate the
// CPU time of the next pull.

import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { toolsDirectory } from "../../../fixtures/tools.ts";
import { type Bench, timed } from "../bench.ts";
import { cgroupCpu, settledCpu } from "../cpu.ts";
import { describeLargeImage, images, serveLargeImages } from "../images.ts";
import { largeImage } from "../large-image.ts";
import { takeTurns } from "../rotation.ts";
import type { Server } from "../servers/server.ts";

const pullDeadlineMs = 300_000;

export async function pull({ servers, floors, samples, pulls, note }: Bench): Promise<void> {
  const registry = await serveLargeImages(toolsDirectory(process.env), pulls);
  // A pull takes too long for a warm-up, which would have little effect on it.
  const warmUps = 0;
  await takeTurns<Server | "files">(
    [...servers, "files"],
    pulls,
    async (participant, round) => {
      // So that no participant waits for another's writeback.
      await promisify(execFile)("sync");
      if (participant === "files") {
        const { wall, cpu } = await floors.write(largeImage.files, largeImage.meanSize);
        samples.add("files", "floor", wall / 1000);
        samples.add("files-cpu", "floor", cpu / 1000);
        return;
      }
      const { client, cgroup, name } = participant;
      const image = { image: images.large(round + 1) };
      const before = await cgroupCpu(cgroup);
      const [took] = await timed(() => client.pullImage({ image }, pullDeadlineMs));
      samples.add("pull", name, took / 1000);
      samples.add("pull-cpu", name, ((await settledCpu(cgroup)) - before) / 1000);
    },
    warmUps,
  );
  note(`The large image: ${await describeLargeImage()}`);
  await registry.stop();
}
